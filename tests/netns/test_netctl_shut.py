"""A gate is closed even if other parts of the kernel hang or refuse."""

from __future__ import annotations

import asyncio
from ipaddress import IPv4Address

import pytest

from fleet.backends import USERSPACE
from fleet.errors import KernelRefused
from lab.net import Lab
from lab.wires import inside
from netctl.host import Host
from netctl.kernel.netlink import Socket
from netctl.kernel.observe import Observer, Sight
from netctl.plan import desired
from netctl.plan.diff import Operation
from netctl.plan.things import Gate
from netctl.slots.links import Links
from netctl.slots.reconcile import Reconciler
from netctl.wireguard.wireguard_go import UserspaceWireGuard
from tests.contract.ground import fleet_of


def test_a_seal_needs_no_look(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """rtnetlink does not answer and the worker is gone: nftables alone closes its gate, and the error is raised."""
    fleet = fleet_of(1)
    (worker,) = fleet.members
    gate = Gate(uid=worker.uid, address=IPv4Address("198.18.1.11"), interface=worker.interface)
    (whole,) = desired.shared(fleet, "tun").filters

    def passages() -> str:
        listed = lab.run("host", ["sh", "-c", "nft list set inet fleet open; nft list set inet fleet open_source"])
        return listed.stdout

    def refuse(self: Observer, netlink: Socket, space: str) -> Sight:
        raise OSError(110, "it hangs")

    async def scenario() -> None:
        async with Host(UserspaceWireGuard(), fleet) as host:
            await host.apply([Operation(verb="add", thing=whole), Operation(verb="open", thing=gate)])
            assert passages().count(worker.interface) == 2
            monkeypatch.setattr(Observer, "look", refuse)
            with pytest.raises(KernelRefused):
                await Reconciler(fleet, USERSPACE, host, Links(fleet, host)).settle(worker, None)

    try:
        inside(f"{lab.name}-host", lambda: asyncio.run(scenario()))
        assert worker.interface not in passages()
    finally:
        lab.run("host", ["nft", "delete table inet fleet"])
