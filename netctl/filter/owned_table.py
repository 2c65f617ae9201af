"""The table `inet fleet_hold`: the kill switch that a flush of nftables does not reach.

A table with an owner (NFT_TABLE_F_OWNER, Linux 5.12) is changed by its owner's netlink socket alone:
`nft flush ruleset` passes it over, deleting it or adding to it is refused with EPERM, and it ends with that
socket. So it exists exactly as long as netctl runs, and needs no cleanup. `inet fleet`
outlives netctl, this one outlives a flush: both are gone only when netctl is dead and the ruleset is flushed.
"""

from __future__ import annotations

import asyncio
import struct
import time

from fleet import log
from fleet.errors import ForeignObject
from netctl.filter import documents
from netctl.filter.library import Context, NftError
from netctl.kernel.netlink import NETFILTER, Socket, attribute, attributes
from netctl.plan.things import OWNED_TABLE, Filter

GET_TABLE = 0xA01
"""NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE (linux/netfilter/nf_tables.h)."""
TABLE_NAME, TABLE_OWNER = 1, 7
PREDECESSOR_SECONDS = 2.0
LOOK_SECONDS = 0.02
_INET = struct.pack("=BBH", 1, 0, 0)
"""struct nfgenmsg of NFPROTO_INET."""


class OwnedTable:
    """The owned table, while this object lives and its process runs."""

    def __init__(self) -> None:
        self._context: Context | None = None
        self._owner = 0
        self._log = log.get("netctl")

    async def make(self, wanted: Filter) -> bool:
        """Make the table, with the workers of WANTED; False, and logged, where the kernel or the library cannot.

        Raises ForeignObject for a table of that name that has no owner.
        """
        self.close()
        deadline = time.monotonic() + PREDECESSOR_SECONDS
        while (found := owner()) and time.monotonic() < deadline:
            await asyncio.sleep(LOOK_SECONDS)  # a netctl that was killed a moment ago is still being taken apart
        if found == 0:
            raise ForeignObject(
                f"the nftables table inet {OWNED_TABLE} is there and not netctl's: it has no owner",
                hint=f"see: nft list table inet {OWNED_TABLE}",
            )
        try:
            self._context = Context()
            self._context.run(documents.owned_document(wanted))
            self._owner = owner() or 0
        except (NftError, OSError) as error:
            self.close()
            self._log.warning("owned_table.unavailable", error=str(error), needs="Linux 5.12 and nftables 0.9.9")
            return False
        self._log.info("owned_table.made", table=f"inet {OWNED_TABLE}", workers=len(wanted.uids))
        return self._owner != 0

    def lost(self) -> bool:
        """Whether the table was made and is not there any more, or is another's."""
        return self._owner != 0 and owner() != self._owner

    def close(self) -> None:
        """Let the kernel delete the table."""
        self._owner = 0
        if self._context is not None:
            self._context.close()
            self._context = None


def owner() -> int | None:
    """The netlink port that owns the table; None when there is no such table, 0 when it has no owner."""
    asking = Socket(NETFILTER)
    try:
        body = asking.get(GET_TABLE, _INET + attribute(TABLE_NAME, OWNED_TABLE.encode() + b"\0"))
    except FileNotFoundError:
        return None
    finally:
        asking.close()
    # Numbers of nftables are in network order.
    return int.from_bytes(dict(attributes(body[4:])).get(TABLE_OWNER, b""), "big")
