"""Keys that are valid at every server, as with some providers, with the lab's real servers and handshakes."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from lab import run, vpn
from lab.net import Lab
from lab.topology import WIREGUARD_PORT
from tests.fleets import Rig, running
from tests.netns.test_netctl_slots import seen_address

SMALL_MTU, ROTATIONS = 1200, 4
CHANGES: run.Changes = {"netctl": {"key_cooldown_seconds": 0.1}, "wireguard": {"handshake_timeout_seconds": 3}}


@pytest.fixture(scope="module")
def folder(lab: Lab) -> Iterator[str]:
    """A pattern of files: two keys, each for all three servers; the third server answers only at its second port."""
    made, controls = [], []
    for number in (1, 2):
        own = vpn.Key.fresh()
        for server in lab.topology.vpn:
            control = lab.places.wireguard_socket(server.host, server.interface)
            address, public = server.client(200 + number), f"public_key={own.public.hex()}"
            vpn.ask(control, "set=1", public, f"allowed_ip={address}/32")
            controls.append((control, public))
            path = next(lab.places.keys.glob(f"{server.host}-01.conf"))
            lines = [line for line in path.read_text().splitlines() if not line.startswith(("PrivateKey", "Address"))]
            place = lines.index("[Interface]") + 1
            lines[place:place] = [f"PrivateKey = {vpn.Key.text(own.private)}", f"Address = {address}/32"]
            if server.number == 2:
                lines.insert(place, f"MTU = {SMALL_MTU}")
            text = "\n".join(lines)
            closed = text.replace(f":{WIREGUARD_PORT}", ":9") if server.number == 3 else None
            for letter, content in (("a", closed), ("b", text)):
                if content is not None:
                    made.append(lab.places.keys / f"many-{number}-{server.host}-{letter}.conf")
                    made[-1].write_text(content)
    yield "many-*.conf"
    for path in made:
        path.unlink()
    for control, public in controls:
        vpn.ask(control, "set=1", public, "remove=true")


@pytest.fixture
def rig(lab: Lab, isolation: str, folder: str) -> Iterator[Rig]:
    """Two workers' slots, and two keys for them."""
    with running(lab, 2, changes=CHANGES, isolation=isolation, keys=(folder,)) as made:
        yield made


def shown(rig: Rig, index: int, what: str) -> str:
    """WHAT of a worker's device, as wg shows it."""
    return rig.host(["wg", "show", rig.worker(index).interface, what], check=True).stdout.strip()


def test_a_key_of_many_servers_serves_from_each_and_is_in_one_place(rig: Rig) -> None:
    """Two workers rotate: each is seen at its leased exit, all three servers are used, the two never have one key.

    The third server answers at the second of its two ports. A tunnel has the MTU of its file.
    """
    clients, exits = [rig.client(0), rig.client(1)], set()
    small = settled = False
    for order in ("connect", *["rotate"] * ROTATIONS):
        for index, client in enumerate(clients):
            answer = client.ask(do=order)["ok"]
            exits.add(answer["exit_server"])
            assert seen_address(rig, index) == answer["exit_address"]
            (link,) = json.loads(rig.there(["ip", "-json", "link", "show", rig.worker(index).interface], index).stdout)
            small |= link["mtu"] == SMALL_MTU
            assert (link["mtu"] == SMALL_MTU) == (answer["exit_server"] == str(rig.lab.topology.vpn[1].address))
        assert shown(rig, 0, "public-key") != shown(rig, 1, "public-key")
        if small and not settled:
            rig.wait_until_settled()  # such a link has no IPv6 at all
            settled = True
    rig.wait_until_settled()
    assert exits == {str(server.address) for server in rig.lab.topology.vpn}
    listed = json.loads(rig.command("keys", "list", "--json", check=True).stdout)
    assert sorted(one["state"] for one in listed if one["state"] in ("leased", "elsewhere")) == (
        ["elsewhere"] * 4 + ["leased"] * 2
    )
    assert {one["leases_today"] > 0 for one in listed if one["last_good"]} == {True}
