// What people do with the dashboard, on real hosts with the samples.

import { join } from "node:path";

import { Host, SOON, sound, timeToInteractive } from "./harness.mjs";

const SAMPLES = ["hello-sequence", "human-approval", "workloads"];
const WIDTHS = [1280, 800, 400];

/** A host with the samples deployed. */
async function host({ program, guests, hosts }, args = [], samples = SAMPLES) {
  const one = new Host(program, args);
  hosts.push(one);
  if (samples.length) await one.run("deploy", ...samples.map((name) => join(guests, `${name}.wasm`)));
  return one.start();
}

/** Instances in every state. */
async function populated(one) {
  await one.begin("HelloSequence", undefined, { id: "done", tags: { team: "blue" } });
  await one.begin("Wait", undefined, { id: "waiting" });
  await one.begin("Wait", undefined, { id: "held" });
  await one.begin("Panics", undefined, { id: "broken" });
  await one.begin("Wait", undefined, { id: "stopped" });
  await one.begin("RunsFailing", undefined, { id: "failing" });
  await one.begin("Chain", 30, { id: "chain" });
  await one.begin("ChildSum", [1, 2, 3], { id: "family" }).catch(() => {});
  await one.until("done", ["Completed"]);
  await one.until("chain", ["Completed"]);
  await one.until("broken", ["Failed"]);
  await one.run("suspend", "held");
  await one.run("terminate", "stopped", "--reason", "no longer needed");
  await one.until("stopped", ["Terminated"]);
}

const PLACES = [
  "/", "/?last=hour", "/storage", "/instances", "/instances?status=Failed", "/instances?idPrefix=nothing", "/start", "/start?name=HelloSequence",
  "/modules", "/modules/workloads", "/workers", "/instances/done", "/instances/done/timeline", "/instances/done/history", "/instances/done/turns",
  "/instances/done/tree", "/instances/done/what-if", "/instances/waiting", "/instances/held", "/instances/broken", "/instances/broken/history",
  "/instances/stopped", "/instances/chain/timeline", "/instances/chain/turns?turn=3", "/instances/family/tree", "/instances/nobody", "/nothing",
];

export async function every_page_is_sound_at_three_widths_light_and_dark(given) {
  const one = await host(given);
  await populated(one);
  for (const colorScheme of ["light", "dark"]) {
    const page = await given.browser.tab(one, { colorScheme }, ["404"]);
    const problems = [];
    for (const place of PLACES) {
      await page.setViewportSize({ width: WIDTHS[0], height: 900 });
      await page.goto(one.page(place), { waitUntil: "load" });
      for (const width of colorScheme === "light" ? WIDTHS : WIDTHS.slice(0, 1)) {
        await page.setViewportSize({ width, height: 900 });
        await sound(page).catch((error) => problems.push(error.message));
      }
      const shift = await page.evaluate(() => window.shift);
      if (shift > 0.1) problems.push(`${place} shifted by ${shift}`);
    }
    if (problems.length) throw new Error(problems.join("\n"));
    given.browser.check();
  }
}

export async function an_empty_hub_says_what_to_do_next(given) {
  const one = await host(given, [], []);
  const page = await given.browser.tab(one);
  for (const [place, says] of [["/", "No instances yet"], ["/instances", "start"], ["/modules", "deploy"], ["/start", "deploy"], ["/workers", "No worker"]]) {
    await page.goto(one.page(place));
    const text = await page.locator("main").innerText();
    if (!text.toLowerCase().includes(says.toLowerCase())) throw new Error(`${place} does not say ${JSON.stringify(says)}: ${text}`);
    await sound(page);
  }
  await page.goto(one.url);
  await page.getByRole("heading", { name: "Overview" }).waitFor();
}

