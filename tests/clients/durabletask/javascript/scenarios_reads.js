// Payloads, histories, queries, tags, failures: what is read is what was written.
"use strict";

const { HistoryEventType, Status, StringValue, assert, pb, scenario } = require("./harness");

scenario("falsy inputs and outputs", async (hub) => {
  const same = async function same(_, value) {
    return value;
  };
  const echoes = async function* echoes(ctx, value) {
    return yield ctx.callActivity(same, value);
  };
  await hub.worker([echoes], [same]);
  for (const value of [0, "", false, null, [], {}]) {
    const state = await hub.end(await hub.start(echoes, value));
    assert.equal(state.serializedOutput, JSON.stringify(value));
    assert.equal(state.serializedInput, JSON.stringify(value));
  }
});

scenario("absent inputs and outputs", async (hub) => {
  const nothing = async function nothing(_, value) {
    if (value !== undefined) throw new Error(`it was given ${value}`);
  };
  const passes = async function* passes(ctx) {
    const found = yield ctx.callActivity(nothing);
    return found === undefined ? "nothing" : found;
  };
  await hub.worker([passes, nothing], [nothing]);
  assert.equal(await hub.output(passes), "nothing");
  const state = await hub.end(await hub.start(nothing));
  assert.deepEqual([state.serializedOutput, Status[state.runtimeStatus]], [undefined, "COMPLETED"]);
});

scenario(
  "payload of twenty megabytes",
  async (hub) => {
    const text = "0123456789abcdef".repeat(20 << 16);
    const makes = async function makes(_, length) {
      return text.slice(0, length);
    };
    const carries = async function* carries(ctx, length) {
      return yield ctx.callActivity(makes, length);
    };
    await hub.worker([carries], [makes]);
    assert.ok((await hub.output(carries, text.length)) === text, "the text came back changed");
  },
  { alone: true },
);

scenario("payloads are left out on request", async (hub) => {
  const tells = async function tells(ctx, value) {
    ctx.setCustomStatus("busy");
    return value;
  };
  await hub.worker([tells]);
  const id = await hub.start(tells, "in and out");
  await hub.end(id);
  const state = await hub.client.getOrchestrationState(id, false);
  assert.deepEqual([state.serializedInput, state.serializedOutput, state.serializedCustomStatus], [undefined, undefined, undefined]);
  assert.equal((await hub.client.getOrchestrationState(id, true)).serializedCustomStatus, '"busy"');
});

scenario("texts that are not JSON stay as they are", async (hub) => {
  const texts = ["", "null", ' {"b" : 1, "a": 2.50 } ', "no JSON", '"\\u0000x"', "12345678901234567890123"];
  for (const [number, text] of texts.entries()) {
    const id = hub.id(`text${number}`);
    const start = new pb.CreateInstanceRequest();
    start.setInstanceid(id);
    start.setName(`${hub.run}_nobody`);
    start.setInput(new StringValue().setValue(text));
    await hub.call("startInstance", start);
    assert.equal((await hub.client.getOrchestrationState(id)).serializedInput, text);
    await hub.client.terminateOrchestration(id);
  }
});

scenario("history event by event", async (hub) => {
  const works = async function works(_, number) {
    return number + 1;
  };
  const child = async function child(_, number) {
    return number * 2;
  };
  const steps = async function* steps(ctx, number) {
    const next = yield ctx.callActivity(works, number);
    yield ctx.createTimer(0.05);
    return yield ctx.callSubOrchestrator(child, next);
  };
  await hub.worker([steps, child], [works]);
  const id = await hub.start(steps, 1, { tags: { colour: "red" }, version: "1.0" });
  assert.equal(await hub.outputOf(id), 4);
  const events = await hub.client.getOrchestrationHistory(id);
  assert.deepEqual(
    events.map((event) => event.type),
    [
      "OrchestratorStarted",
      "ExecutionStarted",
      "TaskScheduled",
      "OrchestratorStarted",
      "TaskCompleted",
      "TimerCreated",
      "OrchestratorStarted",
      "TimerFired",
      "SubOrchestrationInstanceCreated",
      "OrchestratorStarted",
      "SubOrchestrationInstanceCompleted",
      "ExecutionCompleted",
    ],
  );
  const [, started, scheduled, , completed, timer, , fired, created, , done, ended] = events;
  assert.deepEqual([started.name, started.version, started.input, started.tags], [steps.name, "1.0", "1", { colour: "red" }]);
  assert.match(started.orchestrationInstance.executionId, /^[0-9a-f]{32}$/);
  assert.equal(started.parentInstance, undefined);
  assert.deepEqual([scheduled.eventId, scheduled.name, scheduled.input], [1, works.name, "1"]);
  assert.deepEqual([completed.taskScheduledId, completed.result], [1, "2"]);
  assert.deepEqual([timer.eventId, fired.timerId, fired.fireAt.getTime()], [2, 2, timer.fireAt.getTime()]);
  assert.deepEqual([created.eventId, created.name, created.input], [3, child.name, "2"]);
  assert.equal(created.instanceId, `${started.orchestrationInstance.executionId}:0003`);
  assert.deepEqual([done.taskScheduledId, done.result], [3, "4"]);
  assert.deepEqual([ended.orchestrationStatus, ended.result], ["ORCHESTRATION_STATUS_COMPLETED", "4"]);
  const [, begun] = await hub.client.getOrchestrationHistory(created.instanceId);
  assert.deepEqual(
    [begun.parentInstance.name, begun.parentInstance.taskScheduledId, begun.parentInstance.orchestrationInstance.instanceId],
    [steps.name, 3, id],
  );
});

