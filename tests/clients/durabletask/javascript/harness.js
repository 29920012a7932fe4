// What every scenario uses: a hub to talk to, workers with names of their own, and the runner.
"use strict";

const assert = require("node:assert/strict");
const { spawn } = require("node:child_process");
const { randomUUID } = require("node:crypto");
const fs = require("node:fs");
const os = require("node:os");
const path = require("node:path");
const sdk = require("./sdk");
const { GrpcClient, NoOpLogger, OrchestrationStatus: Status, TaskHubGrpcClient, TaskHubGrpcWorker, grpc } = sdk;

const SECONDS = 30;
const TOGETHER = 16;
const LARGE = { "grpc.max_receive_message_length": 64 << 20, "grpc.max_send_message_length": 64 << 20 };
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Asks until the condition gives something. */
async function until(what, condition, seconds = 20) {
  for (const end = Date.now() + seconds * 1000; ; await sleep(50)) {
    const found = await condition();
    if (found) return found;
    assert.ok(Date.now() < end, `${what}: not within ${seconds} s`);
  }
}

/** The call fails with a status code, or the SDK's error of it, and with a text that contains these words. */
async function refused(call, code, words = "") {
  try {
    await call();
  } catch (error) {
    const cause = error.code === undefined ? error.cause ?? error : error;
    assert.equal(grpc.status[cause.code], code, `the status code of ${error}`);
    assert.ok(String(cause.details ?? error.message).includes(words), `${error} does not say ${words}`);
    return;
  }
  assert.fail(`the call was not refused with ${code}`);
}

/** A task hub at an address, as one scenario sees it: its names and instance ids begin with the scenario's name. */
class Hub {
  constructor(address, name, scenario, serve) {
    Object.assign(this, { address, name, scenario, serve, workers: [] });
    this.run = `${scenario.replaceAll(" ", "-")}-${randomUUID().slice(0, 8)}`;
    this.client = new TaskHubGrpcClient(this.options());
    this.bare = new GrpcClient(address, LARGE).stub;
  }

  options(more = {}) {
    const metadataGenerator = async () => this.metadata();
    return { hostAddress: this.address, options: LARGE, logger: new NoOpLogger(), metadataGenerator, ...more };
  }

  metadata() {
    const metadata = new grpc.Metadata();
    metadata.set("taskhub", this.name);
    return metadata;
  }

  id(part) {
    return `${this.run}-${part}`;
  }

  /** Gives functions a name that only this scenario has, so that scenarios at the same time share no worker. */
  named(functions) {
    for (const each of functions) {
      if (!each.name.startsWith(this.run)) Object.defineProperty(each, "name", { value: `${this.run}_${each.name}` });
    }
    return functions;
  }

  /** Starts a worker, which the end of the scenario stops. */
  async worker(orchestrators = [], activities = [], { named = [], ...options } = {}) {
    const worker = new TaskHubGrpcWorker(this.options({ workItemFilters: "auto", shutdownTimeoutMs: 2000, ...options }));
    this.named(orchestrators).forEach((each) => worker.addOrchestrator(each));
    this.named(activities).forEach((each) => worker.addActivity(each));
    for (const [kind, name, each] of named) {
      if (kind === "orchestrator") worker.addNamedOrchestrator(name, each);
      else worker.addNamedActivity(name, each);
    }
    await worker.start();
    this.workers.push(worker);
    return worker;
  }

  async stop(worker) {
    this.workers = this.workers.filter((each) => each !== worker);
    await worker.stop();
  }

  async close() {
    await Promise.all(this.workers.map((worker) => worker.stop()));
    this.bare.close();
    this.client.stop().catch(() => undefined);
  }

  start(orchestrator, input, options = {}) {
    return this.client.scheduleNewOrchestration(orchestrator, input, { instanceId: this.id(randomUUID().slice(0, 8)), ...options });
  }

  async end(id, seconds = 25) {
    const state = await this.client.waitForOrchestrationCompletion(id, true, seconds);
    assert.ok(state, `${id} does not exist`);
    return state;
  }

  /** Runs an orchestration to its end, and gives its output. */
  async output(orchestrator, input, options) {
    return this.outputOf(await this.start(orchestrator, input, options));
  }

