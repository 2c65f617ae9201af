"""The lab's resolvers: dnsmasq, at the ISP (a worker's query there is a leak) and inside every tunnel."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import dns.exception
import dns.message
import dns.rdatatype

from fleet.errors import MissingProgram
from lab.topology import ECHO_NAME, REBIND_NAME, SITE_NAME, WEB_ADDRESS, WEB_ADDRESS_V6, Server

Address = IPv4Address | IPv6Address


def command(addresses: Sequence[Address], queries: Path, servers: Sequence[Server] = ()) -> list[str]:
    """The command line of a resolver at ADDRESSES; it knows SERVERS; every query, with its asker, goes to QUERIES."""
    program = shutil.which("dnsmasq", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        raise MissingProgram("dnsmasq is not there", hint="run: sudo bin/setup")
    return [
        program,
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
        # Chrome's own look-ups of other names get a quick "there is no such name".
        "--address=/#/",
        *(f"--listen-address={address}" for address in addresses),
    ]


def answers(address: Address) -> bool:
    """Whether the resolver at ADDRESS knows the shop; call it inside the resolver's namespace."""
    question = dns.message.make_query(SITE_NAME, dns.rdatatype.A)
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        # dns.query would import QUIC, TLS and trio: half of the time in which the programs of the lab start.
        with socket.socket(family, socket.SOCK_DGRAM) as asking:
            asking.settimeout(0.5)
            asking.connect((str(address), 53))
            asking.send(question.to_wire())
            said = dns.message.from_wire(asking.recv(4096))
        return said.id == question.id and bool(said.answer)
    except (OSError, dns.exception.DNSException):
        return False
