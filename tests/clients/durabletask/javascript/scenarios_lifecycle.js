// Start, terminate, suspend, resume, restart, rewind, purge: what a client does to instances.
"use strict";

const { PurgeInstanceCriteria, Status, assert, pb, refused, scenario, sleep, terminateOptions, until, whenAll } = require("./harness");

/** An orchestration that waits for an event. */
function waiter(hub) {
  const waitsForGo = async function* waitsForGo(ctx) {
    return yield ctx.waitForExternalEvent("go");
  };
  return hub.named([waitsForGo])[0];
}

scenario("terminate running", async (hub) => {
  const wait = waiter(hub);
  await hub.worker([wait]);
  const id = await hub.start(wait);
  await hub.becomes(id, "RUNNING");
  await hub.client.terminateOrchestration(id, { reason: "found a bug" });
  const state = await hub.end(id);
  assert.equal(state.runtimeStatus, Status.TERMINATED);
  assert.equal(state.serializedOutput, '{"reason":"found a bug"}');
});

scenario("terminate before any worker", async (hub) => {
  const id = await hub.start(waiter(hub));
  await hub.client.terminateOrchestration(id, "too late");
  assert.equal((await hub.end(id, 5)).runtimeStatus, Status.TERMINATED);
});

scenario("terminate recursively or not", async (hub) => {
  const wait = waiter(hub);
  const top = async function* top(ctx) {
    return yield ctx.callSubOrchestrator(wait, undefined, { instanceId: `${ctx.instanceId}-kid` });
  };
  await hub.worker([wait, top]);
  const ids = [await hub.start(top), await hub.start(top)];
  for (const id of ids) await until("the child runs", async () => (await hub.status(`${id}-kid`)) === "RUNNING");
  await hub.client.terminateOrchestration(ids[0], terminateOptions({ recursive: true, output: "all" }));
  await hub.client.terminateOrchestration(ids[1], "one");
  for (const id of [...ids, `${ids[0]}-kid`]) assert.equal((await hub.end(id)).runtimeStatus, Status.TERMINATED, id);
  await hub.raise(`${ids[1]}-kid`, "go", 1);
  assert.equal(await hub.outputOf(`${ids[1]}-kid`), 1);
});

scenario("suspend holds events", async (hub) => {
  const collects = async function* collects(ctx, count) {
    const found = [];
    while (found.length < count) found.push(yield ctx.waitForExternalEvent("item"));
    return found;
  };
  await hub.worker([collects]);
  const id = await hub.start(collects, 5);
  await hub.becomes(id, "RUNNING");
  await hub.client.suspendOrchestration(id);
  await hub.becomes(id, "SUSPENDED");
  for (let number = 0; number < 5; number += 1) await hub.raise(id, "item", number);
  await hub.client.suspendOrchestration(id);
  await sleep(500);
  assert.equal(await hub.status(id), "SUSPENDED");
  await hub.client.resumeOrchestration(id);
  assert.deepEqual(await hub.outputOf(id), [0, 1, 2, 3, 4]);
  await hub.client.suspendOrchestration(id);
  await hub.client.resumeOrchestration(id);
  assert.equal(await hub.status(id), "COMPLETED");
});

scenario("requests about missing instances", async (hub) => {
  const missing = hub.id("missing");
  for (const request of ["terminateOrchestration", "suspendOrchestration", "resumeOrchestration", "rewindInstance", "restartOrchestration"]) {
    await refused(() => hub.client[request](missing), "NOT_FOUND");
  }
  assert.equal(await hub.client.getOrchestrationState(missing), undefined);
  assert.deepEqual(await hub.client.getOrchestrationHistory(missing), []);
  assert.equal((await hub.client.purgeOrchestration(missing)).deletedInstanceCount, 0);
});

scenario("scheduled start waits until it is due", async (hub) => {
  const now = async function now(ctx) {
    return ctx.currentUtcDateTime.getTime();
  };
  await hub.worker([now]);
  const due = new Date(Date.now() + 2000);
  const id = await hub.start(now, undefined, { startAt: due });
  assert.equal(await hub.status(id), "PENDING");
  assert.ok((await hub.outputOf(id)) >= due.getTime());
});

scenario("wait for the start and its deadline", async (hub) => {
  const wait = waiter(hub);
  const id = await hub.start(wait);
  await assert.rejects(hub.client.waitForOrchestrationStart(id, false, 1));
  await hub.worker([wait]);
  assert.equal((await hub.client.waitForOrchestrationStart(id, false, 20)).runtimeStatus, Status.RUNNING);
  await assert.rejects(hub.client.waitForOrchestrationCompletion(id, false, 1));
  await hub.raise(id, "go");
  await hub.end(id);
});

scenario("wait without a deadline", async (hub) => {
  const wait = waiter(hub);
  await hub.worker([wait]);
  const id = await hub.start(wait);
  const request = new pb.GetInstanceRequest();
  request.setInstanceid(id);
  const waiting = hub.call("waitForInstanceCompletion", request);
  await sleep(1500);
  await hub.raise(id, "go", 1);
  const ended = await waiting;
  assert.equal(ended.getOrchestrationstate().getOrchestrationstatus(), Status.COMPLETED);
});

