// Every operation of the published JavaScript client, against a running host: `node client.js http://127.0.0.1:PORT`.
"use strict";

const assert = require("node:assert");
const fs = require("node:fs");
const path = require("node:path");
const from = process.env.CLIENT_MODULES || path.join(__dirname, "node_modules");
const { DurableClient } = require(path.join(from, "durable-functions/lib/src/durableClient/DurableClient"));

const origin = process.argv[2];
const base = `${origin}/runtime/webhooks/durabletask`;
const binding = fs.readFileSync(path.join(__dirname, "binding.json"), "utf8");
const client = new DurableClient(JSON.parse(binding.replaceAll("BASE", base).replaceAll("ORIGIN", origin)));

/** Asks until the instance has one of these statuses. */
async function until(id, ...wanted) {
  let status;
  for (let i = 0; i < 600; i += 1) {
    status = await client.getStatus(id);
    if (wanted.includes(status.runtimeStatus)) return status;
    await new Promise((done) => setTimeout(done, 50));
  }
  throw new Error(`${id} is ${status.runtimeStatus}, not ${wanted}`);
}

async function starts() {
  assert.equal(await client.startNew("HelloSequence", { instanceId: "js-hello" }), "js-hello");
  const madeUp = await client.startNew("CountDown", { input: 3 });
  assert.equal(madeUp.length, 32);
  const hello = await until("js-hello", "Completed");
  assert.deepEqual(hello.output, ["Hello Tokyo!", "Hello Seattle!", "Hello London!"]);
  assert.equal((await until(madeUp, "Completed")).output, "lift-off");
  await client.startNew("Wait", { instanceId: "js-taken" });
  await assert.rejects(client.startNew("Wait", { instanceId: "js-taken" }));
  await assert.rejects(client.startNew("NoSuchThing"), /NoSuchThing/);
  await client.terminate("js-taken", "enough");
}

async function statuses() {
  const shown = await client.getStatus("js-hello", { showHistory: true, showHistoryOutput: true, showInput: true });
  // The client asks for the history and drops it; that the answer is taken is what counts.
  assert.equal(shown.runtimeStatus, "Completed");
  await assert.rejects(client.getStatus("js-nobody"));
  const ids = (await client.getStatusAll()).map((status) => status.instanceId);
  assert(ids.includes("js-hello") && ids.includes("js-taken"), `${ids}`);
  const [hour, now] = [3_600_000, Date.now()];
  const by = (from, to, runtimeStatus) =>
    client.getStatusBy({ createdTimeFrom: new Date(from), createdTimeTo: new Date(to), runtimeStatus });
  const found = await by(now - hour, now + hour, ["Completed", "Running"]);
  assert(found.some((status) => status.instanceId === "js-hello"));
  assert.deepEqual(await by(now + hour, now + 2 * hour, ["Completed"]), []);
}

async function commands() {
  await client.startNew("Wait", { instanceId: "js-wait" });
  await until("js-wait", "Running");
  await client.suspend("js-wait", "hold on");
  assert.equal((await until("js-wait", "Suspended")).output, "hold on");
  await client.resume("js-wait", "go on");
  await until("js-wait", "Running");
  await client.raiseEvent("js-wait", "Go", "now");
  assert.equal((await until("js-wait", "Completed")).output, "now");
  await client.raiseEvent("js-wait", "Go", "late");
  await assert.rejects(client.raiseEvent("js-nobody", "Go", 1), /js-nobody/);
  await client.startNew("Wait", { instanceId: "js-over" });
  await client.terminate("js-over", "why not");
  assert.equal((await until("js-over", "Terminated")).output, "why not");
  await assert.rejects(client.terminate("js-nobody", "x"), /js-nobody/);
}

/** What an orchestration declares of its input and its events is what a client gives it. */
async function typed() {
  await client.startNew("Approve", { instanceId: "js-approve", input: { purpose: "a new chair" } });
  await until("js-approve", "Running");
  await client.raiseEvent("js-approve", "Decision", { approved: true, by: "Ann" });
  const approved = await until("js-approve", "Completed", "Failed");
  assert.deepEqual(approved.output, { approved: true, by: "Ann", escalated: false });
  for (const value of ["now", "", "17", '{"a": 1}', "null"]) {
    const told = await client.startNew("Wait");
    await client.raiseEvent(told, "Go", value);
    const ended = await until(told, "Completed", "Failed");
    assert.deepEqual([ended.runtimeStatus, ended.output], ["Completed", value]);
  }
}

async function again() {
  await client.startNew("RunsFailing", { instanceId: "js-failed" });
  const failed = await until("js-failed", "Failed");
  assert.equal(failed.output, "Orchestrator function 'RunsFailing' failed: the card was declined");
  await client.rewind("js-failed", "try again");
  await until("js-failed", "Failed");
  await assert.rejects(client.rewind("js-nobody", "x"), /js-nobody/);
  await assert.rejects(client.rewind("js-hello", "x"));
}

async function waits() {
  const request = { url: `${origin}/x`, headers: new Headers(), method: "POST" };
  const id = await client.startNew("HelloSequence", {});
  const options = { timeoutInMilliseconds: 20_000, retryIntervalInMilliseconds: 50 };
  const answer = await client.waitForCompletionOrCreateCheckStatusResponse(request, id, options);
  assert.equal(answer.status, 200);
  const links = client.createHttpManagementPayload(id);
  const status = await fetch(links.statusQueryGetUri);
  assert.equal(status.status, 200);
}

async function purges() {
  assert.equal((await client.purgeInstanceHistory("js-wait")).instancesDeleted, 1);
  assert.equal((await client.purgeInstanceHistory("js-wait")).instancesDeleted, 0);
  const [hour, now] = [3_600_000, Date.now()];
  const filter = { createdTimeFrom: new Date(now - hour), createdTimeTo: new Date(now + hour), runtimeStatus: ["Terminated"] };
  assert((await client.purgeInstanceHistoryBy(filter)).instancesDeleted >= 1);
  assert.equal((await client.purgeInstanceHistoryBy(filter)).instancesDeleted, 0);
}

(async () => {
  for (const part of [starts, statuses, commands, typed, again, waits, purges]) {
    await part();
    console.log(`  ${part.name}: ok`);
  }
})().catch((error) => {
  console.error(error);
  process.exit(1);
});
