// The list of instances: selecting rows, times in the viewer's zone, and views that the browser keeps.

import { say } from "./app.js";

// --- Filters ------------------------------------------------------------------------------------------------------------------------

const filters = document.getElementById("filters");

/** A time in UTC, as the server writes it into a field, as the same time in the viewer's zone. */
function toLocal(text) {
  const at = new Date(`${text}Z`);
  if (!text || Number.isNaN(at.getTime())) return text;
  const pad = (number, digits = 2) => String(number).padStart(digits, "0");
  const day = `${pad(at.getFullYear(), 4)}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
  const ms = at.getMilliseconds() ? `.${pad(at.getMilliseconds(), 3)}` : "";
  const seconds = at.getSeconds() || ms ? `:${pad(at.getSeconds())}${ms}` : "";
  return `${day}T${pad(at.getHours())}:${pad(at.getMinutes())}${seconds}`;
}

if (filters) {
  const times = [...filters.querySelectorAll("input[type=datetime-local]")];
  // A local time may occur twice, in the night in which clocks are set back: a field that nobody changes is sent as it came.
  const came = new Map();
  for (const field of times) {
    const utc = field.value;
    field.value = toLocal(utc);
    if (utc) came.set(field.name, { local: field.value, utc: `${utc}Z` });
  }
  const zone = filters.querySelector("[data-zone]");
  if (zone) zone.textContent = `your time zone, ${Intl.DateTimeFormat().resolvedOptions().timeZone}`;
  // The URL has times in UTC and no empty fields, so that it can be given to somebody else.
  filters.addEventListener("formdata", ({ formData }) => {
    const local = new Set(times.map((field) => field.name));
    const pairs = [...formData];
    for (const [name] of pairs) formData.delete(name);
    for (const [name, value] of pairs) {
      const before = local.has(name) ? came.get(name) : undefined;
      const isUntouched = before !== undefined && before.local === value;
      const at = local.has(name) ? new Date(isUntouched ? before.utc : value) : undefined;
      const isUsual = (name === "order" && value === "newestFirst") || (name === "limit" && value === "50");
      if (value.trim() === "" || isUsual) continue;
      formData.append(name, at && !Number.isNaN(at.getTime()) ? at.toISOString().replace(/(:00)?\.000Z$/, "Z") : value);
    }
  });
}

// --- Selecting rows -----------------------------------------------------------------------------------------------------------------

const results = document.querySelector("form.results");
let last;

function boxes() {
  return [...results.querySelectorAll("input[name=id]")];
}

function selected() {
  const all = boxes();
  const count = all.filter((box) => box.checked).length;
  const head = results.querySelector("input[data-all]");
  if (head) {
    head.checked = count > 0 && count === all.length;
    head.indeterminate = count > 0 && count < all.length;
  }
  const shown = document.getElementById("selected");
  const text = count ? `${count} selected` : "";
  if (shown && shown.textContent !== text) shown.textContent = text;
}

if (results) {
  results.addEventListener("change", (event) => {
    if ("all" in event.target.dataset) for (const box of boxes()) box.checked = event.target.checked;
    selected();
  });
  results.addEventListener("click", (event) => {
    if (event.target.name !== "id") return;
    const all = boxes();
    const to = all.indexOf(event.target);
    const from = all.findIndex((box) => box.value === last);
    if (event.shiftKey && from >= 0) for (const box of all.slice(Math.min(from, to), Math.max(from, to))) box.checked = event.target.checked;
    last = event.target.value;
    selected();
  });
  results.addEventListener("submit", (event) => {
    const scope = results.querySelector("[name=scope]");
    if (scope?.value === "selected" && !boxes().some((box) => box.checked)) {
      event.preventDefault();
      say("Select at least one row, or choose all that match");
    }
  });
  document.addEventListener("perennial:content", selected);
  selected();
}

// --- Saved views --------------------------------------------------------------------------------------------------------------------

const VIEWS_MAX = 50;
const place = `perennial-views ${location.pathname}`;
const saved = document.getElementById("saved-views");

/** The saved views: pairs of a name and the query of a list. */
function views() {
  try {
    const kept = JSON.parse(localStorage.getItem(place) ?? "[]");
    if (!Array.isArray(kept)) return [];
    return kept.filter((view) => Array.isArray(view) && typeof view[0] === "string" && typeof view[1] === "string").slice(0, VIEWS_MAX);
  } catch {
    return [];
  }
}

function keep(all) {
  try {
    localStorage.setItem(place, JSON.stringify(all));
  } catch {
    say("The browser does not let this page keep anything");
  }
  listViews();
}

function listViews() {
  const all = views();
  document.getElementById("no-views").hidden = all.length > 0;
  saved.replaceChildren(
    ...all.map(([name, query]) => {
      const item = document.createElement("li");
      const link = document.createElement("a");
      link.href = `${location.pathname}?${query}`;
      link.textContent = name;
      const remove = document.createElement("button");
      remove.type = "button";
      remove.className = "quiet";
      remove.textContent = "✕";
      remove.title = "Delete this view";
      remove.setAttribute("aria-label", `Delete the view ${name}`);
      remove.addEventListener("click", (event) => {
        // Otherwise the menu would be closed: the button is no longer part of it.
        event.stopPropagation();
        keep(views().filter(([other]) => other !== name));
        document.getElementById("view-name").focus();
      });
      item.append(link, remove);
      return item;
    }),
  );
}

if (saved) {
  document.getElementById("save-view").addEventListener("submit", (event) => {
    event.preventDefault();
    const field = document.getElementById("view-name");
    const name = field.value.trim();
    if (!name) return;
    const query = new URLSearchParams(location.search);
    for (const passing of ["after", "done", "refused"]) query.delete(passing);
    const others = views().filter(([other]) => other !== name);
    if (others.length >= VIEWS_MAX) return say(`At most ${VIEWS_MAX} views can be saved; delete one first`);
    keep([...others, [name, query.toString()]].sort(([a], [b]) => a.localeCompare(b)));
    field.value = "";
    say(`Saved as ${name}`);
  });
  listViews();
}