scenario("history of requests and failures", async (hub) => {
  const breaks = async function breaks() {
    throw new RangeError("lost");
  };
  const steps = async function* steps(ctx) {
    yield ctx.waitForExternalEvent("go");
    yield ctx.callActivity(breaks);
  };
  await hub.worker([steps], [breaks]);
  const id = await hub.start(steps);
  await hub.becomes(id, "RUNNING");
  await hub.client.suspendOrchestration(id);
  await hub.client.resumeOrchestration(id);
  await hub.raise(id, "go", { n: 1 });
  await hub.end(id);
  const events = new Map((await hub.client.getOrchestrationHistory(id)).map((event) => [event.type, event]));
  assert.ok(events.has(HistoryEventType.ExecutionSuspended) && events.has(HistoryEventType.ExecutionResumed));
  assert.equal(events.get(HistoryEventType.EventRaised).input, '{"n":1}');
  const failed = events.get(HistoryEventType.TaskFailed);
  assert.deepEqual([failed.taskScheduledId, failed.failureDetails.errorType, failed.failureDetails.message], [1, "RangeError", "lost"]);
  assert.equal(events.get(HistoryEventType.ExecutionCompleted).orchestrationStatus, "ORCHESTRATION_STATUS_FAILED");
});

scenario("long history is streamed", async (hub) => {
  const collects = async function* collects(ctx, count) {
    let total = 0;
    for (let i = 0; i < count; i += 1) total += (yield ctx.waitForExternalEvent("item")).length;
    return total;
  };
  await hub.worker([collects]);
  const id = await hub.start(collects, 200);
  const text = "x".repeat(30000);
  await Promise.all(Array.from({ length: 200 }, () => hub.raise(id, "item", text)));
  assert.equal(await hub.outputOf(id), 200 * 30000);
  assert.equal((await hub.history(id)).filter((type) => type === "EventRaised").length, 200);
});

/** An orchestration that ends, fails or waits, as its input says. */
function mixed(hub) {
  const mixes = async function* mixes(ctx, what) {
    if (what === "fail") throw new Error("as told");
    if (what === "wait") yield ctx.waitForExternalEvent("go");
    return what;
  };
  return hub.named([mixes])[0];
}

async function all(pageable) {
  const found = [];
  for await (const each of pageable) found.push(each);
  return found;
}

scenario("query by status, time and prefix", async (hub) => {
  const mix = mixed(hub);
  await hub.worker([mix]);
  const before = new Date(Date.now() - 1);
  const [good, bad, open] = await Promise.all(["good", "fail", "wait"].map((what) => hub.start(mix, what, { instanceId: hub.id(what) })));
  await Promise.all([hub.end(good), hub.end(bad), hub.becomes(open, "RUNNING")]);
  const after = new Date(Date.now() + 1);
  const ids = async (filter) =>
    (await all(hub.client.getAllInstances({ instanceIdPrefix: hub.run, ...filter }))).map((state) => state.instanceId).sort();
  assert.deepEqual(await ids({}), [bad, good, open].sort());
  assert.deepEqual(await ids({ statuses: [Status.COMPLETED] }), [good]);
  assert.deepEqual(await ids({ statuses: [Status.FAILED, Status.RUNNING] }), [bad, open].sort());
  assert.deepEqual(await ids({ statuses: [Status.TERMINATED] }), []);
  assert.equal((await ids({ createdFrom: before, createdTo: after })).length, 3);
  assert.deepEqual(await ids({ createdFrom: after }), []);
  const [state] = await all(hub.client.getAllInstances({ instanceIdPrefix: good, fetchInputsAndOutputs: true }));
  assert.deepEqual([state.name, state.serializedInput, state.serializedOutput], [mix.name, '"good"', '"good"']);
});

