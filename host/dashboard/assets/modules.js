// Deploying a component: the file is sent for a preview, for a check of live instances, and for the deployment. Nothing is kept between.

import { prepare, token } from "./app.js";

const place = document.querySelector("[data-deploy]");
if (place) start(place);

function start(place) {
  const input = place.querySelector("input[type=file]");
  const name = place.querySelector("#module-name");
  const drop = place.querySelector(".drop");
  const preview = place.querySelector(".preview");
  place.querySelector(".deploy").hidden = false;
  // The name of the last file, unless somebody typed another one.
  let named = name.value === "";

  function chosen() {
    preview.replaceChildren();
    const file = input.files[0];
    if (!file) return;
    if (named) name.value = file.name.replace(/\.wasm$/i, "");
    step("inspect", place.querySelector("[data-step=inspect]"));
  }

  name.addEventListener("input", () => {
    named = name.value === "";
    preview.replaceChildren();
  });
  input.addEventListener("change", chosen);
  for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragenter" || kind === "dragover");
      if (kind !== "drop" || !event.dataTransfer.files.length) return;
      input.files = event.dataTransfer.files;
      chosen();
    });
  }
  // A file that misses its place would replace the page.
  for (const kind of ["dragover", "drop"]) {
    document.addEventListener(kind, (event) => event.dataTransfer?.types.includes("Files") && event.preventDefault());
  }

  place.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-step]");
    if (button) step(button.dataset.step, button);
  });

  async function step(what, button) {
    const at = what === "inspect" ? preview : place.querySelector(what === "check" ? ".report" : ".outcome");
    const file = input.files[0];
    if (!file) return fail(at, "Choose a component first.");
    button.disabled = true;
    at.setAttribute("aria-busy", "true");
    try {
      if (what === "inspect") show(at, await (await send("/inspect", {}, file)).text());
      else if (what === "check") await check(at, file);
      else await deploy(at, file);
    } catch {
      // The browser reads the file each time, and does not read one that has changed.
      fail(at, "The component could not be sent: the host does not answer, or the file has changed. Choose it again.");
    } finally {
      button.disabled = false;
      at.removeAttribute("aria-busy");
    }
  }

  function send(below, more, file) {
    const query = new URLSearchParams({ name: place.querySelector(".confirm")?.dataset.name ?? name.value.trim(), ...more });
    if (below === "/inspect") query.set("name", name.value.trim());
    return fetch(`${place.dataset.deploy}${below}?${query}`, {
      method: "POST",
      headers: { "content-type": "application/wasm", "x-form-token": token() },
      credentials: "same-origin",
      body: file,
    });
  }

  async function deploy(at, file) {
    const confirm = place.querySelector(".confirm");
    const replace = confirm.querySelector("[data-replace]");
    if (replace && !replace.checked) return fail(at, "Tick the box first: names of other modules would be taken over.");
    const answer = await send("", { digest: confirm.dataset.digest, ...(replace ? { replace: "yes" } : {}) }, file);
    const text = await answer.text();
    if (!answer.ok) return show(at, text);
    location.href = text;
  }

  /** The answer has a line with two numbers for each step, an empty line, and the report. */
  async function check(at, file) {
    const bar = place.querySelector("progress.check");
    const said = place.querySelector(".checked");
    const answer = await send("/check", {}, file);
    if (!answer.ok) return show(at, await answer.text());
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    bar.hidden = false;
    let text = "";
    let whole = false;
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      text += value;
      let end;
      while (!whole && (end = text.indexOf("\n")) >= 0) {
        const [checked, all] = text.slice(0, end).split(" ");
        text = text.slice(end + 1);
        whole = checked === "";
        if (whole) break;
        bar.max = Math.max(1, Number(all));
        bar.value = Number(checked);
        said.textContent = `${checked} of ${all}`;
      }
    }
    bar.hidden = true;
    said.textContent = "";
    if (!whole) return fail(at, "The check did not end: the host went away. Try again.");
    show(at, text);
  }
}

/** Shows a part of a page of this server, in which all texts are escaped. An answer that is a whole page says why something was refused. */
function show(at, text) {
  const page = new DOMParser().parseFromString(text, "text/html");
  const main = page.querySelector("main") ?? page.body;
  at.replaceChildren(...document.importNode(main, true).childNodes);
  prepare(at);
}

function fail(at, text) {
  const problem = document.createElement("p");
  problem.className = "error";
  problem.setAttribute("role", "alert");
  problem.textContent = text;
  at.replaceChildren(problem);
}
