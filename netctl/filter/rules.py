"""What stands in the tables `inet fleet` and `inet fleet_hold`: chains, rules, sets, in libnftables' JSON forms.

    output       a worker's packets leave from its placeholder through its open gate; ports 53 and 853 to our
                 resolvers alone; over `lo` to its own browser's ports; to nothing that is private, by any way
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
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from fleet.model import Worker
from fleet.numbers import OUTER_MARK
from netctl.plan.things import OWNED_TABLE, TABLE, Filter, Gate

MARK = "owner_netctl_"
"""An empty chain whose name says whose table this is, and in which version."""
Object = dict[str, Any]
"""One object of libnftables-json(5): a foreign format, made here and in nftables.py alone."""
Content = Mapping[str, Sequence["int | str | Object"]]
"""The elements of sets, by the sets' names."""

_UID_OUT: Object = {"concat": [{"meta": {"key": "skuid"}}, {"meta": {"key": "oifname"}}]}
_SOURCE: Object = {"payload": {"protocol": "ip", "field": "saddr"}}
_SOURCE_OUT: Object = {"concat": [_SOURCE, {"meta": {"key": "oifname"}}]}
_SOURCE_6: Object = {"payload": {"protocol": "ip6", "field": "saddr"}}
_SOURCE_6_OUT: Object = {"concat": [_SOURCE_6, {"meta": {"key": "oifname"}}]}
_COUNT: Object = {"counter": {"packets": 0, "bytes": 0}}
_DROP: list[Object] = [_COUNT, {"drop": None}]
_ACCEPT: list[Object] = [{"accept": None}]
_TARGET: Object = {"payload": {"protocol": "ip", "field": "daddr"}}
_TARGET_6: Object = {"payload": {"protocol": "ip6", "field": "daddr"}}
_TCP_PORT: Object = {"payload": {"protocol": "tcp", "field": "dport"}}
_PORT: Object = {"payload": {"protocol": "th", "field": "dport"}}
_UID_PORT: Object = {"concat": [{"meta": {"key": "skuid"}}, _TCP_PORT]}
_UID_FROM_PORT: Object = {"concat": [{"meta": {"key": "skuid"}}, {"payload": {"protocol": "tcp", "field": "sport"}}]}
_SYN, _SYN_OR_ACK = 0x02, 0x12
_TCP_FLAGS: Object = {"&": [{"payload": {"protocol": "tcp", "field": "flags"}}, _SYN_OR_ACK]}


def _is(left: Object, right: object, operator: str = "==") -> Object:
    return {"match": {"op": operator, "left": left, "right": right}}


def _meta(key: str, right: object) -> Object:
    return _is({"meta": {"key": key}}, right)


def _meta_not(key: str, right: object) -> Object:
    return _is({"meta": {"key": key}}, right, "!=")


def _goto(chain: str) -> list[Object]:
    return [{"goto": {"target": chain}}]


def _translated(family: str, map_: str) -> Object:
    return {"snat": {"family": family, "addr": {"map": {"key": {"meta": {"key": "oifname"}}, "data": map_}}}}


def _ranges(networks: Iterable[str]) -> Object:
    return {"set": [_prefix(ip_network(network)) for network in networks]}


def _prefix(network: IPv4Network | IPv6Network) -> Object:
    return {"prefix": {"addr": str(network.network_address), "len": network.prefixlen}}


_TO_LO = _meta("oifname", "lo")
_TO_OURS = _meta("oifname", "@interfaces")
_FROM_OURS = _meta("iifname", "@interfaces")
# Any other source would be translated as well, and what the kernel sends for its sockets once they are gone
# (resets, port unreachable) would be held by no rule of a placeholder and take the uplink.
_OPEN: list[Object] = [_is(_UID_OUT, "@open"), _is(_SOURCE_OUT, "@open_source"), *_ACCEPT]
# A key without an IPv6 address has no element here.
_OPEN_6: list[Object] = [_is(_UID_OUT, "@open"), _is(_SOURCE_6_OUT, "@open_source6"), *_ACCEPT]

