// What viewers of the dashboard cost a host: processor time of its process, with viewers and without, in turn.
//
// A viewer does what the script of the pages does: it reads a page, follows the stream that the page names, and reads the page again when
// the stream tells of a change. It runs no browser, whose processor time would disturb the measurement.

import { readFileSync, readdirSync } from "node:fs";
import { Agent, get, request } from "node:http";

/** The pages that ten viewers look at. */
export const PLACES = [
  "/", "/", "/?last=hour", "/instances", "/instances", "/instances?status=Running", "/instances?name=HelloSequence", "/instances/hello-3",
  "/instances/hello-3/timeline", "/modules",
];

const TICK_MS = 10;

/** Milliseconds of processor time that a process has used, and how often its threads gave up a processor. */
export function used(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  let switches = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    try {
      const status = readFileSync(`/proc/${pid}/task/${thread}/status`, "utf8");
      for (const [, count] of status.matchAll(/ctxt_switches:\t(\d+)/g)) switches += Number(count);
    } catch {
      // The thread has ended.
    }
  }
  return { cpu: (Number(fields[11]) + Number(fields[12])) * TICK_MS, switches };
}

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Someone who looks at a page. */
export class Viewer {
  constructor(host, path) {
    this.url = host.page(path);
    this.agent = new Agent({ keepAlive: true });
    this.reads = 0;
    this.events = 0;
  }

  async open() {
    const text = await this.read(false);
    const live = text.match(/data-live="([^"]*)"/)?.[1];
    if (!live) return this;
    this.stream = get(new URL(live.replaceAll("&amp;", "&"), this.url), (answer) => {
      answer.on("data", (some) => {
        const told = (some.toString().match(/^event: /gm) ?? []).length;
        this.events += told;
        if (told) this.changed();
      });
      answer.on("error", () => {});
    });
    this.stream.on("error", () => {});
    return this;
  }

  /** Reads the page; `again` says that it has been read before, as the pages' script does. */
  read(again = true) {
    this.reads += 1;
    return new Promise((resolve, reject) => {
      const headers = again ? { accept: "text/html", "x-read-again": "1" } : { accept: "text/html" };
      get(this.url, { agent: this.agent, headers }, (answer) => {
        let text = "";
        answer.on("data", (some) => (text += some));
        answer.on("end", () => resolve(text));
        answer.on("error", reject);
      }).on("error", reject);
    });
  }

  async changed() {
    this.stale = true;
    if (this.reading || this.closed) return;
    this.stale = false;
    this.reading = true;
    await this.read().catch(() => {});
    this.reading = false;
    if (this.stale) this.changed();
  }

  close() {
    this.closed = true;
    this.stream?.destroy();
    this.agent.destroy();
  }
}

/** Starts instances at a steady rate until it is stopped. */
export function load(host, perSecond) {
  const agent = new Agent({ keepAlive: true, maxSockets: 32 });
  const body = JSON.stringify({ name: "HelloSequence" });
  const headers = { "content-type": "application/json", "content-length": body.length };
  const begun = performance.now();
  const state = { started: 0, failed: 0 };
  const timer = setInterval(() => {
    const due = Math.floor(((performance.now() - begun) * perSecond) / 1000);
    // What could not be started in time is not made up for in a rush.
    state.started = Math.max(state.started, due - perSecond);
    for (; state.started < due; state.started += 1) {
      const sent = request(`${host.url}/api/v1/instances`, { method: "POST", agent, headers }, (answer) => {
        if (answer.statusCode >= 300) state.failed += 1;
        answer.resume();
      });
      sent.on("error", () => (state.failed += 1));
      sent.end(body);
    }
  }, 10);
  state.stop = () => {
    clearInterval(timer);
    agent.destroy();
  };
  return state;
}

/** Processor milliseconds and context switches for each second of a span. */
async function span(host, seconds) {
  const before = used(host.child.pid), begun = performance.now();
  await pause(seconds * 1000);
  const after = used(host.child.pid), took = (performance.now() - begun) / 1000;
  return { cpu: (after.cpu - before.cpu) / took, switches: (after.switches - before.switches) / took };
}

const mean = (of) => of.reduce((sum, one) => sum + one, 0) / of.length;

/** Measures with no viewers and with ten, in turn. Returns the means of both, and what the viewers did in a second. */
export async function compare(host, { rounds, seconds, report }) {
  const found = { without: [], with: [], reads: [], events: [] };
  for (let round = 0; round < rounds; round += 1) {
    found.without.push(await span(host, seconds));
    const viewers = await Promise.all(PLACES.map((path) => new Viewer(host, path).open()));
    // The first reads are those of any page, and not of one that is looked at.
    await pause(3000);
    const before = viewers.map((one) => [one.reads, one.events]);
    found.with.push(await span(host, seconds));
    found.reads.push(viewers.reduce((sum, one, at) => sum + one.reads - before[at][0], 0) / seconds);
    found.events.push(viewers.reduce((sum, one, at) => sum + one.events - before[at][1], 0) / seconds);
    for (const viewer of viewers) viewer.close();
    await pause(1000);
    report(`round ${round + 1}: ${found.without.at(-1).cpu.toFixed(1)} ms/s without, ${found.with.at(-1).cpu.toFixed(1)} with`);
  }
  const cpu = (of) => mean(of.map((one) => one.cpu));
  return { without: cpu(found.without), with: cpu(found.with), reads: mean(found.reads), events: mean(found.events) };
}

/** What a host costs that nobody uses. */
export async function idle(host, seconds) {
  await pause(3000);
  return span(host, seconds);
}