scenario("restart under the same and another id", async (hub) => {
  let runs = 0;
  const counts = async function counts(ctx, value) {
    runs += 1;
    return [value, ctx.version];
  };
  await hub.worker([counts]);
  const id = await hub.start(counts, { n: 1 }, { version: "1.5" });
  await hub.end(id);
  assert.equal(await hub.client.restartOrchestration(id), id);
  await until("it has run again", () => runs >= 2);
  assert.deepEqual(await hub.outputOf(id), [{ n: 1 }, "1.5"]);
  const other = await hub.client.restartOrchestration(id, true);
  assert.notEqual(other, id);
  assert.deepEqual(await hub.outputOf(other), [{ n: 1 }, "1.5"]);
});

scenario("restart of the running", async (hub) => {
  const wait = waiter(hub);
  await hub.worker([wait]);
  const id = await hub.start(wait, 1);
  await hub.becomes(id, "RUNNING");
  await refused(() => hub.client.restartOrchestration(id), "FAILED_PRECONDITION");
  const other = await hub.client.restartOrchestration(id, true);
  for (const each of [id, other]) {
    await hub.raise(each, "go", each);
    assert.equal(await hub.outputOf(each), each);
  }
});

function startRequest(id, name, statuses) {
  const request = new pb.CreateInstanceRequest();
  request.setInstanceid(id);
  request.setName(name);
  if (statuses) {
    const policy = new pb.OrchestrationIdReusePolicy();
    policy.setReplaceablestatusList(statuses);
    request.setOrchestrationidreusepolicy(policy);
  }
  return request;
}

scenario("ids that are taken", async (hub) => {
  const wait = waiter(hub);
  await hub.worker([wait]);
  const id = await hub.start(wait, 1, { instanceId: hub.id("taken") });
  await refused(() => hub.start(wait, 2, { instanceId: id }), "ALREADY_EXISTS", id);
  await hub.raise(id, "go", 1);
  await hub.end(id);
  await refused(() => hub.start(wait, 2, { instanceId: id }), "ALREADY_EXISTS");
  await refused(() => hub.call("startInstance", startRequest(id, wait.name, [Status.FAILED])), "ALREADY_EXISTS");
  await hub.call("startInstance", startRequest(id, wait.name, [Status.COMPLETED]));
  await hub.becomes(id, "RUNNING");
  const all = [Status.RUNNING, Status.PENDING, Status.SUSPENDED, Status.TERMINATED];
  await hub.call("startInstance", startRequest(id, wait.name, all));
  await until("the second runs", async () => (await hub.status(id)) === "RUNNING");
  await hub.raise(id, "go", "second");
  assert.equal(await hub.outputOf(id), "second");
  const bad = "Invalid reusable statuses: cannot exclude 'Terminated' while also allowing reuse of running instances";
  await refused(() => hub.call("startInstance", startRequest(id, wait.name, [Status.RUNNING])), "INVALID_ARGUMENT", bad);
});

scenario("purge one, a family and a batch", async (hub) => {
  const leaf = async function leaf() {
    return 1;
  };
  const top = async function* top(ctx) {
    return yield ctx.callSubOrchestrator(leaf, undefined, { instanceId: `${ctx.instanceId}-kid` });
  };
  const wait = waiter(hub);
  await hub.worker([leaf, top, wait]);
  const running = await hub.start(wait);
  await hub.becomes(running, "RUNNING");
  const ids = await Promise.all(Array.from({ length: 5 }, () => hub.start(top)));
  await Promise.all(ids.map((id) => hub.end(id)));
  const purge = async (id, options) => (await hub.client.purgeOrchestration(id, options)).deletedInstanceCount;
  assert.equal(await purge(running), 0);
  assert.equal(await purge(ids[0]), 1);
  assert.equal(await purge(ids[0]), 0);
  assert.equal(await hub.status(`${ids[0]}-kid`), "COMPLETED");
  assert.equal(await purge(ids[1], { recursive: true }), 2);
  assert.equal(await hub.status(`${ids[1]}-kid`), undefined);
  const request = new pb.PurgeInstancesRequest();
  const batch = new pb.InstanceBatch();
  batch.setInstanceidsList([...ids.slice(2), running, hub.id("missing")]);
  request.setInstancebatch(batch);
  assert.equal((await hub.call("purgeInstances", request)).getDeletedinstancecount(), 3);
});

