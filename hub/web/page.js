// Keeps the first look up to date. All that comes is put in place as text: no string ever becomes markup.
"use strict";
const live = document.getElementById("live");
const words = live.dataset;
const kinds = { w: "worker", j: "watch", s: "site" };
const look = document.documentElement.dataset.look; // how addresses begin for who came by a link
let ahead = Number(words.now) - Date.now() / 1000; // the hub's clock against this one

function age(element) {
  const at = Number(element.dataset.at);
  const text = at ? `${Math.max(0, Math.floor(Date.now() / 1000 + ahead - at))} ${words.ago}` : words.never;
  if (element.textContent !== text) element.textContent = text;
}

function tick(one) {
  const made = document.createElement("span");
  made.className = one.outcome;
  made.title = one.title;
  made.textContent = one.shape;
  return made;
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
  row.className = card.level;
  for (const name of ["name", "state", "detail", "summary"]) row.querySelector(`.${name}`).textContent = card[name];
  row.querySelector(".name").href = `${look}${card.href}?lang=${document.documentElement.lang}`;
  const last = row.querySelector(".last");
  last.dataset.at = card.at ?? "";
  if (card.run) last.href = `${look}/results/${card.run}?lang=${document.documentElement.lang}`;
  row.querySelector(".ticks").replaceChildren(...card.ticks.map(tick));
}

function sort(order) {
  const known = new Set(order);
  for (const name of Object.values(kinds)) {
    const body = document.getElementById(name);
    for (const row of [...body.children]) if (!known.has(row.id)) row.remove();
    if (body.contains(document.activeElement)) continue; // nothing moves under somebody's hand
    const rows = order.map((id) => document.getElementById(id)).filter((row) => row && row.parentNode === body);
    if (rows.some((row, at) => body.children[at] !== row)) body.append(...rows);
  }
}

function heard(message) {
  const event = JSON.parse(message.data);
  if (event.trouble) {
    live.textContent = event.trouble;
    return;
  }
  live.textContent = words.live;
  ahead = event.now - Date.now() / 1000;
  event.cards.forEach(put);
  if (event.order) sort(event.order);
  const headline = document.getElementById("headline");
  if (headline.textContent !== event.headline) headline.textContent = event.headline;
  document.getElementById("given-up").replaceChildren(...event.given_up.map(line));
  document.getElementById("last").dataset.at = event.last ?? "";
  ages();
}

function ages() {
  document.querySelectorAll("[data-at]").forEach(age);
}

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
