// A browser to look with, and what must hold for every page.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

export { Host } from "./host.mjs";

const require = createRequire(join(process.env.BROWSER_PACKAGES ?? process.cwd(), "package.json"));
const { chromium } = require("playwright-core");
const AXE = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

/** How long anything may take that a page should show soon. */
export const SOON = 15_000;

/** A browser, and what went wrong on any of its pages. */
export class Browser {
  static async open() {
    const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
    const self = new Browser();
    self.browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
    self.problems = [];
    return self;
  }

  close() {
    return this.browser.close();
  }

  /** A tab that notes console errors, errors of scripts, requests to other hosts and dialogs. `expected` are texts of console errors that belong there. */
  async tab(host, options = {}, expected = []) {
    const context = await this.browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
    const page = await context.newPage();
    page.setDefaultTimeout(SOON);
    const note = (what) => this.problems.push(`${page.url()}: ${what}`);
    page.on("console", (said) => {
      if (said.type() !== "error" || expected.some((text) => said.text().includes(text))) return;
      note(`console: ${said.text()}`);
    });
    page.on("pageerror", (error) => note(`script: ${error.message}`));
    page.on("request", (request) => {
      const url = new URL(request.url());
      if (url.protocol.startsWith("http") && url.origin !== new URL(host.url).origin) note(`asked ${url.origin}`);
    });
    page.accept = false;
    page.on("dialog", (dialog) => {
      if (page.accept) return dialog.accept();
      note(`a dialog: ${dialog.message()}`);
      return dialog.dismiss();
    });
    await page.addInitScript(() => {
      window.shift = 0;
      new PerformanceObserver((list) => {
        for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shift += entry.value;
      }).observe({ type: "layout-shift", buffered: true });
    });
    return page;
  }

  /** Throws what went wrong since the last time. */
  check() {
    const problems = this.problems.splice(0);
    if (problems.length) throw new Error(problems.join("\n"));
  }
}

/** What must hold for any page as it is shown now: no barrier that axe knows, nothing wider than the window. */
export async function sound(page) {
  // A script of this test, not of the page, whose policy forbids scripts of others.
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"] }));
  const found = violations.flatMap((one) => one.nodes.slice(0, 3).map((node) => `${one.id}: ${node.html.slice(0, 160)} (${node.failureSummary.replaceAll("\n", " ").slice(0, 240)})`));
  const wide = await page.evaluate(() => {
    const room = document.documentElement.clientWidth;
    if (document.documentElement.scrollWidth <= room + 1) return "";
    const beyond = [...document.querySelectorAll("body *")].filter((one) => one.getBoundingClientRect().right > room + 1 && !one.parentElement.closest(".scroll"));
    return `the page is ${document.documentElement.scrollWidth} wide, the window ${room}: ${beyond.slice(0, 3).map((one) => one.outerHTML.slice(0, 100)).join(" ")}`;
  });
  if (wide) found.push(wide);
  if (found.length) throw new Error(`${page.url()} at ${page.viewportSize().width}:\n  ${found.join("\n  ")}`);
}

/** Milliseconds until the page is complete and answers. */
export async function timeToInteractive(page, url) {
  await page.goto(url, { waitUntil: "load" });
  return page.evaluate(() => Math.round(performance.getEntriesByType("navigation")[0].domContentLoadedEventEnd));
}
