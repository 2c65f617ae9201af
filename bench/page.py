"""What the hub's page costs beside a long history: `bin/bench page`, without root.

The first paint's document, lists of what is rare, and the memory of the hub, with a few runs and then with a million;
then the time that an update of 64 cards takes in a browser's page, all of them changed, each with a run more.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import psutil
from playwright.sync_api import sync_playwright

from bench.queue import past
from bench.slots import machine, spread
from tests.hub_pages import PORT, ask, shown

LISTS = ("/results", "/results?outcome=limited", "/results?site=s7", "/results?site=s7&outcome=limited", "/jobs")
LOOKS = 20
UPDATES, FIRST = 80, 10
"""Updates, of which the FIRST are not counted: scripts are compiled then."""
UPDATE = """([number, turned]) => {
  const outcomes = ["good", "failed", "limited"], levels = ["fine", "wrong", "watch"];
  const cards = [...document.querySelectorAll("#worker tr")].map((row, at) => ({
    id: row.id, level: levels[(at + number) % 3], name: row.querySelector(".name").textContent, href: "/workers/w",
    state: levels[(at + number) % 3], detail: `a.example ${number}`, at: Date.now() / 1000 - at, run: `${number}.1`,
    summary: `${number % 20}/20`, ticks: [...Array(20).keys()].map((tick) => ({
      outcome: outcomes[(tick + number) % 3], shape: "o", title: `${at}.${tick + number}`})),
  }));
  const order = cards.map((card) => card.id);
  if (turned) order.unshift(order.pop());
  const now = Date.now() / 1000;
  heard({data: JSON.stringify({cards, order, headline: `${number}`, last: now, given_up: [], now})});
  return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(cards.length))));
}"""
"""What the hub would send; ends once the browser has drawn it."""
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
    """What an update costs the page: in place, and with another order."""
    with sync_playwright() as play:
        page = play.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"]).new_page()
        page.goto(f"http://127.0.0.1:{PORT}/?lang=en")
        page.evaluate("document.removeEventListener('visibilitychange', listen); source?.close()")
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})  # whatever else the machine does

        def spent() -> list[float]:
            found = {one["name"]: one["value"] for one in session.send("Performance.getMetrics")["metrics"]}
            return [1000 * found[name] for name in PARTS]

        for turned, words in ((False, "in place"), (True, "in another order")):
            took = []
            for number in range(UPDATES):
                before = spent()
                cards = page.evaluate(UPDATE, [number, turned])
                took.append([after - start for start, after in zip(before, spent(), strict=True)])
            for name, parts in zip(PARTS, zip(*took[FIRST:], strict=True), strict=True):
                print(f"  {cards} cards {words}, {name}, ms: {spread([*parts])}")


def looked(path: str) -> float:
    """Milliseconds until all of the document is here."""
    began = time.perf_counter()
    status, _, text = ask(path)
    assert status == 200 and text, path
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
