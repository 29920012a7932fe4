// The screenshots of the README: four pages of a host with the samples.
//
//   node screenshots.mjs PROGRAM GUESTS DIRECTORY

import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";

import { Browser, Host } from "./harness.mjs";

const [program, guests, directory] = process.argv.slice(2);
if (!directory) {
  console.error("usage: node screenshots.mjs PROGRAM GUESTS DIRECTORY");
  process.exit(2);
}
const SAMPLES = ["hello-sequence", "human-approval", "chain-with-retries", "fan-out", "workloads"];
const LIMIT_BYTES = 400 << 10;
mkdirSync(directory, { recursive: true });
const host = new Host(program);
const browser = await Browser.open();
try {
  await host.run("deploy", ...SAMPLES.map((name) => join(guests, `${name}.wasm`)));
  await host.start();
  const tags = (team) => ({ tags: { team } });
  for (let n = 1; n <= 34; n += 1) await host.begin("HelloSequence", undefined, { id: `greeting-${n}`, ...tags(n % 2 ? "north" : "south") });
  for (let n = 1; n <= 6; n += 1) await host.begin("Wait", undefined, { id: `approval-${n}`, ...tags("finance") });
  for (let n = 1; n <= 3; n += 1) await host.begin("RunsFailing", undefined, { id: `payment-${n}`, ...tags("shop") });
  await host.begin("Panics", undefined, { id: "import-7" });
  await host.begin("Chain", 9, { id: "order-1042", ...tags("shop") });
  await host.begin("FanOutN", 16, { id: "report-2026-11", ...tags("finance") });
  for (const id of ["greeting-34", "order-1042", "report-2026-11"]) await host.until(id, ["Completed"]);
  for (const id of ["payment-3", "import-7"]) await host.until(id, ["Failed"]);
  await host.run("suspend", "approval-2");
  await host.run("terminate", "approval-3", "--reason", "no longer needed");
  let bytes = 0;
  for (const [name, place, colorScheme] of [
    ["overview", "/?last=hour", "light"],
    ["instances", "/instances?limit=25", "light"],
    ["timeline", "/instances/report-2026-11/timeline", "dark"],
    ["turns", "/instances/order-1042/turns?turn=4", "light"],
  ]) {
    const page = await browser.tab(host, { viewport: { width: 1200, height: 760 }, colorScheme });
    await page.goto(host.page(place), { waitUntil: "load" });
    await page.locator('.live[data-state="on"]').first().waitFor();
    const path = join(directory, `${name}.png`);
    await page.screenshot({ path });
    bytes += statSync(path).size;
  }
  browser.check();
  if (bytes > LIMIT_BYTES) throw new Error(`the pictures have ${bytes} bytes together, more than ${LIMIT_BYTES}`);
  console.log(`${bytes} bytes in ${directory}`);
} finally {
  await browser.close();
  await host.close();
}
