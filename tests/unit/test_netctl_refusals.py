"""A look at the kernel that fails is an error with a name: what catches those goes on."""

from __future__ import annotations

import asyncio
import errno

import pytest

from fleet.errors import KernelRefused
from fleet.model import DnsSettings, EgressSettings, Fleet
from netctl.filter.library import NftError
from netctl.host import Host
from netctl.kernel.netlink import Socket
from netctl.kernel.observe import Observer, Sight
from netctl.wireguard.wireguard_go import UserspaceWireGuard

FLEET = Fleet(
    dns=DnsSettings.model_validate({"resolvers": ["198.18.0.53"]}), egress=EgressSettings(urls=("https://a.example",))
)


@pytest.mark.parametrize("refusal", [OSError(errno.EBUSY, "busy"), NftError("interrupted")])
def test_a_refused_look_has_a_name(refusal: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the kernel and the library say: the guard and the seal of a slot outlive it."""

    def refuse(self: Observer, netlink: Socket, space: str) -> Sight:
        raise refusal

    monkeypatch.setattr(Observer, "look", refuse)

    async def look() -> None:
        async with Host(UserspaceWireGuard(), FLEET) as host:
            await host.observe()

    with pytest.raises(KernelRefused):
        asyncio.run(look())
