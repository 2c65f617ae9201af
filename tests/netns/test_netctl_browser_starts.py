"""Turns to start a browser: workers ask a real netctl."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator

import pytest

from lab.net import Lab
from netctl.turns import TURN_SECONDS
from tests.fleets import Rig, running
from tests.inside import Client
from tests.waiting import until


@pytest.fixture(scope="module")
def rig(lab: Lab) -> Iterator[Rig]:
    """Three workers; one at a time may start its browser."""
    with running(lab, 3, changes={"browser": {"starts_at_once": 1}}) as rig:
        yield rig


def waits(rig: Rig, index: int) -> Client:
    """A worker that has asked for its turn, on a connection of its own."""
    client = rig.client(index)
    client.send(do="start_browser")
    name = rig.worker(index).name
    until("it has asked", lambda: client.has_answered() or name in named(rig, "waiting"), 10)
    return client


def named(rig: Rig, where: str) -> list[str]:
    """The workers in the list WHERE of netctl's status (those that start, or wait), in its order."""
    return [one["worker"] for one in rig.status()["turns"][where]]


def test_in_turn_and_shown(rig: Rig) -> None:
    """One starts, the others wait in their order, the status names all; the end of a connection is the turn's end."""
    first, second, third = (waits(rig, index) for index in (0, 2, 1))
    assert first.answer() == {"ok": {}}
    assert (named(rig, "starting"), named(rig, "waiting")) == (["w1101"], ["w1103", "w1102"])
    assert "browser starts: w1101 for " in rig.command("status").stdout
    first.kill()
    assert second.answer() == {"ok": {}} and not third.has_answered()
    second.kill()
    assert third.answer() == {"ok": {}}
    third.kill()


def test_who_holds_its_turn_stops_nobody(rig: Rig) -> None:
    """A worker that keeps its turn loses it, then the next one starts; meanwhile netctl answers others at once."""
    holder = waits(rig, 0)
    assert holder.answer() == {"ok": {}}
    begun, neighbour = time.monotonic(), waits(rig, 1)
    own = rig.client(2)
    answer, milliseconds = own.timed(do="connect")
    assert "ok" in answer and milliseconds < 5000, "a waiting request delays no other"
    assert neighbour.answer() == {"ok": {}}
    assert TURN_SECONDS - 5 < time.monotonic() - begun < TURN_SECONDS + 5
    assert holder.ask(do="status")["error"] in ("HungUp", "BrokenPipeError", "ConnectionResetError")
    for one in (holder, neighbour, own):
        one.kill()


def test_asking_on_and_on_gets_one_turn(rig: Rig) -> None:
    """A worker that asks on every connection it can open gets one turn; its neighbour's turn comes at once."""
    crowd = [waits(rig, 0) for _ in range(4)]
    neighbour = waits(rig, 1)
    crowd.append(waits(rig, 0))
    assert neighbour.answer() == {"ok": {}}
    assert named(rig, "waiting") == ["w1101"]
    for one in (*crowd, neighbour):
        one.kill()


def test_a_new_netctl_is_asked_again(rig: Rig) -> None:
    """A worker that waits when netctl is killed notices at once, and asks the next netctl."""
    holder, waiting = waits(rig, 0), waits(rig, 1)
    assert holder.answer() == {"ok": {}}
    rig.kill_netctl(signal.SIGKILL)
    assert waiting.answer()["error"] in ("HungUp", "ConnectionResetError")
    rig.start_netctl()
    again = waits(rig, 1)
    assert again.answer() == {"ok": {}}
    for one in (holder, waiting, again):
        one.kill()
