"""What stands in the tables `inet fleet` and `inet fleet_hold`: chains, rules, sets, in libnftables' JSON forms.

    output       a worker's packets leave from its placeholder through its open gate, or over `lo` (but not to
                 another worker's browser); port 53 to our resolvers alone
                 packets of a placeholder source without a socket (resets, TIME_WAIT) likewise
                 nobody else sends through a worker's interface
                 what kernel WireGuard sends for a worker goes out by its mark
    translate    the placeholder becomes the leased address
    last         after translation: whatever is still a placeholder, or not the leased address, is dropped
    forward      nothing from or to our interfaces
    input        from our interfaces only answers

The output chain asks `meta skuid` and not the route: SO_BINDTODEVICE needs no privilege, so rules
and routes alone would not hold.

`inet fleet_hold` is the same without gates: every worker's own interface is open to it for ever, so it
needs no change, and what nothing translates is dropped. It is the one that a flush does not reach.
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from typing import Any

from fleet.model import Worker
from fleet.numbers import OUTER_MARK
from netctl.state import Filter, Gate

TABLE = "fleet"
HOLD = "fleet_hold"
MARK = "owner_netctl_"
"""An empty chain whose name says whose table this is, and in which version."""
Object = dict[str, Any]
"""One object of libnftables-json(5): a foreign format, made here and in nftables.py alone."""

_UID_OUT: Object = {"concat": [{"meta": {"key": "skuid"}}, {"meta": {"key": "oifname"}}]}
_SOURCE: Object = {"payload": {"protocol": "ip", "field": "saddr"}}
_SOURCE_OUT: Object = {"concat": [_SOURCE, {"meta": {"key": "oifname"}}]}
_DROP: list[Object] = [{"counter": {"packets": 0, "bytes": 0}}, {"drop": None}]
_ACCEPT: list[Object] = [{"accept": None}]
_UID_PORT: Object = {"concat": [{"meta": {"key": "skuid"}}, {"payload": {"protocol": "tcp", "field": "dport"}}]}


def _is(left: Object, right: object, operator: str = "==") -> Object:
    return {"match": {"op": operator, "left": left, "right": right}}


def _meta(key: str, right: object) -> Object:
    return _is({"meta": {"key": key}}, right)


def _meta_not(key: str, right: object) -> Object:
    return _is({"meta": {"key": key}}, right, "!=")


def _goto(chain: str) -> list[Object]:
    return [{"goto": {"target": chain}}]


_IPV4 = _meta("nfproto", "ipv4")
_TO_LO = _meta("oifname", "lo")
_TO_OURS = _meta("oifname", "@interfaces")
_FROM_OURS = _meta("iifname", "@interfaces")
# Any other source would be translated as well, and what the kernel sends for its sockets once they are gone
# (resets, port unreachable) would be held by no rule of a placeholder and take the uplink.
_OPEN: list[Object] = [_is(_UID_OUT, "@open"), _is(_SOURCE_OUT, "@open_source"), *_ACCEPT]

HOOKS: dict[str, Object] = {
    "output": {"type": "filter", "hook": "output", "prio": 0, "policy": "accept"},
    "translate": {"type": "nat", "hook": "postrouting", "prio": 100, "policy": "accept"},
    "last": {"type": "filter", "hook": "postrouting", "prio": 150, "policy": "accept"},
    "forward": {"type": "filter", "hook": "forward", "prio": 0, "policy": "accept"},
    "input": {"type": "filter", "hook": "input", "prio": 0, "policy": "accept"},
}
RULES: dict[str, list[list[Object]]] = {
    "output": [
        [_meta("skuid", "@workers"), *_goto("worker")],
        [_is(_SOURCE, "@placeholders"), *_goto("placeholder")],
        [_TO_OURS, *_DROP],
    ],
    "worker": [
        # Kernel WireGuard encrypts in place: the outer packet still names the worker's socket, so its UID
        # (skb_scrub_packet keeps it since Linux 4.19). No worker can set a mark, and this may be port 53.
        [_meta("l4proto", "udp"), _meta("mark", OUTER_MARK), _meta_not("oifname", "@interfaces"), *_ACCEPT],
        [
            _meta("l4proto", {"set": ["tcp", "udp"]}),
            _is({"payload": {"protocol": "th", "field": "dport"}}, 53),
            *_goto("dns"),
        ],
        # Who reaches a driver's port runs programs under that driver's UID.
        [
            _TO_LO,
            _is({"payload": {"protocol": "tcp", "field": "dport"}}, "@browser_ports"),
            _is(_UID_PORT, "@own_ports", "!="),
            *_DROP,
        ],
        [_TO_LO, *_ACCEPT],
        [_IPV4, *_OPEN],
        _DROP,
    ],
    "dns": [
        [_is({"payload": {"protocol": "ip", "field": "daddr"}}, "@resolvers"), *_OPEN],
        _DROP,
    ],
    "placeholder": [
        [_TO_LO, *_ACCEPT],
        # A socket of any UID has one here; what the kernel sends for a socket that is gone has none.
        [_is({"meta": {"key": "skuid"}}, 0, ">="), *_DROP],
        [_is(_SOURCE_OUT, "@open_source"), *_ACCEPT],
        _DROP,
    ],
    "translate": [
        [
            _IPV4,
            _TO_OURS,
            {"snat": {"family": "ip", "addr": {"map": {"key": {"meta": {"key": "oifname"}}, "data": "@translation"}}}},
        ],
    ],
    "last": [
        [_TO_LO, *_ACCEPT],
        [_is(_SOURCE, "@placeholders"), *_DROP],
        # An old conntrack entry would still translate to the previous lease's address.
        [_TO_OURS, _is(_SOURCE_OUT, "@leased", "!="), *_DROP],
        [_TO_OURS, _meta("nfproto", "ipv6"), *_DROP],
    ],
    "forward": [[_FROM_OURS, *_DROP], [_TO_OURS, *_DROP]],
    "input": [
        [_FROM_OURS, _is({"ct": {"key": "state"}}, ["established", "related"], "in"), *_ACCEPT],
        [_FROM_OURS, *_DROP],
    ],
}
SETS: dict[str, str | list[str]] = {
    "workers": "uid",
    "interfaces": "ifname",
    "placeholders": "ipv4_addr",
    "resolvers": "ipv4_addr",
    "browser_ports": "inet_service",
    "own_ports": ["uid", "inet_service"],
    "open": ["uid", "ifname"],
    "open_source": ["ipv4_addr", "ifname"],
    "leased": ["ipv4_addr", "ifname"],
}


HOLD_RULES = {
    **{name: RULES[name] for name in ("output", "worker", "dns", "placeholder", "forward", "input")},
    "last": [
        [_TO_LO, *_ACCEPT],
        # With the other table gone nothing is translated: then nothing leaves.
        [_is(_SOURCE, "@placeholders"), *_DROP],
        [_TO_OURS, _meta("nfproto", "ipv6"), *_DROP],
    ],
}
HOLD_SETS = {name: kind for name, kind in SETS.items() if name != "leased"}


@cache
def mark() -> str:
    """The name of the marking chain: changes whenever the rules of this file do."""
    text = json.dumps([HOOKS, RULES, SETS], sort_keys=True)
    return MARK + hashlib.sha256(text.encode()).hexdigest()[:12]


def document(wanted: Filter) -> list[Object]:
    """Table, sets, chains and rules for WANTED, without a gate open."""
    at: Object = {"family": "inet", "table": TABLE}
    parts: list[Object] = [{"table": {"family": "inet", "name": TABLE}}, *_sets(TABLE, SETS, _content(wanted))]
    parts.append({"map": {**at, "name": "translation", "type": "ifname", "map": "ipv4_addr"}})
    parts.append({"chain": {**at, "name": mark()}})
    return parts + _chains(TABLE, RULES)


def shape_document(table: str) -> list[Object]:
    """Every rule of `document` in a table of another name whose chains have no hook: nothing ever meets it."""
    at: Object = {"family": "inet", "table": table}
    parts = _sets(table, SETS, {})
    parts.append({"map": {**at, "name": "translation", "type": "ifname", "map": "ipv4_addr"}})
    return parts + _chains(table, RULES, {})


def hold_document(wanted: Filter) -> list[Object]:
    """Sets, chains and rules of the held table for WANTED; the table itself is made in words, for its flag."""
    workers = [Worker(uid=uid) for uid in sorted(wanted.uids)]
    content = _content(wanted)
    content["open"] = [{"concat": [worker.uid, name]} for worker in workers for name in worker.interfaces]
    content["open_source"] = [
        {"concat": [str(worker.placeholder), name]} for worker in workers for name in worker.interfaces
    ]
    return _sets(HOLD, HOLD_SETS, content) + _chains(HOLD, HOLD_RULES)


def _content(wanted: Filter) -> dict[str, list[int] | list[str] | list[Object]]:
    """The elements of every set that no gate changes."""
    workers = [Worker(uid=uid) for uid in sorted(wanted.uids)]
    return {
        "workers": [worker.uid for worker in workers],
        "interfaces": [name for worker in workers for name in worker.interfaces],
        "placeholders": [str(worker.placeholder) for worker in workers],
        "resolvers": [str(address) for address in sorted(wanted.resolvers)],
        "browser_ports": [port for worker in workers for port in worker.browser_ports],
        "own_ports": [{"concat": [worker.uid, port]} for worker in workers for port in worker.browser_ports],
    }


def _sets(
    table: str, sets: dict[str, str | list[str]], content: dict[str, list[int] | list[str] | list[Object]]
) -> list[Object]:
    parts: list[Object] = []
    for name, kind in sets.items():
        elements = {"elem": content[name]} if content.get(name) else {}
        parts.append({"set": {"family": "inet", "table": table, "name": name, "type": kind, **elements}})
    return parts


def _chains(table: str, rules: dict[str, list[list[Object]]], hooks: dict[str, Object] | None = None) -> list[Object]:
    at: Object = {"family": "inet", "table": table}
    of_chain = HOOKS if hooks is None else hooks
    parts: list[Object] = [{"chain": {**at, "name": name, **of_chain.get(name, {})}} for name in rules]
    return parts + [{"rule": {**at, "chain": name, "expr": rule}} for name, listed in rules.items() for rule in listed]


def elements(gate: Gate) -> list[Object]:
    """The set elements that open GATE, all together."""
    address = str(gate.address)
    return [
        *passage(gate.worker, gate.interface),
        _element("leased", {"concat": [address, gate.interface]}),
        _element("translation", [gate.interface, address]),
    ]


def passage(worker: Worker, interface: str) -> list[Object]:
    """The elements without which nothing of WORKER's leaves through INTERFACE."""
    return [
        _element("open", {"concat": [worker.uid, interface]}),
        _element("open_source", {"concat": [str(worker.placeholder), interface]}),
    ]


def _element(name: str, value: object) -> Object:
    return {"element": {"family": "inet", "table": TABLE, "name": name, "elem": [value]}}