  async outputOf(id) {
    const state = await this.end(id);
    assert.equal(Status[state.runtimeStatus], "COMPLETED", state.failureDetails?.message);
    return state.serializedOutput ? JSON.parse(state.serializedOutput) : undefined;
  }

  /** Runs an orchestration that must fail, and gives the failure. */
  async failure(orchestrator, input, options) {
    const state = await this.end(await this.start(orchestrator, input, options));
    assert.equal(Status[state.runtimeStatus], "FAILED");
    return state.failureDetails;
  }

  async status(id) {
    const state = await this.client.getOrchestrationState(id);
    return state && Status[state.runtimeStatus];
  }

  becomes(id, status) {
    return until(`${id} becomes ${status}`, async () => (await this.status(id)) === status);
  }

  raise(id, name, data) {
    return this.client.raiseOrchestrationEvent(id, name, data);
  }

  async history(id) {
    return (await this.client.getOrchestrationHistory(id)).map((event) => event.type);
  }

  /** A bare call, for what the client of the SDK does not show. */
  call(name, request) {
    return new Promise((done, fail) =>
      this.bare[name](request, this.metadata(), (error, answer) => (error ? fail(error) : done(answer))),
    );
  }
}

/** A host in a process of its own, which a scenario may kill. */
class Host {
  constructor(command) {
    Object.assign(this, { command, listen: "127.0.0.1:0" });
    this.data = fs.mkdtempSync(path.join(os.tmpdir(), "perennial-"));
  }

  up() {
    const words = this.command.split(" ").map((word) => word.replace("{data}", this.data).replace("{listen}", this.listen));
    this.process = spawn(words[0], words.slice(1), { stdio: ["ignore", "pipe", "ignore"] });
    return new Promise((done, fail) => {
      let text = "";
      this.process.stdout.on("data", (some) => {
        text += some;
        const url = /"url":"https?:\/\/([^"/]*)/.exec(text);
        if (url) done((this.listen = url[1]));
      });
      this.process.on("exit", () => fail(new Error(`the host ended: ${this.command}`)));
    });
  }

  async kill() {
    const gone = new Promise((done) => this.process.once("exit", done));
    this.process.kill("SIGKILL");
    await gone;
  }
}

const scenarios = [];

/** Registers a scenario. `alone`: it looks at or changes the whole hub. `needs`: an option of the runner without which it is skipped. */
function scenario(name, body, { alone = false, needs } = {}) {
  scenarios.push({ name, body, alone, needs });
}

async function attempt({ name, body }, address, hubName, serve) {
  const hub = new Hub(address, hubName, name, serve);
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`it had not ended after ${SECONDS} s`)), SECONDS * 1000);
  });
  try {
    await Promise.race([body(hub), late]);
  } finally {
    clearTimeout(timer);
    await Promise.race([hub.close(), sleep(4000)]);
  }
}

/** Runs the scenarios, those that can at the same time, and gives the exit code. */
async function run(address, options, only) {
  const chosen = scenarios.filter(({ name }) => !only.length || only.some((word) => name.includes(word)));
  const failed = [];
  let passed = 0;
  let skipped = 0;
  const one = async (entry) => {
    if (entry.needs && !options[entry.needs]) {
      skipped += 1;
      console.log(`  ${entry.name} ... SKIPPED: it needs --${entry.needs}`);
      return;
    }
    try {
      await attempt(entry, address, options.hub, options.serve);
      passed += 1;
      console.log(`  ${entry.name} ... ok`);
    } catch (error) {
      failed.push(entry.name);
      console.log(`  ${entry.name} ... FAILED\n${error.stack ?? error}`);
    }
  };
  const together = chosen.filter(({ alone }) => !alone);
  const lane = async () => {
    for (let entry = together.shift(); entry; entry = together.shift()) await one(entry);
  };
  await Promise.all(Array.from({ length: TOGETHER }, lane));
  for (const entry of chosen.filter(({ alone }) => alone)) await one(entry);
  if (failed.length) console.log(`${failed.length} of ${chosen.length} scenarios FAILED: ${failed.join(", ")}`);
  else console.log(`${passed} scenarios passed${skipped ? `, ${skipped} skipped` : ""}`);
  return failed.length || !chosen.length ? 1 : 0;
}

module.exports = { ...sdk, Host, Hub, Status, assert, refused, run, scenario, sleep, until };
