// The dashboard, used as people use it: each page and each action on a real host.
//
//   node run.mjs PROGRAM GUESTS [NAME...]
//
// PROGRAM is the built `perennial`, GUESTS the directory of the built components; with names, only scenarios whose name contains one.

import { Browser } from "./harness.mjs";
import * as scenarios from "./scenarios.mjs";

const [program, guests, ...only] = process.argv.slice(2);
if (!guests) {
  console.error("usage: node run.mjs PROGRAM GUESTS [NAME...]");
  process.exit(2);
}
const LIMIT_MS = 180_000;
const browser = await Browser.open();
let failed = 0, passed = 0;
for (const [key, scenario] of Object.entries(scenarios)) {
  const name = key.replaceAll("_", " ");
  if (only.length && !only.some((part) => name.includes(part.replaceAll("_", " ")))) continue;
  const begun = Date.now();
  const hosts = [];
  try {
    const ended = scenario({ browser, program, guests, hosts });
    let timer;
    const late = new Promise((_, reject) => (timer = setTimeout(() => reject(new Error(`it took longer than ${LIMIT_MS / 1000} s`)), LIMIT_MS)));
    await Promise.race([ended, late]);
    clearTimeout(timer);
    browser.check();
    passed += 1;
    console.log(`ok      ${name} (${Date.now() - begun} ms)`);
  } catch (error) {
    failed += 1;
    browser.problems.length = 0;
    console.log(`FAILED  ${name} (${Date.now() - begun} ms)\n${error.stack ?? error}`);
    for (const host of hosts) if (host.log) console.log(host.log.slice(-2000));
  } finally {
    for (const context of browser.browser.contexts()) await context.close().catch(() => {});
    for (const host of hosts) await host.close().catch(() => {});
  }
}
await browser.close();
console.log(`browser: ${passed} scenarios passed, ${failed} failed`);
process.exit(failed || !passed ? 1 : 0);
