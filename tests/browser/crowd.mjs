// A hub of any number of instances, made of a few real ones: their rows are copied under other ids and at other times.
//
// It takes a minute for a million, where starting as many would take many.

import { spawn } from "node:child_process";
import { once } from "node:events";

/** How long ago the oldest copy was created. */
const DAYS = 30;

/** Where rows of an instance are, beside its own. Each has the instance in the column `instance`. */
const PARTS = ["turn", "task", "inbox", "instance_tag", "instance_value"];

/** Of a hundred copies, how many are made of the real instances whose ids begin so. */
const SHARES = { "hello-": 90, "approve-": 3, "refund-": 5, "failed-": 2 };

/** Starts the instances that are copied, and waits until they have ended or wait. */
export async function seed(host) {
  for (let at = 0; at < 50; at += 1) {
    const tags = { team: `t${at % 7}` };
    await host.begin("HelloSequence", undefined, { id: `hello-${at}`, tags: { ...tags, unit: `u${at}` } });
    if (at < 10) await host.begin("Approve", { purpose: "a trip", amount: 100 + at }, { id: `approve-${at}`, tags });
    if (at < 10) await host.begin("Refund", undefined, { id: `refund-${at}`, tags });
    if (at < 10) await host.begin("FanOut", at, { id: `failed-${at}`, tags });
  }
  for (let at = 0; at < 50; at += 1) await host.until(`hello-${at}`, ["Completed"]);
  for (let at = 0; at < 10; at += 1) await host.until(`failed-${at}`, ["Failed"]);
}

/** Runs SQL on a file, and returns what it printed. */
async function sql(file, text) {
  const child = spawn(process.env.SQLITE ?? "sqlite3", ["-bail", file], { stdio: ["pipe", "pipe", "inherit"] });
  let out = "";
  child.stdout.on("data", (some) => (out += some));
  child.stdin.end(text);
  const [code] = await once(child, "close");
  if (code !== 0) throw new Error(`sqlite3 ended with ${code}`);
  return out.trim();
}

/** The columns of a table, with some replaced by expressions. */
async function columns(file, table, replaced) {
  const names = (await sql(file, `SELECT name FROM pragma_table_info('${table}') ORDER BY cid;`)).split("\n");
  return { names: names.join(", "), values: names.map((name) => replaced[name] ?? `o.${name}`).join(", ") };
}

/** Copies the instances of a hub that no host runs until there are so many more. */
export async function crowd(file, many) {
  const moved = "c.at - o.created_at";
  const later = (name) => `o.${name} + ${moved}`;
  const instance = await columns(file, "instance", {
    key: "c.key", id: "c.id", created_at: "c.at", started_at: later("started_at"), updated_at: later("updated_at"),
  });
  const parts = [];
  for (const table of PARTS) {
    // What is due is so in a year, so that the hub stays as it is while it is measured.
    const replaced = { instance: "c.key", due: "CASE WHEN o.due IS NULL THEN NULL ELSE (unixepoch() + 31536000) * 1000 END" };
    if (table === "instance_tag") replaced.created_at = "c.at";
    const { names, values } = await columns(file, table, replaced);
    parts.push(`INSERT INTO ${table} (${names}) SELECT ${values} FROM copy c CROSS JOIN ${table} o ON o.instance = c.old;`);
  }
  let before = 0;
  const ranges = Object.entries(SHARES).map(([prefix, share]) => {
    const from = before;
    before += share;
    return `SELECT '${prefix}' AS prefix, ${from} AS low, ${before} AS high`;
  });
  await sql(file, `
    PRAGMA synchronous = OFF; PRAGMA cache_size = -400000; PRAGMA temp_store = MEMORY;
    BEGIN;
    CREATE TEMP TABLE seeds AS SELECT key, r.low, r.high, row_number() OVER (PARTITION BY r.prefix ORDER BY key) - 1 AS nth,
      count(*) OVER (PARTITION BY r.prefix) AS all_of FROM instance i JOIN (${ranges.join(" UNION ALL ")}) r ON i.id GLOB r.prefix || '*';
    CREATE TEMP TABLE copy (key INTEGER PRIMARY KEY, old INTEGER NOT NULL, id TEXT NOT NULL, at INTEGER NOT NULL);
    WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ${many})
    INSERT INTO copy SELECT (SELECT max(key) FROM instance) + n, s.key,
      CASE WHEN n % 50 = 7 THEN printf('rare-%07d', n) ELSE printf('order-%07d', n) END,
      (unixepoch() - ${DAYS * 86_400}) * 1000 + CAST(n * ${DAYS * 86_400_000}.0 / ${many} AS INTEGER)
      FROM n CROSS JOIN seeds s ON n * 37 % 100 >= s.low AND n * 37 % 100 < s.high AND s.nth = n / 100 % s.all_of;
    INSERT INTO instance (${instance.names}) SELECT ${instance.values} FROM copy c CROSS JOIN instance o ON o.key = c.old;
    ${parts.join("\n    ")}
    COMMIT;
    PRAGMA wal_checkpoint(TRUNCATE);
  `);
}
