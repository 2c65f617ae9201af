"""The tables `inet fleet` and `inet fleet_hold` in nft syntax, and the set elements of their gates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache
from ipaddress import IPv4Network, IPv6Network

from fleet.model import Worker
from fleet.numbers import OUTER_MARK
from netctl.filter.rules import HOOKS, MAPS, OWNED_RULES, OWNED_SETS, RULES, SETS, ZONES
from netctl.plan.things import OWNED_TABLE, TABLE, Filter, Gate

MARK = "owner_netctl_"
"""Prefix of an empty chain's name, which marks the table as netctl's and names the version of its rules."""
NAMED = "fleet in "
"""Prefix of a table's comment; the FLEET_ROOT follows."""
Element = int | str | tuple[int | str, ...]
"""An element of a set as libnftables lists it; a concatenation is a tuple, and so is a map's entry."""
Content = Mapping[str, Iterable[Element]]
"""The elements of sets, by the sets' names."""


@cache
def mark() -> str:
    """The name of the marking chain; it changes whenever the rules change."""
    text = repr((HOOKS, RULES, SETS, MAPS))
    return MARK + hashlib.sha256(text.encode()).hexdigest()[:12]


def document(wanted: Filter, fleet: str) -> str:
    """Table, sets, chains and rules for WANTED, with all gates closed; the table's comment names the FLEET."""
    first = f"{comment(fleet)} chain {mark()} {{ }}"
    return _table(TABLE, first, SETS | MAPS, RULES, content(wanted))


def comment(fleet: str) -> str:
    """The table comment that names the FLEET; empty if FLEET is."""
    return f'comment "{NAMED}{fleet}";' if fleet else ""


def shape_document(table: str, flags: str) -> str:
    """Every rule of `document` in a table of another name whose chains have no hook, so that no packet passes them."""
    return _table(table, flags, SETS | MAPS, RULES, {}, hooks={})


def owned_document(wanted: Filter | None, fleet: str) -> str:
    """The owned table for WANTED (None: without rules), with the owner flag and a comment that names the FLEET."""
    first = f"{comment(fleet)} flags owner;"
    if wanted is None:
        return _table(OWNED_TABLE, first, {}, {}, {})
    workers = [Worker(uid=uid) for uid in sorted(wanted.uids)]
    both = [(worker, name) for worker in workers for name in worker.interfaces]
    passages: Content = {
        "open": [(worker.uid, name) for worker, name in both],
        "open_source": [(str(worker.placeholder), name) for worker, name in both],
        "open_source6": [(str(worker.placeholder_v6), name) for worker, name in both],
    }
    return _table(OWNED_TABLE, first, OWNED_SETS, OWNED_RULES, {**content(wanted), **passages})


def content(wanted: Filter) -> Content:
    """The elements of every set that gates do not change."""
    workers = [Worker(uid=uid) for uid in sorted(wanted.uids)]
    return {
        "workers": [worker.uid for worker in workers],
        "interfaces": [name for worker in workers for name in worker.interfaces],
        "placeholders": [str(worker.placeholder) for worker in workers],
        "placeholders6": [str(worker.placeholder_v6) for worker in workers],
        "resolvers": sorted(str(address) for address in wanted.resolvers if address.version == 4),
        "resolvers6": sorted(str(address) for address in wanted.resolvers if address.version == 6),
        "reachable": _networks(wanted.reachable, 4),
        "reachable6": _networks(wanted.reachable, 6),
        "loopback_ports": sorted(wanted.loopback_ports),
        "browser_ports": [port for worker in workers for port in worker.browser_ports],
        "outer_marks": [OUTER_MARK] if wanted.marked else [],
        "own_ports": [(worker.uid, port) for worker in workers for port in worker.browser_ports],
    }


def _networks(networks: Iterable[IPv4Network | IPv6Network], version: int) -> list[str]:
    """The NETWORKS of VERSION as nft lists them: a network of one address is listed as that address."""
    found = sorted((one for one in networks if one.version == version), key=str)
    return [str(one.network_address if one.prefixlen == one.max_prefixlen else one) for one in found]


def _table(
    name: str,
    first: str,
    sets: Mapping[str, str],
    rules: Mapping[str, str],
    elements: Content,
    *,
    hooks: Mapping[str, tuple[str, str, int]] = HOOKS,
) -> str:
    parts = [first]
    for one, kind in sets.items():
        filled = f"; elements = {{ {', '.join(map(_text, elements[one]))} }}" if elements.get(one) else ""
        word = "typeof" if one == ZONES else "type"  # nft has no type name for zones
        parts.append(f"{'map' if one in MAPS else 'set'} {one} {{ {word} {kind}{filled}; }}")
    for chain, text in rules.items():
        hook = "type {} hook {} priority {}; policy accept;".format(*hooks[chain]) if chain in hooks else ""
        parts.append(f"chain {chain} {{ {hook}\n{text}\n}}")
    return "\n".join([f"table inet {name} {{", *parts, "}\n"])


def _text(element: Element) -> str:
    return " . ".join(map(str, element)) if isinstance(element, tuple) else str(element)


def elements(gate: Gate) -> list[tuple[str, Element]]:
    """All elements that open GATE, each with the name of its set or map."""
    found = passage(gate.worker, gate.interface, ipv6=gate.address_v6 is not None)
    for address, suffix in ((gate.address, ""), (gate.address_v6, "6")):
        if address is not None:
            found.append((f"leased{suffix}", (str(address), gate.interface)))
            found.append((f"translation{suffix}", (gate.interface, str(address))))
    if gate.zone:
        found.append((ZONES, (gate.interface, gate.zone)))
    return found


def passage(worker: Worker, interface: str, *, ipv6: bool = True) -> list[tuple[str, Element]]:
    """The elements without which no packet of WORKER leaves through INTERFACE."""
    found: list[tuple[str, Element]] = [
        ("open", (worker.uid, interface)),
        ("open_source", (str(worker.placeholder), interface)),
    ]
    if ipv6:
        found.append(("open_source6", (str(worker.placeholder_v6), interface)))
    return found


def commands(verb: str, found: Iterable[tuple[str, Element]]) -> list[str]:
    """The nft commands that apply VERB, `add` or `delete`, to the elements FOUND: one for each set or map."""
    together: dict[str, dict[str, None]] = {}
    for name, element in found:
        text = " : ".join(map(str, element)) if name in MAPS and isinstance(element, tuple) else _text(element)
        together.setdefault(name, {})[text] = None
    return [f"{verb} element inet {TABLE} {name} {{ {', '.join(texts)} }}" for name, texts in together.items()]
