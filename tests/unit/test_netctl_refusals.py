"""A look at the kernel that fails is an error with a name: what catches those goes on."""

from __future__ import annotations

import asyncio
import errno

import pytest
from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError

from fleet.model import DnsSettings, EgressSettings, Fleet
from netctl.kernel import Found, Kernel, KernelRefused
from netctl.nftables import NftError
from netctl.wireguard.userspace import Userspace

FLEET = Fleet(
    dns=DnsSettings.model_validate({"resolvers": ["198.18.0.53"]}), egress=EgressSettings(urls=("https://a.example",))
)


@pytest.mark.parametrize(
    "refusal", [NetlinkError(errno.EBUSY, "busy"), NetlinkDumpInterrupted(), NftError("interrupted")]
)
def test_a_refused_look_has_a_name(refusal: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the libraries raise: the guard and the seal of a slot outlive it."""

    async def refuse(self: Kernel, devices: bool) -> Found:
        raise refusal

    monkeypatch.setattr(Kernel, "_observe", refuse)

    async def look() -> None:
        async with Kernel(Userspace(), FLEET) as kernel:
            await kernel.observe()

    with pytest.raises(KernelRefused):
        asyncio.run(look())
