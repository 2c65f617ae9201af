"""What goes wrong, as context managers: entered, the cause is there; left, it is gone. Somebody else's doing each."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

from fleet import spaces, syscalls
from fleet.processes import Handle
from lab import vpn
from tests.faults.scene import Scene
from tests.waiting import until

Cause = Callable[[Scene], AbstractContextManager[None]]
FAMILIES = ("-4", "-6")
KEPT = {"kernel", "boot", "static", "ra", "dhcp"}
"""Protocols of routes and rules that a network manager takes for its own or the kernel's."""
MAIN = ("rule add from all lookup main priority 32766 protocol kernel",)
DEFAULT = ("rule add from all lookup default priority 32767 protocol kernel",)


@contextlib.contextmanager
def netctl_killed(scene: Scene) -> Iterator[None]:
    """SIGKILL; supervisord starts another."""
    _kill(scene.netctl_pid())
    yield


@contextlib.contextmanager
def netctl_frozen(scene: Scene) -> Iterator[None]:
    """SIGSTOP: alive, its connections stand, it does nothing."""
    with scene.frozen(scene.netctl_pid()):
        yield


@contextlib.contextmanager
def netctl_frozen_and_flushed(scene: Scene) -> Iterator[None]:
    """Everything flushed while nobody is there who could bring it back."""
    with netctl_frozen(scene), both_flushed(scene):
        yield


@contextlib.contextmanager
def rules_flushed(scene: Scene) -> Iterator[None]:
    """`ip rule flush`, and the two rules back without which no host has a network."""
    scene.batch("rule flush", *MAIN, *DEFAULT)
    scene.batch("rule flush", *MAIN, family="-6")
    yield


@contextlib.contextmanager
def netctl_killed_and_rules_flushed(scene: Scene) -> Iterator[None]:
    """The rules go while nobody is there who could bring them back: the table that outlives netctl holds alone."""
    with netctl_killed(scene), rules_flushed(scene):
        yield


@contextlib.contextmanager
def tables_flushed(scene: Scene) -> Iterator[None]:
    """The workers' routing tables, emptied."""
    for family in FAMILIES:
        scene.batch(*(f"route flush table {worker.table}" for worker in scene.rig.fleet.members), family=family)
    yield


@contextlib.contextmanager
def ruleset_flushed(scene: Scene) -> Iterator[None]:
    """`nft flush ruleset`, as a firewall's reload does."""
    scene.everywhere("nft", "flush", "ruleset")
    yield


@contextlib.contextmanager
def both_flushed(scene: Scene) -> Iterator[None]:
    """Rules and ruleset in the same moment."""
    inside = ["nsenter", f"--net=/run/netns/{scene.lab.name}-host", "--"]
    flush = ["nft", "flush", "ruleset"]
    places = {tuple(flush), *(tuple(scene.rig.inside(worker, flush)) for worker in scene.rig.fleet.members)}
    flushing = [subprocess.Popen([*inside, *place]) for place in places]
    with rules_flushed(scene):
        assert [nft.wait(10) for nft in flushing] == [0] * len(places)
        yield


@contextlib.contextmanager
def swept(scene: Scene) -> Iterator[None]:
    """Every rule and route that is nobody's it knows: systemd-networkd from v249, on restart or reload."""
    for family in FAMILIES:
        rules = json.loads(scene.net("ip", family, "-json", "-details", "rule"))
        foreign = sorted({rule["priority"] for rule in rules if rule["protocol"] not in KEPT})
        ours = [rule["priority"] for rule in rules if rule["protocol"] not in KEPT]
        assert ours
        for priority in foreign:
            for _ in range(ours.count(priority)):
                scene.net("ip", family, "rule", "delete", "priority", str(priority))
        routes = json.loads(scene.net("ip", family, "-json", "-details", "route", "show", "table", "all"))
        for route in routes:
            if route["protocol"] not in KEPT:
                kind = "" if route.get("type", "unicast") == "unicast" else f"{route['type']} "
                metric = f" metric {route['metric']}" if "metric" in route else ""
                words = f"route delete {kind}{route['dst']} table {route['table']}{metric}"
                scene.net("ip", family, *words.split())
    yield


@contextlib.contextmanager
def device_deleted(scene: Scene) -> Iterator[None]:
    """`ip link delete`; wireguard-go ends with its device, and supervisord starts another."""
    scene.there("ip", "link", "delete", scene.rig.worker().interface)
    yield


