"""A fleet with keys of three providers: one key for many servers, or a key for each; each has its own resolver.

`--loops 40` is the full test: eight workers do five loops each, on forty servers.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network

import pytest

from lab import run, vpn
from lab.net import Lab
from lab.topology import TUNNEL_RESOLVER, WIREGUARD_PORT, Server
from tests.fleets import Host
from tests.keyservices import in_devices

FIRST_UID, MUCH = 1401, 40
SERVERS, EACH = 40, 10
"""Where much is to be done: of the lab, and of each of the two providers with a key a server."""
CLIENT = """[Interface]
PrivateKey = {private}
Address = {address}/32
DNS = {resolver}

[Peer]
PublicKey = {server}
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = {endpoint}
"""
TUNNELS = """
add chain ip exit answers {{ type nat hook prerouting priority -100; }}
add chain ip exit only {{ type filter hook prerouting priority -150; }}
add rule ip exit only ip saddr {network} meta l4proto {{ tcp, udp }} th dport 53 ip daddr != {resolver} counter drop
add rule ip exit answers ip saddr {network} ip daddr {resolver} dnat to {answers}
add rule ip exit postrouting ip saddr {network} oifname eth0 snat to {exit}
"""


@dataclass(frozen=True)
class Provider:
    """A provider with one tunnel network for all its servers, like real ones."""

    name: str
    network: IPv4Network

    @property
    def resolver(self) -> str:
        """The only resolver that its tunnels reach: a query to another provider's is lost."""
        return str(self.network[1])

    def take_in(self, lab: Lab, server: Server, number: int, key: vpn.Key) -> None:
        """Add client NUMBER of this provider with KEY to SERVER, and its file to the lab's keys."""
        control, address = lab.places.wireguard_socket(server.host, server.interface), self.network[1 + number]
        vpn.ask(control, "set=1", f"public_key={key.public.hex()}", f"allowed_ip={address}/32")
        lab.run(server.host, ["ip", "route", "replace", f"{self.network}", "dev", server.interface], check=True)
        words = {"network": self.network, "resolver": self.resolver, "answers": TUNNEL_RESOLVER, "exit": server.address}
        lab.run(server.host, ["nft", "-f", "-"], input=TUNNELS.format(**words), check=True)
        lines = next(lab.places.keys.glob(f"{server.host}-*.conf")).read_text().splitlines()
        public = next(line.partition(" = ")[2] for line in lines if line.startswith("PublicKey"))
        place = {"server": public, "endpoint": f"{server.address}:{WIREGUARD_PORT}", "resolver": self.resolver}
        text = CLIENT.format(private=vpn.Key.text(key.private), address=address, **place)
        (lab.places.keys / f"{self.name}-{server.host}.conf").write_text(text)


ONE_KEY, *OTHERS = (Provider(f"provider{n}", IPv4Network(f"10.{63 + n}.0.0/24")) for n in (1, 2, 3))


@pytest.fixture(scope="module")
def loops(request: pytest.FixtureRequest) -> int:
    """How many loops are done."""
    asked = int(request.config.getoption("--loops"))
    return asked if asked >= MUCH else 2


@pytest.fixture(scope="module")
def pool(lab: Lab, loops: int) -> Iterator[Lab]:
    """A lab whose key folder has the keys of the three providers."""
    made = Lab(f"p{os.getpid() % 10_000}", servers=SERVERS, keys=1) if loops >= MUCH else lab
    if made is not lab:
        made.up()
    servers, one = made.topology.vpn, vpn.Key.fresh()
    for server in servers:
        ONE_KEY.take_in(made, server, 1, one)
    for provider, own in zip(OTHERS, (servers[-2::-2], servers[-1::-2]), strict=True):
        for number, server in enumerate(own[:EACH], start=1):
            provider.take_in(made, server, number, vpn.Key.fresh())
    yield made
    for path in made.places.keys.glob("provider*"):
        path.unlink()
    if made is not lab:
        made.down()


@pytest.fixture(scope="module")
def host(pool: Lab, loops: int) -> Iterator[Host]:
    """A fleet with the providers' keys, and with the resolvers of all three."""
    changes: run.Changes = {"dns": {"resolvers": [one.resolver for one in (ONE_KEY, *OTHERS)]}}
    made = Host(pool, 8 if loops >= MUCH else 2, first_uid=FIRST_UID, isolation="netns", changes=changes)
    made.prepare("provider*.conf")
    yield made
    made.operate("down")


def test_keys_of_three_providers_serve_one_fleet(host: Host, loops: int) -> None:
    """All loops are good, each at its server's exit; many exits are used; no key is in two devices at the same time."""
    argv = host.installation.module("fleet", "run", "--loops", str(loops // host.count), "--json")
    said = host.paths.root / "report.json"
    seen: set[str] = set()
    with said.open("w") as report_file:
        running = host.popen(argv, stdin=subprocess.DEVNULL, stdout=report_file, stderr=subprocess.DEVNULL)
    while running.poll() is None:
        found = in_devices(host)
        assert len({*found.values()}) == len(found), f"one key in two devices: {found}"
        seen |= {*found.values()}
    assert running.returncode == 0, said.read_text()[-3000:]
    report = json.loads(said.read_text())
    assert (report["good"], report["bad"], report["missing"]) == (loops, 0, 0), report
    exits = {one["seen_address"] for one in report["runs"]}
    assert all(one["seen_address"] == one["exit_server"] for one in report["runs"]), report["runs"]
    print(f"{loops} good loops, {len(exits)} exits, {len(seen)} keys, {report['wall_seconds']:.0f} s")
    assert seen, "the control: a key was seen in a device"
    assert len(exits) >= min(8, host.count), f"few exits: {exits}"
