// Fields for JSON: the first error and its place while somebody types, and a button that indents. Values stay as they are typed: large
// numbers are not rounded, since only the spaces between the parts change.

const PART = /[ \t\r\n]+|[{}[\],:]|"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"|-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null/y;

/** Longer texts are checked only by the server. */
const MOST = 200000;

/** The parts of a JSON text, or where it is wrong and why. */
function read(text) {
  const parts = [];
  const open = [];
  // What may come next: a value, the first name or value of what was opened, a name, a colon, or a comma.
  let next = "value";
  let at = 0;
  const wrong = (problem) => ({ at, problem });
  while (at < text.length) {
    PART.lastIndex = at;
    const part = PART.exec(text)?.[0];
    if (!part) return wrong(text[at] === '"' ? "this text does not end, or has a character that must be escaped" : "this is no JSON");
    const kind = part[0];
    if (" \t\r\n".includes(kind)) {
      at += part.length;
      continue;
    }
    const ends = kind === "}" || kind === "]";
    if (next === "end") return wrong("the JSON has ended before this");
    if (ends) {
      const pair = open.at(-1) === "{" ? "}" : "]";
      if (!open.length || kind !== pair || !["first", "name or end", "comma"].includes(next)) return wrong(next === "comma" ? `“${pair}” or a comma is missing before this` : "a value is missing before this");
      open.pop();
      next = open.length ? "comma" : "end";
    } else if (next === "comma") {
      if (kind !== ",") return wrong("a comma is missing before this");
      next = open.at(-1) === "{" ? "name" : "value";
    } else if (next === "colon") {
      if (kind !== ":") return wrong("a colon is missing before this");
      next = "value";
    } else if (next === "name" || next === "name or end") {
      if (kind !== '"') return wrong("a name in double quotes is missing here");
      next = "colon";
    } else if (kind === "{" || kind === "[") {
      open.push(kind);
      next = kind === "{" ? "name or end" : "first";
    } else if (",:".includes(kind)) {
      return wrong("a value is missing before this");
    } else {
      next = open.length ? "comma" : "end";
    }
    parts.push(part);
    at += part.length;
  }
  return next === "end" || !parts.length ? { parts } : wrong("the JSON ends too early");
}

/** The parts of a JSON text on lines of their own. */
function indented(parts) {
  let text = "";
  let depth = 0;
  const line = () => `\n${"  ".repeat(depth)}`;
  parts.forEach((part, at) => {
    const empty = (open, close) => parts[at - 1] === open && part === close;
    if (part === "}" || part === "]") {
      depth -= 1;
      text += empty("{", "}") || empty("[", "]") ? part : line() + part;
    } else {
      if (at && (parts[at - 1] === "{" || parts[at - 1] === "[")) text += line();
      text += part;
      if (part === "{" || part === "[") depth += 1;
      else if (part === ",") text += line();
      else if (part === ":") text += " ";
    }
  });
  return text;
}

function watch(field) {
  const said = document.createElement("div");
  said.className = "json-said";
  const format = document.createElement("button");
  format.type = "button";
  format.textContent = "Format";
  const go = document.createElement("button");
  go.type = "button";
  go.className = "quiet";
  go.textContent = "Go to it";
  const text = document.createElement("span");
  text.setAttribute("role", "status");
  text.id = `${field.id}:said`;
  said.append(format, text, go);
  field.after(said);
  field.setAttribute("aria-describedby", [field.getAttribute("aria-describedby"), text.id].filter(Boolean).join(" "));
  let place = 0;

  function look() {
    const found = field.value.length > MOST ? { parts: [] } : read(field.value);
    const lines = found.problem ? field.value.slice(0, found.at).split("\n") : [];
    text.className = found.problem ? "problem" : "";
    text.textContent = found.problem ? `Line ${lines.length}, column ${lines.at(-1).length + 1}: ${found.problem}` : "";
    field.setAttribute("aria-invalid", String(Boolean(found.problem)));
    go.hidden = !found.problem;
    format.disabled = !found.parts?.length;
    place = found.at;
    return found;
  }

  let timer;
  field.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(look, 250);
  });
  format.addEventListener("click", () => {
    const { parts } = look();
    if (parts?.length) field.value = indented(parts);
  });
  go.addEventListener("click", () => {
    field.focus();
    field.setSelectionRange(place, place + 1);
  });
  look();
}

for (const field of document.querySelectorAll("textarea[data-json]")) watch(field);

// A name that is chosen from the list of the field needs no button.
const name = document.querySelector("input[data-submit-on-choice]");
name?.addEventListener("input", () => {
  const known = [...document.querySelectorAll("#names option")].some((one) => one.value === name.value);
  // Somebody who types may be on the way to a longer name.
  if (known && !name.dataset.typing) name.form.requestSubmit();
});
name?.addEventListener("keydown", (event) => {
  if (event.key.length === 1) name.dataset.typing = "yes";
  else delete name.dataset.typing;
});

// Where a start was refused, its reason is on top of a long page.
document.querySelector("main > .error")?.scrollIntoView({ block: "center" });
