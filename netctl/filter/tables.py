"""The table `inet fleet`: written in nft syntax, read as libnftables lists it (libnftables-json(5)).

It has two parts: the permanent rules and sets that block the workers (made in one transaction by `install`), and the
gates, which are elements of sets and maps (`change` opens and seals gates in one transaction).
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

from fleet.errors import ForeignObject
from fleet.isolation import HOST
from fleet.model import FIRST_UID, LAST_UID, Worker
from netctl.filter import documents, rules
from netctl.filter.library import Context, NftError
from netctl.plan.diff import Operation
from netctl.plan.things import TABLE, Filter, Gate

_UIDS = range(FIRST_UID, LAST_UID + 1)
_REMOVED = (f"add table inet {TABLE}", f"delete table inet {TABLE}")
"""Deletes the table, whether it exists or not."""
Object = dict[str, Any]
"""One object of libnftables-json(5), a foreign format that only this file reads."""
Listing = dict[str, list[str]]
"""The rules of each chain as the library lists them, without counter values and handles."""


class Tables:
    """The table, through one context for the object's life; for one thread at a time.

    The kernel waits for a whole RCU grace period (5-18 ms) when a netlink socket of nftables is closed
    after a deletion (nft_rcv_nl_event in net/netfilter/nf_tables_api.c); with a socket that stays open it takes
    0.6 ms. libnftables asks for the ruleset's generation each time, so its cache cannot be stale.
    """

    def __init__(self, space: str = HOST, *, fleet: str = "") -> None:
        """The table in the namespace SPACE, where the calling thread must be; FLEET names the fleet for `install`."""
        self._space, self._fleet = space, fleet
        self._context: Context | None = None
        self._ours = False

    def close(self) -> None:
        if self._context is not None:
            self._context.close()
            self._context = None

    def _run(self, *commands: str) -> str:
        """Run COMMANDS as one transaction: all or none. Returns the library's output."""
        self._context = self._context or Context()
        return self._context.run("\n".join(commands))

    def install(self, wanted: Filter, gates: Iterable[Gate]) -> None:
        """Replace the whole table by WANTED with GATES open, in one transaction: there is never a moment without it."""
        opened = documents.commands("add", (element for gate in gates for element in documents.elements(gate)))
        self._run(*_REMOVED, documents.document(wanted, self._fleet), *opened)

    def change(self, operations: Iterable[Operation]) -> None:
        """Open and seal gates in one transaction, in this order; sealing a sealed gate is no error."""
        commands: list[str] = []
        for verb, group in itertools.groupby(operations, key=lambda operation: operation.verb):
            gates = [operation.thing for operation in group if isinstance(operation.thing, Gate)]
            elements = [element for gate in gates for element in documents.elements(gate)]
            commands += documents.commands("add", elements) if verb == "open" else _deleted(elements)
        if commands:
            self._run(*commands)

    def shut(self, worker: Worker) -> None:
        """Close WORKER's gate under either name of its link, without reading which gates are open."""
        self._run(*_deleted([element for name in worker.interfaces for element in documents.passage(worker, name)]))

    def remove(self) -> None:
        """Delete the table; a missing table is no error."""
        self._run(*_REMOVED)

    def observe(self) -> tuple[frozenset[Filter], frozenset[Gate]]:
        """The table and its gates as the kernel has them; empty without a table.

        Raises ForeignObject when another program's table has that name.
        """
        try:
            listed = json.loads(self._run(f"list table inet {TABLE}"))["nftables"]
        except NftError as error:
            if "No such file or directory" in str(error):
                return frozenset(), frozenset()
            raise
        chains = {entry["chain"]["name"]: entry["chain"] for entry in listed if "chain" in entry}
        sets = _sets(listed)
        marked = any(name.startswith(documents.MARK) for name in chains)
        # Somebody may have removed the marking chain from a table that was netctl's at the last look.
        self._ours = marked or (self._ours and {*rules.SETS} <= sets.keys())
        if not self._ours:
            raise ForeignObject(
                f"the nftables table inet {TABLE} is not netctl's", hint=f"see: nft list table inet {TABLE}"
            )
        filter_ = Filter(
            uids=frozenset(uid for uid in sets.get("workers", []) if isinstance(uid, int) and uid in _UIDS),
            resolvers=frozenset(ip_address(one) for name in ("resolvers", "resolvers6") for one in sets.get(name, [])),
            reachable=frozenset(ip_network(one) for name in rules.INTERVALS for one in sets.get(name, [])),
            loopback_ports=frozenset(sets.get("loopback_ports", [])),
            marked=bool(sets.get("outer_marks")),
            space=self._space,
        )
        gates = _gates(sets, self._space)
        if not (_whole(filter_, chains, sets, gates) and _shape() == _rules(listed)):
            filter_ = replace(filter_, intact=False)
        return frozenset({filter_}), gates


