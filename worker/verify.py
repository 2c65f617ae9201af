"""The worker's half of `fleet verify`: under the worker's UID and restrictions it tries every way past the tunnel.

`worker verify` is launched like `worker run`. It reads its order (fleet.probes.Order) from standard input and answers
(fleet.probes.Answer) on standard output, so that root reads no file that it could write.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

from fleet import log, probes
from fleet.errors import FleetError, WrongExit, in_a_line
from fleet.model import Fleet, Paths, Worker
from fleet.outside.seen_address import IPV6
from fleet.probes import Answer, Order
from fleet.sockets import wire
from fleet.terminal import console
from worker import page
from worker.browser.interface import Installed
from worker.egress import Prover, check
from worker.prepare import AUTHORITIES
from worker.tunnel import Tunnel

_LOOKUP_SECONDS = 20
_log = log.get("worker")


@dataclass
class Half:
    """Collects the answer step by step; a step that fails does not affect the others."""

    fleet: Fleet
    paths: Paths
    worker: Worker
    installed: Installed
    order: Order
    found: dict[str, Any] = field(default_factory=dict)
    """Fields of fleet.probes.Answer, which validates them."""

    def run(self) -> Answer:
        """Do all steps; returns the answer."""
        self.found["sealed"] = [probes.send(probe) for probe in self.order.sealed]
        deadline = self.fleet.netctl.request_deadline_seconds
        with Tunnel(self.paths.netctl_socket, deadline_seconds=deadline) as tunnel:
            try:
                held, _ = tunnel.fresh()
            except FleetError as error:
                self.found["tunnel_error"] = in_a_line(error)
                return self._answer()
            self.found["carries_ipv6"] = held.carries_ipv6
            leased, leased_v6 = held.exit_address, held.exit_address_v6
            prover = Prover(self.fleet.egress, AUTHORITIES)
            self._exit(prover, leased, tunnel)
            if held.carries_ipv6:
                self._exit_v6(prover, leased_v6)
            self.found["connected"] = [probes.send(probe) for probe in self.order.connected]
            self.found["reaches"] = [probes.reach(target) for target in self.order.reaches]
            self._names()
            self._browser()
        return self._answer()

    def _answer(self) -> Answer:
        return Answer.model_validate(self.found)

    def _exit(self, prover: Prover, leased: wire.Address | None, tunnel: Tunnel) -> None:
        try:
            seen = prover.seen()
            self.found["exit_seen"] = str(seen)
            check(seen, leased, tunnel.proved)
        except FleetError as error:
            self.found["exit_error"] = in_a_line(error)

    def _exit_v6(self, prover: Prover, leased: wire.Address | None) -> None:
        try:
            seen = prover.seen(IPV6)
            self.found["exit_v6_seen"] = str(seen)
            if leased is not None and seen != leased:
                raise WrongExit(f"the world sees {seen} over IPv6, the leased exit is {leased}")
        except FleetError as error:
            self.found["exit_v6_error"] = in_a_line(error)

    def _names(self) -> None:
        lookups, asked = self.order.lookups, []
        if name := lookups.get("getaddrinfo"):
            probes.resolve(name)
            asked.append("getaddrinfo")
        if name := lookups.get("getent"):  # a C program, which uses nsswitch.conf
            try:
                subprocess.run(
                    ["/usr/bin/getent", "ahosts", name], capture_output=True, timeout=_LOOKUP_SECONDS, check=False
                )
                asked.append("getent")
            except (OSError, subprocess.TimeoutExpired) as error:
                _log.warning("verify.getent_failed", reason=str(error))
        self.found["looked_up"] = asked
        if self.order.echo:
            self.found["echo"] = probes.resolve(self.order.echo)

    def _browser(self) -> None:
        try:
            seen, asked = page.look(self.fleet, self.paths, self.worker, self.installed, self.order)
        except FleetError as error:
            # After that word come memory addresses of ChromeDriver.
            self.found["page_error"] = in_a_line(error).partition("Stacktrace:")[0]
            return
        self.found["page"] = seen
        self.found["browser"] = self.installed.version
        if asked:
            self.found["looked_up"].append("chrome")


def answer(fleet: Fleet, paths: Paths, worker: Worker, installed: Installed) -> None:
    """Read the order, carry it out, print the answer."""
    order = Order.model_validate_json(sys.stdin.readline())
    done = Half(fleet=fleet, paths=paths, worker=worker, installed=installed, order=order).run()
    console.print_json(done.model_dump(mode="json"))
