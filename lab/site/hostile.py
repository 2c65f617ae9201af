"""A page that tries to reach what is near the browser, by every means that a page has; for the tests of leaks.

`/hostile?at=127.0.0.1:8080&at=...`; it asks for `/hostile/began` first, and for `/hostile/done` when everything was
tried, at last it leaves for the first address. Who was reached, the listeners there tell: a page learns little.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

_SCRIPT: Final = """
const wait = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
const quietly = async work => { try { await work(); } catch { } };
const add = (kind, properties) => document.body.appendChild(Object.assign(document.createElement(kind), properties));
const posting = url => {
  const name = "frame" + Math.random();
  add("iframe", {name});
  add("form", {method: "post", action: url, target: name}).submit();
};
const calling = async at => {
  const connection = new RTCPeerConnection({iceServers: [{urls: `stun:${at}`}]});
  connection.createDataChannel("any");
  await connection.setLocalDescription(await connection.createOffer());
};
const ways = [
  at => fetch(`http://${at}/cors`),
  at => fetch(`http://${at}/no-cors`, {mode: "no-cors"}),
  at => fetch(`http://${at}/local`, {mode: "no-cors", targetAddressSpace: "local"}),
  at => fetch(`http://${at}/loopback`, {mode: "no-cors", targetAddressSpace: "loopback"}),
  at => navigator.sendBeacon(`http://${at}/beacon`, "any"),
  at => new WebSocket(`ws://${at}/socket`),
  at => new EventSource(`http://${at}/events`),
  at => add("img", {src: `http://${at}/image`}),
  at => add("script", {src: `http://${at}/script`}),
  at => add("link", {rel: "stylesheet", href: `http://${at}/style`}),
  at => add("video", {src: `http://${at}/video`, preload: "auto"}),
  at => add("iframe", {src: `http://${at}/frame`}),
  at => posting(`http://${at}/form`),
  calling,
];
(async () => {
  await fetch("/hostile/began");
  for (const at of addresses) for (const way of ways) quietly(() => way(at));
  await wait(4000);
  await fetch("/hostile/done");
  location.href = `http://${addresses[0]}/navigation`;
})();
"""


def page(addresses: Sequence[str]) -> str:
    """The page that tries ADDRESSES, each `HOST:PORT`."""
    listed = json.dumps(list(addresses)).replace("<", "\\u003c")
    return f"<!doctype html><meta charset=utf-8><body><script>const addresses = {listed};{_SCRIPT}</script></body>"
