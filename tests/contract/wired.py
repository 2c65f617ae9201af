"""The real grounds: a host and its VPN servers in two namespaces with one wire, WireGuard at both ends.

The judges are other programs: `ip`, `nft`, `wg`, and a teller beyond the servers that answers with the address it was
asked from. Workers have namespaces of their own where the isolation says so.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ctypes
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractContextManager, ExitStack
from datetime import datetime, timezone
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Literal, TypeVar

from fleet.errors import FleetError
from fleet.machine import spaces
from fleet.model import Fleet, Worker
from lab.events import AddressListener
from lab.topology import brought_up
from lab.wires import batch, inside, tell
from netctl.host import Host
from netctl.kernel.setns import Spaces
from netctl.wireguard.contract import WireGuard
from netctl.wireguard.kernel_module import KernelWireGuard
from netctl.wireguard.wireguard_go import UserspaceWireGuard
from tests.contract.ground import CLIENTS, SERVERS, key, secret
from tests.waiting import frozen, until

T = TypeVar("T")
_SOCKETS_THERE = 'mkdir -p /run/wireguard && mount --bind "$0" /run/wireguard && exec "$@"'
"""wireguard-go knows one socket folder for the whole machine: each end has its own in its place."""
TELLER = ("203.0.113.80", 7)
TELL = f"""
import socket
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.bind({TELLER!r})
print("ready", flush=True)
while True:
    _, asker = listener.recvfrom(100)
    listener.sendto(asker[0].encode(), asker)
