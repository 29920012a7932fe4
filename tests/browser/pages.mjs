// How long the pages take in a large hub: from the request to the first byte of the answer by the clock, and in processor time of the host,
// which other programs of the machine disturb less.

import { readFileSync, readdirSync } from "node:fs";
import { get } from "node:http";

/** Rounds of each page. */
const ROUNDS = 5;

/** What nothing that a visitor waits for may take. */
export const MOST_MS = 200;

const DAY = 86_400_000;
const day = (ago) => new Date(Math.floor((Date.now() - ago * DAY) / 1000) * 1000).toISOString();

/** Filters of the list: what they are, and their query. */
function filters() {
  const hour = new Date(Math.floor((Date.now() - 10.5 * DAY) / 1000) * 1000 + 3_600_000).toISOString();
  return {
    "no filter": "",
    "a status of nearly all": "status=Completed",
    "a status of few": "status=Running",
    "a status of none": "status=Suspended",
    "three statuses": "status=Completed&status=Failed&status=Terminated",
    "a name": "name=HelloSequence",
    "a name and a status": "name=Approve&status=Running",
    "an unknown name": "name=Gone",
    "a prefix of most": "idPrefix=order-",
    "a prefix of one in fifty": "idPrefix=rare-",
    "a prefix of few": "idPrefix=order-00777",
    "an unknown prefix": "idPrefix=zzz",
    "a prefix of most and a status of few": "idPrefix=order-&status=Running",
    "a prefix of one in fifty and a status of none of them": "idPrefix=rare-&status=Suspended",
    "a prefix of most and an unknown name": "idPrefix=order-&name=Gone",
    "a tag of many": "tag=team%3Dt3",
    "a tag of fewer": "tag=unit%3Du7",
    "an unknown tag": "tag=unit%3Dnone",
    "two tags": "tag=team%3Dt3&tag=unit%3Du3",
    "two tags that no instance has together": "tag=team%3Dt3&tag=unit%3Du4",
    "a tag and a status of none": "tag=team%3Dt3&status=Suspended",
    "a tag of many and a name of few": "tag=team%3Dt3&name=Approve",
    "a tag and another name's version": "tag=unit%3Du3&version=1",
    "a version": "version=1",
    "a version and a status": "version=1&status=Failed",
    "a version of no such name": "version=1&name=HelloSequence",
    "created on a day": `createdFrom=${day(11)}&createdTo=${day(10)}`,
    "created on a day, of a status of few": `createdFrom=${day(11)}&createdTo=${day(10)}&status=Running`,
    "created on a day, a prefix of few of them": `createdFrom=${day(11)}&createdTo=${day(10)}&idPrefix=rare-`,
    "updated on a day": `updatedFrom=${day(11)}&updatedTo=${day(10)}`,
    "updated in the last day": `updatedFrom=${day(1)}`,
    "updated before a day": `updatedTo=${day(29)}`,
    "ended on a day": `endedFrom=${day(11)}&endedTo=${day(10)}`,
    "ended in an hour": `endedFrom=${day(10.5)}&endedTo=${hour}`,
    "ended in an hour, of a name of few": `endedFrom=${day(10.5)}&endedTo=${hour}&name=Approve`,
    "ended in an hour, failed": `endedFrom=${day(10.5)}&endedTo=${hour}&status=Failed`,
    "ended in an hour, a tag": `endedFrom=${day(10.5)}&endedTo=${hour}&tag=team%3Dt3`,
    "waits for an event": "waitsFor=event",
    "waits for an event by name": "waitsFor=event%3ADecision",
    "waits for an event of no name": "waitsFor=event%3AGone",
    "waits for a retry, which none does": "waitsFor=retry",
    "waits for an activity, a prefix": "waitsFor=activity&idPrefix=order-",
    "a kind of failure": "failureKind=InvalidInput",
    "an unknown kind of failure": "failureKind=Gone",
    "a kind of failure of a tag": "failureKind=InvalidInput&tag=team%3Dt3",
  };
}

/** Asks for a page, and returns the milliseconds to its first byte, its status, and its text unless it is only begun. */
function ask(url, isBegunOnly = false) {
  return new Promise((resolve, reject) => {
    const begun = performance.now();
    get(url, (answer) => {
      const text = [];
      let ms;
      answer.on("data", (some) => {
        ms ??= performance.now() - begun;
        text.push(some);
        if (isBegunOnly) {
          answer.destroy();
          resolve({ ms, status: answer.statusCode, text: "" });
        }
      });
      answer.on("end", () => resolve({ ms: ms ?? performance.now() - begun, status: answer.statusCode, text: Buffer.concat(text).toString() }));
      answer.on("error", reject);
    }).on("error", reject);
  });
}

/** Milliseconds of processor time that the threads of a process have used, more finely than in ticks. */
function cpu(pid) {
  let ns = 0;
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    try {
      ns += Number(readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ")[0]);
    } catch {
      // The thread has ended.
    }
  }
  return ns / 1e6;
}

/** The best and the worst of some rounds by the clock, and the least processor time. */
async function rounds(host, path, isBegunOnly) {
  const times = [], costs = [];
  let last;
  for (let round = 0; round < ROUNDS; round += 1) {
    const before = cpu(host.child.pid);
    last = await ask(`${host.url}${path}`, isBegunOnly);
    costs.push(cpu(host.child.pid) - before);
    if (last.status !== 200) throw new Error(`${path}: ${last.status}`);
    times.push(last.ms);
  }
  return { best: Math.min(...times), worst: Math.max(...times), cost: Math.min(...costs), text: last.text };
}

const unescaped = (text) => text.replaceAll("&amp;", "&").replaceAll("&quot;", '"');
const nextOf = (text) => unescaped(text.match(/<a class="button" rel="next" href="([^"]*)"/)?.[1] ?? "");
const rowsOf = (text) => (text.match(/<tr data-href/g) ?? []).length;

/** Measures each page of a hub, and calls `report` with what each took. */
export async function measurePages(host, report) {
  const ui = "/ui/default";
  const measure = async (what, path, isBegunOnly = false) => {
    const found = await rounds(host, path, isBegunOnly);
    report({ what, path, rows: rowsOf(found.text), ...found });
    return found.text;
  };
  for (const [what, query] of Object.entries(filters())) {
    for (const order of ["newestFirst", "oldestFirst"]) {
      const path = `${ui}/instances?${query}&order=${order}`;
      const next = nextOf(await measure(`${what}, ${order}`, path));
      if (next) await measure(`${what}, ${order}, next page`, next);
    }
    await measure(`${what}, counted`, `${ui}/count?${query}`);
  }
  await measure("ended first", `${ui}/instances?order=endedFirst`);
  const last = nextOf(await measure("the newest 25, oldest first", `${ui}/instances?order=oldestFirst&limit=25&createdFrom=${day(0.001)}`));
  if (last) await measure("the last page", last);
  for (const window of ["hour", "day", "week", "month"]) await measure(`overview, ${window}`, `${ui}/?last=${window}`);
  await measure("storage", `${ui}/storage`);
  for (const below of ["", "/timeline", "/history", "/turns", "/tree"]) await measure(`an instance${below}`, `${ui}/instances/hello-3${below}`);
  for (const below of ["start", "modules", "workers"]) await measure(below, `${ui}/${below}`);
  await measure("export, first byte", `${ui}/instances.csv`, true);
  await measure("export of a filter, first byte", `${ui}/instances.jsonl?name=Approve`, true);
}