export async function every_page_can_be_read_without_scripts(given) {
  const one = await host(given);
  await populated(one);
  const page = await given.browser.tab(one, { javaScriptEnabled: false }, ["404"]);
  for (const [place, says] of [
    ["/", "Running"], ["/instances", "waiting"], ["/instances/done", "HelloSequence"], ["/instances/chain/timeline", "Echo"],
    ["/instances/done/history", "ActivityScheduled"], ["/instances/chain/turns?turn=2", "Echo"], ["/modules", "workloads"], ["/workers", "No worker"],
  ]) {
    await page.goto(one.page(place));
    const text = await page.locator("main").innerText();
    if (!text.toLowerCase().includes(says.toLowerCase())) throw new Error(`${place} does not say ${JSON.stringify(says)}: ${text.slice(0, 2000)}`);
  }
}

export async function a_page_shows_what_happens_while_it_is_open(given) {
  const one = await host(given);
  const page = await given.browser.tab(one);
  await one.begin("Wait", undefined, { id: "watched" });
  await page.goto(one.page("/instances/watched"));
  await page.locator(".status.running").first().waitFor();
  await page.locator('.live[data-state="on"]').first().waitFor();
  const list = await given.browser.tab(one);
  await list.goto(one.page("/instances"));
  await list.locator('.live[data-state="on"]').first().waitFor();
  await one.run("raise-event", "watched", "Go", "--data", '"on"');
  await page.locator(".status.completed").first().waitFor();
  await list.locator("tr", { hasText: "watched" }).locator(".status.completed").waitFor();
  await one.begin("HelloSequence", undefined, { id: "newcomer" });
  await list.locator("tr", { hasText: "newcomer" }).waitFor();
}

export async function a_restarted_host_is_found_again(given) {
  const one = await host(given);
  // A browser says so itself when it cannot reach the host.
  const page = await given.browser.tab(one, {}, ["net::ERR_", "Failed to load resource"]);
  await one.begin("Wait", undefined, { id: "watched" });
  await page.goto(one.page("/instances/watched"));
  await page.locator('.live[data-state="on"]').first().waitFor();
  await one.again("SIGKILL");
  await page.locator('.live[data-state="on"]').first().waitFor({ timeout: 30_000 });
  await one.run("raise-event", "watched", "Go", "--data", '"on"');
  await page.locator(".status.completed").first().waitFor({ timeout: 30_000 });
}

export async function a_key_is_asked_for_once_and_no_longer_when_it_is_revoked(given) {
  const one = new Host(given.program, ["--require-key"]);
  given.hosts.push(one);
  await one.run("deploy", join(given.guests, "workloads.wasm"));
  const key = (text) => JSON.parse(text);
  const admin = key(await one.run("keys", "create", "people", "--json"));
  const reader = key(await one.run("keys", "create", "screens", "--read-only", "--json"));
  await one.start();
  const context = { colorScheme: "light" };
  const page = await given.browser.tab(one, context, ["401", "404"]);
  await page.goto(one.page("/instances"));
  await sound(page);
  await page.getByLabel("Key").fill("prn_wrong");
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByText("This is no key of this task hub.").waitFor();
  await page.getByLabel("Key").fill(admin.key);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.waitForURL(one.page("/instances"));
  const [cookie] = await page.context().cookies();
  if (!cookie.httpOnly || cookie.sameSite === "None") throw new Error(`the cookie is ${JSON.stringify(cookie)}`);
  await page.goto(one.page("/start"));
  await page.locator("main form").first().waitFor();
  // Reading, and nothing else.
  const other = await given.browser.tab(one, context, ["401"]);
  await other.goto(one.page("/instances"));
  await other.getByLabel("Key").fill(reader.key);
  await other.getByRole("button", { name: "Sign in" }).click();
  await other.waitForURL(one.page("/instances"));
  await one.api("POST", "/instances", { name: "Wait", id: "kept" }, { "x-functions-key": admin.key });
  await other.goto(one.page("/instances/kept"));
  const buttons = await other.locator("main form[method=post]").count();
  if (buttons) throw new Error(`a key that may only read sees ${buttons} forms`);
  const sent = await other.evaluate(async () => (await fetch("/ui/default/instances/kept/do/terminate", { method: "POST", body: "" })).status);
  if (sent !== 403) throw new Error(`a key that may only read was answered ${sent}`);
  given.browser.problems.length = 0;
  // The key is no longer one.
  await one.run("keys", "revoke", admin.id);
  await page.goto(one.page("/instances"));
  await page.getByLabel("Key").waitFor();
  // And out.
  await other.goto(one.page("/"));
  await other.getByRole("button", { name: "Sign out" }).click();
  await other.getByLabel("Key").waitFor();
}

