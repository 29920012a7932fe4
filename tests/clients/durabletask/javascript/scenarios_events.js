// External events, and continue-as-new with and without them.
"use strict";

const { assert, refused, scenario, until, whenAll, whenAny } = require("./harness");

scenario("event before and while waiting", async (hub) => {
  const waits = async function* waits(ctx) {
    yield ctx.createTimer(0.4);
    return [yield ctx.waitForExternalEvent("early"), yield ctx.waitForExternalEvent("late")];
  };
  await hub.worker([waits]);
  const id = await hub.start(waits);
  await hub.raise(id, "early", { n: 1 });
  await until("early has arrived", async () => (await hub.history(id)).includes("EventRaised"));
  await hub.raise(id, "late", [2]);
  assert.deepEqual(await hub.outputOf(id), [{ n: 1 }, [2]]);
});

scenario("event before any worker is not lost", async (hub) => {
  const waits = async function* waits(ctx) {
    return yield ctx.waitForExternalEvent("now");
  };
  hub.named([waits]);
  const ids = await Promise.all(Array.from({ length: 10 }, () => hub.start(waits)));
  await Promise.all(ids.map((id, number) => hub.raise(id, "now", number)));
  await hub.worker([waits]);
  assert.deepEqual(await Promise.all(ids.map((id) => hub.outputOf(id))), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
});

scenario("events of one name come in order", async (hub) => {
  const collects = async function* collects(ctx, count) {
    const found = [];
    while (found.length < count) found.push(yield ctx.waitForExternalEvent("item"));
    return found;
  };
  await hub.worker([collects]);
  const id = await hub.start(collects, 30);
  for (let number = 0; number < 30; number += 1) await hub.raise(id, "item", number);
  assert.deepEqual(await hub.outputOf(id), Array.from({ length: 30 }, (_, number) => number));
});

scenario("event names ignore case", async (hub) => {
  const waits = async function* waits(ctx) {
    return yield ctx.waitForExternalEvent("Approval");
  };
  await hub.worker([waits]);
  const id = await hub.start(waits);
  await hub.raise(id, "aPPROVAL", "yes");
  assert.equal(await hub.outputOf(id), "yes");
});

scenario("waiters of one name are served in order", async (hub) => {
  const waits = async function* waits(ctx) {
    return yield whenAll([1, 2, 3].map(() => ctx.waitForExternalEvent("item")));
  };
  await hub.worker([waits]);
  const id = await hub.start(waits);
  for (const letter of "abc") await hub.raise(id, "item", letter);
  assert.deepEqual(await hub.outputOf(id), ["a", "b", "c"]);
});

scenario("falsy events come as they are", async (hub) => {
  const falsy = [0, "", false, null, [], {}];
  const collects = async function* collects(ctx, count) {
    const found = [];
    while (found.length < count) found.push(yield ctx.waitForExternalEvent("item"));
    return found;
  };
  await hub.worker([collects]);
  const id = await hub.start(collects, falsy.length);
  for (const value of falsy) await hub.raise(id, "item", value);
  assert.deepEqual(await hub.outputOf(id), falsy);
});

scenario("orchestrations send each other events", async (hub) => {
  const receiver = async function* receiver(ctx) {
    yield ctx.waitForExternalEvent("signal");
    return yield ctx.waitForExternalEvent("note");
  };
  const sender = async function* sender(ctx, to) {
    ctx.sendEvent(to, "note", { from: ctx.instanceId });
    ctx.sendEvent(to, "signal");
    yield ctx.createTimer(0.05);
    return "sent";
  };
  await hub.worker([receiver, sender]);
  const to = await hub.start(receiver);
  const from = await hub.start(sender, to);
  assert.equal(await hub.outputOf(from), "sent");
  assert.deepEqual(await hub.outputOf(to), { from });
});

scenario("event sent as the last act is delivered", async (hub) => {
  const receiver = async function* receiver(ctx) {
    return yield ctx.waitForExternalEvent("bye");
  };
  const sender = async function sender(ctx, to) {
    ctx.sendEvent(to, "bye", 7);
    ctx.sendEvent(`${to}-missing`, "bye", 8);
    return "gone";
  };
  await hub.worker([receiver, sender]);
  const to = await hub.start(receiver);
  assert.equal(await hub.output(sender, to), "gone");
  assert.equal(await hub.outputOf(to), 7);
});

scenario("event from a client to the missing", async (hub) => {
  await refused(() => hub.raise(hub.id("missing"), "note", 1), "NOT_FOUND");
});

scenario("event beats a timer and cancels it", async (hub) => {
  const waits = async function* waits(ctx) {
    const event = ctx.waitForExternalEvent("approval");
    const timer = ctx.createTimer(86400);
    const winner = yield whenAny([event, timer]);
    timer.cancel();
    return winner === event;
  };
  await hub.worker([waits]);
  const id = await hub.start(waits);
  await hub.raise(id, "approval", {});
  assert.equal(await hub.outputOf(id), true);
});

scenario("continue as new counts", async (hub) => {
  const counts = async function* counts(ctx, number) {
    yield ctx.createTimer(0.01);
    if (number < 12) ctx.continueAsNew(number + 1, false);
    else return number;
  };
  await hub.worker([counts]);
  const id = await hub.start(counts, 1);
  assert.equal(await hub.outputOf(id), 12);
  assert.ok((await hub.history(id)).length < 8, `the history is ${await hub.history(id)}`);
});

scenario("continue as new with saved events", async (hub) => {
  const collects = async function* collects(ctx, found) {
    found.push(yield ctx.waitForExternalEvent("item"));
    if (found.length < 12) ctx.continueAsNew(found, true);
    else return found;
  };
  await hub.worker([collects]);
  const id = await hub.start(collects, []);
  for (let number = 0; number < 12; number += 1) await hub.raise(id, "item", number);
  assert.deepEqual(await hub.outputOf(id), Array.from({ length: 12 }, (_, number) => number));
});

scenario("continue as new without saved events", async (hub) => {
  const forgets = async function* forgets(ctx, round) {
    if (round === 0) {
      yield ctx.waitForExternalEvent("go");
      ctx.continueAsNew(1, false);
      return undefined;
    }
    const event = ctx.waitForExternalEvent("item");
    return (yield whenAny([event, ctx.createTimer(0.5)])) === event;
  };
  await hub.worker([forgets]);
  const id = await hub.start(forgets, 0);
  await hub.raise(id, "item", 1);
  await until("the item has arrived", async () => (await hub.history(id)).includes("EventRaised"));
  await hub.raise(id, "go", null);
  assert.equal(await hub.outputOf(id), false, "that the item was kept");
});

scenario("continue as new and a child in each execution", async (hub) => {
  const child = async function child(_, number) {
    return number * 2;
  };
  const doubles = async function* doubles(ctx, number) {
    const doubled = yield ctx.callSubOrchestrator(child, number);
    if (doubled < 100) ctx.continueAsNew(doubled, false);
    else return doubled;
  };
  await hub.worker([doubles, child]);
  assert.equal(await hub.output(doubles, 1), 128);
});
