"""The table `inet fleet_hold`: the kill switch that a flush of nftables does not remove.

Only the netlink socket that owns a table (NFT_TABLE_F_OWNER, Linux 5.12) can change it: `nft flush ruleset` skips it,
deleting it or adding to it fails with EPERM, and it ends with that socket. So it exists exactly as long as netctl runs,
and needs no cleanup. `inet fleet` outlives netctl, this table outlives a flush: both are gone only when netctl is dead
and the ruleset is flushed.

It is also the lock of its network namespace: marks are valid per namespace, so two fleets in one would take each
other's objects for leftovers. Its comment names the FLEET_ROOT of the fleet that runs there. So does the comment of
`inet fleet`, which keeps other fleets out while netctl restarts, and until `fleet down`.
"""

from __future__ import annotations

import asyncio
import struct
import time
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from fleet import log
from fleet.errors import ForeignObject, TryLater
from netctl.filter import documents
from netctl.filter.library import Context, NftError
from netctl.kernel.netlink import NETFILTER, Socket, attribute, attributes
from netctl.plan.things import OWNED_TABLE, TABLE, Filter

GET_TABLE = 0xA01
"""NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE (linux/netfilter/nf_tables.h)."""
TABLE_NAME, TABLE_USERDATA, TABLE_OWNER = 1, 6, 7
_COMMENT = 0
"""The first entry of a table's user data: type, length, text with a NUL (libnftnl, NFTNL_UDATA_TABLE_COMMENT)."""
_COMMENT_BYTES = 100
"""nft allows 128."""
PREDECESSOR_SECONDS = 2.0
LOOK_SECONDS = 0.02
_INET = struct.pack("=BBH", 1, 0, 0)
"""struct nfgenmsg of NFPROTO_INET."""


class Holder(NamedTuple):
    """The holder of a table: the netlink port that owns it (0: none), and the fleet that its comment names."""

    port: int
    fleet: str


class OwnedTable:
    """The owned table; it exists from make() until close() or the end of the process."""

    def __init__(self, root: Path) -> None:
        """ROOT is this fleet's FLEET_ROOT."""
        self._root = root
        self._context: Context | None = None
        self._owner = 0
        self._log = log.get("netctl")

    async def make(self, wanted: Filter | None) -> bool:
        """Make the table for the workers of WANTED. Returns False and logs why where the kernel or library cannot.

        Without WANTED the table has no rules and is only the lock. Raises ForeignObject for a table of that name that
        has no owner, TryLater where there is another fleet.
        """
        self.close()
        deadline = time.monotonic() + PREDECESSOR_SECONDS
        while (found := holder()) and found.port and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_SECONDS)  # the kernel still cleans up after a netctl that was just killed
        if found is not None and found.port:
            raise taken(found)
        if found is not None:
            raise ForeignObject(
                f"the nftables table inet {OWNED_TABLE} exists and is not netctl's: it has no owner",
                hint=f"see: nft list table inet {OWNED_TABLE}",
            )
        try:
            self._context = Context()
            self._context.run(documents.owned_document(wanted, named(self._root)))
            made = holder()
            self._owner = made.port if made else 0
            refuse_another(self._root)
        except TryLater:
            self.close()
            raise
        except (NftError, OSError) as error:
            self.close()
            refuse_another(self._root)  # another fleet may have made it at the same moment, and first
            self._log.warning("owned_table.unavailable", error=str(error), needs="Linux 5.12 and nftables 0.9.9")
            return False
        if wanted is not None:
            self._log.info("owned_table.made", table=f"inet {OWNED_TABLE}", workers=len(wanted.uids))
        return self._owner != 0

    def lost(self) -> bool:
        """Whether the table was made but is gone now or has another owner."""
        found = holder()
        return self._owner != 0 and (found is None or found.port != self._owner)

    def close(self) -> None:
        """Close the socket that owns the table, so that the kernel deletes it."""
        self._owner = 0
        if self._context is not None:
            self._context.close()
            self._context = None


def named(root: Path) -> str:
    """ROOT as it is written in a table's comment."""
    return str(root.resolve()).replace('"', "'")[-_COMMENT_BYTES:]


def refuse_another(root: Path) -> None:
    """Raise TryLater when the tables of another fleet than ROOT's are in this network namespace."""
    own = {named(root), ""}  # without a comment: before Linux 5.10, or made by an earlier release
    for found in map(holder, (OWNED_TABLE, TABLE)):
        if found is not None and found.fleet not in own:
            raise taken(found)


def taken(found: Holder) -> TryLater:
    """The error for a namespace that another fleet has, FOUND."""
    return TryLater(
        f"the fleet in {found.fleet or '?'} is at work in this network namespace, and one namespace carries one fleet",
        hint=f"FLEET_ROOT={found.fleet or '...'} fleet down, or use another network namespace",
    )


def holder(table: str = OWNED_TABLE) -> Holder | None:
    """The holder of TABLE; None when there is no such table."""
    try:
        with closing(Socket(NETFILTER)) as asking:
            body = asking.get(GET_TABLE, _INET + attribute(TABLE_NAME, table.encode() + b"\0"))
    except FileNotFoundError:
        return None
    found = dict(attributes(body[4:]))
    # nftables numbers are in network byte order.
    port, said = int.from_bytes(found.get(TABLE_OWNER, b""), "big"), found.get(TABLE_USERDATA, b"")
    comment = said[2 : 2 + said[1]] if len(said) > 1 and said[0] == _COMMENT else b""
    text = comment.rstrip(b"\0").decode(errors="replace")
    return Holder(port, text.removeprefix(documents.NAMED) if text.startswith(documents.NAMED) else "")