def _deleted(elements: list[tuple[str, documents.Element]]) -> list[str]:
    """Commands that delete ELEMENTS, present or not. Deleting a missing element is an error, so each is added first;
    with its exact value, as adding a map's entry with another value is an error too."""
    return [*documents.commands("add", elements), *documents.commands("delete", elements)]


@cache
def _shape() -> Listing:
    """The rules that this program writes, as the library lists them.

    The library lists a rule in another form than it was written, and the form depends on its version. So once in the
    program's life the rules are written to a table of another name without hooks, listed, and deleted.
    """
    name = f"fleet_shape_{os.getpid()}"
    context = Context()
    try:
        try:
            # The table is deleted with the context, also if netctl is killed.
            context.run(documents.shape_document(name, "flags owner;"))
        except NftError:
            context.run(documents.shape_document(name, ""))
        # Chain by chain: nftables 1.0.6 reads past its list of flags where it lists a table with an owner as JSON.
        texts = [context.run(f"list chain inet {name} {chain}") for chain in rules.RULES]
        listed: list[Object] = [entry for text in texts for entry in json.loads(text)["nftables"]]
        context.run(f"delete table inet {name}")
        return _rules(listed)
    finally:
        context.close()


def _rules(listed: list[Object]) -> Listing:
    found: Listing = {}
    for entry in listed:
        if "rule" in entry:
            found.setdefault(entry["rule"]["chain"], []).append(json.dumps(_uncounted(entry["rule"]), sort_keys=True))
    return found


def _uncounted(rule: Object) -> list[Object]:
    return [{"counter": None} if "counter" in word else word for word in rule["expr"]]


def _sets(listed: list[Object]) -> dict[str, list[Any]]:
    """The elements of every set and map; a concatenation as a tuple, a map's entry as a pair."""
    found = (entry[kind] for entry in listed for kind in ("set", "map") if kind in entry)
    return {entry["name"]: [_element(one) for one in entry.get("elem", [])] for entry in found}


def _element(listed: Any) -> Any:
    if isinstance(listed, dict) and "concat" in listed:
        return tuple(listed["concat"])
    if isinstance(listed, dict) and "prefix" in listed:
        return f"{listed['prefix']['addr']}/{listed['prefix']['len']}"
    if isinstance(listed, list):
        return tuple(listed)
    # Has attributes that netctl never sets (a comment, a counter), so it must equal no element of netctl's.
    return json.dumps(listed) if isinstance(listed, dict) else listed


def _whole(found: Filter, chains: dict[str, Object], sets: dict[str, list[Any]], gates: frozenset[Gate]) -> bool:
    """Whether chains, hooks and sets are as this version of netctl makes them, and no gate is half open."""
    if chains.keys() != {*rules.RULES, documents.mark()}:
        return False
    hooks = all(
        tuple(chains[name].get(key) for key in ("type", "hook", "prio", "policy")) == (*hook, "accept")
        for name, hook in rules.HOOKS.items()
    )
    wanted = {name: set(elements) for name, elements in documents.content(found).items()}
    for gate in gates:
        for name, element in documents.elements(gate):
            wanted.setdefault(name, set()).add(element)
    return hooks and all(
        set(sets.get(name, [])) == wanted.get(name, set()) for name in (rules.SETS | rules.MAPS).keys() - {rules.PACE}
    )


def _pairs(entries: list[Any]) -> dict[str, Any]:
    return dict(one for one in entries if isinstance(one, tuple))


def _gates(sets: dict[str, list[Any]], space: str) -> frozenset[Gate]:
    """A gate for every interface of a worker that has an entry in the map `translation`."""
    v4, v6, zones = (_pairs(sets.get(name, [])) for name in rules.MAPS)
    return frozenset(
        Gate(
            uid=worker.uid,
            address=IPv4Address(address),
            address_v6=IPv6Address(v6[interface]) if interface in v6 else None,
            interface=interface,
            zone=zones.get(interface, 0),
            space=space,
        )
        for interface, address in v4.items()
        if isinstance(interface, str) and (worker := Worker.of_interface(interface))
    )
