"""The table `inet fleet` as one JSON document, applied and read through libnftables (libnftables-json(5)).

Two parts: what stands for ever (who is held back; made in one transaction by `install`), and the
gates, elements of four sets (opened and sealed in one transaction each by `change`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Literal

from fleet.errors import ForeignObject
from fleet.isolation import HOST
from fleet.model import FIRST_UID, LAST_UID, Worker
from netctl.filter import documents, rules
from netctl.filter.library import Context, NftError
from netctl.filter.rules import Object
from netctl.plan.things import TABLE, Filter, Gate

_UIDS = range(FIRST_UID, LAST_UID + 1)
Listing = dict[str, list[str]]
"""The rules of each chain in the library's own words, without what it counted and numbered."""


class Tables:
    """The table, through one context for the object's life; for one thread at a time.

    The kernel waits for a whole RCU grace period (5-18 ms) when a netlink socket of nftables is closed
    behind a deletion (nft_rcv_nl_event in net/netfilter/nf_tables_api.c); a socket that stays open pays
    0.6 ms. libnftables asks for the ruleset's generation each time, so its cache cannot be stale.
    """

    def __init__(self, space: str = HOST) -> None:
        """Of SPACE, where the thread that calls is."""
        self._space = space
        self._context: Context | None = None
        self._ours = False

    def close(self) -> None:
        """Close the context."""
        if self._context is not None:
            self._context.close()
            self._context = None

    def _run(self, commands: Sequence[Object]) -> str:
        """One transaction: all COMMANDS or none. Returns the library's output."""
        self._context = self._context or Context()
        return self._context.run(json.dumps({"nftables": list(commands)}))

    def install(self, wanted: Filter, gates: Iterable[Gate]) -> None:
        """Replace the whole table by WANTED with GATES open, in one transaction: never a moment without it."""
        table: Object = {"table": {"family": "inet", "name": TABLE}}
        commands: list[Object] = [{"add": table}, {"delete": table}]
        commands += [{"add": part} for part in documents.document(wanted)]
        self._run(commands + [{"add": element} for gate in gates for element in documents.elements(gate)])

    def change(self, changes: Iterable[tuple[Literal["seal", "open"], Sequence[Gate]]]) -> None:
        """Close and open gates in one transaction, in this order; sealing what is sealed already is no error."""
        commands: list[Object] = []
        for verb, gates in changes:
            for element in (element for gate in gates for element in documents.elements(gate)):
                # Deleting a missing element is an error, and so is adding a map entry of another value:
                # add the very one, then delete it.
                commands += [{"add": element}] if verb == "open" else [{"add": element}, {"delete": element}]
        if commands:
            self._run(commands)

    def shut(self, worker: Worker) -> None:
        """Close WORKER's gate under either name of its link, without a look at what is open."""
        commands: list[Object] = []
        for name in worker.interfaces:
            for part in documents.passage(worker, name):
                commands += [{"add": part}, {"delete": part}]
        self._run(commands)

    def remove(self) -> None:
        """Delete the table; gone already is no error."""
        table: Object = {"table": {"family": "inet", "name": TABLE}}
        self._run([{"add": table}, {"delete": table}])

    def observe(self) -> tuple[frozenset[Filter], frozenset[Gate]]:
        """The table and its gates as the kernel has them; empty without a table.

        Raises ForeignObject when somebody else's table has our name.
        """
        try:
            listed = json.loads(self._run([{"list": {"table": {"family": "inet", "name": TABLE}}}]))["nftables"]
        except NftError as error:
            if "No such file or directory" in str(error):
                return frozenset(), frozenset()
            raise
        chains = {entry["chain"]["name"]: entry["chain"] for entry in listed if "chain" in entry}
        sets = _sets(listed)
        marked = any(name.startswith(documents.MARK) for name in chains)
        # The mark itself may be taken away from a table that was ours a moment ago.
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
            space=self._space,
        )
        gates = _gates(sets, self._space)
        if not (_whole(filter_, chains, sets, gates) and _shape() == _rules(listed)):
            filter_ = replace(filter_, intact=False)
        return frozenset({filter_}), gates


@cache
def _shape() -> Listing:
    """The very rules that this program writes, as the library lists them.

    How it lists a rule differs from how it is told one, and from version to version: so once in the program's life
    it lists them as it has just been told them, from a table of another name with no hook, which ends here.
    """
    name = f"fleet_shape_{os.getpid()}"
    context = Context()
    try:
        try:
            context.run(f"table inet {name} {{ flags owner; }}")  # whatever happens to us, it goes with the context
        except NftError:
            context.run(f"add table inet {name}")
        context.run(json.dumps({"nftables": [{"add": part} for part in documents.shape_document(name)]}))
        listed: list[Object] = json.loads(context.run(f"list table inet {name}"))["nftables"]
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
    # With a comment or a counter of somebody's: none of ours, so it equals nothing.
    return json.dumps(listed) if isinstance(listed, dict) else listed


def _whole(found: Filter, chains: dict[str, Object], sets: dict[str, list[Any]], gates: frozenset[Gate]) -> bool:
    """Whether chains, hooks and sets are this program's, of this version, and no gate is half open."""
    if chains.keys() != {*rules.RULES, documents.mark()}:
        return False
    hooks = all(chains[name].items() >= hook.items() for name, hook in rules.HOOKS.items())
    wanted = _sets([part for part in documents.document(found) if "set" in part or "map" in part])
    for gate in gates:
        for part in documents.elements(gate):
            wanted[part["element"]["name"]] += [_element(one) for one in part["element"]["elem"]]
    return hooks and all(set(sets.get(name, [])) == set(elements) for name, elements in wanted.items())


def _pairs(entries: list[Any]) -> dict[str, str]:
    return dict(one for one in entries if isinstance(one, tuple))


def _gates(sets: dict[str, list[Any]], space: str) -> frozenset[Gate]:
    """Every worker whose interface is translated."""
    v4, v6 = (_pairs(sets.get(name, [])) for name in rules.MAPS)
    return frozenset(
        Gate(
            uid=worker.uid,
            address=IPv4Address(address),
            address_v6=IPv6Address(v6[interface]) if interface in v6 else None,
            interface=interface,
            space=space,
        )
        for interface, address in v4.items()
        if isinstance(interface, str) and (worker := Worker.of_interface(interface))
    )
