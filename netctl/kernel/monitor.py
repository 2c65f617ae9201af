"""`netctl monitor`: the kernel's address and link notifications, each with the worker it belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

from pydantic import JsonValue

from fleet.machine import spaces
from fleet.model import Worker
from netctl.kernel import netlink, rtnetlink
from netctl.kernel.netlink import Message
from netctl.kernel.notifications import ADDRESS4, ADDRESS6, LINK

KINDS = {
    rtnetlink.NEW_ADDRESS: "RTM_NEWADDR",
    rtnetlink.DEL_ADDRESS: "RTM_DELADDR",
    rtnetlink.NEW_LINK: "RTM_NEWLINK",
    rtnetlink.DEL_LINK: "RTM_DELLINK",
}


class Notice(NamedTuple):
    """One notification."""

    time: datetime
    kind: str
    """`RTM_NEWADDR`, `RTM_DELADDR`, `RTM_NEWLINK` or `RTM_DELLINK`; the first two can end Chrome's requests."""
    interface: str
    address: str | None
    up: bool | None
    worker: Worker | None

    def as_json(self) -> dict[str, JsonValue]:
        """For `netctl monitor --json`."""
        worker = self.worker.name if self.worker else None
        return {**self._asdict(), "time": self.time.isoformat(), "worker": worker}


async def notices(space: Path | None = None) -> AsyncIterator[Notice]:
    """Notifications as they come, for ever. Needs no privilege, except to enter the namespace SPACE.

    Moves this program into SPACE permanently, because names of links are looked up there. Raises OSError.
    """
    if space is not None:
        spaces.enter(space)
    with netlink.listen(netlink.ROUTE, (LINK, ADDRESS4, ADDRESS6)) as listening:
        while True:
            data = await asyncio.get_running_loop().sock_recv(listening, netlink.LONGEST_BYTES)
            for message in netlink.messages(data):
                if message.kind in KINDS:
                    yield _notice(message)


def _notice(message: Message) -> Notice:
    now, kind = datetime.now(timezone.utc), KINDS[message.kind]
    if message.kind in (rtnetlink.NEW_LINK, rtnetlink.DEL_LINK):
        _, link = rtnetlink.read_link(message.body)
        return Notice(now, kind, link.interface, None, link.up, Worker.of_interface(link.interface))
    index, address, prefix, _ = rtnetlink.read_address(message.body)
    interface = rtnetlink.link_name(index) or f"#{index}"
    worker = Worker.of_interface(interface) or Worker.of_placeholder(address)
    return Notice(now, kind, interface, f"{address}/{prefix}", None, worker)
