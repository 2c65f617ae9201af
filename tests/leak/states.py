"""The columns of the matrix: each state is entered, held while the probes run, and proven to have held."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tests.layers import flush_rules
from tests.leak.scene import Scene, Tick
from tests.waiting import frozen, until

ROTATIONS = 3
FLUSHES = 5


@dataclass(frozen=True, kw_only=True)
class Held:
    """A state that is held."""

    tick: Tick = lambda: None
    """Called again and again while probes run."""
    late: Callable[[], object] | None = None
    """Connections of before, to be ended while the state lasts; the state's own matter where it is None."""
    seconds: float = 1.5
    """How long the probes run."""


def no_tunnel(scene: Scene) -> Iterator[Held]:
    """A slot that was never requested."""
    assert scene.slot()["state"] == "sealed"
    yield Held()


def connecting(scene: Scene) -> Iterator[Held]:
    """Every VPN server is frozen while a worker that had a tunnel asks for another."""
    client = scene.connected()
    late = scene.late()
    with frozen(*scene.server_pids()):
        client.send(do="rotate")
        until("connecting", lambda: scene.slot()["state"] == "connecting", 10, scene.slot)
        yield Held(late=late)
        assert scene.slot()["state"] == "connecting"
        client.kill()


def connected(scene: Scene) -> Iterator[Held]:
    """A tunnel that is held."""
    scene.connected()
    yield Held(late=scene.late())
    assert scene.slot()["state"] == "connected"


def rotating(scene: Scene) -> Iterator[Held]:
    """The worker rotates all the time."""
    client, leases = scene.connected(), set[str]()

    def rotate() -> None:
        answer = client.ask(do="rotate")
        assert "ok" in answer, answer
        leases.add(str(answer["ok"]))

    yield Held(tick=rotate, late=scene.late())
    assert len(leases) >= ROTATIONS


def browser_crashed(scene: Scene) -> Iterator[Held]:
    """The browser's connections are cut off while the probes run; the tunnel stays."""
    scene.connected()
    yield Held(tick=_once(scene.late()))
    assert scene.slot()["state"] == "connected"


def worker_killed(scene: Scene) -> Iterator[Held]:
    """SIGKILL of all the worker's processes except the probes."""
    client, late = scene.connected(), scene.late()

    def kill() -> None:
        client.kill()
        late()

    yield Held(tick=_once(kill))
    assert scene.slot()["state"] == "sealed"


def sealed(scene: Scene) -> Iterator[Held]:
    """The worker is gone, and the slot is known to be sealed; the rest of its connections ends after that."""
    client, late = scene.connected(), scene.late()
    client.kill()
    scene.wait_until_sealed()
    yield Held(late=late)


def rules_flushed(scene: Scene) -> Iterator[Held]:
    """All rules and the nftables ruleset are flushed again and again, and netctl restores them each time."""
    scene.connected()
    count = 0

    def flush() -> None:
        nonlocal count
        flush_rules(scene)
        scene.everywhere(["nft", "flush", "ruleset"])
        count += 1

    yield Held(tick=flush, late=scene.late(), seconds=5)
    assert count >= FLUSHES


def device_deleted(scene: Scene) -> Iterator[Held]:
    """`ip link delete`; wireguard-go ends with its device, and no other is started."""
    scene.connected()
    late = scene.late()
    scene.there(["ip", "link", "delete", scene.worker().interface], check=True)
    scene.devices[scene.worker().interface].wait(10)
    yield Held(late=late)
    assert scene.there(["ip", "link", "show", scene.worker().interface]).returncode != 0


def netctl_dead(scene: Scene) -> Iterator[Held]:
    """SIGKILL of netctl while a tunnel is held."""
    scene.connected()
    late = scene.late()
    scene.kill_netctl()
    yield Held(late=late)
    assert scene.netctl and scene.netctl.poll() is not None


def _once(work: Callable[[], object]) -> Tick:
    """Do WORK only at the third call, when probes run."""
    calls = 0

    def tick() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            work()

    return tick


STATES: dict[str, Callable[[Scene], AbstractContextManager[Held]]] = {
    made.__name__.replace("_", " "): contextlib.contextmanager(made)
    for made in (
        *(no_tunnel, connecting, connected, rotating, browser_crashed),
        *(worker_killed, sealed, rules_flushed, device_deleted, netctl_dead),
    )
}
"""In the order of the damage they do."""
