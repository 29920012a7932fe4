// What all pages share: times in the viewer's zone, copying, keys, light and dark, and live updates.

const root = document.documentElement;

// The clock of this machine may differ from that of the host, whose times these are. A difference that a slow answer explains does not count.
const difference = Number(document.querySelector('meta[name="now"]')?.content) - Date.now();
const ahead = Math.abs(difference) > 3000 ? difference : 0;

/** The time by the clock of the host. */
function now() {
  return Date.now() + ahead;
}

const FORMAT = new Intl.DateTimeFormat(undefined, {
  year: "numeric", month: "short", day: "numeric", hour: "numeric", minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3, timeZoneName: "short",
});

/** Shows times in the viewer's zone, with that in UTC on hover, and how long ago those are, or have lasted, that say so. */
export function times(within = document, onlyRelative = false) {
  for (const time of within.querySelectorAll(onlyRelative ? "time[data-ago], time[data-lasting]" : "time[datetime]")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    const text = "ago" in time.dataset ? ago(at.getTime()) : "lasting" in time.dataset ? span(Math.max(0, now() - at.getTime())) : FORMAT.format(at);
    if (time.textContent !== text) time.textContent = text;
    if (!onlyRelative) time.title = `${time.dateTime.replace("T", " ").replace("Z", "")} UTC`;
  }
}

const UNITS = [[86400000, "d"], [3600000, "h"], [60000, "min"], [1000, "s"]];

/** A span of milliseconds in its two largest units, as the server writes it. */
export function span(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const at = UNITS.findIndex(([unit]) => ms >= unit);
  const [unit, name] = UNITS[at];
  const [small, smallName] = UNITS[at + 1] ?? [];
  const rest = small ? Math.floor((ms % unit) / small) : 0;
  return `${Math.floor(ms / unit)} ${name}${rest ? ` ${rest} ${smallName}` : ""}`;
}

function ago(at) {
  const past = now() - at;
  if (past < 0) return `in ${span(-past)}`;
  return past < 1000 ? "now" : `${span(past)} ago`;
}

/** Buttons that only scripts can serve. */
function reveal(within = document) {
  for (const button of within.querySelectorAll("button.copy[hidden], .theme[hidden], .help[hidden]")) button.hidden = false;
}

/** Does to new content what was done to the page when it was loaded. */
export function prepare(within) {
  times(within);
  reveal(within);
  document.dispatchEvent(new CustomEvent("perennial:content", { detail: within }));
}

/** Says something that changed, also to screen readers. */
export function say(text) {
  let place = document.getElementById("said");
  if (!place) {
    place = document.createElement("div");
    place.id = "said";
    place.setAttribute("role", "status");
    document.body.append(place);
  }
  place.textContent = text;
  clearTimeout(say.timer);
  say.timer = setTimeout(() => (place.textContent = ""), 4000);
}

/** The token that each change must send. */
export function token() {
  return document.querySelector('meta[name="form-token"]').content;
}

document.addEventListener("click", async (event) => {
  const copy = event.target.closest("button.copy");
  if (copy) {
    event.preventDefault();
    try {
      await navigator.clipboard.writeText(copy.dataset.copy);
      say("Copied");
    } catch {
      say("The browser does not let this page copy; select the text instead");
    }
  } else if (event.target.closest("button.theme")) {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
    try {
      localStorage.setItem("perennial-theme", root.dataset.theme);
    } catch {
      // It lasts as long as the page, then.
    }
    document.dispatchEvent(new CustomEvent("perennial:theme"));
  } else if (event.target.closest("button.help")) {
    document.getElementById("help")?.showModal();
  }
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});

// A form that says what it does asks before it does it, and is sent once: a second click is no second command. One that has been open for a
// while gets the token of now: the host may have been restarted since, and would refuse it.
const RENEW_MS = 30000, SENT_MS = 5000;
let fresh = performance.now();
const sent = new Set();
let renewed;
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form === renewed) return;
  // A form that a script sends gets its token there.
  const sends = form.method === "post" && !form.dataset.to && form.querySelector('input[name="token"]');
  if (sends && sent.has(form)) {
    event.preventDefault();
    return say("It has been sent; the host has not answered yet");
  }
  const question = event.submitter?.dataset.confirm ?? form.dataset.confirm;
  if (question && !confirm(question)) return event.preventDefault();
  if (event.defaultPrevented || !sends) return;
  sent.add(form);
  if (performance.now() - fresh >= RENEW_MS) {
    event.preventDefault();
    const { submitter } = event;
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" }, credentials: "same-origin", signal: AbortSignal.timeout(5000) });
      if (answer.ok) renew(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch {
      // The host will say what is wrong.
    }
    renewed = form;
    form.requestSubmit(submitter);
    renewed = undefined;
  }
  // An answer replaces the page, unless the browser was told to stop.
  setTimeout(() => sent.delete(form), SENT_MS);
});

/** Takes the token of forms from a page that was just read. */
function renew(page) {
  fresh = performance.now();
  const own = document.querySelector('meta[name="form-token"]');
  const content = page.querySelector('meta[name="form-token"]')?.content;
  if (!content || content === own.content) return;
  own.content = content;
  for (const field of document.querySelectorAll('input[name="token"]')) field.value = content;
}

