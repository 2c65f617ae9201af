"""The addresses this host shows the world without a tunnel.

A tunnel whose exit shows one of them is no tunnel; workers refuse it. Asked once at `fleet up`, as
root, outside every tunnel. Not to know them is a warning: the exit of a key is then still compared with
what its .conf file says or what it showed first.
"""

from __future__ import annotations

from collections.abc import Iterator

from fleet import log
from fleet.errors import Unproved
from fleet.files import write_durably
from fleet.model import Fleet, Paths
from fleet.seen_address import IPV4, IPV6, Asker
from fleet.wire import Address

_log = log.get("fleet")


def learn(fleet: Fleet, paths: Paths) -> tuple[Address, ...]:
    """Write Paths.host_addresses, one address a line (none when nobody answered), and give what it holds."""
    found = fleet.egress.host_addresses or tuple(_ask_all(fleet))
    if not found:
        _log.warning("host_address.unknown", urls=fleet.egress.urls, hint="set egress.host_addresses in fleet.toml")
    write_durably(paths.host_addresses, "".join(f"{address}\n" for address in found).encode())
    paths.host_addresses.chmod(0o644)
    return found


def _ask_all(fleet: Fleet) -> Iterator[Address]:
    asker = Asker(fleet.egress, fleet.browser.certificate_authorities)
    for source in (IPV4, IPV6):
        try:
            yield asker.seen(source)
        except Unproved as error:
            _log.debug("host_address.no_answer", source=source, reason=error.message)
