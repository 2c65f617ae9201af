"""A key store that hangs: another process holds a lock on the file for as long as a test wants."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fleet.errors import ExitCode
from lab import run
from lab.net import Lab
from tests.fleets import Rig, running
from tests.locked_store import locked
from tests.netns.test_netctl_slots import is_sealed
from tests.waiting import until

CHANGES: run.Changes = {"netctl": {"key_cooldown_seconds": 0.1}}
AT_ONCE_MILLISECONDS = 2500
"""Far below the five seconds that a call of a locked store takes."""


@pytest.fixture(scope="module")
def rig(lab: Lab) -> Iterator[Rig]:
    """Two workers' slots."""
    with running(lab, 2, changes=CHANGES) as made:
        yield made


def test_a_store_that_hangs_stops_only_who_needs_a_key(rig: Rig) -> None:
    """While one worker's rotation waits for the store, netctl answers its neighbour, and seals that at once if killed.

    The rotation fails with a named error, and its slot is sealed. Without the lock all works, and no key is lost.
    """
    first, second = rig.client(0), rig.client(1)
    for client in (first, second):
        client.ask(do="connect")
    with locked(rig.paths.key_store):
        first.send(do="rotate")
        answer, milliseconds = second.timed(do="status")
        assert answer["ok"]["slots"][0]["state"] == "connected"
        assert milliseconds < AT_ONCE_MILLISECONDS
        status = rig.status()
        assert len(status["slots"]) == 2
        assert (status["pool"] is None) == bool(status["pool_trouble"])
        second.kill()
        until("sealed", lambda: is_sealed(rig, 1), AT_ONCE_MILLISECONDS / 1000)
        assert first.answer()["error"] == "KeyStoreFailed"
        assert is_sealed(rig, 0)
        # The control: the lock is a real one.
        refused = rig.command("keys", "list")
        assert refused.returncode == ExitCode.TRY_LATER, refused
    assert "ok" in first.ask(do="connect")
    until("the other key is free", lambda: rig.status()["pool"]["leased"] == 1, 20)
    first.kill()
    until("all keys are free", lambda: rig.status()["pool"]["leased"] == 0, 20)


@pytest.mark.parametrize("outlasts", [False, True], ids=["short", "longer than the seal waits"])
def test_a_worker_that_hangs_up_while_its_key_is_taken_loses_none(rig: Rig, outlasts: bool) -> None:
    """Killed while the store is locked, its slot is sealed at once; a lease that the store still makes is ended."""
    client, other = rig.client(0), rig.client(1)
    client.ask(do="connect")
    unconfirmed = len(rig.logged("slot.seal_unconfirmed"))
    with locked(rig.paths.key_store):
        client.send(do="rotate")
        other.ask(do="status")  # answered after it
        client.kill()
        until("sealed", lambda: is_sealed(rig, 0), AT_ONCE_MILLISECONDS / 1000)
        if outlasts:
            until("the seal has given up", lambda: len(rig.logged("slot.seal_unconfirmed")) > unconfirmed, 15)
    until("all keys are free", lambda: rig.status()["pool"]["leased"] == 0, 25)
    assert "ok" in other.ask(do="connect")
    other.kill()
    until("all keys are free", lambda: rig.status()["pool"]["leased"] == 0, 25)
