"""The slot's transition table, who may ask for what, and owners as processes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import pytest

from fleet.errors import FleetError
from fleet.machine import processes
from fleet.model import Worker
from fleet.operate import configuration
from fleet.sockets.callers import Peer
from fleet.sockets.netctl_api import TABLE, Connect, Proved, Rotate, Status
from fleet.sockets.wire import Request
from netctl.access import Access
from netctl.slots.slot import OPEN, TRANSITIONS, Event, Slot, SlotState
from netctl.slots.tunnels import ended_in_time

FLEET = configuration.parse(
    '[workers]\ncount = 2\n[dns]\nresolvers = ["198.18.0.53"]\n[egress]\nurls = ["https://shop.example/ip"]', "test"
)


@pytest.mark.parametrize("state", SlotState)
@pytest.mark.parametrize("event", Event)
def test_only_the_table_moves_a_slot(state: SlotState, event: Event) -> None:
    """A transition that is not in the table is an error and changes nothing."""
    slot = Slot(worker=Worker(uid=1101), state=state)
    if (state, event) in TRANSITIONS:
        slot.step(event)
        assert slot.state is TRANSITIONS[state, event]
    else:
        with pytest.raises(FleetError):
            slot.step(event)
        assert slot.state is state


def test_every_state_can_be_ended() -> None:
    """Sealing is possible from everywhere, and leads to the blocked state."""
    assert {TRANSITIONS[state, Event.END] for state in SlotState} == {SlotState.SEALED}
    assert SlotState.SEALED not in OPEN
    assert SlotState.CONNECTING not in OPEN


@pytest.mark.parametrize(
    ("uid", "request_", "allowed"),
    [
        (1101, Connect(), True),
        (1102, Rotate(), True),
        (1101, Status(), True),
        (0, Status(), True),
        (0, Connect(), False),
        (1103, Connect(), False),
        (1100, Status(), False),
        (1000, Status(), False),
        (0, Proved(address="203.0.113.1"), False),
    ],
)
def test_authority_is_who_calls(uid: int, request_: Request, allowed: bool) -> None:
    """Workers of the configured range act; root looks; nobody else does anything."""
    why = TABLE.refuses(Access(FLEET).caller(Peer(uid=uid, gid=uid, pid=1)), uid, request_)
    assert (why == "") is allowed
    assert allowed or str(uid) in why


def test_an_owner_is_one_process_for_ever() -> None:
    """It lives while its process does; the same pid with another start time is somebody else."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = processes.owner_of(process.pid)
    assert processes.alive(owner)
    boot, pid, start = owner.split(":")
    assert not processes.alive(f"{boot}:{pid}:{int(start) + 1}")
    assert not processes.alive(f"other:{pid}:{start}")
    process.kill()
    process.wait()
    assert not processes.alive(owner)
    assert not processes.alive(processes.owner_of(process.pid))


def test_waiting_for_an_owner_notices_its_end() -> None:
    """True when it ends, False when the time is over."""
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = processes.owner_of(process.pid)

    async def both() -> tuple[bool, bool]:
        patient = await ended_in_time(owner, 0.05)
        process.kill()
        return patient, await ended_in_time(owner, 10)

    assert asyncio.run(both()) == (False, True)
    process.wait()
    assert asyncio.run(ended_in_time(owner, 1)) is True
    assert processes.alive(processes.owner_of(os.getpid()))
