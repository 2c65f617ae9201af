"""What stands in the tables `inet fleet` and `inet fleet_hold`: chains, rules, sets, in nft's own language.

    output       a worker's packets leave from its placeholder through its open gate; ports 53 and 853 to our
                 resolvers alone; over `lo` to its own browser's ports; to nothing that is private, by any way;
                 and so many new connections in a time
                 packets of a placeholder source without a socket (resets, TIME_WAIT) likewise
                 no other UID sends through a worker's interface
                 what kernel WireGuard sends for a worker goes out by its mark
    translate    the placeholder becomes the leased address
                 of other programs netctl alone sends from a placeholder, by its mark, to see where a tunnel comes out
    last         after translation: whatever is still a placeholder, or not the leased address, is dropped
    forward      nothing from or to our interfaces
    input        from our interfaces only answers
    zone_out     connections through a tunnel are tracked in a zone of the lease's own: what an earlier one has left,
    zone_in      connections and their translation, matches nothing, whatever address the two leases have

The output chain asks `meta skuid` and not the route: SO_BINDTODEVICE needs no privilege, so rules
and routes alone would not hold.

`inet fleet_hold` is the same without gates: every worker's own interface is open to it for ever, so it
needs no change, and what nothing translates is dropped. It is the one that a flush does not reach.
"""

from __future__ import annotations

from fleet.numbers import LAST_UID, PROBE_MARK

# "This network", private, shared (carriers), loopback, link-local (cloud metadata), multicast, reserved (IANA's
# special-purpose registries, RFC 6890). 198.18.0.0/15 and the documentation networks are used in no LAN.
PRIVATE = (
    "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16, 224.0.0.0/4,"
    " 240.0.0.0/4"
)
# Unspecified and loopback, IPv4 within IPv6 (mapped, and NAT64's), unique local, link-local, multicast.
PRIVATE_6 = "::/127, ::ffff:0:0/96, 64:ff9b::/96, fc00::/7, fe80::/10, ff00::/8"
# Any other source would be translated as well, and what the kernel sends for its sockets once they are gone
# (resets, port unreachable) would be held by no rule of a placeholder and take the uplink.
_THROUGH = "meta skuid . oifname @open ip saddr . oifname @open_source"
# A key without an IPv6 address has no element here.
_THROUGH_6 = "meta skuid . oifname @open ip6 saddr . oifname @open_source6"
# With the other table gone nothing is translated: then nothing leaves.
_TRANSLATED = """
    oifname lo accept
    ip saddr @placeholders counter drop
    ip6 saddr @placeholders6 counter drop
"""

PACE = "pace"
"""The set that the kernel fills: how fast each UID has begun connections of late."""
_TOO_FAST = "limit rate over 500/second burst 5000 packets"

ZONES = "zones"
"""The map of each open interface's connection tracking zone."""