export async function a_page_of_another_site_changes_nothing(given) {
  const one = await host(given);
  await one.begin("Wait", undefined, { id: "kept" });
  for (const [headers, body] of [
    [{ origin: "https://evil.example" }, "token=x"],
    [{ origin: one.url }, "token=00000000000000000000000000000000"],
    [{}, ""],
    [{ host: "evil.example" }, "token=x"],
  ]) {
    const answer = await fetch(one.page("/instances/kept/do/terminate"), {
      method: "POST", redirect: "manual", body, headers: { "content-type": "application/x-www-form-urlencoded", ...headers },
    });
    if (answer.status !== 403) throw new Error(`${JSON.stringify(headers)}: ${answer.status}`);
  }
  const { runtimeStatus } = await one.api("GET", "/instances/kept");
  if (runtimeStatus === "Terminated") throw new Error("it was terminated");
}

const HOSTILE = [
  `"><img src=x onerror=window.hacked=1>`, `<script>window.hacked=1</script>`, `javascript:window.hacked=1`, `' onmouseover='window.hacked=1`,
  `{{constructor.constructor('window.hacked=1')()}}`, `\u202egnp.exe`, `</textarea><svg onload=window.hacked=1>`, `../../../etc`, `%3Cscript%3E`, `a?b=c#d&e`,
];

export async function no_text_of_a_hub_becomes_markup(given) {
  const one = await host(given);
  const page = await given.browser.tab(one, {}, ["404"]);
  const ids = [];
  for (const [at, text] of HOSTILE.entries()) {
    const id = `h${at}`;
    ids.push(id);
    await one.begin("Wait", { [text]: [text] }, { id, tags: { [`t${at}`]: text } });
    await one.api("POST", `/instances/${id}/events/${encodeURIComponent(text.replaceAll("/", "|"))}`, text).catch(() => {});
    await one.api("POST", `/instances/${id}/terminate?reason=${encodeURIComponent(text)}`).catch(() => {});
    // What is refused as an id is no danger; what is taken is looked at.
    const named = await one.begin("Wait", text, { id: text }).catch(() => undefined);
    if (named) ids.push(named);
  }
  const below = ["", "/timeline", "/history", "/turns", "/tree", "/what-if"];
  const places = ["/", "/instances", ...ids.flatMap((id) => below.map((rest) => `/instances/${encodeURIComponent(id)}${rest}`))];
  for (const text of HOSTILE) {
    const value = encodeURIComponent(text);
    for (const name of ["idPrefix", "name", "status", "tag", "done", "refused", "waitsFor", "failureKind"]) places.push(`/instances?${name}=${value}`);
    places.push(`/start?name=${value}`, `/modules/${value}`, `/?last=${value}`, `/?done=${value}`, `/instances/${value}`);
  }
  page.on("console", () => {});
  for (const place of places) {
    await page.goto(one.page(place), { waitUntil: "load" });
    const found = await page.evaluate(() => ({
      hacked: window.hacked, marked: document.querySelectorAll("main img, main script, main [onerror], main [onload], main [onmouseover]").length,
      links: [...document.querySelectorAll("a[href]")].filter((a) => !["http:", "https:"].includes(new URL(a.href).protocol) || new URL(a.href).origin !== location.origin).length,
    }));
    if (found.hacked || found.marked || found.links) throw new Error(`${place}: ${JSON.stringify(found)}`);
  }
  // Pages that say that a parameter is wrong are errors to the console.
  given.browser.problems = given.browser.problems.filter((problem) => !/console: Failed to load resource.* 400/.test(problem));
}

