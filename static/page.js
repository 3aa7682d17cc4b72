// Comfort only: every job works without it. Rows open by double-click or Enter, buttons copy, "/" goes to the search.
"use strict";
document.addEventListener("dblclick", (event) => {
  const row = event.target.closest("tr[data-href]");
  if (row && !event.target.closest("a, button, input, select")) location.assign(row.dataset.href);
});
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select");
  if (event.key === "Enter" && event.target.matches("tr[data-href]")) location.assign(event.target.dataset.href);
  if (event.key === "/" && !typing) {
    const search = document.querySelector("[data-search]");
    if (search) { event.preventDefault(); search.focus(); }
  }
});
document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.querySelector(button.dataset.copy);
  await navigator.clipboard.writeText(source ? source.textContent.trim() : button.dataset.copy);
  const said = button.textContent;
  button.textContent = button.dataset.copied || "Copied";
  setTimeout(() => { button.textContent = said; }, 1500);
});
// A form is sent once, however often it is clicked; the server refuses the second one anyway.
document.addEventListener("submit", (event) => {
  if (event.target.dataset.sent) { event.preventDefault(); return; }
  if (event.target.method === "post" && !event.target.hasAttribute("data-again")) event.target.dataset.sent = "1";
});
window.addEventListener("pageshow", (event) => {
  if (event.persisted) document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent);
});
// A log follows its end until somebody scrolls up.
document.addEventListener("htmx:beforeSwap", () => {
  const log = document.querySelector("[data-follow]");
  if (log) window.logAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 8 ? null : log.scrollTop;
});
document.addEventListener("htmx:afterSettle", () => {
  const log = document.querySelector("[data-follow]");
  if (log) log.scrollTop = window.logAtEnd == null ? log.scrollHeight : window.logAtEnd;
});
