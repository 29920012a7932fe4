// Versions, filters, several workers, and hosts and workers that are killed.
"use strict";

const { spawn } = require("node:child_process");
const fs = require("node:fs");
const path = require("node:path");
const { Host, Hub, VersionFailureStrategy, VersionMatchStrategy, assert, scenario, sleep, until, whenAll } = require("./harness");

/** An orchestration that gives its version. */
function teller(hub) {
  const tells = async function tells(ctx) {
    return ctx.version;
  };
  return hub.named([tells])[0];
}

const versioning = (version, matchStrategy, failureStrategy = VersionFailureStrategy.Fail, defaultVersion = undefined) => ({
  versioning: { version, matchStrategy, failureStrategy, defaultVersion },
});

scenario("version none takes every version", async (hub) => {
  const tell = teller(hub);
  await hub.worker([tell], [], versioning("2.0", VersionMatchStrategy.None));
  for (const version of ["1.0", "2.0", "9.9.9", "beta"]) assert.equal(await hub.output(tell, 1, { version }), version);
});

scenario("version strict fails others", async (hub) => {
  const tell = teller(hub);
  const workItemFilters = { orchestrations: [{ name: tell.name }] };
  await hub.worker([tell], [], { ...versioning("2.0", VersionMatchStrategy.Strict), workItemFilters });
  assert.equal(await hub.output(tell, 1, { version: "2.0" }), "2.0");
  assert.equal((await hub.failure(tell, 1, { version: "2.1" })).errorType, "VersionMismatch");
});

scenario("version current or older", async (hub) => {
  const tell = teller(hub);
  await hub.worker([tell], [], versioning("2.0", VersionMatchStrategy.CurrentOrOlder));
  for (const version of ["1.0", "1.10", "2.0"]) assert.equal(await hub.output(tell, 1, { version }), version);
  assert.equal((await hub.failure(tell, 1, { version: "2.0.1" })).errorType, "VersionMismatch");
});

scenario("rejected version waits for another worker", async (hub) => {
  const tell = teller(hub);
  await hub.worker([tell], [], versioning("1.0", VersionMatchStrategy.CurrentOrOlder, VersionFailureStrategy.Reject));
  const id = await hub.start(tell, 1, { version: "2.0" });
  assert.equal(await hub.output(tell, 1, { version: "1.0" }), "1.0");
  await sleep(500);
  assert.ok(["PENDING", "RUNNING"].includes(await hub.status(id)));
  await hub.worker([tell], [], versioning("2.0", VersionMatchStrategy.CurrentOrOlder, VersionFailureStrategy.Reject));
  assert.equal(await hub.outputOf(id), "2.0");
});

scenario("filter by name and version", async (hub) => {
  const name = `${hub.run}_versioned`;
  const of = (text, versions) => ({
    named: [["orchestrator", name, async () => text]],
    workItemFilters: { orchestrations: [{ name, versions }], activities: [] },
  });
  await hub.worker([], [], of("one", ["1.0"]));
  await hub.worker([], [], of("two", ["2.0", "2.1"]));
  const found = [];
  for (const version of ["1.0", "2.0", "2.1", "1.0"]) found.push(await hub.output(name, 1, { version }));
  assert.deepEqual(found, ["one", "two", "two", "one"]);
  const other = await hub.start(name, 1, { version: "3.0" });
  await sleep(500);
  assert.equal(await hub.status(other), "PENDING");
  await hub.worker([], [], of("any", []));
  assert.equal(await hub.outputOf(other), "any");
});

scenario("filter of activities takes the version of the orchestration", async (hub) => {
  const works = async function works() {
    return "done";
  };
  const calls = async function* calls(ctx) {
    return yield ctx.callActivity(works);
  };
  const [{ name: activity }, { name: orchestration }] = hub.named([works, calls]);
  await hub.worker([calls], [works], {
    workItemFilters: {
      orchestrations: [{ name: orchestration, versions: ["3.0.0"] }],
      activities: [{ name: activity, versions: ["3.0.0"] }],
    },
  });
  assert.equal(await hub.output(calls, 1, { version: "3.0.0" }), "done");
});

scenario("activities on a worker of their own", async (hub) => {
  const works = async function works(_, number) {
    return number * number;
  };
  const calls = async function* calls(ctx, number) {
    return yield ctx.callActivity(works, number);
  };
  hub.named([works]);
  await hub.worker([calls]);
  const id = await hub.start(calls, 7);
  await hub.becomes(id, "RUNNING");
  await hub.worker([], [works]);
  assert.equal(await hub.outputOf(id), 49);
});