export async function keys_lead_through_the_list(given) {
  const one = await host(given);
  for (const id of ["a1", "a2", "a3"]) await one.begin("HelloSequence", undefined, { id });
  await one.until("a3", ["Completed"]);
  const page = await given.browser.tab(one);
  await page.goto(one.page("/"));
  await page.keyboard.press("g");
  await page.keyboard.press("i");
  await page.waitForURL(/\/instances$/);
  await page.keyboard.press("j");
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await page.waitForURL(/\/instances\/a2$/);
  await page.keyboard.press("?");
  await page.getByRole("dialog").waitFor();
  await page.keyboard.press("Escape");
  await page.keyboard.press("/");
  await page.keyboard.type("a3");
  await page.keyboard.press("Enter");
  await page.waitForURL(/idPrefix=a3/);
  await page.locator("tr", { hasText: "a3" }).waitFor();
}

export async function a_hub_of_a_hundred_thousand_instances_stays_fast(given) {
  const one = await host(given);
  const later = "2090-01-01T00:00:00Z";
  let next = 0;
  const many = 100_000;
  await Promise.all(Array.from({ length: 64 }, async () => {
    while (next < many) {
      const id = `i${next++}`;
      await one.begin("HelloSequence", undefined, { id, scheduledTime: later }).catch(async (error) => {
        if (next < 100) throw error;
      });
    }
  }));
  const page = await given.browser.tab(one);
  const took = {};
  for (const place of ["/", "/instances", "/instances?idPrefix=i99", "/instances?name=HelloSequence&status=Pending"]) {
    const times = [];
    for (let round = 0; round < 3; round += 1) times.push(await timeToInteractive(page, one.page(place)));
    took[place] = Math.min(...times);
    const shift = await page.evaluate(() => window.shift);
    if (shift > 0.1) throw new Error(`${place} shifted by ${shift}`);
  }
  console.log(`        milliseconds until the page is interactive, the best of three: ${JSON.stringify(took)}`);
  const slow = Object.entries(took).filter(([, ms]) => ms > 1000);
  if (slow.length) throw new Error(`slow: ${JSON.stringify(slow)}`);
}

export async function a_history_of_ten_thousand_events_stays_smooth(given) {
  const one = await host(given);
  await one.begin("Chain", 3_400, { id: "long" });
  await one.until("long", ["Completed"]);
  const { historyEvents } = await one.api("GET", "/instances/long");
  if (historyEvents < 10_000) throw new Error(`it has only ${historyEvents} events`);
  const page = await given.browser.tab(one);
  const took = {};
  for (const below of ["", "/timeline", "/history", "/turns", "/turns?turn=1700"]) {
    const times = [];
    for (let round = 0; round < 3; round += 1) times.push(await timeToInteractive(page, one.page(`/instances/long${below}`)));
    took[below] = Math.min(...times);
  }
  console.log(`        milliseconds until the page is interactive, the best of three: ${JSON.stringify(took)}`);
  const slow = Object.entries(took).filter(([, ms]) => ms > 1000);
  if (slow.length) throw new Error(`slow: ${JSON.stringify(slow)}`);
  await page.goto(one.page("/instances/long/timeline"));
  const frames = await page.evaluate(async () => {
    const canvas = document.querySelector("canvas, svg.timeline");
    if (!canvas) return -1;
    const longest = [];
    for (let step = 0; step < 30; step += 1) {
      const begun = performance.now();
      canvas.dispatchEvent(new WheelEvent("wheel", { deltaY: step % 2 ? 120 : -120, ctrlKey: true, bubbles: true, cancelable: true, clientX: 400, clientY: 400 }));
      await new Promise(requestAnimationFrame);
      longest.push(performance.now() - begun);
    }
    return longest.sort((a, b) => a - b)[Math.floor(longest.length / 2)];
  });
  if (frames < 0) throw new Error("the timeline has no picture");
  if (frames > 100) throw new Error(`a step of the zoom takes ${frames} ms`);
}

