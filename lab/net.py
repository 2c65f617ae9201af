"""A lab on this machine: makes, inspects, enters and completely removes it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

import tenacity

from fleet.backends import wireguard_go
from fleet.errors import ConfigurationError, FleetError
from fleet.launch_spec import NSSWITCH
from fleet.machine import spaces
from lab import dns, places, processes, vpn, wires
from lab.places import Places, Record
from lab.site import certificate
from lab.topology import ISP_RESOLVER, ISP_RESOLVER_V6, TUNNEL_RESOLVER, WEB_ADDRESS, WEB_ADDRESS_V6, Server, Topology

LAUNCH = Path(__file__).resolve().parent.parent / "launch.py"
ENTER = Path(__file__).resolve().with_name("enter.py")
START_SECONDS = 20
"""A server that does not answer within this time is an error; on an idle machine all answer within two."""


@dataclass(frozen=True, slots=True)
class Status:
    """What exists of a lab."""

    name: str
    state: str
    """`up`, `down`, or `broken` (something of it is missing or a crash left parts)."""
    servers: int
    keys: int
    missing: tuple[str, ...]
    processes: tuple[processes.Member, ...]


class Lab:
    """The lab called NAME; nothing is touched before up()."""

    def __init__(self, name: str = "lab", *, servers: int = 3, keys: int = 10, ipv6: bool = False) -> None:
        self.topology = Topology(name=name, servers=servers, keys=keys, ipv6=ipv6)
        self.name = name
        self.places = Places(name)

    # -- up and down ------------------------------------------------------------------------------

    def up(self) -> None:
        """Make the lab; one that is up is left alone, a broken one is made again.

        Raises ForeignObject (a namespace of that name belongs to another program), TryLater (another up or
        down is running), ConfigurationError (it is up with other numbers), FleetError.
        """
        with places.lock(self.name, "lab"):
            wires.refuse_foreign(self._wanted(), self.places.recorded().namespaces)
            if self.status().state == "up":
                self._refuse_other_numbers()
                return
            self._remove()
            try:
                self._make()
            except BaseException:
                self._remove()
                raise

    def down(self) -> None:
        """Remove everything, also what a crash left; succeeds if there is nothing. Raises FleetError, TryLater."""
        with places.lock(self.name, "lab"):
            self._remove()

    def _wanted(self) -> tuple[str, ...]:
        return tuple(map(self.topology.namespace, self.topology.hosts))

    def _refuse_other_numbers(self) -> None:
        _, servers, keys, ipv6, _ = self.places.recorded()
        if (servers, keys, ipv6) != (self.topology.servers, self.topology.keys, self.topology.ipv6):
            raise ConfigurationError(
                f"the lab {self.name} is up with other numbers (servers, keys of each, IPv6): {servers, keys, ipv6}",
                hint=f"take it down first: bin/lab down --lab {self.name}",
            )

    def _remove(self) -> None:
        names = self.places.recorded().namespaces
        processes.end_all(names, self.places.at(""))
        spaces.clear(self.places.spaces)
        wires.remove(names)
        if self.places.root.exists():
            shutil.rmtree(self.places.root)

    def _make(self) -> None:
        self._lay_out()
        wires.create(self.topology)
        certificate.write(self.places.authority, self.places.site)
        started = {"site": self._start("web", "site", [sys.executable, "-I", str(LAUNCH), "lab.site", self.name])}
        resolver = dns.command((ISP_RESOLVER, ISP_RESOLVER_V6), self.places.queries("isp"), self.topology.vpn)
        started["dns-isp"] = self._start("isp", "dns-isp", resolver)
        for server in self.topology.vpn:
            program = f"wireguard-{server.host}"
            started[program] = self._start(server.host, program, vpn.command(server))
        with ThreadPoolExecutor(max_workers=4) as pool:
            for result in [pool.submit(self._make_server, server, started) for server in self.topology.vpn]:
                result.result()
        self._wait_for("dns-isp", started, "isp", lambda: _listens(ISP_RESOLVER, 53))
        self._wait_for("site", started, "isp", lambda: all(_listens(one, 443) for one in (WEB_ADDRESS, WEB_ADDRESS_V6)))
        self.places.ready.touch()

    def _lay_out(self) -> None:
        """Make every folder and small file; secrets have mode 0600 or are in a 0700 folder."""
        self.places.root.mkdir(parents=True, mode=0o755)
        self.places.claim(self.topology.servers, self.topology.keys, self.topology.ipv6, self._wanted())
        for folder in (self.places.keys, self.places.site):
            folder.mkdir(mode=0o700)
        for folder in (self.places.fleet_root, self.places.root / "log"):
            folder.mkdir(mode=0o755)
        spaces.share(self.places.spaces)
        for host in self.topology.hosts:
            seen = self.places.at(host)
            (seen / "wireguard").mkdir(parents=True)
            (seen / "empty").mkdir()
            (seen / "resolv.conf").write_text(f"nameserver {self.topology.resolver(host)}\noptions timeout:2\n")
            (seen / "nsswitch.conf").write_text(NSSWITCH)

    def _make_server(self, server: Server, started: dict[str, subprocess.Popen[bytes]]) -> None:
        """Start one VPN server and wait until it answers; write its clients' files."""
        own, clients = vpn.Key.fresh(), [vpn.Key.fresh() for _ in range(self.topology.keys)]
        for number, client in enumerate(clients, start=1):
            vpn.write_client(self.places.keys, server, number, own, client)
        control = self.places.wireguard_socket(server.host, server.interface)
        self._wait_for(f"wireguard-{server.host}", started, server.host, lambda: vpn.answers(control))
        vpn.configure(server, control, own, clients)
        vpn.bring_up(server, self.topology.namespace(server.host))
        program = f"dns-{server.host}"
        queries = self.places.queries(server.host)
        started[program] = self._start(server.host, program, dns.command([TUNNEL_RESOLVER], queries))
        self._wait_for(program, started, server.host, lambda: _listens(TUNNEL_RESOLVER, 53))

    def _start(self, host: str, program: str, argv: list[str]) -> subprocess.Popen[bytes]:
        """Start a server of the lab; it outlives this program, and `down` finds it by its namespace."""
        with self.places.log(program).open("ab") as log:
            return subprocess.Popen(
                self.command(host, argv),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd="/",
                env={**os.environ, "LC_ALL": "C.UTF-8", "TZ": "UTC0"},  # the same log format on every machine
                start_new_session=True,
            )

    def _wait_for(
        self, program: str, started: dict[str, subprocess.Popen[bytes]], host: str, ready: Callable[[], bool]
    ) -> None:
        """Wait until READY is true inside HOST; raises FleetError with the last line of the program's log."""

        def look() -> bool:
            if started[program].poll() is not None:
                raise FleetError(f"{program} ended at once: {self._last_words(program)}")
            return wires.inside(self.topology.namespace(host), ready)

        waiting = tenacity.Retrying(
            retry=tenacity.retry_if_result(lambda result: not result),
            stop=tenacity.stop_after_delay(START_SECONDS),
            wait=tenacity.wait_fixed(0.02),
        )
        try:
            waiting(look)
        except tenacity.RetryError:
            last = self._last_words(program)
            raise FleetError(f"{program} does not answer after {START_SECONDS} s; its last line: {last}") from None

    def _last_words(self, program: str) -> str:
        lines = self.places.log(program).read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "(nothing)"

    # -- looking and entering ---------------------------------------------------------------------

    def status(self) -> Status:
        """What exists of the lab; changes nothing."""
        record = self.places.recorded()
        names = record.namespaces
        found = tuple(processes.members(names, self.places.at("")))
        missing = [name for name in names if not (wires.NAMESPACES / name).exists()]
        for program, namespace in self._expected(record):
            if not any(program in one.command and one.namespace == namespace for one in found):
                missing.append(f"{program} in {namespace}")
        state = (
            "up" if self.places.ready.exists() and not missing else "broken" if self.places.root.exists() else "down"
        )
        return Status(self.name, state, record.servers, record.servers * record.keys, tuple(missing), found)

    def _expected(self, record: Record) -> list[tuple[str, str]]:
        if not record.servers:
            return []
        topology = Topology(name=self.name, servers=record.servers, keys=record.keys)
        expected = [("lab.site", topology.namespace("web")), ("dnsmasq", topology.namespace("isp"))]
        for server in topology.vpn:
            expected += [(program, topology.namespace(server.host)) for program in (wireguard_go(), "dnsmasq")]
        return expected

    def command(self, host: str, argv: Sequence[str]) -> list[str]:
        """The command line that runs ARGV inside HOST."""
        places = self.places
        seen = wires.NAMESPACES / self.topology.namespace(host), places.at(host), places.spaces
        root = str(places.fleet_root) if host == "host" else ""
        place = [str(places.record), places.recorded().instance, *map(str, seen), root]
        return [sys.executable, "-I", "-S", str(ENTER), *place, *argv]

    def run(self, host: str, argv: Sequence[str], **keywords: Any) -> subprocess.CompletedProcess[str]:
        """subprocess.run inside HOST: text in and out, output captured, no exit code checked unless asked."""
        settings: dict[str, Any] = {"capture_output": True, "text": True, **keywords}
        return subprocess.run(self.command(host, argv), check=settings.pop("check", False), **settings)

    def popen(self, host: str, argv: Sequence[str], **keywords: Any) -> subprocess.Popen[str]:
        """subprocess.Popen inside HOST, text in and out; the pid is the program's own."""
        return subprocess.Popen(self.command(host, argv), **{"text": True, **keywords})


def _listens(address: IPv4Address | IPv6Address, port: int) -> bool:
    try:
        socket.create_connection((str(address), port), timeout=0.5).close()
    except OSError:
        return False
    return True
