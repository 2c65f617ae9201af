"""Sends fuzzed frames to a server: `python -m tests.fuzz.attack SOCKET UID FRAMES SEED`, started as root, then UID.

Prints one JSON line each tenth of the way: how many frames are sent, how many were answered with what.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import socket
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice

from fleet.sockets.wire import FRAME_BYTES
from tests.fuzz.frames import frames

PATIENCE_SECONDS = 60.0


def main() -> None:
    """Become UID, attack, tell."""
    path, uid, count, seed = sys.argv[1], *map(int, sys.argv[2:5])
    if uid:
        os.setresuid(uid, uid, uid)
    dice, source = random.Random(seed), frames(seed)
    sent, told, answers = 0, 0, Counter[str]()
    while sent < count:
        text = lines(islice(source, min(dice.choice((1, 2, 10, 100, 400)), count - sent)))
        if hang_up := dice.random() < 0.1:
            text = text[: len(text) * 2 // 3]
        sent += text.count(b"\n")
        named = [_name(answer) for answer in converse(path, text, hang_up=hang_up)]
        answers.update([*named, *(["nobody waited"] * (text.count(b"\n") - len(named)) if hang_up else [])])
        if sent * 10 // count > told:
            told = sent * 10 // count
            print(json.dumps({"frames": sent, "answers": dict(answers)}), flush=True)
            sys.stdin.readline()  # whoever watches has looked


def lines(batch: Iterable[bytes]) -> bytes:
    """BATCH as it crosses the socket, up to a frame that is too long: that one ends the connection."""
    text = b""
    for frame in batch:
        text += frame + b"\n"
        if len(frame) >= FRAME_BYTES:
            break
    return text


def _name(answer: bytes) -> str:
    document = json.loads(answer)
    return str(document.get("error", "result"))


def converse(path: str, text: bytes, *, hang_up: bool) -> Iterator[bytes]:
    """Send TEXT over one connection and give the answers until all have come or the server hangs up.

    With HANG_UP nobody waits for the last answers.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(path)
        connection.setblocking(False)
        expected, unsent, buffer = text.count(b"\n"), memoryview(text), b""
        while expected > 0 and (unsent or not hang_up):
            readable, writable, _ = select.select([connection], [connection] if unsent else [], [], PATIENCE_SECONDS)
            if not readable and not writable:
                raise SystemExit(f"no answer within {PATIENCE_SECONDS:g} s; {expected} are missing")
            if writable:
                try:
                    unsent = unsent[connection.send(unsent) :]
                except (BrokenPipeError, ConnectionResetError):
                    unsent = unsent[:0]  # hung up on: a frame was too long; answers before it are still to be read
            if readable:
                with contextlib.suppress(ConnectionResetError):
                    if chunk := connection.recv(1 << 16):
                        *answers, buffer = (buffer + chunk).split(b"\n")
                        expected -= len(answers)
                        yield from answers
                        continue
                return


if __name__ == "__main__":
    main()