"""


class Wired:
    """One host, three servers; use as a context manager."""

    def __init__(self, name: Literal["userspace", "kernel"], isolation: str) -> None:
        self.name, self.isolation = name, isolation
        self._folder = Path(tempfile.mkdtemp(prefix="contract-", dir="/var/tmp"))
        self._names = self._folder / "netns"
        self._host, self._far = self._names / "host", self._names / "far"
        self._there: list[Worker] = []
        """Those with a namespace of their own."""
        self._programs: dict[str, subprocess.Popen[str]] = {}
        self._spaces = Spaces(self._names)
        user = UserspaceWireGuard(self._folder / "host")
        self.wireguard: WireGuard = KernelWireGuard(self._spaces) if name == "kernel" else user

    def __enter__(self) -> Wired:
        try:
            self._make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._programs):
            self._end_device(name)
        self._spaces.close()
        for place in (self._host, self._far):
            spaces.remove(place)
        spaces.clear(self._names)
        shutil.rmtree(self._folder)

    def _make(self) -> None:
        for place in (self._host, self._far):
            (self._folder / place.name).mkdir()
            spaces.make(place)
        # A link-local address would be an event a second or two later, in the middle of a test.
        silent, wire = "link set up0 addrgenmode none", f"link add up0 type veth peer name up0 netns {self._far}"
        batch(self._host, [wire, silent, *brought_up("up0", ["198.51.100.10/24"])])
        batch(self._far, [silent, *brought_up("up0", ["198.51.100.1/24"]), f"address add {TELLER[0]}/32 dev lo"])
        at(self._host, "ip route add default via 198.51.100.1")
        for server in SERVERS:
            self._make_server(server)
        self._programs["teller"] = self._start(self._far, "/usr/bin/python3", "-ISc", TELL)
        assert (told := self._programs["teller"].stdout) and told.readline() == "ready\n"

    def _make_server(self, server: int) -> None:
        interface, keys = f"s{server}", [key(server, client) for client in CLIENTS]
        at(self._far, f"ip address add {keys[0].server}/32 dev lo")
        self._make_device(self._far, interface)
        private = self._folder / f"{interface}.key"
        private.write_text(base64.b64encode(secret(f"server {server}").reveal()).decode())
        peers = [f"peer {one.private.public()} allowed-ips {one.address}/32" for one in keys]
        settings = f"listen-port {keys[0].port} private-key {private} {' '.join(peers)}"
        self._wg(self._far, f"set {interface} {settings}")
        batch(self._far, [f"link set {interface} up", f"route add 198.18.{server}.0/24 dev {interface}"])

    def _make_device(self, place: Path, interface: str) -> None:
        if self.name == "kernel":
            at(place, f"ip link add {interface} type wireguard")
            return
        self._programs[interface] = self._start(place, "wireguard-go", "-f", interface)
        until(f"wireguard-go made {interface}", (self._folder / place.name / f"{interface}.sock").exists)

    def _end_device(self, interface: str) -> None:
        """Of the host, or of whichever worker has it."""
        if program := self._programs.pop(interface, None):
            program.kill()
            program.wait(10)
            (self._folder / "host" / f"{interface}.sock").unlink(missing_ok=True)
            return
        for place in self._places():
            with contextlib.suppress(FleetError):  # it is in another
                at(place, f"ip link delete {interface}")

    def _places(self) -> list[Path]:
        """The host's namespace and those of workers."""
        return [self._host, *(self._names / worker.space for worker in self._there)]

    def _place(self, worker: Worker) -> Path:
        """Where WORKER is."""
        return self._names / worker.space if worker in self._there else self._host

    def _mounted(self, place: Path, *argv: str) -> list[str]:
        """ARGV with that end's sockets of wireguard-go."""
        return ["unshare", "--mount", "sh", "-c", _SOCKETS_THERE, str(self._folder / place.name), *argv]

    def _start(self, place: Path, *argv: str) -> subprocess.Popen[str]:
        output: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        words = ["nsenter", f"--net={place}", *self._mounted(place, *argv)]
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, **output)

    def _wg(self, place: Path, words: str) -> str:
        return tell(place, self._mounted(place, "wg", *words.split()))

    # --- what a ground can do

    def call(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine inside the host's network."""
        return inside(self._host, lambda: asyncio.run(make()))

    def kernel(self, fleet: Fleet) -> Host:
        """The side that observes and applies; entered inside `call`."""
        return Host(self.wireguard, fleet, self._spaces)

    @contextlib.contextmanager
    def space(self, worker: Worker) -> Iterator[None]:
        """WORKER's own network namespace is there, where the isolation gives it one."""
        if self.isolation == "uid":
            yield
            return
        spaces.make(self._names / worker.space)
        self._there.append(worker)
        try:
            yield
        finally:
            self._there.remove(worker)
            spaces.remove(self._names / worker.space)

    @contextlib.contextmanager
    def device(self, interface: str) -> Iterator[None]:
        """A fresh device that is there; where nobody but a program can make it, that program runs."""
        self._make_device(self._host, interface)
        try:
            yield
        finally:
            self._end_device(interface)

    def up(self, interface: str) -> None:
        """Set the link up."""
        at(self._host, f"ip link set {interface} up")

    def lose(self, interface: str) -> None:
        """The device goes, as if somebody deleted it; a fresh one comes where a program makes it."""
        self._end_device(interface)
        if self.name == "userspace":
            self._make_device(self._host, interface)

    def frozen(self, interface: str) -> AbstractContextManager[None] | None:
        """The device does not answer; None where one device alone cannot hang."""
        program = self._programs.get(interface)
        return frozen(program.pid) if program is not None else None

    def shown(self, interface: str, what: str) -> str:
        """What `wg show INTERFACE WHAT` says: `peers`, `allowed-ips` or `private-key`."""
        return self._wg(self._host, f"show {interface} {what}").strip()

    def add_peer(self, interface: str, public_key: str) -> None:
        """Somebody else adds a peer for 192.0.2.0/24."""
        self._wg(self._host, f"set {interface} peer {public_key} allowed-ips 192.0.2.0/24")

    def seen_as(self, worker: Worker) -> IPv4Address | None:
        """The address the world sees when WORKER's UID asks; None when nothing comes back."""
        return inside(self._place(worker), lambda: ask(worker.uid))

    @contextlib.contextmanager
    def plant_foreign(self) -> Iterator[Callable[[], object]]:
        """Links, addresses, routes, rules and tables of somebody else; call it to see them as they are now."""
        for words in (
            "ip link add else0 type veth peer name else1",
            "ip address add 192.0.2.9/24 dev else0",
            "ip link set else0 up",
            "ip route add 192.0.2.128/25 dev else0 table 999 proto 42",
            "ip rule add priority 5000 uidrange 4000-4001 lookup 999 protocol 42",
            *("nft add table inet else", "nft add chain inet else kept", "nft add rule inet else kept counter"),
        ):
            at(self._host, words)
        try:
            yield self._foreign
        finally:
            for words in ("nft delete table inet else", "ip rule delete priority 5000", "ip link delete else0"):
                at(self._host, words)

    def _foreign(self) -> object:
        """What of the planted there is; `ip` leaves out what ends with its link alone."""
        shown = ("ip -brief address show else0", "ip route show table 999", "nft list table inet else", "ip route show")
        rules = at(self._host, "ip rule show").splitlines()
        return [*(at(self._host, words) for words in shown), *(one for one in rules if not one.endswith("proto 77"))]

    @contextlib.contextmanager
    def plant_rule(self, priority: int) -> Iterator[None]:
        """A rule of that priority without our protocol number."""
        rule = f"priority {priority} uidrange 4000-4001 lookup main"
        at(self._host, f"ip rule add {rule}")
        try:
            yield
        finally:
            at(self._host, f"ip rule delete {rule}")

    def lead_astray(self, worker: Worker) -> None:
        """WORKER's table leads past its tunnel, under our protocol number."""
        way = "lo" if worker in self._there else "up0"
        at(self._place(worker), f"ip route replace default dev {way} table {worker.table} proto 77")

    def flush(self, what: str) -> None:
        """Somebody flushes `rules` or `tables` (nftables), all of them."""
        for place in self._places():
            if what == "tables":
                at(place, "nft flush ruleset")
                continue
            for family in ("-4", "-6"):
                at(place, f"ip {family} rule flush")
                # What the kernel makes by itself in every namespace, so that the host stays reachable.
                for priority, table in ((32766, "main"), (32767, "default"))[: 2 if family == "-4" else 1]:
                    at(place, f"ip {family} rule add priority {priority} lookup {table}")

    @contextlib.contextmanager
    def address_events(self) -> Iterator[list[str]]:
        """Every address notification meanwhile in the host, and where the first worker is."""
        began, heard = datetime.now(timezone.utc), list[str]()
        with ExitStack() as listening:
            listeners = [listening.enter_context(AddressListener(place)) for place in self._places()[:2]]
            yield heard
        heard += [one.address for by in listeners for one in by.between(began, datetime.now(timezone.utc))]


def ask(uid: int) -> IPv4Address | None:
    """Ask the teller from a socket of UID, in this thread, which ends after it.

    setfsuid(2) is the thread's own; the kernel takes a socket's owner from it (sock_alloc in net/socket.c).
    """
    ctypes.CDLL(None, use_errno=True).setfsuid(uid)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(2)
        try:
            asking.sendto(b"who am I?", TELLER)
            return IPv4Address(asking.recv(100).decode())
        except OSError:  # refused by a rule, dropped (EPERM), or no answer in time
            return None


def at(place: Path, words: str) -> str:
    """Run WORDS in PLACE; raises FleetError with their complaint."""
    return tell(place, words.split())