@contextlib.contextmanager
def device_down(scene: Scene) -> Iterator[None]:
    """`ip link set down`; its routes go with it."""
    scene.there("ip", "link", "set", scene.rig.worker().interface, "down")
    yield


@contextlib.contextmanager
def wireguard_killed(scene: Scene) -> Iterator[None]:
    """SIGKILL; the device goes with it."""
    _kill(scene.wireguard_pid())
    yield


@contextlib.contextmanager
def wireguard_frozen(scene: Scene) -> Iterator[None]:
    """SIGSTOP, never continued by anybody but netctl, which has to replace it."""
    with scene.frozen(scene.wireguard_pid()):
        yield


@contextlib.contextmanager
def wireguard_frozen_and_netctl_killed(scene: Scene) -> Iterator[None]:
    """The next netctl finds a device that does not answer, and has to start all the same."""
    with wireguard_frozen(scene), netctl_killed(scene):
        yield


@contextlib.contextmanager
def server_silent(scene: Scene) -> Iterator[None]:
    """The worker's VPN server takes everything and says nothing."""
    with scene.frozen(scene.server_pid(scene.server_of())):
        yield


@contextlib.contextmanager
def server_restarted(scene: Scene) -> Iterator[None]:
    """The worker's VPN server is gone, with all its sessions; left, it is back with the same keys."""
    server = next(one for one in scene.lab.topology.vpn if one.host == scene.server_of())
    settings = scene.lab.run(server.host, ["wg", "showconf", server.interface], check=True).stdout
    _kill(scene.server_pid(server.host))
    try:
        yield
    finally:
        again = scene.lab.popen(server.host, vpn.command(server), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        scene.rig.processes.append(again)
        control = scene.lab.places.wireguard_socket(server.host, server.interface)
        until("the server is back", lambda: control.exists() and vpn.answers(control), 10)
        scene.lab.run(server.host, ["wg", "setconf", server.interface, "/dev/stdin"], input=settings, check=True)
        for words in (f"address add {server.network[1]}/24 dev {server.interface}", f"link set {server.interface} up"):
            scene.net("ip", *words.split(), host=server.host)


@contextlib.contextmanager
def servers_unreachable(scene: Scene) -> Iterator[None]:
    """No VPN server is reached by anybody: the ISP drops WireGuard."""
    with _dropped(scene, "udp dport 51820"):
        yield


@contextlib.contextmanager
def receive_stalled(scene: Scene) -> Iterator[None]:
    """What the servers send to this one device never comes."""
    shown = scene.host(["wg", "show", scene.rig.worker().interface, "listen-port"])
    with _dropped(scene, f"udp sport 51820 udp dport {int(shown.stdout)}"):
        yield


@contextlib.contextmanager
def uplink_down(scene: Scene) -> Iterator[None]:
    """The cable is out; its return brings the routes and addresses back, as every network manager does."""
    routes = {family: scene.net("ip", family, "route", "show", "default").splitlines() for family in FAMILIES}
    shown = json.loads(scene.net("ip", "-6", "-json", "address", "show", "dev", "uplink", "scope", "global"))
    addresses = [f"{one['local']}/{one['prefixlen']}" for link in shown for one in link.get("addr_info", ()) if one]
    scene.net("ip", "link", "set", "uplink", "down")
    try:
        yield
    finally:
        scene.net("ip", "link", "set", "uplink", "up")
        for address in addresses:
            scene.net("ip", "-6", "address", "replace", address, "dev", "uplink", "nodad")
        for family, lines in routes.items():
            for line in lines:
                scene.net("ip", family, "route", "replace", *line.split())


@contextlib.contextmanager
def name_lost(scene: Scene) -> Iterator[None]:
    """`ip netns delete` of the worker's namespace; left, the name stands for the same one again."""
    path = scene.rig.paths.space(scene.rig.worker())
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
    scene.net("nft", "-f", "-", host="isp", text=text)
    try:
        yield
    finally:
        scene.net("nft", "delete", "table", "inet", "fault", host="isp")


def _kill(pid: int) -> None:
    """SIGKILL, and the end waited for."""
    with Handle(pid) as process:
        process.kill()
        assert process.wait(10)