// --- Keys ---------------------------------------------------------------------------------------------------------------------------

let afterG = 0;

function rows() {
  return [...document.querySelectorAll("tr[data-href]")];
}

function step(by) {
  const all = rows();
  if (!all.length) return;
  const at = all.findIndex((row) => row.classList.contains("at"));
  const to = all[Math.min(all.length - 1, Math.max(0, at < 0 ? 0 : at + by))];
  for (const row of all) row.classList.toggle("at", row === to);
  to.querySelector("a")?.focus({ preventScroll: true });
  to.scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const field = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "Escape") field?.blur();
  if (field && field.type !== "checkbox") return;
  const row = document.querySelector("tr.at");
  if (performance.now() - afterG < 1500) {
    afterG = 0;
    const place = document.querySelector(`nav a[data-key="${CSS.escape(event.key)}"]`);
    if (place) {
      event.preventDefault();
      location.href = place.href;
      return;
    }
  }
  switch (event.key) {
    case "/": document.getElementById("find")?.focus(); break;
    case "?": document.getElementById("help")?.showModal(); break;
    case "j": step(1); break;
    case "k": step(-1); break;
    case "g": afterG = performance.now(); break;
    case "l": toggleLive(); break;
    case "x": row?.querySelector("input[type=checkbox]")?.click(); break;
    default: return;
  }
  event.preventDefault();
});

// --- Live updates -------------------------------------------------------------------------------------------------------------------
//
// An element with `data-live` names a stream of the API that tells when something has changed. The page is read again then, and each element
// with `data-part` is replaced if it changed; not while nobody looks. The stream decides how often, because only the host knows what it costs.

const live = document.querySelector("[data-live]");
const HERE_MS = 20000, AGAIN_MS = 3000, HUB_EVERY = "3";
// Streams do not tell of instances that are purged, so that a page looks for itself now and then.
const LOOK_MS = 15000;
const SILENT = "the host does not answer";
let stream, timer, reading, stale, wanted = true, connected = false;
// Why the last reading of the page failed, if it did.
let failed = "";

/** Says whether the page is up to date: it is while changes are told and the last reading of the page succeeded. */
function state() {
  const [name, text] = live?.classList.contains("gone") ? ["lost", "gone"] : !wanted ? ["off", "live updates are off"]
    : failed ? ["lost", `not up to date: ${failed}; trying again`]
    : connected ? ["on", "live"]
    : stream?.lost ? ["lost", `not up to date: ${SILENT}; trying again`]
    : ["wait", "connecting; not live yet"];
  for (const shown of document.querySelectorAll(".live")) {
    if (shown.dataset.state === name && shown.textContent === text) continue;
    shown.dataset.state = name;
    shown.textContent = text;
  }
}

/** What the stream says: "on", "changed", "lost" or "unauthorized". */
function told(what) {
  if (!stream) return;
  if (what === "unauthorized") return location.reload();
  if (what === "changed") return changed();
  if (what === "lost") changed();
  connected = what === "on";
  stream.lost = what === "lost";
  state();
}

function open() {
  if (!live || stream || !wanted || document.hidden) return;
  stream = shared() ?? own();
  state();
}

/** The stream that all pages of the hub share, if the browser has workers that pages can share. */
function shared() {
  if (!globalThis.SharedWorker || shared.broken) return undefined;
  try {
    const worker = new SharedWorker(document.querySelector('meta[name="live-worker"]').content, { name: "perennial-live" });
    const url = new URL(live.dataset.live, location.href);
    const hub = new URL(url);
    const query = url.searchParams;
    hub.search = new URLSearchParams({ taskHub: query.get("taskHub") ?? "", every: HUB_EVERY });
    worker.port.onmessage = ({ data }) => told(data.state);
    worker.onerror = () => {
      shared.broken = true;
      close();
      open();
    };
    worker.port.postMessage({ want: url.href, hub: hub.href });
    const here = setInterval(() => worker.port.postMessage({ here: true }), HERE_MS);
    return {
      close() {
        clearInterval(here);
        worker.port.postMessage({ stop: true });
        worker.port.close();
      },
    };
  } catch {
    return undefined;
  }
}

/** A stream of this page alone. */
function own() {
  const source = new EventSource(live.dataset.live);
  const self = { close: () => source.close() };
  let lost = false;
  source.onopen = () => {
    told("on");
    if (lost) changed();
    lost = false;
  };
  source.onerror = () => {
    lost = true;
    told("lost");
    // A browser gives up for good when the answer is an error, such as one of a proxy while the host restarts.
    if (source.readyState === EventSource.CLOSED) {
      setTimeout(() => {
        if (stream !== self) return;
        close();
        open();
      }, AGAIN_MS);
    }
  };
  source.addEventListener("changed", () => told("changed"));
  source.addEventListener("unauthorized", () => told("unauthorized"));
  return self;
}

function close() {
  stream?.close();
  stream = undefined;
  connected = false;
}