# "This network", private, shared (carriers), loopback, link-local (cloud metadata), multicast, reserved (IANA's
# special-purpose registries, RFC 6890). 198.18.0.0/15 and the documentation networks are nobody's LAN.
PRIVATE = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "224.0.0.0/4",
    "240.0.0.0/4",
)
# Unspecified and loopback, IPv4 within IPv6 (mapped, and NAT64's), unique local, link-local, multicast.
PRIVATE_6 = ("::/127", "::ffff:0:0/96", "64:ff9b::/96", "fc00::/7", "fe80::/10", "ff00::/8")

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
        [_is(_SOURCE_6, "@placeholders6"), *_goto("placeholder")],
        [_TO_OURS, *_DROP],
    ],
    "worker": [
        # Kernel WireGuard encrypts in place: the outer packet still names the worker's socket, so its UID
        # (skb_scrub_packet keeps it since Linux 4.19). No worker can set a mark, and this may be port 53.
        [_meta("l4proto", "udp"), _meta("mark", OUTER_MARK), _meta_not("oifname", "@interfaces"), *_ACCEPT],
        [_meta("l4proto", {"set": ["tcp", "udp"]}), _is(_PORT, {"set": [53, 853]}), *_goto("dns")],
        [_TO_LO, *_goto("loopback")],
        # Through the tunnel as well: a VPN server's own network and its cloud's metadata are nobody's business.
        [_is(_TARGET, _ranges(PRIVATE)), _is(_TARGET, "@reachable", "!="), *_goto("refuse")],
        [_is(_TARGET_6, _ranges(PRIVATE_6)), _is(_TARGET_6, "@reachable6", "!="), *_goto("refuse")],
        _OPEN,
        _OPEN_6,
        _DROP,
    ],
    "dns": [
        [_is(_TARGET, "@resolvers"), *_OPEN],
        [_is(_TARGET_6, "@resolvers6"), *_OPEN_6],
        _goto("refuse"),
    ],
    # The host's own addresses lie behind `lo` too, its LAN address among them.
    "loopback": [
        [_is({"ct": {"key": "state"}}, ["established", "related"], "in"), *_ACCEPT],
        # Who reaches a driver's port runs programs under that driver's UID.
        [_is(_UID_PORT, "@own_ports"), *_ACCEPT],
        # Its answers, also where connection tracking is off for `lo`, or loses count of a long one.
        [_is(_UID_FROM_PORT, "@own_ports"), _is(_TCP_FLAGS, _SYN, "!="), *_ACCEPT],
        [_is(_TCP_PORT, "@loopback_ports"), *_ACCEPT],
        _goto("refuse"),
    ],
    "refuse": [
        # A reset and no ICMP error: that comes while connect() still holds the socket, which then notes it and
        # waits a second for the next SYN (tcp_v4_err in net/ipv4/tcp_ipv4.c; measured). What is dropped here is
        # EPERM to a UDP sender at once. IPV6_FREEBIND, free to all, lets a socket send from anybody's address: an
        # answer to that would take the uplink.
        [_is({"fib": {"result": "type", "flags": ["saddr"]}}, "local"), _COUNT, {"reject": {"type": "tcp reset"}}],
        _DROP,
    ],
    "placeholder": [
        [_TO_LO, *_ACCEPT],
        # A socket of any UID has one here; what the kernel sends for a socket that is gone has none.
        [_is({"meta": {"key": "skuid"}}, 0, ">="), *_DROP],
        [_is(_SOURCE_OUT, "@open_source"), *_ACCEPT],
        [_is(_SOURCE_6_OUT, "@open_source6"), *_ACCEPT],
        _DROP,
    ],
    "translate": [
        [_meta("nfproto", "ipv4"), _TO_OURS, _translated("ip", "@translation")],
        [_meta("nfproto", "ipv6"), _TO_OURS, _translated("ip6", "@translation6")],
    ],
    "last": [
        [_TO_LO, *_ACCEPT],
        [_is(_SOURCE, "@placeholders"), *_DROP],
        [_is(_SOURCE_6, "@placeholders6"), *_DROP],
        [_TO_OURS, *_goto("leased_only")],
    ],
    "leased_only": [
        # An old conntrack entry would still translate to the previous lease's address.
        [_is(_SOURCE_OUT, "@leased", "!="), *_DROP],
        [_is(_SOURCE_6_OUT, "@leased6", "!="), *_DROP],
    ],
    "forward": [[_FROM_OURS, *_DROP], [_TO_OURS, *_DROP]],
    "input": [
        # First, and from any interface: elsewhere everything is accepted anyway, and what a tunnel carries, sealed and
        # open, then costs no look at a set (measured: bin/bench isolation).
        [_is({"ct": {"key": "state"}}, ["established", "related"], "in"), *_ACCEPT],
        [_FROM_OURS, *_DROP],
    ],
}
SETS: dict[str, str | list[str]] = {
    "workers": "uid",
    "interfaces": "ifname",
    "placeholders": "ipv4_addr",
    "placeholders6": "ipv6_addr",
    "resolvers": "ipv4_addr",
    "resolvers6": "ipv6_addr",
    "reachable": "ipv4_addr",
    "reachable6": "ipv6_addr",
    "loopback_ports": "inet_service",
    "own_ports": ["uid", "inet_service"],
    "open": ["uid", "ifname"],
    "open_source": ["ipv4_addr", "ifname"],
    "open_source6": ["ipv6_addr", "ifname"],
    "leased": ["ipv4_addr", "ifname"],
    "leased6": ["ipv6_addr", "ifname"],
}
MAPS = {"translation": "ipv4_addr", "translation6": "ipv6_addr"}
"""By interface, the leased address."""
INTERVALS = ("reachable", "reachable6")
"""The sets whose elements are networks."""


