"""The cost of the hub's page beside a long history: `bin/bench page`, without root.

Measures the document of the overview, lists of rare rows, and the memory of the hub, with a few runs and then with a
million; then the time of a browser page's thread for an update: 64 changed cards, each with one more run, in place
and all in other places; 8 of them; and one second passing, because all cards count seconds.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

import psutil
from playwright.sync_api import sync_playwright

from bench.queue import past
from bench.slots import machine, spread
from hub.web.cards import TICKS, Card, Level, Run
from hub.web.pages import shown as shown_card
from tests.hub_pages import PORT, ask, shown
from tests.hubs import FLEET

LISTS = ("/results", "/results?outcome=limited", "/results?site=s7", "/results?site=s7&outcome=limited", "/jobs")
LOOKS = 20
UPDATES, FIRST = 80, 10
"""Updates; the FIRST are not counted, because scripts are compiled then."""
CARDS = 64
DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
"""Ends when the browser has drawn everything."""
UPDATE = f"() => {{ heard({{data: update}}); return {DRAWN}; }}"
SECOND = f"() => {{ ahead += 1; ages(); return {DRAWN}; }}"
OUTCOMES = ("good", "failed", "limited")
STATES: tuple[tuple[str, Level], ...] = (("working", "fine"), ("away", "wrong"), ("resting", "watch"))
WAYS = (
    (CARDS, False, f"{CARDS} cards in place"),
    (CARDS, True, f"{CARDS} cards in another order"),
    (8, False, "8 cards in place"),
    (0, False, "a second passes"),
)
"""Changed cards, whether they take other places, words."""
PARTS = ("TaskDuration", "ScriptDuration", "LayoutDuration", "RecalcStyleDuration")


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(prog="bench page", description=__doc__)
    parser.add_argument("--history", type=int, default=1_000_000, help="finished runs")
    history = parser.parse_args().history
    print(machine())
    with tempfile.TemporaryDirectory(prefix="fleet-bench-", dir="/var/tmp") as folder, shown(Path(folder)) as scene:
        hub = next(one for one in psutil.Process().children() if "serve" in one.cmdline())
        for rows in (0, history):
            past(scene.database, rows)
            print(f"{rows:,} runs")
            for path in ("/", *LISTS):
                print(f"  {path}, ms: {spread([looked(path) for _ in range(LOOKS)])}")
            print(f"  the hub has {hub.memory_info().rss >> 20} MB", flush=True)
        updates()


def updates() -> None:
    """What an update costs the page's thread: of all cards, of few, with another order; and a second that passes."""
    with sync_playwright() as play:
        page = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"]).new_page()
        page.goto(f"http://127.0.0.1:{PORT}/?lang=en")
        page.evaluate("document.removeEventListener('visibilitychange', listen); source?.close()")
        assert page.locator("#worker tr").count() == CARDS
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})  # whatever else the machine does

        def spent() -> list[float]:
            found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
            return [1000 * found[name] for name in PARTS]

        for changed, turned, words in WAYS:
            took = []
            for number in range(UPDATES):
                page.evaluate("(text) => { window.update = text; }", event(number, changed, turned))
                before = spent()
                page.evaluate(UPDATE if changed else SECOND)
                took.append([after - start for start, after in zip(before, spent(), strict=True)])
            for name, parts in zip(PARTS, zip(*took[FIRST:], strict=True), strict=True):
                print(f"  {words}, {name}, ms: {spread([*parts])}", flush=True)


def event(number: int, changed: int, turned: bool) -> str:
    """What the hub sends when CHANGED workers have had a run more, a third of them with another state."""
    names = [worker.name for worker in FLEET.members]
    now = time.time()
    cards = []
    for at, name in enumerate(names[:changed]):
        ticks = [run(number + tick, at, now) for tick in range(TICKS)]
        state, level = STATES[(at + number) % 3]
        card = Card(id=f"w-{name}", name=name, state=state, level=level, detail="", last_at=now, ticks=tuple(ticks))
        cards.append(shown_card(card, "en"))
    order = [f"w-{name}" for name in names]
    if turned:
        random.Random(number).shuffle(order)  # noqa: S311 - no secret
    rest = {"headline": f"{number}", "last": now, "given_up": [], "now": now}
    return json.dumps({"cards": cards, "order": order, **rest})


def run(number: int, at: int, now: float) -> Run:
    """One of many, whose outcomes take turns."""
    ids = {"job": number, "fence": 1, "key": None, "site": "a.example", "task": "visit", "worker": None, "exit": None}
    outcome = OUTCOMES[(number + at) % len(OUTCOMES)]
    return Run.model_validate({**ids, "began_at": now, "ended_at": now, "outcome": outcome, "error": None})


def looked(path: str) -> float:
    """Milliseconds until all of the document is here."""
    began = time.perf_counter()
    status, _, text = ask(path)
    assert status == 200 and text, path
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
