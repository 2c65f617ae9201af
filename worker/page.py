"""The hostile page of `fleet verify`: a page in the worker's own Chrome that requests what it must not reach.

The page is that of the exit service: an https page, so that Chrome's rules for secure pages apply.
"""

from __future__ import annotations

import json
from functools import partial

from pydantic import JsonValue

from fleet.errors import Answered, FleetError, PageFailed
from fleet.model import Fleet, Paths, Worker
from fleet.probes import Order, Page, Reach
from worker.browser import turn
from worker.browser.interface import Installed
from worker.browser.session import Session

_ATTACK = """
const [host, port] = arguments, ended = [], url = scheme => `${scheme}://${host}:${port}/`;
const wait = make => ended.push(new Promise(done => { make(done); setTimeout(done, 3000); }));
const element = (name, source) => wait(done => {
    const made = document.createElement(name);
    made.onload = made.onerror = done;
    made.src = source;
    (document.body || document.documentElement).append(made);
});
wait(done => fetch(url("http"), {mode: "no-cors"}).then(done, done));
wait(done => fetch(url("http"), {mode: "no-cors", targetAddressSpace: "local"}).then(done, done));
wait(done => fetch(url("https"), {mode: "no-cors"}).then(done, done));
wait(done => { try { const made = new WebSocket(url("wss")); made.onopen = made.onerror = done; } catch { done(); } });
for (const name of ["img", "script", "iframe"]) element(name, url("http"));
return Promise.all(ended).then(() => ended.length);
"""
_CANDIDATES = """
const [stun] = arguments, found = [];
const peer = new RTCPeerConnection({iceServers: stun ? [{urls: `stun:${stun}`}] : []});
peer.createDataChannel("x");
return new Promise(done => {
    const end = () => { done([peer.iceGatheringState, found]); peer.close(); };
    peer.onicecandidate = event => event.candidate && found.push(event.candidate.candidate);
    peer.onicegatheringstatechange = () => peer.iceGatheringState === "complete" && end();
    peer.createOffer().then(offer => peer.setLocalDescription(offer));
    setTimeout(end, 8000);
});
"""
_LOOK_UP = "return fetch(arguments[0], {mode: 'no-cors'}).then(() => true, () => true);"
_ADEQUATE = "adequately sandboxed"
"""Chrome's words at the end of chrome://sandbox (chrome/browser/resources/sandbox_internals)."""
_REACHED = {"ERR_EMPTY_RESPONSE", "ERR_INVALID_HTTP_RESPONSE", "ERR_CONNECTION_RESET"}
"""Errors that mean that something listened there but did not speak HTTP."""


def look(fleet: Fleet, paths: Paths, worker: Worker, installed: Installed, order: Order) -> tuple[Page, bool]:
    """What the page saw, and whether it looked up the name that ORDER has for Chrome. Raises FleetError."""
    held = partial(turn.of_mine, paths.netctl_socket)
    with Session(fleet.browser, installed, uid=worker.uid, turn=held) as browser:
        _open_one(browser, fleet.egress.urls)
        gathered, candidates = _candidates(browser.evaluate(_CANDIDATES, order.stun))
        asked = bool(browser.evaluate(_LOOK_UP, f"https://{name}/")) if (name := order.lookups.get("chrome")) else False
        tried = sum(_attack(browser, target) for target in order.reaches)
        navigated = tuple(target.name for target in order.reaches if _shows(browser, target))
        sandbox = _sandbox(browser)
    page = Page(
        candidates=candidates,
        gathered=gathered,
        navigated=navigated,
        tried=tried,
        sandboxed=_ADEQUATE in sandbox and "not " + _ADEQUATE not in sandbox.lower(),
        sandbox=sandbox[-200:],
    )
    return page, asked


def _open_one(browser: Session, urls: tuple[str, ...]) -> None:
    """Open the first of URLS that loads; raises the error of the last."""
    for last, url in enumerate(urls, 1):
        try:
            browser.open(url)
        except (PageFailed, Answered):
            if last == len(urls):
                raise
        else:
            return


def _candidates(found: JsonValue) -> tuple[bool, tuple[str, ...]]:
    """Whether candidates were gathered, and their addresses: the fifth word of each (RFC 8839, section 5.1)."""
    if not isinstance(found, list) or len(found) != 2 or not isinstance(found[1], list):
        raise FleetError(f"the page gave no candidates: {json.dumps(found)[:200]}")
    words = [str(one).split() for one in found[1]]
    related = [one[one.index("raddr") + 1] for one in words if "raddr" in one[:-1]]
    addresses = [one[4] for one in words if len(one) > 4] + [one for one in related if one not in ("0.0.0.0", "::")]  # noqa: S104
    # Gathering never completes when Chrome may not list the host's interfaces (workers.deny_netlink), because it waits
    # for that list. Eight seconds are enough for the other candidates.
    return found[0] in ("gathering", "complete"), tuple(dict.fromkeys(addresses))


def _attack(browser: Session, target: Reach) -> int:
    tried = browser.evaluate(_ATTACK, _host(target), target.port)
    return tried if isinstance(tried, int) else 0


def _host(target: Reach) -> str:
    return f"[{target.address}]" if ":" in target.address else target.address


def _shows(browser: Session, target: Reach) -> bool:
    """Whether a tab reaches TARGET: it shows a page, or an error that only occurs after connecting."""
    try:
        browser.open(f"http://{_host(target)}:{target.port}/")
    except Answered:
        return True
    except PageFailed as error:
        return error.code in _REACHED or error.code.startswith("HTTP_")
    return True


def _sandbox(browser: Session) -> str:
    """The last line of chrome://sandbox."""
    browser.open("chrome://sandbox")
    lines = [line for text in browser.texts("body") for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "chrome://sandbox shows nothing"
