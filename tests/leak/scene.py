"""One worker's slot with all its observers: tcpdump outside the host, listeners on the host itself."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator

from fleet.isolation import HOST
from fleet.model import Worker
from lab.net import Lab
from lab.topology import WEB_ADDRESS, WEB_ADDRESS_V6
from tests.fleets import FREE, Rig
from tests.inside import PAST_THE_TUNNELS, Capture, Client, Ear, capturing, server, speaking
from tests.leak import probes
from tests.leak.probes import BULK, DELAYED, LINGER
from tests.waiting import until

LATE_COUNT = 4
"""Connections of each kind and of each IP version that end badly, in every state."""
Tick = Callable[[], object]
SITE = (str(WEB_ADDRESS), str(WEB_ADDRESS_V6))


class Scene(Rig):
    """A fleet on the lab's host: a first worker without a tunnel, and a neighbour; see started()."""

    ear: Ear
    capture: Capture

    def __init__(self, lab: Lab, isolation: str) -> None:
        super().__init__(lab, 2, isolation=isolation)
        self.clients: list[Client] = []
        self.ended = 0
        """How many connections and questions of each IP version have ended badly."""

    @property
    def isolated(self) -> bool:
        """Whether the worker has a network namespace of its own."""
        return self.fleet.walls.space(self.worker()) != HOST

    # --- the worker

    def holder(self) -> Client:
        """A process of the worker that may ask for a tunnel; it ends with the state."""
        self.clients.append(self.client())
        return self.clients[-1]

    def connected(self) -> Client:
        """A holder() with a tunnel."""
        made = self.holder()
        answer = made.ask(do="connect")
        assert "ok" in answer, answer
        return made

    def late(self, worker: Worker | None = None) -> Callable[[], None]:
        """Open connections of the worker, or of WORKER; they end when the returned function is called."""
        process, ports = self.client_of(worker or self.worker()), {"bulk": BULK, "linger": LINGER, "delayed": DELAYED}
        assert "ok" in process.ask(do="hold", hosts=SITE, count=LATE_COUNT, **ports), "nothing to end"

        def end() -> None:
            process.ask(do="end")
            process.kill()
            self.ended += 3 * LATE_COUNT

        return end

    def probe(self, worker: Worker, tick: Tick, *, seconds: float = 1.5, rounds: int = 1_000_000) -> Counter[str]:
        """Run every probe under WORKER's UID, and call TICK all the time; returns the number of attempts by row.

        A worker with its own namespace tries in that and, as if it had got out, in the host's. From its own, the
        host's public address is an ordinary internet address, which may be reached through the tunnel.
        """
        wanted = {**probes.probes(), **probes.loopback_probes(public=not self.isolated)}
        probers = [self.client_of(worker, at=FREE)]
        probers += [self.client_of(worker)] if self.isolated and worker == self.worker() else []
        for one in probers:
            one.send(do="probe", ways=wanted, seconds=seconds, rounds=rounds)

        def ended() -> bool:
            tick()
            return all(one.has_answered() for one in probers)

        until("the probers end", ended, 30, longest_pause_seconds=0.01)
        tries: Counter[str] = Counter()
        for one in probers:
            tries.update(one.answer()["ok"])
            one.kill()
        return tries

    # --- the judges

    def heard(self) -> list[str]:
        """What reached listeners on the host itself since the last call."""
        return self.ear.rest()

    def heard_at_least(self, count: int) -> int:
        """Wait until the listeners were reached COUNT times."""
        found: list[str] = []

        def enough() -> bool:
            found.extend(self.heard())
            return len(found) >= count

        until(f"listeners are reached {count} times", enough, 10, lambda: Counter(found))
        return len(found)

    def quiet(self) -> None:
        """Wait until no packet is in transit any more."""
        until("nothing is seen", lambda: not self.capture.lines() and not self.capture.lines(), 20)
        self.heard()

    def settle(self) -> None:
        """Wait until all layers are in place and the worker has no tunnel."""
        for client in self.clients:
            client.kill()
        self.clients.clear()
        if self.devices[self.worker().interface].poll() is not None:
            self.start_wireguard(self.worker())
        if self.netctl and self.netctl.poll() is not None:
            self.start_netctl()
        self.wait_until_sealed()
        self.wait_until_settled()
        self.quiet()


@contextlib.contextmanager
def started(lab: Lab, isolation: str) -> Iterator[Scene]:
    """A Scene, ended after the block."""
    scene = Scene(lab, isolation)
    late = [("bulk", "::", BULK), ("linger", "::", LINGER), *(("delayed", host, DELAYED) for host in SITE)]
    near = [("tell", host, probes.NEAR) for host in probes.OF_HOST]
    try:
        with (
            speaking(lab, "web", server(lab, *late), "ready"),
            speaking(lab, "host", server(lab, *near), "ready") as scene.ear,
            capturing(lab, *PAST_THE_TUNNELS) as seen,
        ):
            scene.start()
            scene.everywhere(["sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647"])
            scene.capture = Capture(seen, scene.client_of(FREE))
            yield scene
    finally:
        scene.stop()
