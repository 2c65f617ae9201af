"""Listens for address events in a namespace: what Chrome would see there."""

from __future__ import annotations

import errno
import select
import socket
import threading
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from fleet.errors import FleetError
from fleet.imports import bare
from lab.wires import inside

with bare("pyroute2"):
    from pyroute2.netlink import rtnl
    from pyroute2.netlink.rtnl.marshal import MarshalRtnl

_SO_RCVBUFFORCE = 33
"""Sets a buffer above net.core.rmem_max, for root (socket(7)); Python has no name for it."""
_KINDS = {"RTM_NEWADDR": "new", "RTM_DELADDR": "del"}


@dataclass(frozen=True, slots=True)
class AddressEvent:
    """One RTM_NEWADDR or RTM_DELADDR."""

    time: datetime
    kind: str
    """`new` or `del`."""
    address: str


class AddressListener:
    """Collects the address events of NAMESPACE (see lab.wires.inside) while entered.

    The socket is opened inside the namespace and belongs to it from then on; it is read from outside.
    """

    def __init__(self, namespace: str | Path) -> None:
        self._socket = inside(namespace, _open)
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._listen, name="address-events", daemon=True)
        self._events: list[AddressEvent] = []
        self._overrun = False

    def __enter__(self) -> AddressListener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._wake.close()
        self._thread.join()
        self._socket.close()
        self._woken.close()

    def between(self, start: datetime, end: datetime) -> list[AddressEvent]:
        """The events of that time; raises FleetError if the kernel dropped any."""
        if self._overrun:
            raise FleetError("the kernel dropped address events: the count would be too low")
        return [event for event in self._events if start <= event.time <= end]

    def _listen(self) -> None:
        while True:
            readable, _, _ = select.select([self._socket, self._woken], [], [])
            if self._socket in readable:
                self._read()
            elif self._woken in readable:
                return

    def _read(self) -> None:
        try:
            data = self._socket.recv(1 << 16)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            self._overrun = True
            return
        now = datetime.now(timezone.utc)
        for message in MarshalRtnl().parse(data):
            address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS") or "?"
            self._events.append(AddressEvent(now, _KINDS[message["event"]], str(address)))


def _open() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)
    made.bind((0, rtnl.RTMGRP_IPV4_IFADDR | rtnl.RTMGRP_IPV6_IFADDR))
    return made
