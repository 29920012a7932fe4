// The article "Manage orchestration instances" of the Durable Task SDKs, heading by heading, in JavaScript:
// `node article.js ADDRESS [--hub NAME]`.
//
// Each function does what the JavaScript lines below one heading do. The article makes its client of a connection string, with a package
// that is not published; this file makes the same client of an address and a hub. README.md has the table.
"use strict";

const assert = require("node:assert/strict");
const { randomUUID } = require("node:crypto");
const { parseArgs } = require("node:util");
const { until } = require("./javascript/harness");
const {
  NoOpLogger,
  OrchestrationStatus,
  PurgeInstanceCriteria,
  TaskHubGrpcClient,
  TaskHubGrpcWorker,
  grpc,
} = require("./javascript/sdk");

const { values, positionals } = parseArgs({ options: { hub: { type: "string", default: "default" } }, allowPositionals: true });
const [hostAddress] = positionals;
const metadataGenerator = async () => {
  const metadata = new grpc.Metadata();
  metadata.set("taskhub", values.hub);
  return metadata;
};
const connection = { hostAddress, metadataGenerator, logger: new NoOpLogger() };
const client = new TaskHubGrpcClient(connection);
const run = randomUUID().slice(0, 8);
const named = (name) => `${name}_${run}`;

let configured = false;
const orchestrations = {
  HelloWorld: async (_, name) => `Hello, ${name}!`,
  MyOrchestration: async function* (ctx) {
    return yield ctx.waitForExternalEvent("MyEvent");
  },
  FlakyOrchestration: async function* (ctx) {
    return yield ctx.callActivity(named("NeedsConfiguration"));
  },
};

async function needsConfiguration() {
  if (!configured) throw new Error("the connection string is wrong");
  return "configured";
}

async function started(name, input) {
  const instanceId = await client.scheduleNewOrchestration(named(name), input);
  assert.ok(await client.waitForOrchestrationStart(instanceId, false, 30));
  return instanceId;
}

const statusOf = async (instanceId) => (await client.getOrchestrationState(instanceId))?.runtimeStatus;

