"""What WireGuard does when the wall clock is stepped: in the virtual machine alone, whose clock is its own."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator

import pytest

from fleet.errors import HandshakeTimeout
from fleet.model import Worker
from netctl.plan import diff
from netctl.plan.desired import desired
from netctl.plan.key import Key
from netctl.plan.state import State
from netctl.plan.things import Device
from netctl.wireguard.contract import wait_for_handshake
from tests.contract.ground import Ground, device_of, fleet_of, held, key

HOUR_SECONDS = 3600


@pytest.fixture
def clock() -> Iterator[None]:
    """Whatever a test does to the clock is undone."""
    ahead = time.time() - time.monotonic()
    yield
    subprocess.run(["date", "-s", f"@{ahead + time.monotonic():.3f}"], check=True, capture_output=True)


def step(seconds: int) -> None:
    """Step the wall clock."""
    subprocess.run(["date", "-s", f"@{time.time() + seconds:.3f}"], check=True, capture_output=True)


def shake(ground: Ground, interface: str, key: Key, seconds: float = 20) -> float:
    """Set the device to KEY and wait for its handshake."""
    device = device_of(interface, key)

    async def both() -> float:
        await ground.wireguard.write(Device(interface=interface))
        await ground.wireguard.write(device)
        return (await wait_for_handshake(ground.wireguard, device, seconds))[0]

    return ground.call(both)


@contextlib.contextmanager
def tunnel(ground: Ground, key: Key) -> Iterator[Worker]:
    """A fleet of one with a tunnel over KEY in use.

    Each test has keys of its own: what one test used an hour ahead is refused in the next.
    """
    fleet = fleet_of(1)
    (worker,) = fleet.members

    async def settle(wanted: State) -> None:
        async with ground.kernel(fleet) as kernel:
            await kernel.apply(diff.diff(wanted, (await kernel.observe()).state))

    ground.call(lambda: settle(desired(fleet, {worker.uid: held(key)}, kind="wireguard")))
    try:
        assert ground.seen_as(worker) == key.address
        yield worker
    finally:
        ground.call(lambda: settle(State()))


def test_an_hour_forward_is_nothing(ground: Ground, clock: None) -> None:
    """The tunnel carries on, and the next key, and the same key again, shake hands at once."""
    with tunnel(ground, key(1, 1)) as worker:
        step(HOUR_SECONDS)
        assert ground.seen_as(worker) == key(1, 1).address
        assert shake(ground, worker.interface, key(2, 1)) < 5
        assert shake(ground, worker.interface, key(1, 1)) < 5


def test_an_hour_back_keeps_the_tunnel_and_refuses_keys_used_before(ground: Ground, clock: None) -> None:
    """The tunnel in use carries on, a key never used shakes hands; one used "later" is refused by its server."""
    used, fresh = key(3, 2), key(3, 6)
    with tunnel(ground, used) as worker:
        step(-HOUR_SECONDS)
        assert ground.seen_as(worker) == used.address
        assert shake(ground, worker.interface, fresh) < 5
        with pytest.raises(HandshakeTimeout):
            shake(ground, worker.interface, used, 3)
        step(HOUR_SECONDS + 5)
        assert shake(ground, worker.interface, used) < 5
