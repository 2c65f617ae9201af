"""What WireGuard does when the wall clock is stepped: in the virtual machine alone, whose clock is its own."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator

import pytest

from fleet.errors import HandshakeTimeout
from netctl import plan, wireguard
from netctl.conf import Key
from netctl.state import Device, State, desired
from tests.contract.ground import Ground, device_of, fleet_of, held

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
        await ground.backend.write(Device(interface=interface))
        await ground.backend.write(device)
        return await wireguard.wait_for_handshake(ground.backend, device, seconds)

    return ground.call(both)


@pytest.fixture
def worker(ground: Ground) -> Iterator[str]:
    """A fleet of one with a tunnel in use; the interface's name."""
    fleet = fleet_of(1)
    wanted = desired(fleet, {1101: held(ground.key(1, 1))}, kind="wireguard")

    async def bring() -> None:
        async with ground.kernel(fleet) as kernel:
            await kernel.apply(plan.diff(wanted, (await kernel.observe()).state))

    async def clean() -> None:
        async with ground.kernel(fleet) as kernel:
            await kernel.apply(plan.diff(State(), (await kernel.observe()).state))

    ground.call(bring)
    yield fleet.members[0].interface
    ground.call(clean)


def test_an_hour_forward_is_nothing(ground: Ground, worker: str, clock: None) -> None:
    """The tunnel carries on, and the next key, and the same key again, shake hands at once."""
    member = fleet_of(1).members[0]
    assert ground.seen_as(member) == ground.key(1, 1).address
    step(HOUR_SECONDS)
    assert ground.seen_as(member) == ground.key(1, 1).address
    assert shake(ground, worker, ground.key(2, 1)) < 5
    assert shake(ground, worker, ground.key(1, 1)) < 5


def test_an_hour_back_keeps_the_tunnel_and_refuses_keys_used_before(ground: Ground, worker: str, clock: None) -> None:
    """The tunnel in use carries on, a key never used shakes hands; one used "later" is refused by its server."""
    member = fleet_of(1).members[0]
    assert ground.seen_as(member) == ground.key(1, 1).address
    shake(ground, worker, ground.key(3, 2))
    shake(ground, worker, ground.key(1, 1))
    step(-HOUR_SECONDS)
    assert ground.seen_as(member) == ground.key(1, 1).address
    assert shake(ground, worker, ground.key(3, 3)) < 5
    with pytest.raises(HandshakeTimeout):
        shake(ground, worker, ground.key(3, 2), 3)
    step(HOUR_SECONDS + 5)
    assert shake(ground, worker, ground.key(3, 2)) < 5
