// Updates the overview. All data is inserted as text: no string ever becomes markup.
"use strict";
const live = document.getElementById("live");
const words = live.dataset;
const kinds = { w: "worker", j: "watch", s: "site" };
const look = document.documentElement.dataset.look; // the beginning of all addresses for a reader with a link
let ahead = Number(words.now) - Date.now() / 1000; // the hub's clock against this one

// Unchanged elements are not touched, because each touch costs style, layout and paint.
function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function set(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

function age(element) {
  const at = Number(element.dataset.at);
  say(element, at ? `${Math.max(0, Math.floor(Date.now() / 1000 + ahead - at))} ${words.ago}` : words.never);
}

function draw(picture, ticks) {
  const marks = Object.entries(ticks);
  while (picture.childElementCount > marks.length) picture.lastElementChild.remove();
  marks.forEach(([outcome, outline], at) => {
    const path = picture.children[at] ?? picture.appendChild(document.createElementNS(picture.namespaceURI, "path"));
    set(path, "class", outcome);
    set(path, "d", outline);
  });
}

function line(text) {
  const made = document.createElement("li");
  made.className = "state";
  made.textContent = text;
  return made;
}

function put(card) {
  let row = document.getElementById(card.id);
  if (!row) {
    row = document.getElementById("row").content.firstElementChild.cloneNode(true);
    row.id = card.id;
    document.getElementById(kinds[card.id[0]]).append(row);
  }
  set(row, "class", card.level);
  for (const name of ["name", "state", "detail", "summary"]) say(row.querySelector(`.${name}`), card[name]);
  set(row.querySelector(".name"), "href", `${look}${card.href}?lang=${document.documentElement.lang}`);
  const last = row.querySelector(".last");
  set(last, "data-at", String(card.at ?? ""));
  if (card.run) set(last, "href", `${look}/results/${card.run}?lang=${document.documentElement.lang}`);
  set(row.querySelector(".runs"), "data-runs", card.runs);
  draw(row.querySelector(".ticks"), card.ticks);
}

function sort(order) {
  const known = new Set(order);
  for (const name of Object.values(kinds)) {
    const body = document.getElementById(name);
    for (const row of [...body.children]) if (!known.has(row.id)) row.remove();
    if (body.contains(document.activeElement)) continue; // nothing moves under somebody's hand
    const rows = order.map((id) => document.getElementById(id)).filter((row) => row && row.parentNode === body);
    rows.forEach((row, at) => { if (body.children[at] !== row) body.insertBefore(row, body.children[at]); });
  }
}

function heard(message) {
  const event = JSON.parse(message.data);
  if (event.trouble) {
    live.textContent = event.trouble;
    return;
  }
  say(live, words.live);
  ahead = event.now - Date.now() / 1000;
  event.cards.forEach(put);
  if (event.order) sort(event.order);
  say(document.getElementById("headline"), event.headline);
  const givenUp = document.getElementById("given-up");
  if (givenUp.innerText !== event.given_up.join("\n")) givenUp.replaceChildren(...event.given_up.map(line));
  document.getElementById("last").dataset.at = event.last ?? "";
  ages();
}

function ages() {
  document.querySelectorAll("[data-at]").forEach(age);
}

// A mouse over a tick: which run it is.
document.addEventListener("mousemove", ({ target, clientX }) => {
  const cell = target.closest(".runs");
  if (!cell) return;
  const { left, height } = cell.firstElementChild.getBoundingClientRect(); // ticks are square
  set(cell, "title", cell.dataset.runs.split("\n")[Math.floor((clientX - left) / height)] ?? "");
});

let source = null;
function listen() {
  if (document.hidden) {
    source?.close();
    source = null;
  } else if (!source) {
    source = new EventSource(`${look}/live?lang=${document.documentElement.lang}`);
    source.onmessage = heard;
    source.onerror = () => { live.textContent = words.broken; };
  }
}
document.addEventListener("visibilitychange", listen);
setInterval(ages, 1000);
listen();
