"""One contract for every WireGuard backend; `wg` is the judge."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from fleet.errors import HandshakeTimeout, TunnelError
from netctl.plan.key import Secret
from netctl.plan.things import Device
from netctl.wireguard.contract import CALL_SECONDS, Reading, WireGuard, wait_for_handshake
from tests.contract.ground import Ground, device_of, key

INTERFACE = "wg150"


@dataclass
class Bench:
    """A backend with one device that is up."""

    ground: Ground

    @property
    def wireguard(self) -> WireGuard:
        return self.ground.wireguard

    def device(self, server: int, client: int) -> Device:
        """The device that a key of SERVER makes."""
        return device_of(INTERFACE, key(server, client))

    def read(self) -> Reading:
        """The device, which is there."""
        reading = self.ground.call(lambda: self.wireguard.read(INTERFACE))
        assert reading is not None
        return reading

    def write(self, device: Device) -> None:
        """Set the device."""
        self.ground.call(lambda: self.wireguard.write(device))

    def open(self, device: Device) -> None:
        """Allow its peer everything."""
        self.ground.call(lambda: self.wireguard.open(device))

    def shake(self, device: Device, seconds: float = 10) -> float:
        """Set the device and wait for its handshake."""

        async def both() -> float:
            await self.wireguard.write(device)
            return (await wait_for_handshake(self.wireguard, device, seconds))[0]

        return self.ground.call(both)


@pytest.fixture
def bench(ground: Ground) -> Iterator[Bench]:
    """A fresh device that is up."""
    with ground.device(INTERFACE):
        ground.up(INTERFACE)
        yield Bench(ground)


def test_a_missing_device_is_none(bench: Bench) -> None:
    """Reading what is not there is an answer, not an error."""
    assert bench.ground.call(lambda: bench.wireguard.read("wg151")) is None


def test_a_fresh_device_is_sealed(bench: Bench) -> None:
    """No key, no peer, no handshake."""
    reading = bench.read()
    assert reading.device == Device(interface=INTERFACE)
    assert reading.last_handshake is None


def test_what_is_written_is_read_back(bench: Bench) -> None:
    """Key, peer, endpoint, preshared key and keepalive; writing the same again changes nothing."""
    made = bench.device(1, 1)
    assert made.peer
    device = replace(made, peer=replace(made.peer, preshared=Secret(b"p" * 32)))
    for _ in range(2):
        bench.write(device)
        found = bench.read().device
        assert found == device
        assert found.peer
        assert found.peer.endpoint == made.peer.endpoint
    assert bench.ground.shown(INTERFACE, "peers") == made.peer.public_key
    assert bench.ground.shown(INTERFACE, "allowed-ips").split()[1:] == ["0.0.0.0/0"]


def test_ipv6_is_allowed_where_it_is_asked_for(bench: Bench) -> None:
    """A peer with IPv6 has ::/0 beside 0.0.0.0/0, reads back equal, and one without has it no more."""
    without = bench.device(1, 1)
    assert without.peer
    with_ = replace(without, peer=replace(without.peer, ipv6=True))
    for device, networks in ((with_, {"0.0.0.0/0", "::/0"}), (without, {"0.0.0.0/0"}), (with_, {"0.0.0.0/0", "::/0"})):
        bench.write(device)
        assert bench.read().device == device
        assert set(bench.ground.shown(INTERFACE, "allowed-ips").split()[1:]) == networks
    assert bench.read().device != without


def test_a_swap_leaves_one_peer_and_sealing_none(bench: Bench) -> None:
    """The old peer is gone with the swap; sealed, no peer and no key is left in the device."""
    first, second = bench.device(1, 1), bench.device(2, 1)
    bench.write(first)
    bench.write(second)
    assert second.peer
    assert bench.ground.shown(INTERFACE, "peers") == second.peer.public_key
    bench.write(Device(interface=INTERFACE))
    assert bench.ground.shown(INTERFACE, "peers") == ""
    assert bench.ground.shown(INTERFACE, "private-key") == "(none)"
    assert bench.read().device == Device(interface=INTERFACE)


def test_the_handshake_starts_by_itself(bench: Bench) -> None:
    """Each swap is followed by a handshake with the new server without any traffic of ours."""
    for server in (1, 2, 3):
        seconds = bench.shake(bench.device(server, 2))
        print(f"{bench.wireguard.backend.name}: handshake after {seconds * 1000:.1f} ms")
        reading = bench.read()
        assert reading.last_handshake is not None
        assert reading.sent_bytes > 0
        assert reading.received_bytes > 0


def test_a_closed_peer_shakes_hands_and_is_opened_with_its_session(bench: Bench) -> None:
    """Nothing is allowed through it meanwhile, and the handshake is still that one when all is."""
    whole = bench.device(1, 5)
    assert whole.peer
    closed = replace(whole, peer=replace(whole.peer, open=False))
    bench.shake(closed)
    before = bench.read()
    assert before.device == closed
    assert bench.ground.shown(INTERFACE, "allowed-ips").split()[1:] == ["(none)"]
    for device in (whole, replace(whole, peer=replace(whole.peer, ipv6=True))):
        bench.open(device)
        after = bench.read()
        assert (after.device, after.last_handshake) == (device, before.last_handshake)


def test_a_silent_server_is_a_timeout_that_names_it(bench: Bench) -> None:
    """A server that does not know the key: HandshakeTimeout with its address, within the time given."""
    stranger = replace(bench.device(1, 3), private=Secret(b"s" * 32))
    started = time.monotonic()
    with pytest.raises(HandshakeTimeout, match=r"203\.0\.113\.11:51821"):
        bench.shake(stranger, 1.5)
    assert 1.5 <= time.monotonic() - started < 6


def test_more_peers_than_ours_is_never_equal(bench: Bench) -> None:
    """A peer somebody added makes the device differ from any of ours, and the next write removes it."""
    device = bench.device(1, 4)
    bench.write(device)
    bench.ground.add_peer(INTERFACE, key(2, 4).server_public)
    assert bench.read().device != device
    bench.write(device)
    assert bench.read().device == device


def test_a_hung_device_is_an_error_in_time(bench: Bench) -> None:
    """wireguard-go that does not answer is a TunnelError within the call's deadline, not a wait for ever."""
    frozen = bench.ground.frozen(INTERFACE)
    if frozen is None:
        return  # the kernel does not hang one device alone
    with frozen:
        started = time.monotonic()
        with pytest.raises(TunnelError, match=INTERFACE):
            bench.read()
        assert time.monotonic() - started < CALL_SECONDS + 2
