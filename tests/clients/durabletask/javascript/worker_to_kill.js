// A worker that stays in its second step, for the scenario that kills it: `node worker_to_kill.js ADDRESS HUB PREFIX MARKER`.
"use strict";

const fs = require("node:fs");
const { Hub, sleep } = require("./harness");

const [address, name, prefix, marker] = process.argv.slice(2);
const steps = async function* (ctx, count) {
  const found = [];
  for (let number = 0; number < count; number += 1) found.push(yield ctx.callActivity(`${prefix}_slow`, number));
  return found;
};
const slow = async (_, number) => {
  fs.writeFileSync(marker, String(number));
  if (number === 1) await sleep(600_000);
  return number;
};
new Hub(address, name, "worker to kill").worker([], [], {
  named: [["orchestrator", `${prefix}_steps`, steps], ["activity", `${prefix}_slow`, slow]],
});
