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
// Printing needs a script, so its button is shown by one.
function showPrint() { document.querySelectorAll("[data-print]").forEach((button) => { button.hidden = false; }); }
document.addEventListener("DOMContentLoaded", showPrint);
document.addEventListener("htmx:afterSwap", showPrint);
document.addEventListener("click", (event) => { if (event.target.closest("[data-print]")) window.print(); });
// One box ticks all of a name in its form; only a script can, so only a script shows it.
function showTickAll() { document.querySelectorAll("[data-all]").forEach((label) => { label.hidden = false; }); }
document.addEventListener("DOMContentLoaded", showTickAll);
document.addEventListener("change", (event) => {
  const label = event.target.closest("[data-all]");
  if (!label) return;
  event.target.form.querySelectorAll(`[name="${label.dataset.all}"]`).forEach((box) => { box.checked = event.target.checked; });
});
// A form is sent once, however often it is clicked; the server refuses the second one anyway.
document.addEventListener("submit", (event) => {
  if (event.target.dataset.sent) { event.preventDefault(); return; }
  if (event.target.method === "post" && !event.target.hasAttribute("data-again")) event.target.dataset.sent = "1";
});
// A form whose answer is a part of the page can be sent again.
document.addEventListener("htmx:afterRequest", (event) => { delete event.target.dataset.sent; });
// A form that starts a download leaves its page standing: what was said of the last try goes, and so does the password.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("form[data-again]")) return;
  form.querySelectorAll(".error, .errors, [data-started]").forEach((said) => said.remove());
  form.querySelectorAll("[aria-invalid]").forEach((field) => field.removeAttribute("aria-invalid"));
  setTimeout(() => form.querySelectorAll("input[type=password]").forEach((field) => { field.value = ""; }), 0);
  // Later, because an answer that is a page (a wrong password) replaces this one first.
  setTimeout(() => {
    const said = document.createElement("p");
    said.setAttribute("role", "status");
    said.dataset.started = "";
    form.append(said);
    said.textContent = form.dataset.again;
  }, 1500);
});
// Whoever is signed out while typing keeps what was typed: the page says so instead of loading again.
document.addEventListener("htmx:beforeOnLoad", (event) => {
  const said = event.detail.target.closest("[data-signed-out]");
  const answer = event.detail.xhr;
  if (!said) return;
  const away = answer.getResponseHeader("HX-Refresh") === "true" || new URL(answer.responseURL).pathname.startsWith("/sign-in/");
  if (!away && answer.status !== 401 && answer.status !== 403) return;
  event.preventDefault();
  said.textContent = said.dataset.signedOut;
});
// After a move the arrow that was pressed has the focus again, or the other one where it cannot go further.
// Once the page stands, because going to an anchor moves the focus too.
window.addEventListener("load", () => setTimeout(() => {
  if (!/^#(up|down)-/.test(location.hash)) return;
  const arrow = document.getElementById(location.hash.slice(1));
  if (arrow) (arrow.disabled ? arrow.closest("td").querySelector("button:enabled") : arrow)?.focus();
}, 0));
window.addEventListener("pageshow", (event) => {
  if (event.persisted) document.querySelectorAll("form[data-sent]").forEach((form) => delete form.dataset.sent);
});
// A page that nobody sees does not ask how things are; it goes on when it is looked at again.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.target.closest("[data-rests]")) event.preventDefault();
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
