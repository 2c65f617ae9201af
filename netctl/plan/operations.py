"""One change of the kernel, and the command that an administrator would type for it; keys are never shown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch
from typing import Literal

from fleet.isolation import HOST
from fleet.model import PROTOCOL
from netctl.plan.state import Address, Device, Filter, Gate, Link, Route, Rule, Space, Sysctl, Thing

Verb = Literal["add", "set", "move", "up", "delete", "open", "seal"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One change of the kernel."""

    verb: Verb
    thing: Thing

    def __str__(self) -> str:
        text, space = _describe(self.thing, self.verb), self.space
        if space == HOST:
            return text
        return f"ip -n {space}{text[2:]}" if text.startswith("ip ") else f"ip netns exec {space} {text}"

    @property
    def space(self) -> str:
        """The namespace it is done in: what makes a namespace, or moves a link there, is done in the host's."""
        return HOST if self.verb == "move" or isinstance(self.thing, Space) else self.thing.space


@singledispatch
def _describe(thing: Thing, verb: Verb) -> str:
    raise TypeError(f"{verb} {thing!r}")


@_describe.register
def _(thing: Space, verb: Verb) -> str:
    return f"ip netns {verb} {thing.space}"


@_describe.register
def _(thing: Link, verb: Verb) -> str:
    if verb == "add":
        return f"ip link add {thing.interface} type {thing.kind}"
    if verb == "delete":
        return f"ip link delete {thing.interface}"
    if verb == "up":
        return f"ip link set {thing.interface} up"
    if verb == "move":
        return f"ip link set {thing.interface} netns {thing.space}"
    return f"ip link set {thing.interface} alias {thing.alias} mtu {thing.mtu_bytes}"


@_describe.register
def _(thing: Address, verb: Verb) -> str:
    return f"ip address {verb} {thing.address}/{thing.prefix} dev {thing.interface}"


@_describe.register
def _(thing: Route, verb: Verb) -> str:
    kind = "unreachable default" if thing.interface is None else f"default dev {thing.interface}"
    source = f" src {thing.source}" if thing.source else ""
    metric = f" metric {thing.metric}" if thing.metric else ""
    route = f"ip -{thing.family} route {verb} {kind} table {thing.table}"
    return f"{route}{source}{metric} proto {thing.protocol}{_more(thing)}"


@_describe.register
def _(thing: Rule, verb: Verb) -> str:
    who = f"from {thing.source}" if thing.source else f"uidrange {thing.uid}-{thing.uid}"
    what = "prohibit" if thing.table is None else f"lookup {thing.table}"
    return f"ip -{thing.family} rule {verb} {who} {what} priority {thing.priority} protocol {PROTOCOL}{_more(thing)}"


def _more(thing: Route | Rule) -> str:
    return " # the one that has more to it" if thing.listed else ""


@_describe.register
def _(thing: Sysctl, _verb: Verb) -> str:
    return f"sysctl -w {'/'.join(thing.path)}={thing.value}"


@_describe.register
def _(thing: Device, _verb: Verb) -> str:
    if thing.peer is None:
        return f"wg set {thing.interface} private-key /dev/null # and every peer removed"
    host, port = thing.peer.endpoint
    host = f"[{host}]" if ":" in host else host
    return (
        f"wg set {thing.interface} private-key (hidden) peer {thing.peer.public_key} endpoint {host}:{port}"
        f" persistent-keepalive {thing.peer.keepalive_seconds}"
        f" allowed-ips {','.join(thing.peer.allowed)}"
    )


@_describe.register
def _(thing: Gate, verb: Verb) -> str:
    action = "add" if verb == "open" else "delete"
    return (
        f'nft {action} element inet fleet open {{ {thing.uid} . "{thing.interface}" }}'
        f' # and translation {{ "{thing.interface}" : {thing.address} }}'
        + (f', translation6 {{ "{thing.interface}" : {thing.address_v6} }}' if thing.address_v6 else "")
    )


@_describe.register
def _(thing: Filter, verb: Verb) -> str:
    if verb == "delete":
        return "nft delete table inet fleet"
    return f"nft -f - # table inet fleet: {len(thing.uids)} workers held back"