HOOKS: dict[str, tuple[str, str, int]] = {
    # Before connection tracking itself, which comes at -200 (NF_IP_PRI_RAW, linux/netfilter_ipv4.h).
    "zone_out": ("filter", "output", -300),
    "zone_in": ("filter", "prerouting", -300),
    "output": ("filter", "output", 0),
    "translate": ("nat", "postrouting", 100),
    "last": ("filter", "postrouting", 150),
    "forward": ("filter", "forward", 0),
    "input": ("filter", "input", 0),
}
"""The type, hook and priority of those chains that have one; all accept what no rule of theirs decides."""
RULES: dict[str, str] = {
    "zone_out": f"ct zone set oifname map @{ZONES}",
    "zone_in": f"ct zone set iifname map @{ZONES}",
    "output": """
        # Who reaches a driver's port runs programs under that driver's UID; who answers there has its session. So root
        # is refused too.
        oifname lo tcp dport @browser_ports meta skuid . tcp dport != @own_ports goto refuse
        oifname lo tcp sport @browser_ports meta skuid . tcp sport != @own_ports counter drop
        meta skuid @workers goto worker
        # A packet without a socket has no UID, and passes all of these: the reset of a closed port should. What starts
        # a connection may not: a SYN cookie has no socket (tcp_make_synack in net/ipv4/tcp_output.c), and who listens
        # without a queue makes the kernel answer with cookies.
        oifname lo tcp flags & syn == syn tcp dport @browser_ports counter drop
        oifname lo tcp flags & syn == syn tcp sport @browser_ports counter drop
        ip saddr @placeholders goto placeholder
        ip6 saddr @placeholders6 goto placeholder
        oifname @interfaces counter drop
    """,
    "worker": f"""
        # Kernel WireGuard encrypts in place: the outer packet still names the worker's socket, so its UID
        # (skb_scrub_packet keeps it since Linux 4.19), and this may be port 53. A mark takes CAP_NET_RAW, which no
        # worker can get (launcher/privileges.py). wireguard-go sends under netctl's UID: then the set is empty.
        meta l4proto udp meta mark @outer_marks oifname != @interfaces accept
        # What is under way passed all of the rest as it began (a connection is known once its first packet has left, in
        # the zone of this gate), and its way out is looked at again: 4.2 us a packet, and 4.7 without.
        ct state established {_THROUGH} accept
        ct state established {_THROUGH_6} accept
        meta l4proto {{ tcp, udp }} th dport {{ 53, 853 }} goto dns
        oifname lo goto loopback
        # Through the tunnel as well: no page may reach a VPN server's own network or its cloud's metadata.
        ip daddr {{ {PRIVATE} }} ip daddr != @reachable goto refuse
        ip6 daddr {{ {PRIVATE_6} }} ip6 daddr != @reachable6 goto refuse
        {_THROUGH} goto paced
        {_THROUGH_6} goto paced
        counter drop
    """,
    "dns": f"""
        ip daddr @resolvers {_THROUGH} goto paced
        ip6 daddr @resolvers6 {_THROUGH_6} goto paced
        goto refuse
    """,
    # `lo` is also the way to all the host's own addresses, its LAN address among them.
    "loopback": """
        ct state established,related accept
        meta skuid . tcp dport @own_ports goto paced
        # Its answers, also where connection tracking is off for `lo`, or loses count of a long one.
        meta skuid . tcp sport @own_ports tcp flags & (syn | ack) != syn accept
        tcp dport @loopback_ports goto paced
        goto refuse
    """,
    "paced": f"""
        # Each connection takes a place in the table of connections, which all of a namespace share, for up to minutes.
        # It is counted once: later packets that nobody has answered are new too, but of a confirmed one.
        ct state new ct status ! confirmed add @{PACE} {{ meta skuid {_TOO_FAST} }} counter drop
        accept
    """,
    "refuse": """
        # A reset and no ICMP error: that comes while connect() still holds the socket, which then notes it and
        # waits a second for the next SYN (tcp_v4_err in net/ipv4/tcp_ipv4.c; measured). What is dropped here is
        # EPERM to a UDP sender at once. IPV6_FREEBIND, free to all, lets a socket send from anybody's address: an
        # answer to that would take the uplink.
        fib saddr type local counter reject with tcp reset
        counter drop
    """,
    "placeholder": f"""
        oifname lo accept
        # netctl's own look at where the tunnel comes out, through an open gate alone. No worker can set a mark.
        meta mark {PROBE_MARK} ip saddr . oifname @open_source accept
        # A socket of any UID has one here; what the kernel sends for a socket that is gone has none.
        meta skuid >= 0 counter drop
        ip saddr . oifname @open_source accept
        ip6 saddr . oifname @open_source6 accept
        counter drop
    """,
    "translate": """
        meta nfproto ipv4 oifname @interfaces snat ip to oifname map @translation
        meta nfproto ipv6 oifname @interfaces snat ip6 to oifname map @translation6
    """,
    "last": f"""
        {_TRANSLATED}
        oifname @interfaces goto leased_only
    """,
    "leased_only": """
        # An old conntrack entry would still translate to the previous lease's address. Its zone hides it; this holds
        # without.
        ip saddr . oifname != @leased counter drop
        ip6 saddr . oifname != @leased6 counter drop
    """,
    "forward": """
        iifname @interfaces counter drop
        oifname @interfaces counter drop
    """,
    "input": """
        # First, and from any interface: elsewhere everything is accepted anyway, and what a tunnel carries, sealed and
        # open, then costs no look at a set (measured: bin/bench isolation).
        ct state established,related accept
        iifname @interfaces counter drop
    """,
}
SETS: dict[str, str] = {
    "workers": "uid",
    "interfaces": "ifname",
    "placeholders": "ipv4_addr",
    "placeholders6": "ipv6_addr",
    "resolvers": "ipv4_addr",
    "resolvers6": "ipv6_addr",
    "reachable": "ipv4_addr; flags interval",
    "reachable6": "ipv6_addr; flags interval",
    "loopback_ports": "inet_service",
    "browser_ports": "inet_service",
    "own_ports": "uid . inet_service",
    "outer_marks": "mark",
    PACE: f"uid; flags dynamic; size {LAST_UID}",
    "open": "uid . ifname",
    "open_source": "ipv4_addr . ifname",
    "open_source6": "ipv6_addr . ifname",
    "leased": "ipv4_addr . ifname",
    "leased6": "ipv6_addr . ifname",
}
MAPS = {
    "translation": "ifname : ipv4_addr",
    "translation6": "ifname : ipv6_addr",
    ZONES: "oifname : ct zone",
}
"""By interface, the leased address, and the lease's zone."""
INTERVALS = ("reachable", "reachable6")
"""The sets whose elements are networks."""

_GATED = ("zone_out", "zone_in", "translate", "leased_only")
OWNED_RULES = {name: RULES[name] for name in RULES if name not in _GATED} | {"last": _TRANSLATED}
OWNED_SETS = {name: kind for name, kind in SETS.items() if name not in ("leased", "leased6")}
