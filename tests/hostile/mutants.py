"""What a worker that has been taken over writes: results, whole spools, lines of a log, answers; by hypothesis."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

ESCAPES = "\x1b]52;c;cm0gLXJmIC8=\x07\x1b[2J\x9b31m\u202e\u2028\u200b\x7f\r"
GOOD: dict[str, Any] = {
    **{"version": 1, "run": "run-1", "worker": "w1101", "loop": 1, "ok": False, "attempts": 2},
    **{"started": "2026-11-26T01:00:00Z", "finished": "2026-11-26T01:00:09Z", "lease": "1"},
    "failures": [{"name": "net::ERR_FAILED", "message": "https://shop.example: ERR_FAILED", "stage": "load"}],
    **{"exit_server": "vpn.example", "exit_address": "203.0.113.11", "seen_address": "203.0.113.11"},
    "stages_ms": {"tunnel": 20.5, "proof": 30.0, "browser_start": 900.0, "load": 800.0, "hand_in": 40.0},
    **{"handshake_ms": 3.5, "rotate_ms": 15.5, "pages": 2, "requests": 82, "network_changed": 1, "other_losses": 0},
    **{"screenshot": "run-1-000001.png", "answer": {"count": 3, "items": ["커피", "차"]}},
}
LINES = (
    b'{"timestamp": "2026-11-26T01:00:00Z", "level": "warning", "program": "worker", "event": "attempt.failed"}\n',
    b'{"error":"WrongExit","parameters":{"message":"the world sees 203.0.113.9","hint":"look","data":{"a":1}}}\n',
    b"launcher: UID 1101 has no account w1101; run: fleet up\nTraceback (most recent call last):\n",
)
TOKENS = (
    *b'null true NaN -Infinity 1e999 -0 0.1e-400 1e308 "" {} [] : , { } [ \\ "run" "\\ud800" "\\u0000"'.split(),
    *(b"9" * 12, b"9" * 4299, b"9" * 6000, b"[" * 400, b'{"a":' * 400, b"\0", b"\xff\xfe", b"\xc0\x80", b"\n"),
    *(b"[/bad]", b"[bold]", b"\x1b[2J", b"\x9b", b"../../w1102/spool/x", b"fe80::1%\\u001b[2J", b"-1", b"x" * 70_000),
    *(b"0001-01-01T00:00:00Z", b"9999-12-31T23:59:59-23:59", b"\\u001b]0;x\\u0007", b"\\u202e", ESCAPES.encode()),
)
WORDS = (
    *("", "[/bad]", "[link=x]", ESCAPES, "a\nfleet: all is well", "w1102", "x" * 5000, "한국어 é", "\\", "a/../b"),
    *("1e5", "vpn.example", "w1101", "run-1"),
)
NAMES = (
    *("run-1-000001.json", "run-1-000002.json", "run-1-000099.json", "run-1-999999999.json", "run-2-000001.json"),
    *("always-999999999999.json", "run-1-000001.png", ".run-1-000001.json.new", "run-1-000003.json.bad"),
    *("\x1b[2J.json", "[bold]"),
)
OPERATIONS = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4095), st.sampled_from(TOKENS), st.integers(0, 255)), max_size=4
)


def mutate(base: bytes, operations: Sequence[tuple[int, int, bytes, int]]) -> bytes:
    """BASE after some cuts, copies, changed bytes and foreign tokens."""
    made = bytearray(base)
    for kind, place, token, number in operations:
        at = place % (len(made) + 1)
        if kind == 0:
            made[at:at] = token
        elif kind == 1:
            del made[at : at + 1 + number % 40]
        elif kind == 2:
            made[at:at] = made[at : at + number]
        elif kind == 3:
            made[at : at + 1] = bytes([number])
        else:
            end = next((here for here in range(at, len(made)) if made[here] in b",}]"), at)
            made[at:end] = token
    return bytes(made)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=3),
    max_leaves=4,
)
CHANGES = st.dictionaries(st.sampled_from([*GOOD, "answer_cut", "other"]), VALUES, min_size=1, max_size=3)
FAILURE = ("name", "message", "stage")


def results(loop: int) -> st.SearchStrategy[bytes]:
    """What may lie in the place of the result of LOOP."""
    good = {**GOOD, "loop": loop}

    def but(changes: dict[str, Any]) -> bytes:
        return json.dumps({**good, **changes}).encode()

    return st.one_of(
        st.builds(mutate, st.just(but({})), OPERATIONS),
        CHANGES.map(but),
        st.dictionaries(st.sampled_from(TEXTS), st.sampled_from(WORDS), max_size=3).map(but),
        st.sampled_from(WORDS).map(lambda word: but({"failures": [dict.fromkeys(FAILURE, word)]})),
    )


TEXTS = ("worker", "exit_server", "lease", "run", "screenshot")
LOOPS = 10
RESULTS = st.tuples(*(results(loop) for loop in range(1, LOOPS + 1)))
LOGS = st.lists(st.builds(mutate, st.sampled_from(LINES), OPERATIONS), max_size=4).map(b"".join)


def sparse(path: Path) -> None:
    """A file of a gigabyte that takes no room."""
    with path.open("wb") as file:
        file.truncate(1 << 30)


def listening(path: Path) -> None:
    """A socket."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


KINDS: dict[str, Callable[[Path], object]] = {
    "result": lambda path: path.write_text(json.dumps(GOOD)),
    "empty": Path.touch,
    "folder": Path.mkdir,
    "pipe": os.mkfifo,
    "sparse": sparse,
    "socket": listening,
    "to a device": lambda path: path.symlink_to("/dev/zero"),
    "to root's": lambda path: path.symlink_to("/etc/shadow"),
    "to itself": lambda path: path.symlink_to(path.name),
    "up": lambda path: path.symlink_to("../.."),
}
SPOOLS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(sorted(KINDS)) | results(1), max_size=5)


def lay(folder: Path, spool: dict[str, str | bytes]) -> None:
    """SPOOL in FOLDER, in place of what was there."""
    for name, kind in spool.items():
        path = folder / name
        if isinstance(kind, bytes):
            path.write_bytes(kind)
        else:
            KINDS[kind](path)