scenario("query in pages", async (hub) => {
  const mix = mixed(hub);
  await hub.worker([mix]);
  const wanted = await Promise.all(Array.from({ length: 25 }, (_, n) => hub.start(mix, "good", { instanceId: hub.id(100 + n) })));
  await Promise.all(wanted.map((id) => hub.end(id)));
  const sizes = [];
  const found = [];
  for await (const page of hub.client.getAllInstances({ instanceIdPrefix: hub.run, pageSize: 10 }).asPages()) {
    sizes.push(page.values.length);
    found.push(...page.values.map((state) => state.instanceId));
  }
  assert.deepEqual(sizes, [10, 10, 5]);
  assert.deepEqual(found.sort(), wanted.sort());
});

scenario("ids of ended instances in pages", async (hub) => {
  const mix = mixed(hub);
  await hub.worker([mix]);
  const completedTimeFrom = new Date(Date.now() - 1);
  const wanted = [];
  for (let number = 0; number < 7; number += 1) {
    wanted.push(await hub.start(mix, number === 3 ? "fail" : "good", { instanceId: hub.id(9 - number) }));
    await hub.end(wanted.at(-1));
  }
  const pages = async (filter) => {
    const found = [];
    for (let lastInstanceKey, more = true; more; more = Boolean(lastInstanceKey)) {
      const page = await hub.client.listInstanceIds({ pageSize: 3, lastInstanceKey, completedTimeFrom, ...filter });
      assert.ok(page.values.length <= 3);
      found.push(...page.values.filter((id) => id.startsWith(hub.run)));
      lastInstanceKey = page.continuationToken;
    }
    return found;
  };
  assert.deepEqual(await pages({}), wanted);
  assert.deepEqual(await pages({ runtimeStatus: [Status.FAILED] }), [wanted[3]]);
  assert.deepEqual(await pages({ completedTimeFrom: new Date(0), completedTimeTo: new Date(0) }), []);
});

scenario("tags of instances, activities and children", async (hub) => {
  const works = async function works() {
    return 1;
  };
  const child = async function child() {
    return 2;
  };
  const tagged = async function* tagged(ctx) {
    yield ctx.callActivity(works, 1, { tags: { step: "one" } });
    return yield ctx.callSubOrchestrator(child, 1, { tags: { step: "two" }, instanceId: `${ctx.instanceId}-kid` });
  };
  await hub.worker([tagged, child], [works]);
  const id = await hub.start(tagged, 1, { tags: { team: "red", empty: "" } });
  await hub.end(id);
  assert.deepEqual({ ...(await hub.client.getOrchestrationState(id)).tags }, { team: "red", empty: "" });
  const events = await hub.client.getOrchestrationHistory(id);
  assert.deepEqual({ ...events.find((event) => event.type === "TaskScheduled").tags }, { step: "one" });
  assert.equal((await hub.client.getOrchestrationState(`${id}-kid`)).tags.step, "two");
});

scenario("failure of an activity reaches the client", async (hub) => {
  const breaks = async function breaks() {
    throw new RangeError("too far");
  };
  const calls = async function* calls(ctx) {
    return yield ctx.callActivity(breaks);
  };
  await hub.worker([calls], [breaks]);
  const failure = await hub.failure(calls);
  assert.match(failure.message, /too far/);
  assert.ok(failure.stackTrace.includes("too far"), failure.stackTrace);
});

scenario("failure of a child keeps its type", async (hub) => {
  const child = async function child() {
    throw new RangeError("too far");
  };
  const parent = async function* parent(ctx) {
    try {
      yield ctx.callSubOrchestrator(child);
    } catch (error) {
      return [error.details.errorType, error.details.message];
    }
  };
  await hub.worker([parent, child]);
  assert.deepEqual(await hub.output(parent), ["RangeError", "too far"]);
});
