// Sequences, fan-out, combinators, timers, sub-orchestrations, custom status.
"use strict";

const { assert, scenario, sleep, until, whenAll, whenAny, TaskFailedError } = require("./harness");

/** An activity, made anew because each scenario gives it a name of its own. */
const adder = () => async function plusOne(_, number) {
  return number + 1;
};

scenario("orchestration without activities", async (hub) => {
  const hello = async function hello(_, name) {
    return `Hello, ${name}!`;
  };
  await hub.worker([hello]);
  assert.equal(await hub.output(hello, "Ada"), "Hello, Ada!");
});

scenario("sequence of ten activities", async (hub) => {
  const add = adder();
  const sequence = async function* sequence(ctx, start) {
    const numbers = [start];
    for (let i = 0; i < 10; i += 1) numbers.push(yield ctx.callActivity(add, numbers.at(-1)));
    return numbers;
  };
  await hub.worker([sequence], [add]);
  assert.deepEqual(await hub.output(sequence, 1), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
});

scenario("fan-out of a hundred", async (hub) => {
  const add = adder();
  const fanOut = async function* fanOut(ctx, count) {
    const results = yield whenAll(Array.from({ length: count }, (_, number) => ctx.callActivity(add, number)));
    return results.reduce((sum, each) => sum + each, 0);
  };
  await hub.worker([fanOut], [add]);
  assert.equal(await hub.output(fanOut, 100), 5050);
});

scenario("nested whenAll and whenAny", async (hub) => {
  const add = adder();
  const nested = async function* nested(ctx) {
    const pairs = [0, 1, 2].map((n) => whenAll([ctx.callActivity(add, 10 * n), ctx.callActivity(add, 10 * n + 1)]));
    const first = yield whenAny([ctx.waitForExternalEvent("never"), whenAll(pairs)]);
    return first.getResult();
  };
  await hub.worker([nested], [add]);
  assert.deepEqual(await hub.output(nested), [[1, 2], [11, 12], [21, 22]]);
});

scenario("whenAll reports a failure", async (hub) => {
  const failsAtTwo = async function failsAtTwo(_, number) {
    if (number === 2) throw new RangeError("two is not liked");
    return number;
  };
  const gathers = async function* gathers(ctx) {
    try {
      yield whenAll([0, 1, 2, 3].map((number) => ctx.callActivity(failsAtTwo, number)));
    } catch (error) {
      const [first] = error.errors;
      return [error.errors.length, first instanceof TaskFailedError, first.details.errorType, first.details.message];
    }
    return "no failure";
  };
  await hub.worker([gathers], [failsAtTwo]);
  assert.deepEqual(await hub.output(gathers), [1, true, "RangeError", "two is not liked"]);
});

scenario("timer fires when due and not before", async (hub) => {
  const sleeps = async function* sleeps(ctx, seconds) {
    const began = ctx.currentUtcDateTime.getTime();
    yield ctx.createTimer(seconds);
    return ctx.currentUtcDateTime.getTime() - began;
  };
  await hub.worker([sleeps]);
  const slept = await hub.output(sleeps, 1.2);
  assert.ok(slept >= 1200 && slept < 8000, `it slept ${slept} ms`);
});

scenario("timer of a year in the past fires at once", async (hub) => {
  const sleeps = async function* sleeps(ctx) {
    yield ctx.createTimer(new Date(Date.UTC(1999, 0, 1)));
    return "awake";
  };
  await hub.worker([sleeps]);
  assert.equal(await hub.output(sleeps), "awake");
});

scenario("timer of years is kept and may lose", async (hub) => {
  const sleeps = async function* sleeps(ctx) {
    const timer = ctx.createTimer(4000 * 86400);
    const event = ctx.waitForExternalEvent("enough");
    const winner = yield whenAny([timer, event]);
    if (winner === event) timer.cancel();
    return winner === event ? "woken" : "slept";
  };
  await hub.worker([sleeps]);
  const id = await hub.start(sleeps);
  await until("the timer is recorded", async () => (await hub.history(id)).includes("TimerCreated"));
  const timer = (await hub.client.getOrchestrationHistory(id)).find((event) => event.type === "TimerCreated");
  const days = (timer.fireAt - Date.now()) / 86400e3;
  assert.ok(days > 3998 && days < 4001, `the timer is in ${days} days`);
  await hub.raise(id, "enough");
  assert.equal(await hub.outputOf(id), "woken");
});

scenario("time of the orchestration is now and advances", async (hub) => {
  const add = adder();
  const clock = async function* clock(ctx) {
    const times = [ctx.currentUtcDateTime.getTime()];
    yield ctx.callActivity(add, 1);
    times.push(ctx.currentUtcDateTime.getTime());
    yield ctx.createTimer(0.3);
    times.push(ctx.currentUtcDateTime.getTime());
    return times;
  };
  const before = Date.now() - 2000;
  await hub.worker([clock], [add]);
  const [first, second, third] = await hub.output(clock);
  assert.ok(before <= first && first <= second && second < third, `${before}: ${first}, ${second}, ${third}`);
});

scenario("sub-orchestrations return their results", async (hub) => {
  const add = adder();
  const child = async function* child(ctx, number) {
    return 10 * (yield ctx.callActivity(add, number));
  };
  const parent = async function* parent(ctx, count) {
    return yield whenAll(Array.from({ length: count }, (_, number) => ctx.callSubOrchestrator(child, number)));
  };
  await hub.worker([parent, child], [add]);
  assert.deepEqual(await hub.output(parent, 5), [10, 20, 30, 40, 50]);
});

scenario("sub-orchestration knows its parent", async (hub) => {
  const child = async function child(ctx) {
    return [ctx.instanceId, ctx.parent.instanceId, ctx.parent.name];
  };
  const parent = async function* parent(ctx) {
    const madeUp = yield ctx.callSubOrchestrator(child);
    const named = yield ctx.callSubOrchestrator(child, undefined, { instanceId: `${ctx.instanceId}-kid` });
    return [ctx.parent === undefined, madeUp, named];
  };
  await hub.worker([parent, child]);
  const id = await hub.start(parent);
  const [top, madeUp, named] = await hub.outputOf(id);
  assert.equal(top, true, "that the parent has no parent");
  assert.match(madeUp[0], /^[0-9a-f]{32}:[0-9a-f]{4}$/);
  assert.deepEqual(named, [`${id}-kid`, id, parent.name]);
  assert.equal(madeUp[1], id);
});

scenario("sub-orchestrations five deep", async (hub) => {
  const descends = async function* descends(ctx, depth) {
    return depth ? [depth, ...(yield ctx.callSubOrchestrator(descends, depth - 1))] : [0];
  };
  await hub.worker([descends]);
  assert.deepEqual(await hub.output(descends, 5), [5, 4, 3, 2, 1, 0]);
});

scenario("custom status is the last one set", async (hub) => {
  const tells = async function* tells(ctx) {
    ctx.setCustomStatus({ step: 1 });
    yield ctx.waitForExternalEvent("go");
    ctx.setCustomStatus({ step: 2, done: true });
  };
  await hub.worker([tells]);
  const id = await hub.start(tells);
  const first = await until("a custom status", async () => (await hub.client.getOrchestrationState(id)).serializedCustomStatus);
  assert.equal(first, '{"step":1}');
  await hub.raise(id, "go");
  assert.equal((await hub.end(id)).serializedCustomStatus, '{"step":2,"done":true}');
});

scenario("guids are the same in a replay", async (hub) => {
  const add = adder();
  const guids = async function* guids(ctx) {
    const first = ctx.newGuid();
    yield ctx.callActivity(add, 1);
    const second = ctx.newGuid();
    yield ctx.callActivity(add, 2);
    ctx.setCustomStatus([first, second]);
    yield ctx.waitForExternalEvent("go");
    return [first, second];
  };
  await hub.worker([guids], [add]);
  const id = await hub.start(guids);
  const seen = await until("the guids", async () => (await hub.client.getOrchestrationState(id)).serializedCustomStatus);
  await hub.raise(id, "go");
  assert.deepEqual(await hub.outputOf(id), JSON.parse(seen));
});

scenario("completes while tasks are open", async (hub) => {
  const leaves = async function* leaves(ctx) {
    ctx.createTimer(86400);
    ctx.waitForExternalEvent("never");
    yield ctx.createTimer(0.01);
    return "left";
  };
  await hub.worker([leaves]);
  assert.equal(await hub.output(leaves), "left");
});

scenario("instance waits for a worker", async (hub) => {
  const hello = async function hello() {
    return "hello";
  };
  const id = await hub.start(hub.named([hello])[0]);
  await sleep(300);
  assert.equal(await hub.status(id), "PENDING");
  await hub.worker([hello]);
  assert.equal(await hub.outputOf(id), "hello");
});

scenario("completions after the end change nothing", async (hub) => {
  const counts = { fast: 0, slow: 0 };
  const fast = async function fast() {
    counts.fast += 1;
    return "fast";
  };
  const slow = async function slow() {
    await sleep(700);
    counts.slow += 1;
  };
  const races = async function* races(ctx) {
    const winner = yield whenAny([ctx.callActivity(fast), ctx.callActivity(slow)]);
    return winner.getResult();
  };
  await hub.worker([races], [fast, slow]);
  const id = await hub.start(races);
  assert.equal(await hub.outputOf(id), "fast");
  await until("the slow one is done", () => counts.slow === 1);
  await sleep(300);
  assert.equal(await hub.outputOf(id), "fast");
  assert.deepEqual(counts, { fast: 1, slow: 1 });
});

scenario("version is empty when nobody gave one", async (hub) => {
  const tells = async function tells(ctx) {
    return ctx.version;
  };
  await hub.worker([tells]);
  assert.equal(await hub.output(tells), "");
});