const headings = {
  async "start instances"() {
    const instanceId = await client.scheduleNewOrchestration(named("HelloWorld"), "Ada");
    const state = await client.waitForOrchestrationStart(instanceId, false, 30);
    assert.equal(state.instanceId, instanceId);
    assert.equal(await client.scheduleNewOrchestration(named("HelloWorld"), "Ada", named("chosen")), named("chosen"));
  },

  async "query instances"() {
    const instanceId = await started("HelloWorld", "Ada");
    await client.waitForOrchestrationCompletion(instanceId, true, 30);
    const state = await client.getOrchestrationState(instanceId, true);
    assert.equal(state.runtimeStatus, OrchestrationStatus.COMPLETED);
    assert.deepEqual([state.serializedInput, state.serializedOutput], ['"Ada"', '"Hello, Ada!"']);
    assert.ok(state.createdAt <= state.lastUpdatedAt);
    assert.ok((await client.getOrchestrationHistory(instanceId)).length > 0);
    assert.equal(await client.getOrchestrationState(named("nobody")), undefined);
  },

  async "query all instances"() {
    const wanted = new Set();
    for (const name of ["Ada", "Grace", "Alan"]) wanted.add(await client.scheduleNewOrchestration(named("HelloWorld"), name));
    for await (const instance of client.getAllInstances()) wanted.delete(instance.instanceId);
    assert.equal(wanted.size, 0);
  },

  async "query instances with filters"() {
    const instanceId = await started("MyOrchestration");
    const day = 24 * 60 * 60 * 1000;
    const found = async (from, to) => {
      const filter = {
        statuses: [OrchestrationStatus.RUNNING, OrchestrationStatus.PENDING],
        createdFrom: new Date(Date.now() + from * day),
        createdTo: new Date(Date.now() + to * day),
      };
      const ids = [];
      for await (const instance of client.getAllInstances(filter)) ids.push(instance.instanceId);
      return ids.includes(instanceId);
    };
    assert.equal(await found(-7, 1), true);
    assert.equal(await found(-7, -1), false);
    await client.terminateOrchestration(instanceId);
  },

  async "terminate instances"() {
    const instanceId = await started("MyOrchestration");
    await client.terminateOrchestration(instanceId, "Found a bug");
    const state = await client.waitForOrchestrationCompletion(instanceId, true, 30);
    assert.equal(state.runtimeStatus, OrchestrationStatus.TERMINATED);
    assert.equal(state.serializedOutput, '"Found a bug"');
  },

  async "suspend and resume instances"() {
    const instanceId = await started("MyOrchestration");
    await client.suspendOrchestration(instanceId);
    await until("Suspended", async () => (await statusOf(instanceId)) === OrchestrationStatus.SUSPENDED);
    await client.resumeOrchestration(instanceId);
    await until("Running again", async () => (await statusOf(instanceId)) === OrchestrationStatus.RUNNING);
    await client.terminateOrchestration(instanceId);
  },

  async "send events to instances"() {
    const eventData = [1, 2, 3];
    const early = await client.scheduleNewOrchestration(named("MyOrchestration"), undefined, { startAt: new Date(Date.now() + 1000) });
    for (const instanceId of [early, await started("MyOrchestration")]) {
      await client.raiseOrchestrationEvent(instanceId, "MyEvent", eventData);
      const state = await client.waitForOrchestrationCompletion(instanceId, true, 30);
      assert.deepEqual(JSON.parse(state.serializedOutput), eventData);
    }
  },

  async "wait for orchestration completion"() {
    const instanceId = await client.scheduleNewOrchestration(named("HelloWorld"), "Ada");
    const state = await client.waitForOrchestrationCompletion(instanceId, true, 30);
    assert.equal(state?.runtimeStatus, OrchestrationStatus.COMPLETED);
    assert.equal(state.serializedOutput, '"Hello, Ada!"');
    const waiting = await started("MyOrchestration");
    await assert.rejects(client.waitForOrchestrationCompletion(waiting, true, 1));
    await client.terminateOrchestration(waiting);
  },

  async "rewind instances"() {
    const instanceId = await client.scheduleNewOrchestration(named("FlakyOrchestration"));
    const state = await client.waitForOrchestrationCompletion(instanceId, true, 30);
    assert.equal(state.runtimeStatus, OrchestrationStatus.FAILED);
    configured = true;
    await client.rewindInstance(instanceId, "Orchestrator failed and needs to be revived.");
    await until("Completed", async () => (await statusOf(instanceId)) === OrchestrationStatus.COMPLETED);
  },

  async "restart instances"() {
    const instanceId = await client.scheduleNewOrchestration(named("HelloWorld"), "Ada");
    await client.waitForOrchestrationCompletion(instanceId, true, 30);
    const newInstanceId = await client.restartOrchestration(instanceId, true);
    assert.notEqual(newInstanceId, instanceId);
    assert.equal(await client.restartOrchestration(instanceId, false), instanceId);
    for (const each of [newInstanceId, instanceId]) {
      assert.equal((await client.waitForOrchestrationCompletion(each, true, 30)).serializedOutput, '"Hello, Ada!"');
    }
  },

  async "purge instance history"() {
    const instanceId = await client.scheduleNewOrchestration(named("HelloWorld"), "Ada");
    await client.waitForOrchestrationCompletion(instanceId, true, 30);
    assert.equal((await client.purgeOrchestration(instanceId)).deletedInstanceCount, 1);
    const criteria = new PurgeInstanceCriteria();
    criteria.setCreatedTimeTo(new Date(Date.now() - 30 * 24 * 60 * 60 * 1000));
    criteria.setRuntimeStatusList([OrchestrationStatus.COMPLETED]);
    assert.equal((await client.purgeOrchestration(criteria)).deletedInstanceCount, 0);
    const running = await started("MyOrchestration");
    assert.equal((await client.purgeOrchestration(running)).deletedInstanceCount, 0);
    await client.terminateOrchestration(running);
  },
};

async function main() {
  const worker = new TaskHubGrpcWorker({ ...connection, workItemFilters: "auto" });
  for (const [name, body] of Object.entries(orchestrations)) worker.addNamedOrchestrator(named(name), body);
  worker.addNamedActivity(named("NeedsConfiguration"), needsConfiguration);
  await worker.start();
  for (const [heading, walk] of Object.entries(headings)) {
    await walk();
    console.log(`  ${heading} ... ok`);
  }
  console.log(`${Object.keys(headings).length} headings passed`);
  await worker.stop();
  await client.stop();
}

main().then(
  () => process.exit(0),
  (error) => {
    console.log(error);
    process.exit(1);
  },
);
