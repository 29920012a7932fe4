// What all pages share: times in the viewer's zone, copying, keys, light and dark, and live updates.

const root = document.documentElement;

/** Shows times in the viewer's zone, and how long ago those are that say so. */
export function times(within = document) {
  const format = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
  for (const time of within.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    time.title = time.dateTime;
    time.textContent = "ago" in time.dataset ? ago(at.getTime()) : format.format(at);
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
  const past = Date.now() - at;
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

// A form that says what it does asks before it does it.
document.addEventListener("submit", (event) => {
  const question = event.submitter?.dataset.confirm ?? event.target.dataset.confirm;
  if (question && !confirm(question)) event.preventDefault();
});

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
let stream, reading, stale, wanted = true;

function state(name, text) {
  for (const shown of document.querySelectorAll(".live")) {
    shown.dataset.state = name;
    shown.textContent = text;
  }
}

function open() {
  if (!live || stream || !wanted || document.hidden) return;
  stream = new EventSource(live.dataset.live);
  let lost = false;
  stream.onopen = () => {
    state("on", "live");
    if (lost) changed();
    lost = false;
  };
  stream.onerror = () => {
    lost = true;
    state("lost", "the host does not answer; trying again");
    // A browser gives up for good when the answer is an error, such as one of a proxy while the host restarts.
    if (stream?.readyState === EventSource.CLOSED) {
      close();
      setTimeout(open, 3000);
      changed();
    }
  };
  stream.addEventListener("changed", changed);
  stream.addEventListener("unauthorized", () => location.reload());
}

function close() {
  stream?.close();
  stream = undefined;
}

function toggleLive() {
  if (!live) return;
  wanted = !wanted;
  if (wanted) {
    open();
    changed();
  } else {
    close();
    state("off", "live updates are off");
  }
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

/** Reads the page again, and replaces the parts that changed. */
export async function refresh() {
  stale = false;
  reading = true;
  try {
    const answer = await again();
    if (answer.status === 401) return location.reload();
    if (!answer.ok && answer.status !== 404) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const fresh = page.querySelector('meta[name="form-token"]');
    if (fresh && fresh.content !== token()) {
      document.querySelector('meta[name="form-token"]').content = fresh.content;
      for (const field of document.querySelectorAll('input[name="token"]')) field.value = fresh.content;
    }
    for (const part of document.querySelectorAll("[data-part]")) replace(part, page.querySelector(`[data-part="${CSS.escape(part.dataset.part)}"]`));
  } catch {
    // The stream says that the host is away, and leads back here.
  } finally {
    reading = false;
    if (stale) changed();
  }
}

function replace(part, fresh) {
  if (!fresh || part.dataset.text === fresh.outerHTML) return;
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

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return close();
  open();
  if (live) changed();
});

prepare(document);
setInterval(() => document.hidden || times(), 10000);
open();
