// The audit pages read without this; it adds keys, the live list and the replay button.
// Every value reaches the page as text, or as a document that the browser parsed and ran nothing of.
"use strict";

document.documentElement.classList.add("scripted");

const rows = () => [...document.querySelectorAll("#records tbody tr")].filter((row) => row.querySelector("a.open"));
let here = -1;

function move(step) {
  const all = rows();
  if (!all.length) return;
  here = Math.max(0, Math.min(all.length - 1, here + step));
  all.forEach((row, at) => row.classList.toggle("here", at === here));
  all[here].querySelector("a.open").focus({ preventScroll: true });
  all[here].scrollIntoView({ block: "nearest" });
}

const root = document.querySelector("a.brand")?.getAttribute("href") ?? "/audit";
const keys = {
  j: () => move(1),
  k: () => move(-1),
  "/": () => (document.querySelector('input[type="search"]') ?? document.querySelector('main input:not([type="hidden"])'))?.focus(),
  u: () => { location.href = root; },
};
const after = { o: root + "/overview", f: root + "/features", d: root, l: root + "/last" };
let pending = false;

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea, button");
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (typing) {
    if (event.key === "Escape") typing.blur();
    return;
  }
  if (pending) {
    pending = false;
    if (after[event.key]) location.href = after[event.key];
    return;
  }
  if (event.key === "g") { pending = true; return; }
  if (keys[event.key]) { event.preventDefault(); keys[event.key](); }
});

// -- the live list: the page itself is asked for again, and its rows are taken over

const table = document.getElementById("records");
const live = document.getElementById("live");
const EVERY = 2000;

function fresh(url) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("GET", url);
    request.setRequestHeader("accept", "text/html");
    request.responseType = "document";
    request.timeout = 10000;
    request.onload = () => (request.status === 200 ? resolve(request.response) : reject(new Error(request.status)));
    request.onerror = request.ontimeout = () => reject(new Error("no answer"));
    request.send();
  });
}

async function look() {
  if (!live.checked) return;
  try {
    if (!document.hidden) take(await fresh(location.href));
    live.parentElement.title = "";
  } catch (error) {
    live.parentElement.title = "the list could not be read: " + error.message;
  }
  setTimeout(look, EVERY);
}

function take(page) {
  const next = page.querySelector("#records tbody");
  const old = table.tBodies[0];
  if (!next || next.textContent === old.textContent) return;
  const known = new Set([...old.rows].map((row) => row.id));
  const chosen = here >= 0 ? rows()[here]?.id : null;
  const body = document.adoptNode(next);
  for (const row of body.rows) if (!known.has(row.id)) row.classList.add("fresh");
  old.replaceWith(body);
  here = rows().findIndex((row) => row.id === chosen);
  rows()[here]?.classList.add("here");
  const badge = page.querySelector(".badge");
  if (badge) document.querySelector(".badge")?.replaceWith(document.adoptNode(badge));
}

if (live) {
  live.disabled = table.dataset.live !== "yes";
  live.checked = !live.disabled && sessionStorage.getItem("live") === "on";
  live.addEventListener("change", () => {
    sessionStorage.setItem("live", live.checked ? "on" : "off");
    look();
  });
  look();
}

// -- replay

const button = document.getElementById("replay");
const shown = document.getElementById("replayed");

function add(parent, kind, text, tone) {
  const made = document.createElement(kind);
  made.textContent = text;
  if (tone) made.className = tone;
  parent.append(made);
  return made;
}

const told = (value) => (typeof value === "number" ? value.toFixed(4) : value === null ? "–" : JSON.stringify(value));

function show(found) {
  shown.replaceChildren();
  add(shown, "h2", "Replay");
  add(shown, "p", found.verdict + ": " + found.reason, "verdict " + (found.verdict === "reproduced" ? "good" : "bad"));
  add(shown, "p", "largest difference of a probability: " + found.largest.toExponential(1), "hint");
  const list = add(shown, "ul", "");
  for (const one of found.mismatches) {
    add(list, "li", `part ${one.part + 1}, ${one.field}: ${told(one.recorded)} → ${told(one.now)}`);
  }
  for (const note of found.notes) add(list, "li", note);
}

// Ask the service to run something, and show what it answers, or why it does not, in `place`.
async function run(pressed, place, url, wanted, tell, waiting) {
  pressed.disabled = true;
  place.hidden = false;
  place.replaceChildren();
  add(place, "span", waiting, "hint");
  try {
    const answer = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/json" },
      body: JSON.stringify(wanted),
      credentials: "same-origin",
    });
    const body = await answer.json();
    place.replaceChildren();
    if (answer.ok) tell(body);
    else add(place, "span", body.error?.message ?? "it did not work", "fault");
  } catch (error) {
    place.replaceChildren();
    add(place, "span", "the service did not answer: " + error.message, "fault");
  }
  pressed.disabled = false;
}

button?.addEventListener("click", () => run(button, shown, button.dataset.url, {}, show, "Deciding again…"));

// -- the token strip: the tint is a class, for styles in the page are forbidden

const STEPS = 4;

function tinted(place, found) {
  for (const token of found.tokens) {
    const share = found.largest ? token.value / found.largest : 0;
    const step = Math.round(Math.abs(share) * STEPS);
    const made = add(place, "span", token.text, step ? (share > 0 ? "for" : "against") + step : "");
    made.title = token.value.toFixed(3);
  }
  add(place, "span", `largest: ${found.largest.toFixed(3)}`, "hint end");
}

for (const strip of document.querySelectorAll(".strip")) {
  const [pressed, place] = [strip.querySelector("button"), strip.querySelector(".tokens")];
  const [chosen, typed] = [strip.querySelector("select"), strip.querySelector("input")];
  pressed.addEventListener("click", () => {
    if (!typed.reportValidity()) return;
    const at = chosen.value.indexOf(" ");
    const by = typed.value
      ? { kind: "feature", name: typed.value }
      : { kind: chosen.value.slice(0, at), name: chosen.value.slice(at + 1) };
    const wanted = { part: Number(strip.dataset.part), ...by };
    run(pressed, place, strip.dataset.url, wanted, (found) => tinted(place, found), "Reading again…");
  });
}
