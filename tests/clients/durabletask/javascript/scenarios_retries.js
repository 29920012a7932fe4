// Retries: policies and handlers, of activities and of sub-orchestrations.
"use strict";

const { RetryPolicy, assert, scenario, whenAll } = require("./harness");

const policy = (attempts, more = {}) =>
  new RetryPolicy({ maxNumberOfAttempts: attempts, firstRetryIntervalInMilliseconds: 50, ...more });

/** An activity that fails a number of times for each input, and its count of calls. */
function flaky(failures) {
  const calls = {};
  const sometimes = async function sometimes(_, key) {
    calls[key] = (calls[key] ?? 0) + 1;
    if (calls[key] <= failures) throw new RangeError(`attempt ${calls[key]} failed`);
    return calls[key];
  };
  return [sometimes, calls];
}

scenario("policy retries an activity until it succeeds", async (hub) => {
  const [sometimes, calls] = flaky(2);
  const retries = async function* retries(ctx, key) {
    return yield ctx.callActivity(sometimes, key, { retry: policy(5) });
  };
  await hub.worker([retries], [sometimes]);
  assert.equal(await hub.output(retries, "a"), 3);
  assert.deepEqual(calls, { a: 3 });
});

scenario("policy ends with its attempts", async (hub) => {
  const [sometimes, calls] = flaky(9);
  const retries = async function* retries(ctx, key) {
    return yield ctx.callActivity(sometimes, key, { retry: policy(3) });
  };
  await hub.worker([retries], [sometimes]);
  assert.match((await hub.failure(retries, "a")).message, /attempt 3 failed/);
  assert.deepEqual(calls, { a: 3 });
});

scenario("policy backs off", async (hub) => {
  const [sometimes] = flaky(2);
  const retries = async function* retries(ctx, key) {
    const began = ctx.currentUtcDateTime.getTime();
    yield ctx.callActivity(sometimes, key, { retry: policy(3, { firstRetryIntervalInMilliseconds: 400, backoffCoefficient: 2 }) });
    return ctx.currentUtcDateTime.getTime() - began;
  };
  await hub.worker([retries], [sometimes]);
  const took = await hub.output(retries, "a");
  assert.ok(took >= 1200 && took < 12000, `waits of 400 ms and 800 ms took ${took} ms`);
});

scenario("policy ends with its time", async (hub) => {
  const [sometimes, calls] = flaky(1000);
  const limited = policy(1000, { firstRetryIntervalInMilliseconds: 500, retryTimeoutInMilliseconds: 3000 });
  const retries = async function* retries(ctx, key) {
    return yield ctx.callActivity(sometimes, key, { retry: limited });
  };
  await hub.worker([retries], [sometimes]);
  await hub.failure(retries, "a");
  assert.ok(calls.a >= 2 && calls.a <= 8, `${calls.a} attempts in three seconds`);
});

scenario("policy that looks at the failure", async (hub) => {
  const [sometimes, calls] = flaky(9);
  const choosy = policy(9, { handleFailure: (failure) => failure.message !== "attempt 2 failed" });
  const retries = async function* retries(ctx, key) {
    return yield ctx.callActivity(sometimes, key, { retry: choosy });
  };
  await hub.worker([retries], [sometimes]);
  await hub.failure(retries, "a");
  assert.deepEqual(calls, { a: 2 });
});

scenario("policy retries a sub-orchestration", async (hub) => {
  const calls = [];
  const child = async function child(ctx) {
    calls.push(ctx.instanceId);
    if (calls.length < 3) throw new Error(`attempt ${calls.length} failed`);
    return "at last";
  };
  const parent = async function* parent(ctx) {
    return yield ctx.callSubOrchestrator(child, undefined, { retry: policy(5) });
  };
  await hub.worker([parent, child]);
  assert.equal(await hub.output(parent), "at last");
  assert.equal(calls.length, 3);
  assert.equal(new Set(calls).size, 1, "the ids of the child, which each attempt replaces");
});

scenario("policy of a sub-orchestration ends with its attempts", async (hub) => {
  const child = async function child() {
    throw new TypeError("never");
  };
  const parent = async function* parent(ctx) {
    try {
      yield ctx.callSubOrchestrator(child, undefined, { retry: policy(2), instanceId: `${ctx.instanceId}-kid` });
    } catch (error) {
      return [error.details.errorType, error.details.message];
    }
  };
  await hub.worker([parent, child]);
  const id = await hub.start(parent);
  assert.deepEqual(await hub.outputOf(id), ["TypeError", "never"]);
  assert.equal(await hub.status(`${id}-kid`), "FAILED");
});

scenario("handler decides about an activity", async (hub) => {
  const [sometimes, calls] = flaky(2);
  const seen = [];
  const handler = async (context) => {
    seen.push([context.lastAttemptNumber, context.lastFailure.errorType, context.lastFailure.message]);
    return context.lastFailure.errorType === "RangeError";
  };
  const retries = async function* retries(ctx, key) {
    return yield ctx.callActivity(sometimes, key, { retry: handler });
  };
  await hub.worker([retries], [sometimes]);
  assert.equal(await hub.output(retries, "a"), 3);
  assert.deepEqual(seen.slice(-1), [[2, "RangeError", "attempt 2 failed"]]);
  assert.deepEqual(calls, { a: 3 });
});

scenario("handler says how long to wait", async (hub) => {
  const [sometimes] = flaky(2);
  const retries = async function* retries(ctx, key) {
    const began = ctx.currentUtcDateTime.getTime();
    yield ctx.callActivity(sometimes, key, { retry: async (context) => context.lastAttemptNumber * 300 });
    return ctx.currentUtcDateTime.getTime() - began;
  };
  await hub.worker([retries], [sometimes]);
  const took = await hub.output(retries, "a");
  assert.ok(took >= 900 && took < 12000, `waits of 300 ms and 600 ms took ${took} ms`);
});

scenario("handler decides about a sub-orchestration by the type of its failure", async (hub) => {
  let calls = 0;
  const child = async function child() {
    calls += 1;
    throw calls < 3 ? new RangeError("again") : new TypeError("enough");
  };
  const parent = async function* parent(ctx) {
    try {
      yield ctx.callSubOrchestrator(child, undefined, { retry: async ({ lastFailure }) => lastFailure.errorType === "RangeError" });
    } catch (error) {
      return error.details.message;
    }
  };
  await hub.worker([parent, child]);
  assert.equal(await hub.output(parent), "enough");
  assert.equal(calls, 3);
});

scenario("retries in a fan-out do not mix", async (hub) => {
  const [sometimes, calls] = flaky(1);
  const retries = async function* retries(ctx, keys) {
    return yield whenAll([...keys].map((key) => ctx.callActivity(sometimes, key, { retry: policy(3) })));
  };
  await hub.worker([retries], [sometimes]);
  assert.deepEqual(await hub.output(retries, "abcdefgh"), Array(8).fill(2));
  assert.deepEqual([...new Set(Object.values(calls))], [2]);
});
