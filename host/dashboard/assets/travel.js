// Turns of a history: the arrow keys lead to the turn before and after. What-if: sends the component that a replay needs.

import { token } from "./app.js";

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable], .scroll")) return;
  const to = { ArrowLeft: "before", ArrowRight: "after" }[event.key];
  const link = to && document.querySelector(`a[data-turn="${to}"]`);
  if (!link) return;
  event.preventDefault();
  link.click();
});

document.addEventListener("submit", async (event) => {
  const form = event.target.closest("form.component");
  if (!form) return;
  event.preventDefault();
  const told = form.querySelector(".told");
  const button = form.querySelector("button");
  const file = form.querySelector("input[type=file]").files[0];
  if (!file) return;
  button.disabled = true;
  told.textContent = "Sending, and inspecting it…";
  try {
    const answer = await fetch(`${form.dataset.to}?name=${encodeURIComponent(file.name)}`, {
      method: "POST",
      headers: { "content-type": "application/wasm", "x-form-token": token() },
      credentials: "same-origin",
      body: file,
    });
    if (answer.ok) {
      // The page selects the module with the digest that was answered.
      const back = new URL(form.dataset.back, location.href);
      back.searchParams.set("module", await answer.text());
      return location.assign(back);
    }
    const isText = (answer.headers.get("content-type") ?? "").startsWith("text/plain");
    told.textContent = isText ? await answer.text() : `The host refused it (${answer.status}). Reload the page and try again.`;
  } catch {
    told.textContent = "The host did not answer. Try again.";
  } finally {
    button.disabled = false;
  }
});
