"""A look at the kernel that fails is an error with a name: what catches those goes on."""

from __future__ import annotations

import asyncio
import errno

import pytest

from fleet.model import DnsSettings, EgressSettings, Fleet
from netctl.kernel import Kernel, KernelRefused
from netctl.libnftables import NftError
from netctl.messages import Socket
from netctl.observe import Observer, Sight
from netctl.wireguard.userspace import Userspace

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
        async with Kernel(Userspace(), FLEET) as kernel:
            await kernel.observe()

    with pytest.raises(KernelRefused):
        asyncio.run(look())