export async function each_action_on_an_instance_does_what_it_says(given) {
  const one = await host(given);
  const page = await given.browser.tab(one, {}, ["404"]);
  page.accept = true;
  const act = async (key, fill = async () => {}) => {
    const form = page.locator(`#do-${key}`);
    if (!(await form.evaluate((details) => details.open))) await form.locator("summary").click();
    await fill(form);
    await Promise.all([page.waitForNavigation(), form.locator("button[type=submit]").click()]);
    const refused = await page.locator("p.error").allInnerTexts();
    if (refused.length) throw new Error(`${key}: ${refused}`);
  };
  await page.goto(one.page("/start?name=Wait"));
  await page.locator("#id").fill("used");
  await page.getByRole("button", { name: "Start", exact: true }).click();
  await page.waitForURL(/\/instances\/used/);
  await page.locator(".status.running").first().waitFor();
  await act("suspend", (form) => form.locator("#suspend-reason").fill("a pause"));
  await page.locator(".status.suspended").first().waitFor();
  await act("resume");
  await page.locator(".status.running").first().waitFor();
  await act("tags", async (form) => {
    await form.locator("#tags-key").fill("team");
    await form.locator("#tags-value").fill("blue");
  });
  await page.getByText("team").first().waitFor();
  await act("event", (form) => form.locator("textarea").fill('"went"'));
  await page.locator(".status.completed").first().waitFor();
  await act("restart");
  await page.locator(".status.running").first().waitFor();
  await act("cancel", (form) => form.locator("#cancel-reason").fill("enough"));
  await page.locator(".status.terminated").first().waitFor();
  await act("purge");
  const gone = await fetch(`${one.url}/api/v1/instances/used`);
  if (gone.status !== 404) throw new Error(`it is still there: ${gone.status}`);
}

