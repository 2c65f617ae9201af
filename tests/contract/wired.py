"""The two real grounds: a host and its VPN servers in two namespaces with one wire, WireGuard at both ends.

The judges are other programs: `ip`, `nft`, `wg`, and a teller beyond the servers that answers with the
address it was asked from.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import os
import select
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Literal, TypeVar

from fleet import syscalls
from fleet.model import Fleet, Worker
from netctl.host import Host
from netctl.plan.secrets import Key, Secret
from netctl.wireguard.contract import WireGuard
from netctl.wireguard.kernel_module import KernelWireGuard
from netctl.wireguard.wireguard_go import UserspaceWireGuard
from tests.contract.ground import CLIENTS, SERVERS, AnyKernel
from tests.contract.teller import TELLER, ask
from tests.waiting import frozen, until

T = TypeVar("T")
FIRST_PORT = 51820
_SOCKETS_THERE = 'mkdir -p /run/wireguard && mount --bind "$0" /run/wireguard && exec "$@"'
"""wireguard-go knows one socket folder for the whole machine: each end has its own in its place."""


def secret(name: str) -> Secret:
    """A private key that belongs to that name, with the bits set that every device sets (RFC 7748, 5)."""
    made = bytearray(hashlib.sha256(name.encode()).digest())
    made[0] &= 248
    made[31] = made[31] & 127 | 64
    return Secret(bytes(made))


class Wired:
    """One host, three servers; use as a context manager."""

    isolation = "uid"

    def __init__(self, name: Literal["userspace", "kernel"]) -> None:
        self.name: str = name
        prefix = f"c{self.isolation[0]}{os.getpid() % 100_000}"
        self._host, self._far = f"{prefix}h", f"{prefix}s"
        self._folder = Path(tempfile.mkdtemp(prefix=f"{prefix}-", dir="/var/tmp"))
        self._programs: dict[str, subprocess.Popen[bytes]] = {}
        sockets = self._folder / self._host
        self.wireguard: WireGuard = KernelWireGuard() if name == "kernel" else UserspaceWireGuard(sockets)
        self._undo = ExitStack()

    # --- up and down

    def __enter__(self) -> Wired:
        try:
            self._make()
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _make(self) -> None:
        self._undo.callback(shutil.rmtree, self._folder)
        for namespace in (self._host, self._far):
            (self._folder / namespace).mkdir()
            run("ip", "netns", "add", namespace)
            self._undo.callback(run, "ip", "netns", "delete", namespace)
            run("ip", "-n", namespace, "link", "set", "lo", "up")
        self._undo.callback(self._end_programs)
        run("ip", "-n", self._host, "link", "add", "up0", "type", "veth", "peer", "name", "up0", "netns", self._far)
        for namespace, address in ((self._host, "198.51.100.10/24"), (self._far, "198.51.100.1/24")):
            run("ip", "-n", namespace, "address", "add", address, "dev", "up0")
            run("ip", "-n", namespace, "link", "set", "up0", "up")
        run("ip", "-n", self._host, "route", "add", "default", "via", "198.51.100.1")
        run("ip", "-n", self._far, "address", "add", f"{TELLER[0]}/32", "dev", "lo")
        for server in SERVERS:
            self._make_server(server)
        self._start_teller()

    def _make_server(self, server: int) -> None:
        interface = f"s{server}"
        run("ip", "-n", self._far, "address", "add", f"203.0.113.{10 + server}/32", "dev", "lo")
        self._make_device(self._far, interface)
        peers: list[str] = []
        for client in CLIENTS:
            public = secret(f"client {server} {client}").public()
            peers += ["peer", public, "allowed-ips", f"{_leased(server, client)}/32"]
        private = self._folder / f"{interface}.key"
        private.write_text(_base64(secret(f"server {server}")))
        port = str(FIRST_PORT + server)
        self._at(self._far, "wg", "set", interface, "listen-port", port, "private-key", str(private), *peers)
        run("ip", "-n", self._far, "link", "set", interface, "up")
        run("ip", "-n", self._far, "route", "add", f"198.18.{server}.0/24", "dev", interface)

    def _make_device(self, namespace: str, interface: str) -> None:
        if self.name == "kernel":
            run("ip", "-n", namespace, "link", "add", interface, "type", "wireguard")
            return
        argv = self._argv(namespace, "wireguard-go", "-f", interface)
        self._programs[interface] = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        made = self._folder / namespace / f"{interface}.sock"
        until(f"wireguard-go made {interface}", made.exists)

    def _end_device(self, interface: str) -> None:
        if program := self._programs.pop(interface, None):
            program.kill()
            program.wait(10)
            (self._folder / self._host / f"{interface}.sock").unlink(missing_ok=True)
        else:
            subprocess.run(["ip", "-n", self._host, "link", "delete", interface], capture_output=True, check=False)

    def _end_programs(self) -> None:
        for interface in list(self._programs):
            self._end_device(interface)

    def _start_teller(self) -> None:
        """Answers every datagram with the address it came from."""

        def bound() -> socket.socket:
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.bind(TELLER)
            return made

        listener, ending = inside(self._far, bound), os.eventfd(0)
        pool = ThreadPoolExecutor(max_workers=1)

        def serve() -> None:
            while ending not in select.select([listener.fileno(), ending], [], [])[0]:
                _, caller = listener.recvfrom(100)
                listener.sendto(caller[0].encode(), caller)

        def end() -> None:
            os.eventfd_write(ending, 1)
            pool.shutdown()
            listener.close()
            os.close(ending)

        pool.submit(serve)
        self._undo.callback(end)

    # --- what a ground can do; see ground.Ground

    def call(self, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return inside(self._host, lambda: asyncio.run(make()))

    def kernel(self, fleet: Fleet) -> AbstractAsyncContextManager[AnyKernel]:
        return Host(self.wireguard, fleet)

    def key(self, server: int, client: int) -> Key:
        return Key(
            private=secret(f"client {server} {client}"),
            address=_leased(server, client),
            server_public=secret(f"server {server}").public(),
            endpoint_host=f"203.0.113.{10 + server}",
            endpoint_port=FIRST_PORT + server,
        )

    @contextlib.contextmanager
    def device(self, interface: str) -> Iterator[None]:
        self._make_device(self._host, interface)
        try:
            yield
        finally:
            self._end_device(interface)

    def up(self, interface: str) -> None:
        run("ip", "-n", self._host, "link", "set", interface, "up")

    def lose(self, interface: str) -> None:
        self._end_device(interface)
        if self.name == "userspace":
            self._make_device(self._host, interface)

    def frozen(self, interface: str) -> AbstractContextManager[None] | None:
        program = self._programs.get(interface)
        return frozen(program.pid) if program is not None else None

    def shown(self, interface: str, what: str) -> str:
        return self._at(self._host, "wg", "show", interface, what).strip()

    def add_peer(self, interface: str, public_key: str) -> None:
        self._at(self._host, "wg", "set", interface, "peer", public_key, "allowed-ips", "192.0.2.0/24")

    def seen_as(self, worker: Worker) -> IPv4Address | None:
        return inside(self._host, lambda: ask(worker.uid))

    @contextlib.contextmanager
    def plant_foreign(self) -> Iterator[Callable[[], object]]:
        ip, nft = ("ip", "-n", self._host), ("ip", "netns", "exec", self._host, "nft")
        with ExitStack() as undo:
            run(*ip, "link", "add", "else0", "type", "veth", "peer", "name", "else1")
            undo.callback(run, *ip, "link", "delete", "else0")
            run(*ip, "address", "add", "192.0.2.9/24", "dev", "else0")
            run(*ip, "link", "set", "else0", "up")
            run(*ip, "route", "add", "192.0.2.128/25", "dev", "else0", "table", "999", "proto", "42")
            run(*ip, "rule", "add", "priority", "5000", "uidrange", "4000-4001", "lookup", "999", "protocol", "42")
            undo.callback(run, *ip, "rule", "delete", "priority", "5000")
            for word in ("table inet else", "chain inet else kept", "rule inet else kept counter"):
                run(*nft, "add", *word.split())
            undo.callback(run, *nft, "delete", "table", "inet", "else")
            yield self._foreign

    def _foreign(self) -> object:
        """What of the planted there is; `ip` leaves out what ends with its link alone."""
        ip = ("ip", "-n", self._host)
        return (
            run(*ip, "-brief", "address", "show", "else0"),
            run(*ip, "route", "show", "table", "999"),
            [line for line in run(*ip, "rule", "show").splitlines() if not line.endswith("proto 77")],
            run("ip", "netns", "exec", self._host, "nft", "list", "table", "inet", "else"),
            run(*ip, "route", "show"),
        )

    @contextlib.contextmanager
    def plant_rule(self, priority: int) -> Iterator[None]:
        rule = ("priority", str(priority), "uidrange", "4000-4001", "lookup", "main")
        run("ip", "-n", self._host, "rule", "add", *rule)
        try:
            yield
        finally:
            run("ip", "-n", self._host, "rule", "delete", *rule)

    def lead_astray(self, worker: Worker) -> None:
        table = str(worker.table)
        run("ip", "-n", self._host, "route", "replace", "default", "dev", "up0", "table", table, "proto", "77")

    def space(self, worker: Worker) -> AbstractContextManager[None]:
        return contextlib.nullcontext()

    def flush(self, what: str) -> None:
        if what == "tables":
            run("ip", "netns", "exec", self._host, "nft", "flush", "ruleset")
            return
        for family in ("-4", "-6"):
            run("ip", "-n", self._host, family, "rule", "flush")
            # What the kernel makes by itself in every namespace, so that the host stays reachable.
            for priority, table in (("32766", "main"), ("32767", "default"))[: 2 if family == "-4" else 1]:
                run("ip", "-n", self._host, family, "rule", "add", "priority", priority, "lookup", table)

    @contextlib.contextmanager
    def address_events(self, *ip: str) -> Iterator[list[str]]:
        heard: list[str] = []
        ip = ip or ("ip", "-n", self._host)
        with subprocess.Popen([*ip, "monitor", "address"], stdout=subprocess.PIPE, text=True) as monitor:
            assert monitor.stdout
            # The monitor is listening once it reports an address made for that purpose; another ends the wait.
            try:
                self._beacon(monitor, ip, "192.0.2.101", [])
                yield heard
                self._beacon(monitor, ip, "192.0.2.102", heard)
            finally:
                monitor.kill()

    def _beacon(self, monitor: subprocess.Popen[str], ip: tuple[str, ...], address: str, heard: list[str]) -> None:
        """Read what MONITOR has heard up to an ADDRESS that comes and goes, where IP goes."""
        assert monitor.stdout
        heard_from = monitor.stdout.fileno()

        def heard_it() -> bool:
            for verb in ("add", "delete"):
                run(*ip, "address", verb, f"{address}/32", "dev", "lo")
            return bool(select.select([heard_from], [], [], 0.2)[0])

        until("ip monitor hears", heard_it)
        # Behind the last beacon's going nothing is of interest.
        for line in iter(monitor.stdout.readline, ""):
            if address in line:
                break
            if "192.0.2.10" not in line and "valid_lft" not in line:
                heard.append(line.strip())

    # --- programs inside

    def _argv(self, namespace: str, *argv: str) -> list[str]:
        folder = str(self._folder / namespace)
        return ["ip", "netns", "exec", namespace, "sh", "-c", _SOCKETS_THERE, folder, *argv]

    def _at(self, namespace: str, *argv: str) -> str:
        return run(
            *(self._argv(namespace, *argv) if self.name == "userspace" else ("ip", "netns", "exec", namespace, *argv))
        )


def inside(namespace: str, work: Callable[[], T]) -> T:
    """Do WORK in the network namespace, in a thread of its own: setns(2) moves one thread alone."""

    def moved() -> T:
        syscalls.enter_network(namespace)
        return work()

    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(moved).result()


def run(*argv: str) -> str:
    """Run ARGV to its end; the test fails with what it says."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr.strip()}"
    return done.stdout


def _leased(server: int, client: int) -> IPv4Address:
    return IPv4Address(f"198.18.{server}.{10 + client}")


def _base64(key: Secret) -> str:
    return base64.b64encode(key.reveal()).decode()
