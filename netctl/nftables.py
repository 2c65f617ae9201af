"""The table `inet fleet` as one JSON document, applied and read through libnftables (libnftables-json(5)).

Two parts: what stands for ever (who is held back; made in one transaction by `install`), and the
gates, elements of four sets (opened and sealed in one transaction each by `change`).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from ipaddress import IPv4Address
from typing import Any

from fleet.errors import ForeignObject
from fleet.model import Worker
from netctl import ruleset
from netctl.libnftables import Context
from netctl.libnftables import NftError as NftError  # noqa: PLC0414 - what its callers catch
from netctl.ruleset import Object
from netctl.state import Filter, Gate

TABLE = ruleset.TABLE


@cache
def _context() -> Context:
    """One context for the program's life.

    The kernel waits for a whole RCU grace period (5-18 ms) when a netlink socket of nftables is closed
    behind a deletion (nft_rcv_nl_event in net/netfilter/nf_tables_api.c); a socket that stays open pays
    0.6 ms. libnftables asks for the ruleset's generation each time, so its cache cannot be stale.
    """
    return Context()


def _run(commands: Sequence[Object]) -> str:
    """One transaction: all COMMANDS or none. Returns the library's output."""
    return _context().run(json.dumps({"nftables": list(commands)}))


def install(wanted: Filter, gates: Iterable[Gate]) -> None:
    """Replace the whole table by WANTED with GATES open, in one transaction: never a moment without it."""
    table: Object = {"table": {"family": "inet", "name": TABLE}}
    commands: list[Object] = [{"add": table}, {"delete": table}]
    commands += [{"add": part} for part in ruleset.document(wanted)]
    _run(commands + [{"add": element} for gate in gates for element in ruleset.elements(gate)])


def change(*, seal: Iterable[Gate] = (), open_: Iterable[Gate] = ()) -> None:
    """Close and open gates in one transaction; sealing what is sealed already is no error."""
    commands: list[Object] = []
    for gate in seal:
        # Deleting a missing element is an error, and so is adding a map entry of another value:
        # add the very one, then delete it.
        for element in ruleset.elements(gate):
            commands += [{"add": element}, {"delete": element}]
    commands += [{"add": element} for gate in open_ for element in ruleset.elements(gate)]
    if commands:
        _run(commands)


def remove() -> None:
    """Delete the table; gone already is no error."""
    table: Object = {"table": {"family": "inet", "name": TABLE}}
    _run([{"add": table}, {"delete": table}])


def observe() -> tuple[frozenset[Filter], frozenset[Gate]]:
    """The table and its gates as the kernel has them; empty without a table.

    Raises ForeignObject when somebody else's table has our name.
    """
    try:
        listed = json.loads(_run([{"list": {"table": {"family": "inet", "name": TABLE}}}]))["nftables"]
    except NftError as error:
        if "No such file or directory" in str(error):
            return frozenset(), frozenset()
        raise
    chains = {entry["chain"]["name"] for entry in listed if "chain" in entry}
    if not any(name.startswith(ruleset.MARK) for name in chains):
        raise ForeignObject(
            f"the nftables table inet {TABLE} is not netctl's", hint=f"see: nft list table inet {TABLE}"
        )
    sets: dict[str, list[Any]] = {
        entry[kind]["name"]: entry[kind].get("elem", []) for entry in listed for kind in ("set", "map") if kind in entry
    }
    found = Filter(
        uids=frozenset(sets.get("workers", [])),
        resolvers=frozenset(IPv4Address(address) for address in sets.get("resolvers", [])),
    )
    if not _intact(found, listed, chains, sets):
        found = Filter(uids=found.uids, resolvers=found.resolvers, intact=False)
    return frozenset({found}), _gates(sets)


def _intact(found: Filter, listed: list[Object], chains: set[str], sets: dict[str, list[Any]]) -> bool:
    """Whether chains, rule counts and fixed sets are this program's, by version and by number."""
    wanted = Counter(part["rule"]["chain"] for part in ruleset.document(found) if "rule" in part)
    actual = Counter(entry["rule"]["chain"] for entry in listed if "rule" in entry)
    workers = [Worker(uid=uid) for uid in found.uids]
    opened = {element["concat"][1] for element in sets.get("open", [])}
    return (
        actual == wanted
        and ruleset.mark() in chains
        and set(sets.get("interfaces", [])) == {name for worker in workers for name in worker.interfaces}
        and set(sets.get("placeholders", [])) == {str(worker.placeholder) for worker in workers}
        and opened == {element["concat"][1] for element in sets.get("open_source", [])}
        and opened == {interface for interface, _ in sets.get("translation", [])}
    )


def _gates(sets: dict[str, list[Any]]) -> frozenset[Gate]:
    """Every worker whose interface is translated."""
    return frozenset(
        Gate(uid=worker.uid, address=IPv4Address(address), interface=interface)
        for interface, address in sets.get("translation", [])
        if (worker := Worker.of_interface(interface))
    )
