"""What is made of a path that carries small packets and no large ones."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from fleet.model import DnsSettings, EgressSettings, Fleet, Worker
from netctl.exits.path import PathLook
from netctl.exits.probe import Seen
from netctl.pool.contract import Lease
from netctl.slots.servers import NARROW_SECONDS, Servers
from netctl.slots.slot import Slot
from tests.unit.test_netctl_keys import key

FLEET = Fleet(
    dns=DnsSettings.model_validate({"resolvers": ["198.18.0.53"]}), egress=EgressSettings(urls=("https://a.example",))
)
ANSWER = Seen(addresses=(IPv4Address("203.0.113.11"),))


def lease(server: str, file_says: int | None = None) -> Lease:
    """Of a key with IPv6 at SERVER, whose FILE_SAYS what its tunnel carries."""
    own = replace(key(1, server), address_v6=IPv6Address("fd00::7"), mtu_bytes=file_says)
    return Lease(
        id="1", uid=1101, key_id=1, generation=1, key=own, public="p", origin="f", endpoint=own.endpoint, owner="1:1"
    )


def test_a_narrow_path_is_its_servers_and_that_of_two_is_every_servers() -> None:
    """A tunnel there is smaller, never larger than its file says, and without IPv6 where that needs more; for a day."""
    now = 0.0
    servers = Servers(clock=lambda: now)

    def fitted(server: str, file_says: int | None = None) -> tuple[int | None, bool]:
        made = servers.fitted(lease(server, file_says)).key
        return made.mtu_bytes, made.address_v6 is not None

    assert fitted("a.example") == (None, True)
    servers.narrow("a.example", 1280)
    assert (fitted("a.example"), fitted("b.example")) == ((1280, True), (None, True))
    assert fitted("a.example", 1250) == (1250, True)
    servers.narrow("b.example", 1200)
    assert [fitted(f"{name}.example") for name in "abc"] == [(1280, True), (1200, False), (1280, True)]
    assert not Servers(1240).fitted(lease("a.example")).key.address_v6, "too small for IPv6 by the settings"
    now = NARROW_SECONDS
    assert fitted("b.example") == (None, True)


@pytest.mark.parametrize(("passes", "found"), [(1300, 1280), (1420, None), (1000, None)])
def test_the_largest_size_that_is_answered_counts(passes: int, found: int | None) -> None:
    """Where all sizes are, or none is, it is not the path. A worker that goes on telling causes no second look."""
    servers, asked, slot = Servers(), list[int | None](), Slot(worker=FLEET.members[0])
    slot.lease = lease("a.example")

    async def through(_: Worker, interface: str, space: str, most_bytes: int | None) -> Seen:
        asked.append(most_bytes)
        return ANSWER if (most_bytes or FLEET.wireguard.mtu) <= passes else Seen(trouble="no answer")

    async def told() -> None:
        looks = PathLook(FLEET, servers, lambda slot: slot.worker.interface, through, lambda _: None)
        for _ in range(3):
            await looks.look(slot, lease("a.example"))

    asyncio.run(told())
    assert servers.fitted(lease("a.example")).key.mtu_bytes == found
    assert asked == [None, 1380, 1280, 1200]
