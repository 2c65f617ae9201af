"""What somebody does to a host: a function does it once, a context manager keeps it there while it is entered."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from fleet.machine import spaces, syscalls
from fleet.machine.processes import Handle
from lab import vpn
from tests.faults.scene import Scene
from tests.layers import FAMILIES, addresses_kept, flush_both, flush_rules
from tests.waiting import frozen, until

Cause = Callable[[Scene], AbstractContextManager[None] | None]
KEPT = {"kernel", "boot", "static", "ra", "dhcp"}
"""Protocols of routes and rules that a network manager takes for its own or the kernel's."""


def netctl_killed(scene: Scene) -> None:
    """SIGKILL; supervisord starts another."""
    _kill(scene.pid())


def netctl_frozen(scene: Scene) -> AbstractContextManager[None]:
    """SIGSTOP: alive, its connections stand, it does nothing."""
    return frozen(scene.pid())


@contextlib.contextmanager
def netctl_frozen_and_flushed(scene: Scene) -> Iterator[None]:
    """Everything flushed while nobody is there who could bring it back."""
    with netctl_frozen(scene):
        flush_both(scene)
        yield


def netctl_killed_and_rules_flushed(scene: Scene) -> None:
    """The rules go while nobody is there who could bring them back: the table that outlives netctl holds alone."""
    netctl_killed(scene)
    flush_rules(scene)


def tables_flushed(scene: Scene) -> None:
    """The workers' routing tables, emptied."""
    lines = "".join(f"route flush table {worker.table}\n" for worker in scene.fleet.members)
    for family in FAMILIES:
        scene.everywhere(["ip", family, "-batch", "-"], input=lines)


def ruleset_flushed(scene: Scene) -> None:
    """`nft flush ruleset`, as a firewall's reload does."""
    scene.everywhere(["nft", "flush", "ruleset"])


def swept(scene: Scene) -> None:
    """Delete every rule and route of a foreign protocol, as systemd-networkd from v249 does at a reconfigure."""
    for family in FAMILIES:
        rules = json.loads(scene.net("ip", family, "-json", "-details", "rule"))
        ours = [rule["priority"] for rule in rules if rule["protocol"] not in KEPT]
        assert ours
        for priority in ours:
            scene.net("ip", family, "rule", "delete", "priority", str(priority))
        routes = json.loads(scene.net("ip", family, "-json", "-details", "route", "show", "table", "all"))
        for route in routes:
            if route["protocol"] not in KEPT:
                kind = "" if route.get("type", "unicast") == "unicast" else f"{route['type']} "
                metric = f" metric {route['metric']}" if "metric" in route else ""
                words = f"route delete {kind}{route['dst']} table {route['table']}{metric}"
                scene.net("ip", family, *words.split())


def device_deleted(scene: Scene) -> None:
    """`ip link delete`; wireguard-go ends with its device, and supervisord starts another."""
    scene.there(["ip", "link", "delete", scene.worker().interface], check=True)


def device_down(scene: Scene) -> None:
    """`ip link set down`; its routes go with it."""
    scene.there(["ip", "link", "set", scene.worker().interface, "down"], check=True)


def wireguard_killed(scene: Scene) -> None:
    """SIGKILL; the device goes with it."""
    _kill(scene.pid(f"wg:{scene.worker().interface}"))


def wireguard_frozen(scene: Scene) -> AbstractContextManager[None]:
    """SIGSTOP, never continued by anybody but netctl, which has to replace it."""
    return frozen(scene.pid(f"wg:{scene.worker().interface}"))


@contextlib.contextmanager
def wireguard_frozen_and_netctl_killed(scene: Scene) -> Iterator[None]:
    """The next netctl finds a device that does not answer, and has to start all the same."""
    with wireguard_frozen(scene):
        netctl_killed(scene)
        yield


def server_silent(scene: Scene) -> AbstractContextManager[None]:
    """The worker's VPN server takes everything and says nothing."""
    return frozen(*scene.server_pids(scene.server_of()))


SERVERS: list[subprocess.Popen[str]] = []
"""Those that took the place of the lab's own; its `down` ends them."""


@contextlib.contextmanager
def server_restarted(scene: Scene) -> Iterator[None]:
    """The worker's VPN server is gone, with all its sessions; left, it is back with the same keys."""
    server = next(one for one in scene.lab.topology.vpn if one.host == scene.server_of())
    settings = scene.lab.run(server.host, ["wg", "showconf", server.interface], check=True).stdout
    _kill(*scene.server_pids(server.host))
    try:
        yield
    finally:
        # The lab's, which other tests share, and not the fleet's: it does not end with this one.
        silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "start_new_session": True}
        SERVERS.append(scene.lab.popen(server.host, vpn.command(server), **silent))
        control = scene.lab.places.wireguard_socket(server.host, server.interface)
        until("the server is back", lambda: control.exists() and vpn.answers(control), 10)
        scene.lab.run(server.host, ["wg", "setconf", server.interface, "/dev/stdin"], input=settings, check=True)
        for words in (f"address add {server.network[1]}/24 dev {server.interface}", f"link set {server.interface} up"):
            scene.net("ip", *words.split(), at=server.host)


def servers_unreachable(scene: Scene) -> AbstractContextManager[None]:
    """No VPN server is reached by anybody: the ISP drops WireGuard."""
    return _dropped(scene, "udp dport 51820")


def receive_stalled(scene: Scene) -> AbstractContextManager[None]:
    """What the servers send to this one device never comes."""
    shown = scene.within(["wg", "show", scene.worker().interface, "listen-port"])
    return _dropped(scene, f"udp sport 51820 udp dport {int(shown.stdout)}")


@contextlib.contextmanager
def uplink_down(scene: Scene) -> Iterator[None]:
    """The cable is out; its return brings the routes and addresses back, as every network manager does."""
    with addresses_kept(scene):
        scene.net("ip", "link", "set", "uplink", "down")
        try:
            yield
        finally:
            scene.net("ip", "link", "set", "uplink", "up")


@contextlib.contextmanager
def name_lost(scene: Scene) -> Iterator[None]:
    """`ip netns delete` of the worker's namespace; left, the name stands for the same one again."""
    path = scene.paths.space(scene.worker())
    inside = Path(f"/proc/{scene.streams[0].process.pid}/ns/net")
    spaces.remove(path)
    try:
        yield
    finally:
        path.touch()
        syscalls.bind(inside, path)


@contextlib.contextmanager
def _dropped(scene: Scene, match: str) -> Iterator[None]:
    """The ISP forwards no packet that MATCHes."""
    text = f"table inet fault {{ chain drops {{ type filter hook forward priority 0; {match} drop; }}; }}"
    scene.net("nft", "-f", "-", at="isp", text=text)
    try:
        yield
    finally:
        scene.net("nft", "delete", "table", "inet", "fault", at="isp")


def _kill(pid: int) -> None:
    """SIGKILL, and the end waited for."""
    with Handle(pid) as process:
        process.kill()
        assert process.wait(10)
