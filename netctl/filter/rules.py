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

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any

from fleet.numbers import OUTER_MARK

Object = dict[str, Any]
"""One object of libnftables-json(5): a foreign format, made here and in documents.py alone."""

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
    return {"set": [prefix(ip_network(network)) for network in networks]}


def prefix(network: IPv4Network | IPv6Network) -> Object:
    """NETWORK as libnftables tells it."""
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


OWNED_RULES = {
    **{name: RULES[name] for name in RULES if name not in ("translate", "last", "leased_only")},
    "last": [
        [_TO_LO, *_ACCEPT],
        # With the other table gone nothing is translated: then nothing leaves.
        [_is(_SOURCE, "@placeholders"), *_DROP],
        [_is(_SOURCE_6, "@placeholders6"), *_DROP],
    ],
}
OWNED_SETS = {name: kind for name, kind in SETS.items() if name not in ("leased", "leased6")}
