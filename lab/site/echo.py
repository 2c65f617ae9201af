"""Two servers beside the shop that tell who asks: a name server that answers with its client's address, and STUN.

The name server sees which resolver was used, as an outside observer of a DNS leak would. For
names of REBIND_NAME it does what a DNS rebinding attack does: first the shop's address, then the one in the name.
"""

from __future__ import annotations

import asyncio
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TextIO, cast

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from lab.topology import ECHO_NAME, REBIND_NAME, STUN_PORT, WEB_ADDRESS, WEB_ADDRESS_V6

_A_OF = {4: dns.rdatatype.A, 6: dns.rdatatype.AAAA}
_BINDING_REQUEST, _BINDING_SUCCESS, _XOR_MAPPED_ADDRESS, _COOKIE = 0x0001, 0x0101, 0x0020, 0x2112A442
"""RFC 8489, sections 5 and 14.2."""
Sender = tuple[str, int]


class Names(asyncio.DatagramProtocol):
    """The name server of ECHO_NAME and REBIND_NAME; writes `NAME CLIENT` for every query of an address."""

    def __init__(self, questions: TextIO) -> None:
        self._questions = questions
        self._asked: set[str] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Before Python 3.12 the transport's class is not DatagramTransport.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, sender: Sender) -> None:
        try:
            question = dns.message.from_wire(data)
            answer = dns.message.make_response(question)
        except dns.exception.DNSException:
            return
        answer.flags |= dns.flags.AA
        if question.question:
            self._fill(answer, question.question[0], _plain(sender[0]))
        self._transport.sendto(answer.to_wire(), sender)

    def _fill(self, answer: dns.message.Message, asked: dns.rrset.RRset, asker: IPv4Address | IPv6Address) -> None:
        name = asked.name.to_text(omit_final_dot=True).lower()
        if name.endswith(f".{REBIND_NAME}"):
            address: IPv4Address | IPv6Address | None = self._rebound(name, asked)
        elif name == ECHO_NAME or name.endswith(f".{ECHO_NAME}"):
            address = asker
        else:
            answer.set_rcode(dns.rcode.NXDOMAIN)
            return
        self._questions.write(f"{name} {asker}\n")
        self._questions.flush()
        if address is not None and asked.rdtype == _A_OF[address.version]:
            answer.answer.append(dns.rrset.from_text(asked.name, 0, dns.rdataclass.IN, asked.rdtype, str(address)))

    def _rebound(self, name: str, asked: dns.rrset.RRset) -> IPv4Address | None:
        if asked.rdtype != dns.rdatatype.A:
            return None
        if name not in self._asked:
            self._asked.add(name)
            return WEB_ADDRESS
        try:
            return IPv4Address(bytes.fromhex(name.partition(".")[0]))
        except ValueError:
            return None


class Stun(asyncio.DatagramProtocol):
    """Answers binding requests with the address they came from."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Before Python 3.12 the transport's class is not DatagramTransport.
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, sender: Sender) -> None:
        if answer := binding(data, sender):
            self._transport.sendto(answer, sender)


def binding(request: bytes, sender: Sender) -> bytes:
    """The answer to a binding request from SENDER; nothing for anything else."""
    if len(request) < 20 or struct.unpack_from("!HxxI", request) != (_BINDING_REQUEST, _COOKIE):
        return b""
    address = _plain(sender[0])
    # The address is exclusive-or'ed with the cookie and, for IPv6, the transaction after it.
    mask = request[4:20][: len(address.packed)]
    hidden = bytes(one ^ other for one, other in zip(address.packed, mask, strict=True))
    value = struct.pack("!BBH", 0, 1 if address.version == 4 else 2, sender[1] ^ (_COOKIE >> 16)) + hidden
    attribute = struct.pack("!HH", _XOR_MAPPED_ADDRESS, len(value)) + value
    return struct.pack("!HH", _BINDING_SUCCESS, len(attribute)) + request[4:20] + attribute


def _plain(text: str) -> IPv4Address | IPv6Address:
    address = ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


async def start(questions: TextIO) -> None:
    """Answer on all addresses of this host, as long as the loop runs; raises OSError."""
    loop = asyncio.get_running_loop()
    for address in map(str, (WEB_ADDRESS, WEB_ADDRESS_V6)):
        await loop.create_datagram_endpoint(lambda: Names(questions), local_addr=(address, 53))
        await loop.create_datagram_endpoint(Stun, local_addr=(address, STUN_PORT))
