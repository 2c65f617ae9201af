"""`fleet watch`: the page's first look in a terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import until

CHECKOUT = Path(__file__).resolve().parents[2]
TURNED = "\x1b[31mred\u202e"
CARD: dict[str, Any] = {"id": "w-w1101", "name": "w1101", "state": "away", "level": "wrong", "detail": ""}
TICKS = [{"job": 1, "fence": 2, "outcome": "good"}, {"job": 3, "fence": 1, "outcome": "failed"}]
CARD |= {"last_at": 940.0, "ticks": TICKS}
SITE = {**CARD, "id": "s-a", "name": f"a-very-long-name-of-a-site.{TURNED}.example", "level": "fine", "state": "quiet"}


class Hub:
    """Answers as the hub's page does."""

    def __init__(self) -> None:
        self.fleet: dict[str, Any] = {"now": 1000.0, "last_at": 940.0, "last_good_at": None, "trouble": "workers"}
        self.fleet |= {"workers": [CARD], "watches": [], "sites": [SITE]}
        self.answer = b""
        """In its place."""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                assert self.path == "/api/fleet"
                self.send_response(200)
                self.end_headers()
                self.wfile.write(outer.answer or json.dumps(outer.fleet).encode())

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def hub() -> Iterator[Hub]:
    """One that answers until the end."""
    made = Hub()
    yield made
    made.server.shutdown()
    made.server.server_close()


def started(hub: Hub, *words: str, stderr: int = subprocess.DEVNULL, columns: int = 60) -> subprocess.Popen[bytes]:
    """`fleet watch` on a terminal of so many COLUMNS."""
    argv = [sys.executable, "-I", str(CHECKOUT / "launch.py"), "fleet", "watch", "--port", str(hub.port), *words]
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8", "TERM": "xterm", "COLUMNS": str(columns)}
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=stderr, env=environment)


def test_it_is_whole_at_60_columns(hub: Hub) -> None:
    """The worst first, by word and shape; no line is wider, and nothing that a stranger has named is obeyed."""
    ours, theirs = pty.openpty()
    child = started(hub, stderr=theirs)
    os.close(theirs)
    seen = bytearray()

    def has(words: str) -> bool:
        seen.extend(os.read(ours, 65_536))
        return words in seen.decode(errors="replace")

    until("the site's row", lambda: has("quiet"), 60, lambda: seen.decode(errors="replace"))
    child.terminate()
    child.wait(20)
    os.close(ours)
    text = seen.decode(errors="replace")
    assert "workers; 1 in trouble; last result 60 s" in text and "▲ away" in text and "●✖" in text
    assert "\x1b[31m" not in text and "\u202e" not in text
    lines = [line for line in text.replace("\r", "\n").split("\n") if "│" in line or "┃" in line]
    assert lines and max(map(len, lines)) <= 60, lines


def test_each_change_is_a_line_of_json(hub: Hub) -> None:
    """First all of it, then what has changed alone."""
    child = started(hub, "--json")
    assert child.stdout
    first = [json.loads(child.stdout.readline()) for _ in range(3)]
    assert [one.get("name", one.get("trouble")) for one in first][:2] == ["workers", "w1101"]
    assert (first[1]["run"], first[1]["outcome"], first[1]["state"]) == ("3.1", "failed", "away")
    hub.fleet = {**hub.fleet, "now": 1001.0, "workers": [{**CARD, "state": "working", "level": "fine"}]}
    assert json.loads(child.stdout.readline())["state"] == "working"
    child.terminate()
    child.communicate(timeout=20)


def test_a_page_that_is_not_there_is_said(hub: Hub) -> None:
    """One clear error, and what to do."""
    hub.server.shutdown()
    hub.server.server_close()
    child = started(hub, stderr=subprocess.PIPE)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 75 and b"does not answer" in said and b"fleet status" in said


@pytest.mark.parametrize(
    "change", [{"now": "soon"}, {"workers": [1]}, {"sites": [{**SITE, "level": "\x1b[31m"}]}, None]
)
def test_who_answers_in_the_hubs_place_is_not_believed(hub: Hub, change: dict[str, Any] | None) -> None:
    """While the hub is away anybody of this host may have its port: one clear error, whatever comes."""
    hub.answer = b"[" * 100_000 if change is None else json.dumps({**hub.fleet, **change}).encode()
    child = started(hub, stderr=subprocess.PIPE)
    _, said = child.communicate(timeout=60)
    assert child.returncode == 75 and b"is no page of a hub" in said and b"\x1b" not in said, said
