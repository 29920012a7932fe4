// The pages of one instance: payloads of forms are checked while they are written, and forms follow the status of the instance.

import { again, prepare, refresh } from "./app.js";

/** Says at the field what is wrong with its JSON. */
function check(field) {
  let problem = "";
  if (field.value.trim()) {
    try {
      JSON.parse(field.value);
    } catch (error) {
      problem = `This is not JSON: ${error.message}`;
    }
  }
  field.setCustomValidity(problem);
}

document.addEventListener("input", (event) => {
  if (event.target.matches("textarea[data-json]")) check(event.target);
});

/** Whether somebody has begun to fill in a form. */
function isTouched(section) {
  if (section.contains(document.activeElement)) return true;
  return [...section.querySelectorAll("input:not([type=hidden]), textarea")].some((field) =>
    field.type === "checkbox" || field.type === "radio" ? field.checked !== field.defaultChecked : field.value !== field.defaultValue,
  );
}

/** Replaces the forms when others are possible, unless somebody is filling them in. */
async function follow(key) {
  const section = document.getElementById("actions");
  if (!section || section.dataset.key === key) return;
  if (isTouched(section)) {
    section.querySelector(".outdated").hidden = false;
    return;
  }
  const answer = await again();
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = page.getElementById("actions");
  if (!fresh || isTouched(section)) return;
  const next = document.importNode(fresh, true);
  section.replaceWith(next);
  prepare(next);
}

document.addEventListener("perennial:content", (event) => {
  const part = event.detail;
  if (part instanceof Element && part.dataset.part === "state") follow(part.dataset.key).catch(() => {});
});

// --- What was typed -------------------------------------------------------------------------------------------------------------------
//
// A refused form leads back to the page, which says why. What was typed into it is put back, so that it can be mended and sent again.

const TYPED = "perennial-typed", TYPED_MAX = 1 << 20;

/** The fields of a form that people fill in, with what is in them. */
function* fieldsOf(form) {
  for (const field of form.elements) {
    if (!field.name || ["hidden", "submit", "password", "file"].includes(field.type)) continue;
    yield [field, field.type === "checkbox" || field.type === "radio" ? `${field.name}=${field.value}` : field.name];
  }
}

document.addEventListener("submit", ({ target: form }) => {
  const action = form.closest("#actions .action");
  if (!action) return;
  const values = [...fieldsOf(form)].map(([field, key]) => [key, field.value, field.checked === true]);
  const text = JSON.stringify({ at: location.pathname, action: action.id, values });
  try {
    if (text.length <= TYPED_MAX) sessionStorage.setItem(TYPED, text);
  } catch {
    // It is typed again, then.
  }
});

/** Puts back what was typed, if the page says that it was refused. */
function putBack() {
  let typed;
  try {
    typed = JSON.parse(sessionStorage.getItem(TYPED) ?? "null");
    sessionStorage.removeItem(TYPED);
  } catch {
    return;
  }
  if (typed?.at !== location.pathname || !document.querySelector(".instance > p.error")) return;
  const action = document.getElementById(typed.action);
  const form = action?.querySelector("form");
  if (!form) return;
  const values = new Map(typed.values.map(([key, ...rest]) => [key, rest]));
  for (const [field, key] of fieldsOf(form)) {
    if (!values.has(key)) continue;
    const [value, checked] = values.get(key);
    if (field.type === "checkbox" || field.type === "radio") field.checked = checked;
    else field.value = value;
  }
  action.open = true;
}

putBack();

// The graph of a large family is wider than its place: it begins with the instance itself in sight.
const here = document.querySelector(".graph .node.here");
const graph = here?.closest(".scroll");
if (graph) graph.scrollLeft = Number(here.getAttribute("x")) - graph.clientWidth / 2 + Number(here.getAttribute("width")) / 2;

// The stream tells what happens from when it is open; what happened since the page was made is looked up once.
if (document.querySelector(".instance[data-live]")) setTimeout(refresh, 1000);
