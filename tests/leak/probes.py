"""The rows of the matrix as data: what is sent where, and how tcpdump shows it from outside."""

from __future__ import annotations

import re
from typing import Any

from lab.topology import (
    HOST_ADDRESS,
    HOST_ADDRESS_V6,
    ISP_RESOLVER,
    ISP_RESOLVER_V6,
    LAN_HOST,
    LAN_HOST_V6,
    LAN_ROUTER,
    LAN_ROUTER_V6,
    METADATA,
    STUN_PORT,
    WEB_ADDRESS,
    WEB_ADDRESS_V6,
)

UPLINK = "uplink"
TCP, UDP, NEAR = 4443, 4444, 4445
BULK, LINGER, DELAYED = 4491, 4492, 4493
"""The ports of what goes on talking when its peer has gone."""
LATE = {version: f"late packets of ended connections, IPv{version}" for version in (4, 6)}
LOOPBACK = "services of the host itself"
METADATA_V6 = "fd00:ec2::254"
"""Amazon's, since 2020."""
TARGETS = {
    4: (str(WEB_ADDRESS), str(ISP_RESOLVER), str(LAN_ROUTER), str(METADATA)),
    6: (str(WEB_ADDRESS_V6), str(ISP_RESOLVER_V6), str(LAN_ROUTER_V6), METADATA_V6),
}
SOURCES = {4: str(HOST_ADDRESS), 6: str(HOST_ADDRESS_V6)}
PUBLIC = (str(HOST_ADDRESS), str(HOST_ADDRESS_V6))
OF_HOST = ("127.0.0.1", "::1", str(LAN_HOST), str(LAN_HOST_V6), *PUBLIC)


# A long header of version 1 with the fixed bit, padded to the least size of a first packet (RFC 9000, 17.2, 14.1).
_QUIC = "c30000000108" + bytes(range(8)).hex() + bytes(1186).hex()
KINDS: dict[str, dict[str, Any]] = {
    "TCP": {"kind": "tcp", "port": TCP},
    "UDP": {"kind": "udp", "port": UDP},
    "ping": {"kind": "icmp", "port": 0},
    "DNS": {"kind": "udp", "port": 53, "data": "123401000001000000000000047368" + b"op\x07example\0\0\1\0\1".hex()},
    "DNS over TCP": {"kind": "tcp", "port": 53},
    "DNS over TLS": {"kind": "tcp", "port": 853},
    "STUN": {"kind": "udp", "port": STUN_PORT, "data": "000100002112a442" + b"transaction1".hex()},
    "QUIC": {"kind": "udp", "port": 443, "data": _QUIC},
}
ROWS = tuple(f"{name}, IPv{version}" for version in (4, 6) for name in KINDS)
Ways = dict[str, list[dict[str, Any]]]


def probes() -> Ways:
    """Every row's attempts: all targets, plain, bound to the uplink, and from the host's own address."""
    made: Ways = {}
    for version, source in SOURCES.items():
        ways: list[dict[str, Any]] = [{}, {"device": UPLINK}, {"source": source, "freebind": True}]
        for name, kind in KINDS.items():
            tries = [{**kind, "host": host, **way} for host in TARGETS[version] for way in ways]
            made[f"{name}, IPv{version}"] = tries
    return made


def loopback_probes(*, public: bool) -> Ways:
    """Attempts to reach listeners on the host itself, at each of its addresses, also bound to its loopback.

    With PUBLIC also at its public addresses.
    """
    hosts = OF_HOST if public else OF_HOST[: -len(PUBLIC)]
    tries: list[dict[str, Any]] = [
        {"kind": kind, "port": NEAR, "host": one} for kind in ("tcp", "udp") for one in hosts
    ]
    # At the other addresses a socket bound to loopback reaches nothing: IPv6's are on their own interfaces, and for
    # IPv4's it depends on rp_filter.
    bound = [{**one, "device": "lo"} for one in tries if one["host"] in ("127.0.0.1", "::1")]
    return {LOOPBACK: [*tries, *bound]}


_LINE = re.compile(r"(IP6?) \S+ > (\S+): (.*)")


def row_of(line: str) -> tuple[str, str]:
    """The row that a line of tcpdump belongs to, and its target's address; ("", "") for other packets."""
    found = _LINE.search(line)
    if found is None:
        return "", ""
    version, target, what = (6 if found[1] == "IP6" else 4), found[2], found[3]
    if "echo request" in what:
        return f"ping, IPv{version}", target
    if "unreachable" in what:
        return LATE[version], target
    host, _, port = target.rpartition(".")
    if port in (str(BULK), str(LINGER)):
        return LATE[version], host
    flags = what.startswith("Flags")
    for name, kind in KINDS.items():
        # For a connection only the first packet counts: a reset after the other side's answer is no attempt.
        if port == str(kind["port"]) and flags == (kind["kind"] == "tcp") and (not flags or "[S]" in what):
            return f"{name}, IPv{version}", host
    return "", ""
