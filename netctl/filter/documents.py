"""The tables `inet fleet` and `inet fleet_hold` as JSON documents for libnftables, and the elements of their gates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from ipaddress import IPv4Network, IPv6Network

from fleet.model import Worker
from netctl.filter.rules import HOOKS, INTERVALS, MAPS, OWNED_RULES, OWNED_SETS, RULES, SETS, Object, prefix
from netctl.plan.things import OWNED_TABLE, TABLE, Filter, Gate

MARK = "owner_netctl_"
"""An empty chain whose name says whose table this is, and in which version."""
Content = Mapping[str, Sequence["int | str | Object"]]
"""The elements of sets, by the sets' names."""


@cache
def mark() -> str:
    """The name of the marking chain: changes whenever the rules do."""
    text = json.dumps([HOOKS, RULES, SETS, MAPS], sort_keys=True)
    return MARK + hashlib.sha256(text.encode()).hexdigest()[:12]


def document(wanted: Filter) -> list[Object]:
    """Table, sets, chains and rules for WANTED, without a gate open."""
    at: Object = {"family": "inet", "table": TABLE}
    parts: list[Object] = [{"table": {"family": "inet", "name": TABLE}}, *_sets(TABLE, SETS, _content(wanted))]
    parts += _maps(TABLE)
    parts.append({"chain": {**at, "name": mark()}})
    return parts + _chains(TABLE, RULES)


def shape_document(table: str) -> list[Object]:
    """Every rule of `document` in a table of another name whose chains have no hook: nothing ever meets it."""
    return _sets(table, SETS, {}) + _maps(table) + _chains(table, RULES, {})


def owned_document(wanted: Filter) -> list[Object]:
    """Sets, chains and rules of the owned table for WANTED; the table itself is made in words, for its flag."""
    workers = [Worker(uid=uid) for uid in sorted(wanted.uids)]
    both = [(worker, name) for worker in workers for name in worker.interfaces]
    passages: Content = {
        "open": [{"concat": [worker.uid, name]} for worker, name in both],
        "open_source": [{"concat": [str(worker.placeholder), name]} for worker, name in both],
        "open_source6": [{"concat": [str(worker.placeholder_v6), name]} for worker, name in both],
    }
    return _sets(OWNED_TABLE, OWNED_SETS, {**_content(wanted), **passages}) + _chains(OWNED_TABLE, OWNED_RULES)


def _content(wanted: Filter) -> Content:
    """The elements of every set that no gate changes."""
    workers = [Worker(uid=uid) for uid in sorted(wanted.uids)]
    return {
        "workers": [worker.uid for worker in workers],
        "interfaces": [name for worker in workers for name in worker.interfaces],
        "placeholders": [str(worker.placeholder) for worker in workers],
        "placeholders6": [str(worker.placeholder_v6) for worker in workers],
        "resolvers": sorted(str(address) for address in wanted.resolvers if address.version == 4),
        "resolvers6": sorted(str(address) for address in wanted.resolvers if address.version == 6),
        "reachable": _elements(wanted.reachable, 4),
        "reachable6": _elements(wanted.reachable, 6),
        "loopback_ports": sorted(wanted.loopback_ports),
        "own_ports": [{"concat": [worker.uid, port]} for worker in workers for port in worker.browser_ports],
    }


def _maps(table: str) -> list[Object]:
    at: Object = {"family": "inet", "table": table, "type": "ifname"}
    return [{"map": {**at, "name": name, "map": kind}} for name, kind in MAPS.items()]


def _elements(networks: Iterable[IPv4Network | IPv6Network], version: int) -> list[Object | str]:
    """A network of one address is listed as that address."""
    found = sorted((one for one in networks if one.version == version), key=str)
    return [str(one.network_address) if one.prefixlen == one.max_prefixlen else prefix(one) for one in found]


def _sets(table: str, sets: dict[str, str | list[str]], content: Content) -> list[Object]:
    parts: list[Object] = []
    for name, kind in sets.items():
        elements: Object = {"elem": content[name]} if content.get(name) else {}
        if name in INTERVALS:
            elements["flags"] = ["interval"]
        parts.append({"set": {"family": "inet", "table": table, "name": name, "type": kind, **elements}})
    return parts


def _chains(table: str, chains: dict[str, list[list[Object]]], hooks: dict[str, Object] | None = None) -> list[Object]:
    at: Object = {"family": "inet", "table": table}
    of_chain = HOOKS if hooks is None else hooks
    parts: list[Object] = [{"chain": {**at, "name": name, **of_chain.get(name, {})}} for name in chains]
    return parts + [{"rule": {**at, "chain": name, "expr": rule}} for name, listed in chains.items() for rule in listed]


def elements(gate: Gate) -> list[Object]:
    """The set elements that open GATE, all together."""
    parts = passage(gate.worker, gate.interface, ipv6=gate.address_v6 is not None)
    for address, suffix in ((gate.address, ""), (gate.address_v6, "6")):
        if address is not None:
            parts.append(_element(f"leased{suffix}", {"concat": [str(address), gate.interface]}))
            parts.append(_element(f"translation{suffix}", [gate.interface, str(address)]))
    return parts


def passage(worker: Worker, interface: str, *, ipv6: bool = True) -> list[Object]:
    """The elements without which nothing of WORKER's leaves through INTERFACE."""
    parts = [
        _element("open", {"concat": [worker.uid, interface]}),
        _element("open_source", {"concat": [str(worker.placeholder), interface]}),
    ]
    if ipv6:
        parts.append(_element("open_source6", {"concat": [str(worker.placeholder_v6), interface]}))
    return parts


def _element(name: str, value: object) -> Object:
    return {"element": {"family": "inet", "table": TABLE, "name": name, "elem": [value]}}