scenario("two workers share the work", async (hub) => {
  const seen = [0, 0];
  const name = `${hub.run}_works`;
  const fans = async function* fans(ctx, count) {
    return (yield whenAll(Array.from({ length: count }, (_, number) => ctx.callActivity(name, number)))).length;
  };
  for (const who of [0, 1]) {
    const works = async (_, number) => {
      seen[who] += 1;
      await sleep(20);
      return number;
    };
    await hub.worker([fans], [], { named: [["activity", name, works]] });
  }
  await sleep(300);
  const ids = await Promise.all(Array.from({ length: 8 }, () => hub.start(fans, 20)));
  for (const id of ids) assert.equal(await hub.outputOf(id), 20);
  assert.equal(seen[0] + seen[1], 160);
  assert.ok(Math.min(...seen) > 0, `the workers ran ${seen}`);
});

scenario("worker stopped and started again", async (hub) => {
  const waits = async function* waits(ctx) {
    return [yield ctx.waitForExternalEvent("one"), yield ctx.waitForExternalEvent("two")];
  };
  const first = await hub.worker([waits]);
  const id = await hub.start(waits);
  await hub.becomes(id, "RUNNING");
  await hub.stop(first);
  await hub.raise(id, "one", 1);
  await hub.worker([waits]);
  await hub.raise(id, "two", 2);
  assert.deepEqual(await hub.outputOf(id), [1, 2]);
});

scenario("worker killed in the middle", async (hub) => {
  const marker = path.join(fs.mkdtempSync(path.join(require("node:os").tmpdir(), "perennial-")), "at");
  const names = { steps: `${hub.run}_steps`, slow: `${hub.run}_slow` };
  const child = spawn(process.execPath, [path.join(__dirname, "worker_to_kill.js"), hub.address, hub.name, hub.run, marker]);
  const id = await hub.start(names.steps, 4);
  await until("the first worker is in the second step", () => fs.existsSync(marker) && fs.readFileSync(marker, "utf8") === "1");
  const gone = new Promise((done) => child.once("exit", done));
  child.kill("SIGKILL");
  await gone;
  const calls = [];
  const steps = async function* (ctx, count) {
    const found = [];
    for (let number = 0; number < count; number += 1) found.push(yield ctx.callActivity(names.slow, number));
    return found;
  };
  const slow = async (_, number) => {
    calls.push(number);
    return number;
  };
  await hub.worker([], [], { named: [["orchestrator", names.steps, steps], ["activity", names.slow, slow]] });
  assert.deepEqual(await hub.outputOf(id), [0, 1, 2, 3]);
  assert.deepEqual(calls, [1, 2, 3]);
});

scenario(
  "worker without filters takes everything",
  async (hub) => {
    const known = async function* known(ctx) {
      return yield ctx.callActivity(`${hub.run}-unknown-activity`);
    };
    await hub.worker([known], [], { workItemFilters: undefined });
    assert.match((await hub.failure(`${hub.run}-unknown-orchestration`)).message, /does not exist/);
    assert.match((await hub.failure(known)).message, /not registered/);
  },
  { alone: true },
);

scenario(
  "activity and orchestration of a component",
  async (hub) => {
    const parent = async function* parent(ctx, city) {
      const greeting = yield ctx.callActivity("SayHello", city);
      return [greeting, yield ctx.callSubOrchestrator("HelloSequence")];
    };
    await hub.worker([parent]);
    const all = ["Hello Tokyo!", "Hello Seattle!", "Hello London!"];
    assert.deepEqual(await hub.output(parent, "Oslo"), ["Hello Oslo!", all]);
    assert.deepEqual(await hub.output("HelloSequence"), all);
  },
  { needs: "components" },
);

/** Makes a call until the host is there again. */
async function again(call) {
  for (const end = Date.now() + 15000; ; await sleep(100)) {
    try {
      return await call();
    } catch (error) {
      if (Date.now() > end) throw error;
    }
  }
}

scenario(
  "host killed in the middle",
  async (hub) => {
    const host = new Host(hub.serve);
    await host.up();
    const own = new Hub(host.listen, hub.name, hub.scenario);
    try {
      let calls = 0;
      const works = async function works(_, number) {
        calls += 1;
        await sleep(20);
        return number;
      };
      const steps = async function* steps(ctx, count) {
        let sum = 0;
        for (let number = 0; number < count; number += 1) sum += yield ctx.callActivity(works, number);
        yield ctx.createTimer(0.2);
        return [sum, yield ctx.waitForExternalEvent("go")];
      };
      await own.worker([steps], [works]);
      const ids = await Promise.all([1, 2, 3].map(() => own.start(steps, 30)));
      await until("some work is done", () => calls > 20);
      await host.kill();
      await host.up();
      for (const id of ids) await again(() => own.raise(id, "go", id));
      for (const id of ids) assert.deepEqual(await again(() => own.outputOf(id)), [435, id]);
      assert.ok(calls < 90 + 30, `${calls} calls of 90 activities`);
    } finally {
      await Promise.race([own.close(), sleep(3000)]);
      await host.kill();
    }
  },
  { alone: true, needs: "serve" },
);