scenario(
  "purge by filter",
  async (hub) => {
    const ends = async function ends(_, fails) {
      if (fails) throw new Error("as told");
    };
    await hub.worker([ends]);
    const before = new Date(Date.now() - 1);
    for (const fails of [true, false, true]) await hub.end(await hub.start(ends, fails));
    const criteria = new PurgeInstanceCriteria();
    criteria.setCreatedTimeFrom(before);
    criteria.setCreatedTimeTo(new Date(Date.now() + 1000));
    criteria.setRuntimeStatusList([Status.FAILED]);
    assert.equal((await hub.client.purgeOrchestration(criteria)).deletedInstanceCount, 2);
    criteria.setRuntimeStatusList([]);
    assert.equal((await hub.client.purgeOrchestration(criteria)).deletedInstanceCount, 1);
  },
  { alone: true },
);

/** Activities that count their calls and fail until they are repaired. */
function workshop() {
  const shop = { calls: {}, broken: true };
  const count = (name) => (shop.calls[name] = (shop.calls[name] ?? 0) + 1);
  shop.works = async function works(_, name) {
    count(name);
    return name;
  };
  shop.breaks = async function breaks(_, name) {
    count(name);
    if (shop.broken) throw new Error(`${name} is broken`);
    return name;
  };
  return shop;
}

async function rewound(hub, id) {
  await hub.client.rewindInstance(id, "repaired");
  await until(`${id} has left Failed`, async () => (await hub.status(id)) !== "FAILED");
}

scenario("rewind runs only the failed activity again", async (hub) => {
  const shop = workshop();
  const steps = async function* steps(ctx) {
    const first = yield ctx.callActivity(shop.works, "first");
    return [first, yield ctx.callActivity(shop.breaks, "second"), yield ctx.callActivity(shop.works, "third")];
  };
  await hub.worker([steps], [shop.works, shop.breaks]);
  const id = await hub.start(steps);
  assert.equal((await hub.end(id)).runtimeStatus, Status.FAILED);
  shop.broken = false;
  await rewound(hub, id);
  assert.deepEqual(await hub.outputOf(id), ["first", "second", "third"]);
  assert.deepEqual(shop.calls, { first: 1, second: 2, third: 1 });
});

scenario("rewind twice", async (hub) => {
  const shop = workshop();
  const steps = async function* steps(ctx) {
    yield ctx.callActivity(shop.works, "first");
    return yield ctx.callActivity(shop.breaks, "second");
  };
  await hub.worker([steps], [shop.works, shop.breaks]);
  const id = await hub.start(steps);
  assert.equal((await hub.end(id)).runtimeStatus, Status.FAILED);
  await hub.client.rewindInstance(id, "hope");
  await until("the second try failed", async () => shop.calls.second === 2 && (await hub.status(id)) === "FAILED");
  shop.broken = false;
  await rewound(hub, id);
  assert.equal(await hub.outputOf(id), "second");
  assert.deepEqual(shop.calls, { first: 1, second: 3 });
});

scenario("rewind with children, one of them purged", async (hub) => {
  const shop = workshop();
  const child = async function* child(ctx, name) {
    return yield ctx.callActivity(shop.breaks, name);
  };
  const parent = async function* parent(ctx) {
    const kids = ["a", "b"].map((name) => ctx.callSubOrchestrator(child, name, { instanceId: `${ctx.instanceId}-${name}` }));
    return yield whenAll(kids);
  };
  await hub.worker([parent, child], [shop.breaks]);
  const id = await hub.start(parent);
  assert.equal((await hub.end(id)).runtimeStatus, Status.FAILED);
  assert.equal((await hub.client.purgeOrchestration(`${id}-a`)).deletedInstanceCount, 1);
  shop.broken = false;
  await rewound(hub, id);
  assert.deepEqual(await hub.outputOf(id), ["a", "b"]);
  assert.deepEqual(shop.calls, { a: 2, b: 2 });
});

scenario("rewind of what did not fail is refused", async (hub) => {
  const ends = async function ends() {
    return 1;
  };
  await hub.worker([ends]);
  const id = await hub.start(ends);
  await hub.end(id);
  await refused(() => hub.client.rewindInstance(id, "why not"), "FAILED_PRECONDITION");
});

scenario("rewind of an orchestrator that failed by itself", async (hub) => {
  let tries = 0;
  const failsOnce = async function failsOnce(_, name) {
    tries += 1;
    if (tries === 1) throw new Error("the first try failed");
    return `${name} again`;
  };
  await hub.worker([failsOnce]);
  const id = await hub.start(failsOnce, "done");
  assert.equal((await hub.end(id)).failureDetails.message, "the first try failed");
  await hub.client.rewindInstance(id, "once more");
  await until("the second try", () => tries >= 2);
  assert.equal(await hub.outputOf(id), "done again");
});

scenario("restart of the terminated", async (hub) => {
  const wait = waiter(hub);
  await hub.worker([wait]);
  const id = await hub.start(wait, "data");
  await hub.client.terminateOrchestration(id, "enough");
  assert.equal((await hub.end(id)).runtimeStatus, Status.TERMINATED);
  const other = await hub.client.restartOrchestration(id, true);
  await hub.raise(other, "go", "yes");
  assert.equal(await hub.outputOf(other), "yes");
  assert.equal((await hub.client.getOrchestrationState(other)).serializedInput, '"data"');
});
