"""One contract for both WireGuard backends; `wg` is the judge. The kernel's runs where there is one."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pytest
import tenacity

from fleet.errors import HandshakeTimeout, TunnelError
from lab import wires
from lab.net import Lab
from netctl import conf, wireguard
from netctl.conf import Key, Secret
from netctl.state import Device, Peer
from netctl.wireguard import Backend, Reading
from netctl.wireguard.kernel import Kernel, available
from netctl.wireguard.userspace import Userspace

INTERFACE = "wg150"
BACKENDS = ["userspace"] + (["kernel"] if asyncio.run(available()) else [])
T = TypeVar("T")


@dataclass
class Bench:
    """A backend with one device inside the lab's host."""

    lab: Lab
    backend: Backend
    process: subprocess.Popen[str] | None

    def call(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine inside the host's network."""
        found: T = wires.inside(self.lab.topology.namespace("host"), lambda: asyncio.run(make()))
        return found

    def read(self) -> Reading:
        """The device, which is there."""
        reading = self.call(lambda: self.backend.read(INTERFACE))
        assert reading is not None
        return reading

    def write(self, device: Device) -> None:
        """Set the device."""
        self.call(lambda: self.backend.write(device))

    def shake(self, device: Device, seconds: float = 10) -> float:
        """Set the device and wait for its handshake."""

        async def both() -> float:
            await self.backend.write(device)
            return await wireguard.wait_for_handshake(self.backend, device, seconds)

        return self.call(both)

    def wg(self, what: str) -> str:
        """What `wg show` says."""
        return self.lab.run("host", ["wg", "show", INTERFACE, what], check=True).stdout.strip()


@pytest.fixture(params=BACKENDS)
def bench(request: pytest.FixtureRequest, lab: Lab) -> Iterator[Bench]:
    """A fresh device that is up."""
    backend: Backend
    process = None
    if request.param == "kernel":
        backend = Kernel()
        lab.run("host", ["ip", "link", "add", INTERFACE, "type", "wireguard"], check=True)
    else:
        backend = Userspace(lab.places.at("host") / "wireguard")
        process = lab.popen("host", ["wireguard-go", "-f", INTERFACE], stderr=subprocess.DEVNULL)
    made = Bench(lab, backend, process)
    for attempt in tenacity.Retrying(stop=tenacity.stop_after_delay(10), wait=tenacity.wait_fixed(0.02), reraise=True):
        with attempt:
            made.read()
    lab.run("host", ["ip", "link", "set", INTERFACE, "up"], check=True)
    yield made
    if process is not None:
        process.kill()
        process.wait(10)
    else:
        lab.run("host", ["ip", "link", "delete", INTERFACE], check=True)


def key_of(lab: Lab, name: str) -> Key:
    """A client key of the lab."""
    key, mistakes = conf.parse((lab.places.keys / name).read_text(), name)
    assert key is not None, mistakes
    return key


def device_of(key: Key) -> Device:
    """The device that KEY makes."""
    peer = Peer(
        public_key=key.server_public,
        preshared=key.preshared,
        keepalive_seconds=25,
        endpoint=(key.endpoint_host, key.endpoint_port),
    )
    return Device(interface=INTERFACE, private=key.private, peer=peer)


def test_a_missing_device_is_none(bench: Bench) -> None:
    """Reading what is not there is an answer, not an error."""
    assert bench.call(lambda: bench.backend.read("wg151")) is None


def test_a_fresh_device_is_sealed(bench: Bench) -> None:
    """No key, no peer, no handshake."""
    reading = bench.read()
    assert reading.device == Device(interface=INTERFACE)
    assert reading.last_handshake is None


def test_what_is_written_is_read_back(bench: Bench) -> None:
    """Key, peer, preshared key and keepalive; writing the same again changes nothing."""
    device = device_of(replace(key_of(bench.lab, "vpn1-03.conf"), preshared=Secret(b"p" * 32)))
    for _ in range(2):
        bench.write(device)
        assert bench.read().device == device
    assert device.peer
    assert bench.wg("peers") == device.peer.public_key
    assert bench.wg("allowed-ips").split()[1:] == ["0.0.0.0/0"]


def test_a_swap_leaves_one_peer_and_sealing_none(bench: Bench) -> None:
    """The old peer is gone with the swap; sealed, no peer and no key is left in the device."""
    first, second = (device_of(key_of(bench.lab, f"vpn{n}-03.conf")) for n in (1, 2))
    bench.write(first)
    bench.write(second)
    assert second.peer
    assert bench.wg("peers") == second.peer.public_key
    bench.write(Device(interface=INTERFACE))
    assert bench.wg("peers") == ""
    assert bench.wg("private-key") == "(none)"
    assert bench.read().device == Device(interface=INTERFACE)


def test_the_handshake_starts_by_itself(bench: Bench) -> None:
    """Each swap is followed by a handshake with the new server without any traffic of ours."""
    for name in ("vpn1-04.conf", "vpn2-04.conf", "vpn3-04.conf"):
        seconds = bench.shake(device_of(key_of(bench.lab, name)))
        print(f"{bench.backend.name}: handshake after {seconds * 1000:.1f} ms")
        reading = bench.read()
        assert reading.last_handshake is not None
        assert reading.sent_bytes > 0
        assert reading.received_bytes > 0


def test_a_silent_server_is_a_timeout_that_names_it(bench: Bench) -> None:
    """A server that does not know the key: HandshakeTimeout with its address, within the time given."""
    stranger = replace(key_of(bench.lab, "vpn1-05.conf"), private=Secret(b"s" * 32))
    started = time.monotonic()
    with pytest.raises(HandshakeTimeout, match=r"203\.0\.113\.11:51820"):
        bench.shake(device_of(stranger), 1.5)
    assert 1.5 <= time.monotonic() - started < 6


def test_more_peers_than_ours_is_never_equal(bench: Bench) -> None:
    """A peer somebody added makes the device differ from any of ours, and the next write removes it."""
    device = device_of(key_of(bench.lab, "vpn1-06.conf"))
    bench.write(device)
    other = key_of(bench.lab, "vpn2-06.conf").server_public
    bench.lab.run("host", ["wg", "set", INTERFACE, "peer", other, "allowed-ips", "192.0.2.0/24"], check=True)
    assert bench.read().device != device
    bench.write(device)
    assert bench.read().device == device


def test_a_hung_device_is_an_error_in_time(bench: Bench) -> None:
    """wireguard-go that does not answer is a TunnelError within the call's deadline, not a wait for ever."""
    if bench.process is None:
        return  # the kernel does not hang one device alone
    bench.process.send_signal(signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(TunnelError, match=INTERFACE):
            bench.read()
        assert time.monotonic() - started < wireguard.CALL_SECONDS + 2
    finally:
        bench.process.send_signal(signal.SIGCONT)
