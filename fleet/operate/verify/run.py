"""One run of `fleet verify`: the control sends in the clear, the worker from inside its walls; a capture watches both.

fleet up, or the one worker stopped -> capture -> control (has to be seen) -> worker: sealed, then connected
    -> the control once more (still seen) -> verdicts -> the fleet as it was
"""

from __future__ import annotations

import platform
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import psutil
from pydantic import ValidationError

from fleet.errors import Unanswered
from fleet.model import LAST_UID, Fleet, Worker
from fleet.operate.ask import ask
from fleet.operate.borrowed import Borrowed
from fleet.operate.verify import probe_sets
from fleet.operate.verify.capture import Capture
from fleet.operate.verify.control import NOBODY
from fleet.operate.verify.listeners import Listeners
from fleet.operate.verify.probe_sets import METADATA, Host
from fleet.operate.verify.report import Report
from fleet.operate.verify.verdicts import Evidence, judge
from fleet.operate.verify.walls import look
from fleet.outside.seen_address import IPV4, IPV6, Asker
from fleet.probes import Answer, ControlAnswer, ControlOrder, Order, Probe, Reach
from fleet.programs import Installation
from fleet.terminal import console

CONTROL_SECONDS = 60.0
WORKER_SECONDS = 300.0
SEEN_SECONDS = 3.0
"""How long to wait until the capture has seen the control's probes."""
QUIET_SECONDS = 1.0
"""Late packets (a retransmission, a send that waits for neighbour discovery) leave within this."""
_ASKERS = ("getaddrinfo", "getent", "chrome")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verifier:
    """The inputs of a run."""

    fleet: Fleet
    installation: Installation
    worker: Worker
    interfaces: tuple[str, ...]
    """Where to capture; empty: everywhere but on loopback and our tunnels."""

    def run(self) -> Report:
        """Verify the worker; raises FleetError when the fleet or the worker's half cannot run at all."""
        with self._borrowed.held():
            return self._report(*self._gather())

    def _gather(self) -> tuple[Evidence, Capture]:
        paths, host = self.installation.paths, probe_sets.look()
        walls = look(paths.launch_spec(self.worker), self.installation, self.worker.uid)
        control, again, sealed, connected = probe_sets.draw(host, 4)
        no_way = probe_sets.without_way(control, NOBODY)
        tokens = {asker: probe_sets.token() for asker in _ASKERS}
        lookup = probe_sets.token()
        with ExitStack() as stack:
            listeners = stack.enter_context(Listeners(self._near(host)))
            capture = stack.enter_context(Capture(self.interfaces, self.fleet.interfaces))
            console.say("sending probes in the clear, as user nobody, to show that the capture would see the worker's")
            with Listeners(self._own_ports(), owner=self.worker.uid) as own:  # until the worker needs them itself
                asked = self._control(control, (*listeners.reaches, *own.reaches), (self._name(lookup),))
                capture.wait_for([*(probe.mark for probe in control), lookup], SEEN_SECONDS)
                came_control = {**listeners.came(), **own.came()}
            console.say(f"trying every way past the tunnel, as {self.worker.name}")
            metadata = Reach(name="metadata", address=METADATA, port=80)
            order = Order(
                sealed=sealed,
                connected=connected,
                reaches=(*listeners.reaches, metadata),
                lookups={asker: self._name(token) for asker, token in tokens.items()},
                echo=self.fleet.verify.resolver_echo,
                stun=self.fleet.verify.stun,
            )
            answer = self._worker(order)
            threading.Event().wait(QUIET_SECONDS)  # never set: this waits for late packets
            last = next(probe for probe in again if probe.kind == "udp")
            self._control((last,), (), ())
            still_saw = capture.wait_for([last.mark], SEEN_SECONDS)
            came_worker = listeners.came()
        states = {"sealed": sealed, "connected": connected}
        marks = [one.mark for drawn in (control, sealed, connected) for one in drawn]
        evidence = Evidence(
            control=asked,
            control_drawn=control,
            no_way=no_way,
            control_lookup=lookup,
            states=states,
            lookups=tokens,
            left={mark: left for mark in (*marks, *tokens.values(), lookup) if (left := capture.found(mark))},
            lost=capture.lost,
            still_saw=still_saw,
            answer=answer,
            host_addresses=self._host_addresses(),
            came_control=came_control,
            came_worker=came_worker,
            sandbox_wanted=self.fleet.browser.sandbox,
            asked_echo=bool(self.fleet.verify.resolver_echo),
            walls=walls,
        )
        return evidence, capture

    def _name(self, token: str) -> str:
        """A name that no cache holds, because TOKEN is in it: resolvers have to look it up."""
        return f"{token}.{self.fleet.verify.resolver_echo or 'example.com'}"

    def _near(self, host: Host) -> Mapping[str, tuple[str, int]]:
        """Where root listens: loopback, the host's own address, the DevTools port of another worker (name -> address).

        That worker is one that this fleet does not have: a real neighbour's browser needs its port.
        """
        last = self.fleet.members[-1].uid
        neighbour = Worker(uid=last + 1 if last < LAST_UID else self.fleet.members[0].uid - 1)
        wanted = {
            "loopback": ("127.0.0.1", 0),
            "loopback over IPv6": ("::1", 0),
            f"devtools of {neighbour.name}": ("127.0.0.1", neighbour.browser_ports[0]),
        }
        return wanted | ({"lan": (host.address, 0)} if host.address else {})

    def _own_ports(self) -> Mapping[str, tuple[str, int]]:
        """The ports of the worker's browser, where root listens so that another user can try to connect."""
        return {
            f"strangers at {what} of {self.worker.name}": ("127.0.0.1", port)
            for what, port in zip(("DevTools", "ChromeDriver"), self.worker.browser_ports, strict=True)
        }

    def _control(
        self, probes: tuple[Probe, ...], reaches: tuple[Reach, ...], lookups: tuple[str, ...]
    ) -> ControlAnswer:
        echo = self.fleet.verify.resolver_echo if lookups else ""
        order = ControlOrder(probes=probes, reaches=reaches, lookups=lookups, echo=echo)
        command = self.installation.module("fleet.operate.verify.control")
        line, environment = f"{order.model_dump_json()}\n", self.installation.environment
        said = ask(command, line, environment, seconds=CONTROL_SECONDS, what="the control")
        return ControlAnswer.model_validate_json(said)

    def _worker(self, order: Order) -> Answer:
        """Run the worker's half with the worker's own launcher and spec; a failure becomes the answer's error."""
        try:
            return Answer.model_validate_json(self._borrowed.ask("verify", order, seconds=WORKER_SECONDS))
        except Unanswered as error:
            return Answer(tunnel_error=str(error))
        except ValidationError:
            return Answer(tunnel_error=f"{self.worker.name}'s half sent a malformed answer")

    @property
    def _borrowed(self) -> Borrowed:
        return Borrowed(fleet=self.fleet, installation=self.installation, worker=self.worker)

    def _host_addresses(self) -> frozenset[str]:
        """The addresses on its interfaces, and those it shows without a tunnel (looked up now unless configured)."""
        shown = {str(one) for one in self.fleet.egress.host_addresses}
        if not shown:
            asker = Asker(self.fleet.egress, self.fleet.browser.certificate_authorities)
            shown |= set(map(str, asker.seen_over(IPV4, IPV6)[0]))
        own = {one.address.partition("%")[0] for every in psutil.net_if_addrs().values() for one in every}
        return frozenset(shown | own)

    def _report(self, evidence: Evidence, capture: Capture) -> Report:
        return Report(
            worker=self.worker.name,
            isolation=self.fleet.isolation,
            time=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            versions={
                "kernel": platform.release(),
                "browser": evidence.answer.browser or "none",
                "fleet": Path(self.installation.release).name,
            },
            capture={"seen": capture.packets, "lost": capture.lost},
            properties=judge(evidence),
        )