HOLD_RULES = {
    **{name: RULES[name] for name in RULES if name not in ("translate", "last", "leased_only")},
    "last": [
        [_TO_LO, *_ACCEPT],
        # With the other table gone nothing is translated: then nothing leaves.
        [_is(_SOURCE, "@placeholders"), *_DROP],
        [_is(_SOURCE_6, "@placeholders6"), *_DROP],
    ],
}
HOLD_SETS = {name: kind for name, kind in SETS.items() if name not in ("leased", "leased6")}


@cache
def mark() -> str:
    """The name of the marking chain: changes whenever the rules of this file do."""
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


def hold_document(wanted: Filter) -> list[Object]:
    """Sets, chains and rules of the held table for WANTED; the table itself is made in words, for its flag."""
    workers = [Worker(uid=uid) for uid in sorted(wanted.uids)]
    both = [(worker, name) for worker in workers for name in worker.interfaces]
    passages: Content = {
        "open": [{"concat": [worker.uid, name]} for worker, name in both],
        "open_source": [{"concat": [str(worker.placeholder), name]} for worker, name in both],
        "open_source6": [{"concat": [str(worker.placeholder_v6), name]} for worker, name in both],
    }
    return _sets(OWNED_TABLE, HOLD_SETS, {**_content(wanted), **passages}) + _chains(OWNED_TABLE, HOLD_RULES)


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
    return [str(one.network_address) if one.prefixlen == one.max_prefixlen else _prefix(one) for one in found]


def _sets(table: str, sets: dict[str, str | list[str]], content: Content) -> list[Object]:
    parts: list[Object] = []
    for name, kind in sets.items():
        elements: Object = {"elem": content[name]} if content.get(name) else {}
        if name in INTERVALS:
            elements["flags"] = ["interval"]
        parts.append({"set": {"family": "inet", "table": table, "name": name, "type": kind, **elements}})
    return parts


def _chains(table: str, rules: dict[str, list[list[Object]]], hooks: dict[str, Object] | None = None) -> list[Object]:
    at: Object = {"family": "inet", "table": table}
    of_chain = HOOKS if hooks is None else hooks
    parts: list[Object] = [{"chain": {**at, "name": name, **of_chain.get(name, {})}} for name in rules]
    return parts + [{"rule": {**at, "chain": name, "expr": rule}} for name, listed in rules.items() for rule in listed]


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