export async function many_instances_are_changed_at_once(given) {
  const one = await host(given);
  for (let n = 0; n < 12; n += 1) await one.begin("Wait", undefined, { id: `w${n}` });
  const page = await given.browser.tab(one);
  await page.goto(one.page("/instances?name=Wait"));
  await page.locator('input[name="id"][value$=":w3"]').check();
  await page.locator("#scope").selectOption("selected");
  await page.locator("#action").selectOption("suspend");
  await page.getByRole("button", { name: "Review" }).click();
  await sound(page);
  await page.locator("main form button[type=submit]").first().click();
  await page.waitForURL(/\/bulk\//);
  await sound(page);
  await page.goto(one.page("/instances?name=Wait"));
  await page.locator("#scope").selectOption("filter");
  await page.locator("#action").selectOption("terminate");
  await page.getByRole("button", { name: "Review" }).click();
  await page.getByText("12").first().waitFor();
  await page.locator("main form button[type=submit]").first().click();
  await page.waitForURL(/\/bulk\//);
  for (let n = 0; n < 12; n += 1) await one.until(`w${n}`, ["Terminated"]);
}

export async function a_component_is_deployed_after_a_preview(given) {
  const one = await host(given, [], ["hello-sequence"]);
  const page = await given.browser.tab(one);
  page.accept = true;
  await page.goto(one.page("/modules"));
  await page.locator("input[type=file]").setInputFiles(join(given.guests, "human-approval.wasm"));
  await page.locator(".preview .confirm").waitFor();
  await sound(page);
  await page.locator('.preview button[data-step="deploy"]').click();
  await page.waitForURL(/\/modules\/human-approval/);
  const { modules } = await one.api("GET", "/modules").then((found) => ({ modules: found.modules ?? found }));
  if (!modules.some((module) => module.name === "human-approval")) throw new Error("it was not deployed");
}

export async function a_module_is_rolled_back_and_an_instance_asked_whether_it_could_go_on(given) {
  const one = await host(given, [], ["hello-sequence"]);
  for (const version of ["version-one", "version-two"]) {
    await one.run("deploy", join(given.guests, `${version}.wasm`), "--name", "orders");
    if (version === "version-one") await one.begin("Bill", null, { id: "bill" });
  }
  await one.until("bill", ["Running"]);
  const page = await given.browser.tab(one);
  await page.goto(one.page("/instances/bill"));
  await page.getByRole("button", { name: "Could it take this instance over?" }).click();
  await page.getByText("so it could take this instance over").waitFor();
  await sound(page);
  await page.goto(one.page("/instances/bill/what-if"));
  await page.getByRole("button", { name: "Replay without a change" }).click();
  await page.getByText("Nothing would differ.").waitFor();

  await page.goto(one.page("/modules/orders"));
  await sound(page);
  await page.getByRole("link", { name: "Roll back to this version" }).click();
  await sound(page);
  await page.getByRole("button", { name: "Check whether they could go on with it" }).click();
  await page.getByText("could go on with it.").waitFor();
  await page.getByRole("button", { name: "Roll back orders" }).click();
  await page.waitForURL(/\/modules\/orders$/);
  const orders = await one.api("GET", "/modules/orders");
  const stored = await one.api("GET", `/stored-modules/${orders.digest}`);
  if (!stored.definitions.some((one) => one.name === "Retire")) throw new Error("it was not rolled back");
}

export async function a_second_click_is_no_second_command(given) {
  const one = await host(given);
  const page = await given.browser.tab(one);
  page.accept = true;
  // A page that has been open for a while gets a new token before it sends a form.
  await page.addInitScript(() => {
    const clock = performance.now.bind(performance);
    let ahead = 0;
    window.later = () => (ahead += 60_000);
    performance.now = () => clock() + ahead;
  });
  await one.begin("CountEvents", 3, { id: "counts" });
  await page.goto(one.page("/instances/counts"));
  for (const number of [1, 2]) {
    if (number === 2) await page.evaluate(() => window.later());
    await page.locator("#do-event textarea").fill(`${number}`);
    await Promise.all([page.waitForNavigation(), page.locator("#do-event button[type=submit]").dblclick()]);
    await page.locator("p.done").waitFor();
  }
  await one.run("raise-event", "counts", "go", "--data", "3");
  const { output } = await one.until("counts", ["Completed"]);
  if (JSON.stringify(output) !== "[1,2,3]") throw new Error(`it was sent ${JSON.stringify(output)}`);
  await one.begin("Wait", undefined, { id: "waits" });
  await page.goto(one.page("/instances/waits"));
  await page.evaluate(() => window.later());
  await page.locator("#do-terminate summary").click();
  await Promise.all([page.waitForNavigation(), page.locator("#do-terminate button[type=submit]").dblclick()]);
  await page.locator("p.done").waitFor();
}

export async function what_was_typed_is_kept_when_it_is_refused(given) {
  const one = await host(given);
  const page = await given.browser.tab(one);
  page.accept = true;
  await one.begin("RunsFailing", undefined, { id: "failing" });
  await one.until("failing", ["Failed"]);
  await page.goto(one.page("/instances/failing"));
  const form = page.locator("#do-rewind");
  await form.locator("input[name=reason]").fill("a long reason");
  await form.locator("input[name=module]").fill("nowhere");
  await form.locator("input[name=all]").check();
  await Promise.all([page.waitForNavigation(), form.locator("button[type=submit]").click()]);
  await page.locator("p.error", { hasText: "nowhere" }).waitFor();
  const kept = async () => [await form.locator("input[name=reason]").inputValue(), await form.locator("input[name=all]").isChecked()];
  const after = await kept();
  if (after[0] !== "a long reason" || !after[1]) throw new Error(`it kept ${JSON.stringify(after)}`);
  // Only once, and only for what was refused.
  await page.reload();
  const later = await kept();
  if (later[0] !== "" || later[1]) throw new Error(`it keeps ${JSON.stringify(later)}`);
}

export async function a_page_says_that_the_host_does_not_answer(given) {
  const one = await host(given);
  const page = await given.browser.tab(one, {}, ["net::ERR_", "Failed to load resource"]);
  await one.begin("Wait", undefined, { id: "watched" });
  await page.goto(one.page("/instances/watched"));
  await page.locator('.live[data-state="on"]').first().waitFor();
  await one.stop();
  await page.locator(".live", { hasText: "the host does not answer" }).first().waitFor();
}
