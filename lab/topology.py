"""The small internet as data: hosts, wires, addresses. No kernel is touched here.

    host ── access ── isp ── core ──┬── web    the shop, https://shop.example/
    (the user's machine)            ├── vpn1   exit 203.0.113.11, tunnels 198.18.1.0/24
                                    └── vpnN

The ISP's end of `access` is the home router too: beside the host's public address lies its LAN, where the router
has an address and cloud metadata answers. `web` also tells who asks: a name server and a STUN server (lab.site.echo).

All other addresses are from ranges set aside for documentation and benchmarks (RFC 5737, 2544, 3849).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final

from fleet.errors import UsageError
from fleet.numbers import Worker

SITE_NAME: Final = "shop.example"
ECHO_NAME: Final = "whoami.example"
"""Its address is that of the name server that asks for it, as seen from outside; the same for every name below."""
REBIND_NAME: Final = "rebind.example"
"""`HEX.WORD.rebind.example` is the shop when asked first, and the IPv4 address HEX from then on (DNS rebinding)."""
HOST_ADDRESS: Final = IPv4Address("198.51.100.10")
HOST_ADDRESS_V6: Final = IPv6Address("2001:db8:1::10")
ROUTER_ADDRESS: Final = IPv4Address("198.51.100.1")
ISP_RESOLVER: Final = IPv4Address("198.51.100.53")
ISP_RESOLVER_V6: Final = IPv6Address("2001:db8:1::53")
WEB_ADDRESS: Final = IPv4Address("203.0.113.80")
WEB_ADDRESS_V6: Final = IPv6Address("2001:db8:2::80")
HOSTILE_PORTS: Final = (4447, Worker(uid=1102).browser_ports[0])
"""Where the shop also serves the hostile page: an attacker's site has the port of what a name is to be bound to later.
The second is DevTools' of a neighbour of the first worker's."""
STUN_PORT: Final = 3478
LAN_HOST: Final = IPv4Address("192.168.77.10")
LAN_HOST_V6: Final = IPv6Address("fd00:77::10")
LAN_ROUTER: Final = IPv4Address("192.168.77.1")
LAN_ROUTER_V6: Final = IPv6Address("fd00:77::1")
METADATA: Final = IPv4Address("169.254.169.254")
"""The address at which clouds serve metadata of a machine, its credentials included."""
TUNNEL_RESOLVER: Final = IPv4Address("198.18.0.53")
TUNNELS: Final = IPv4Network("198.18.0.0/15")
TUNNELS_V6: Final = IPv6Network("2001:db8:98::/48")
WIREGUARD_PORT: Final = 51820
MOST_SERVERS: Final = 60
MOST_KEYS: Final = 240
MOST_NAME: Final = 10
"""Longest lab name: the servers' interface names `NAMEvK` must fit the kernel's 15 characters."""
CORE: Final = ("203.0.113.1/24", "2001:db8:2::1/64")
"""The ISP's addresses at `core`."""
ACCESS: Final = (
    *("198.51.100.1/24", "198.51.100.53/32", "2001:db8:1::1/64", "2001:db8:1::53/128"),
    *(f"{LAN_ROUTER}/24", f"{LAN_ROUTER_V6}/64", f"{METADATA}/32"),
)
"""Those of its end of the wire to the host."""
UPLINK: Final = ("198.51.100.10/24", "2001:db8:1::10/64", f"{LAN_HOST}/24", f"{LAN_HOST_V6}/64")
"""Those of the host's end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """VPN server number K: its exit address, its tunnels' network, its interface."""

    number: int
    lab: str
    ipv6: bool = False
    """Whether its clients' files name their IPv6 addresses."""

    @property
    def host(self) -> str:
        return f"vpn{self.number}"

    @property
    def name(self) -> str:
        """Its name in the ISP's resolver."""
        return f"{self.host}.example"

    @property
    def address(self) -> IPv4Address:
        """The address where it listens, and its exit."""
        return IPv4Address("203.0.113.10") + self.number

    @property
    def address_v6(self) -> IPv6Address:
        return IPv6Address("2001:db8:2::1000") + self.number

    @property
    def network(self) -> IPv4Network:
        return IPv4Network((int(IPv4Address("198.18.0.0")) + 256 * self.number, 24))

    @property
    def interface(self) -> str:
        """Unique on the machine: wireguard-go's socket folder knows no namespaces."""
        return f"{self.lab}v{self.number}"

    @property
    def network_v6(self) -> IPv6Network:
        return IPv6Network((int(TUNNELS_V6.network_address) + (self.number << 64), 64))

    def client(self, number: int) -> IPv4Address:
        """The tunnel address of client key NUMBER, counted from 1."""
        return self.network[10 + number]

    def client_v6(self, number: int) -> IPv6Address:
        """The same for IPv6: a server routes it, even if the client's file does not name it."""
        return self.network_v6[10 + number]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topology:
    """A whole lab: derived from its name and two numbers."""

    name: str
    servers: int = 3
    keys: int = 10
    """Client keys of each server."""
    ipv6: bool = False
    """Whether keys have an IPv6 address: only then their tunnels carry it."""
    hosts: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        if not 1 <= self.servers <= MOST_SERVERS:
            raise UsageError(f"a lab has 1 to {MOST_SERVERS} VPN servers, not {self.servers}")
        if not 1 <= self.keys <= MOST_KEYS:
            raise UsageError(f"a VPN server has 1 to {MOST_KEYS} client keys, not {self.keys}")
        object.__setattr__(self, "hosts", ("isp", "web", "host", *(server.host for server in self.vpn)))

    @property
    def vpn(self) -> tuple[Server, ...]:
        return tuple(Server(number=number, lab=self.name, ipv6=self.ipv6) for number in range(1, self.servers + 1))

    def namespace(self, host: str) -> str:
        """The name of HOST for `ip netns`."""
        return f"{self.name}-{host}"

    @property
    def on_core(self) -> dict[str, tuple[str, str]]:
        """The hosts at `core` beside the ISP, with their addresses."""
        servers = {one.host: (f"{one.address}/24", f"{one.address_v6}/64") for one in self.vpn}
        return {"web": (f"{WEB_ADDRESS}/24", f"{WEB_ADDRESS_V6}/64"), **servers}

    def wires(self) -> dict[str, list[str]]:
        """The lines for `ip -batch` inside each host, in this order: all wires start at the ISP."""
        lines = {
            "isp": ["link add core type bridge", *brought_up("core", CORE), self._wire("access", "host", "uplink")],
            "host": [*brought_up("uplink", UPLINK), *_by_way_of(str(ROUTER_ADDRESS), "2001:db8:1::1")],
        }
        lines["isp"] += brought_up("access", ACCESS)
        for host, addresses in self.on_core.items():
            lines["isp"] += [self._wire(f"to-{host}", host, "eth0"), f"link set to-{host} master core up"]
            lines[host] = [*brought_up("eth0", addresses), *_by_way_of("203.0.113.1", "2001:db8:2::1")]
        return lines

    def _wire(self, near: str, host: str, far: str) -> str:
        return f"link add {near} type veth peer name {far} netns {self.namespace(host)}"

    def sysctls(self, host: str) -> dict[str, str]:
        """The values of /proc/sys/net in HOST before its wires come up."""
        # No duplicate address detection: an address is usable at once, not 1-2 s later.
        settings = {"ipv6/conf/all/accept_dad": "0", "ipv6/conf/default/accept_dad": "0"}
        if host == "host":
            # What Ubuntu 22.04 sets. Debian 12 sets no rp_filter: 0, as a fresh namespace has it.
            settings |= {
                "ipv4/conf/all/rp_filter": "2",
                "ipv4/conf/default/rp_filter": "2",
                "ipv4/ping_group_range": "0 2147483647",
            }
        elif host != "web":
            settings |= {"ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1"}
        return settings

    def resolver(self, host: str) -> IPv4Address:
        """The name server in HOST's /etc/resolv.conf."""
        return ISP_RESOLVER if host in ("host", "isp", "web") else TUNNEL_RESOLVER


def check_name(name: str) -> None:
    """Raise UsageError unless NAME can name a lab."""
    if not re.fullmatch(rf"[a-z][a-z0-9]{{0,{MOST_NAME - 1}}}", name):
        raise UsageError(f"{name!r} is no lab name", hint=f"1 to {MOST_NAME} of a-z and 0-9, a letter first")


def brought_up(link: str, addresses: Iterable[str]) -> list[str]:
    """Lines for `ip -batch`: LINK has these addresses, and is up."""
    added = [f"address add {one} dev {link}{' nodad' if ':' in one else ''}" for one in addresses]
    return [*added, f"link set {link} up"]


def _by_way_of(*gateways: str) -> list[str]:
    return [f"route add default via {one}" for one in gateways]
