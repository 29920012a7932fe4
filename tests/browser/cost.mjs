// What the dashboard costs: the pages over many instances, and the viewers of a busy host and of an idle one.
//
//   node cost.mjs PROGRAM GUESTS [pages] [viewers] [idle]
//
// INSTANCES (a million), RATE (200 started in a second), ROUNDS (3) and SECONDS (20 of each measurement) change how much is measured.

import { join } from "node:path";
import { crowd, seed } from "./crowd.mjs";
import { Host } from "./host.mjs";
import { measurePages, MOST_MS } from "./pages.mjs";
import { compare, idle, load } from "./viewers.mjs";

const [program, guests, ...only] = process.argv.slice(2);
if (!guests) {
  console.error("usage: node cost.mjs PROGRAM GUESTS [pages] [viewers] [idle]");
  process.exit(2);
}
const number = (name, usual) => Number(process.env[name] ?? usual);
const [instances, rate, rounds, seconds] = [number("INSTANCES", 1_000_000), number("RATE", 200), number("ROUNDS", 3), number("SECONDS", 20)];
const wants = (part) => only.length === 0 || only.includes(part);
const line = (...cells) => console.log(`| ${cells.join(" | ")} |`);
const ms = (value) => value.toFixed(1);

/** A host whose hub has so many instances. */
async function crowded(many) {
  const host = await new Host(program).start();
  for (const guest of ["hello-sequence", "human-approval", "fan-out", "version-one"]) await host.run("deploy", join(guests, `${guest}.wasm`));
  await seed(host);
  if (!many) return host;
  await host.stop();
  await crowd(join(host.data, "default.db"), many);
  return host.start();
}

async function pages(host) {
  line("page", "best of five, ms", "worst, ms", "processor time, ms", "rows");
  line("---", "---:", "---:", "---:", "---:");
  const slow = [];
  await measurePages(host, ({ what, best, worst, cost, rows }) => {
    line(what, ms(best), ms(worst), ms(cost), rows);
    if (cost > MOST_MS) slow.push(what);
  });
  console.log(slow.length ? `\nmore than ${MOST_MS} ms of processor time: ${slow.join("; ")}` : `\nnone took more than ${MOST_MS} ms of processor time`);
}

async function viewers(host, what, perSecond) {
  const busy = perSecond ? load(host, perSecond) : undefined;
  const found = await compare(host, { rounds, seconds, report: (text) => console.error(`  ${what}, ${text}`) });
  busy?.stop();
  line(what, ms(found.without), ms(found.with), ms(found.with - found.without), ms(found.reads), ms(found.events));
  if (busy?.failed) console.log(`${busy.failed} starts failed`);
}

const hosts = [];
const keep = (host) => (hosts.push(host), host);
try {
  const large = wants("pages") || wants("viewers") ? keep(await crowded(instances)) : undefined;
  if (wants("pages")) await pages(large);
  if (wants("viewers")) {
    line("processor time of the host, ms/s", "no viewers", "ten viewers", "difference", "pages read/s", "events/s");
    line("---", "---:", "---:", "---:", "---:", "---:");
    await viewers(large, `${instances} instances, ${rate} started/s`, rate);
    await viewers(large, `${instances} instances, idle`, 0);
    const small = keep(await crowded(0));
    await viewers(small, `a small hub, ${rate} started/s`, rate);
    await viewers(small, "a small hub, idle", 0);
  }
  if (wants("idle")) {
    line("a host that nobody uses", "processor time, ms/s", "context switches/s");
    line("---", "---:", "---:");
    for (const args of [[], ["--no-dashboard"], [], ["--no-dashboard"]]) {
      const host = keep(await new Host(program, args).start());
      const { cpu, switches } = await idle(host, 3 * seconds);
      line(args[0] ?? "with the dashboard", ms(cpu), ms(switches));
      await host.stop();
    }
  }
} finally {
  for (const host of hosts) await host.close();
}