function toggleLive() {
  if (!live) return;
  wanted = !wanted;
  if (wanted) {
    open();
    changed();
  } else {
    close();
  }
  state();
}

function changed() {
  if (document.hidden) return;
  if (reading) stale = true;
  else refresh();
}

/** The page as it is now. The header tells the host that it is looked at, not opened. */
export function again() {
  return fetch(location.href, { headers: { accept: "text/html", "x-read-again": "1" }, credentials: "same-origin" });
}

/** Reads the page again, and replaces the parts that changed. An answer without them, such as that the instance is gone, is shown above. */
export async function refresh() {
  clearTimeout(timer);
  timer = undefined;
  stale = false;
  reading = true;
  try {
    const answer = await again();
    if (answer.status === 401) return location.reload();
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    renew(page);
    const parts = [...document.querySelectorAll("[data-part]")];
    const isGone = answer.status === 404 && !page.querySelector("[data-part]");
    failed = answer.ok || isGone ? "" : "the host could not show this page";
    gone(isGone ? page.querySelector("main .error")?.textContent || "What this page shows is no longer there." : "");
    if (!failed && !isGone) for (const part of parts) replace(part, page.querySelector(`[data-part="${CSS.escape(part.dataset.part)}"]`));
  } catch {
    failed = SILENT;
  } finally {
    reading = false;
    state();
    if (failed && wanted && !document.hidden) timer ??= setTimeout(refresh, AGAIN_MS);
    else if (stale) changed();
  }
}

/** Says that what the page shows is gone, and takes back what could be done with it; an empty text says that it is there. */
function gone(text) {
  let banner = document.getElementById("gone");
  if (!banner && text) {
    banner = document.createElement("p");
    banner.id = "gone";
    banner.className = "error";
    banner.setAttribute("role", "alert");
    document.getElementById("main").prepend(banner);
  }
  if (banner) {
    banner.hidden = !text;
    if (text) banner.textContent = `${text} What is shown below is how it was.`;
  }
  live?.classList.toggle("gone", Boolean(text));
  const actions = document.getElementById("actions");
  if (actions) actions.inert = Boolean(text);
}

function replace(part, fresh) {
  if (!fresh || part.dataset.text === fresh.outerHTML) return;
  if (wouldLose(part, fresh)) return;
  // Whoever fills in a form or selects text is not disturbed; the next change comes here again.
  if (part.contains(document.activeElement) && document.activeElement.matches("input:not([type=checkbox]), textarea, select")) return;
  if (!getSelection().isCollapsed && part.contains(getSelection().anchorNode)) return;
  const text = fresh.outerHTML;
  const opened = new Set([...part.querySelectorAll("details[id]")].filter((one) => one.open).map((one) => one.id));
  const known = new Set([...part.querySelectorAll("details[id]")].map((one) => one.id));
  const ticked = new Set([...part.querySelectorAll("input[type=checkbox]:checked")].map((one) => one.value));
  const focused = part.contains(document.activeElement) ? document.activeElement.getAttribute("href") : undefined;
  const box = part.contains(document.activeElement) && document.activeElement.type === "checkbox" ? document.activeElement.value : undefined;
  const at = part.querySelector("tr.at")?.dataset.href;
  const next = document.importNode(fresh, true);
  for (const one of next.querySelectorAll("details[id]")) if (known.has(one.id)) one.open = opened.has(one.id);
  for (const one of next.querySelectorAll("input[type=checkbox]")) if (ticked.has(one.value)) one.checked = true;
  if (at) next.querySelector(`tr[data-href="${CSS.escape(at)}"]`)?.classList.add("at");
  part.replaceWith(next);
  next.dataset.text = text;
  prepare(next);
  if (box) next.querySelector(`input[type=checkbox][value="${CSS.escape(box)}"]`)?.focus({ preventScroll: true });
  if (focused) next.querySelector(`a[href="${CSS.escape(focused)}"]`)?.focus({ preventScroll: true });
}

/** Whether ticked rows would leave the list. It is held then, and says so; what is ticked may be about to be changed. */
function wouldLose(part, fresh) {
  const held = document.getElementById("held");
  if (!held || part.dataset.part !== "rows") return false;
  const left = new Set([...fresh.querySelectorAll("input[name=id]")].map((one) => one.value));
  const loses = [...part.querySelectorAll("input[name=id]:checked")].some((one) => !left.has(one.value));
  held.hidden = !loses;
  return loses;
}

document.addEventListener("click", (event) => {
  if (!event.target.closest("button[data-update]")) return;
  for (const box of document.querySelectorAll("input[name=id]:checked")) box.checked = false;
  refresh();
});

// A page that is left, or kept for the way back, needs no stream.
addEventListener("pagehide", close);
addEventListener("pageshow", (event) => {
  sent.clear();
  if (!event.persisted) return;
  open();
  changed();
});

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return close();
  open();
  if (live) changed();
});

prepare(document);
if (live) setInterval(() => wanted && !document.hidden && changed(), LOOK_MS);
setInterval(() => document.hidden || times(document, true), 1000);
open();
