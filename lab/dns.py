"""The lab's resolvers: dnsmasq, at the ISP (a worker's query there is a leak) and inside every tunnel."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from lab.topology import ECHO_NAME, REBIND_NAME, SITE_NAME, WEB_ADDRESS, WEB_ADDRESS_V6, Server
from lab.wires import program

Address = IPv4Address | IPv6Address


def command(addresses: Sequence[Address], queries: Path, servers: Sequence[Server] = ()) -> list[str]:
    """The command line of a resolver at ADDRESSES; it knows SERVERS, and logs queries with their clients to QUERIES."""
    return [
        program("dnsmasq"),
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--pid-file=",
        "--user=root",
        "--no-hosts",
        "--no-resolv",
        "--bind-interfaces",
        "--log-queries=extra",
        f"--log-facility={queries}",
        f"--host-record={SITE_NAME},{WEB_ADDRESS},{WEB_ADDRESS_V6},60",
        f"--host-record=www.{SITE_NAME},{WEB_ADDRESS},{WEB_ADDRESS_V6},60",
        *(f"--host-record={server.name},{server.address},60" for server in servers),
        *(f"--server=/{name}/{WEB_ADDRESS}" for name in (ECHO_NAME, REBIND_NAME)),
        # Chrome's own look-ups of other names get NXDOMAIN at once.
        "--address=/#/",
        *(f"--listen-address={address}" for address in addresses),
    ]
