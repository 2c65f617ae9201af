"""Chains, rules and sets of the tables `inet fleet` and `inet fleet_hold`, in nft syntax.

    output       a worker's packets leave only from its placeholder address through its open gate; to ports 53 and 853
                 only to the fleet's resolvers; over `lo` only to its own browser's ports; to private addresses never,
                 by any route; and at a limited rate of new connections
                 the same gate applies to packets with a placeholder source but no socket (resets, TIME_WAIT)
                 no other UID sends through a worker's interface, and only netctl, by its mark, sends from a
                 placeholder, to check a tunnel's exit
                 outer packets of WireGuard are accepted by their mark
    outer        that mark is for UDP, not through a tunnel, and with wireguard-go for no worker
    translate    the placeholder becomes the leased address
    last         after translation: a source that is still a placeholder, or is not the leased address, is dropped
    forward      nothing from or to the workers' interfaces
    input        only replies from the workers' interfaces
    zone_out     connections through a tunnel are tracked in a zone of the lease: entries of an earlier lease,
    zone_in      connections and their translation, never match, even if both leases have the same address

The output chain checks `meta skuid` and not the route: SO_BINDTODEVICE needs no privilege, so policy rules
and routes alone would not stop a worker.

`inet fleet_hold` has the same rules without gates: every worker's own interface is always open in it, so it
needs no change, and packets that are not translated are dropped. It is the table that survives a flush.
"""

from __future__ import annotations

from fleet.numbers import LAST_UID, OUTER_MARK, PROBE_MARK

# "This network", private, shared (carriers), loopback, link-local (cloud metadata), multicast, reserved (IANA's
# special-purpose registries, RFC 6890). 198.18.0.0/15 and the documentation networks are used in no LAN.
PRIVATE = (
    "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16, 224.0.0.0/4,"
    " 240.0.0.0/4"
)
# Unspecified and loopback, IPv4 within IPv6 (mapped, and NAT64's), unique local, link-local, multicast.
PRIVATE_6 = "::/127, ::ffff:0:0/96, 64:ff9b::/96, fc00::/7, fe80::/10, ff00::/8"
# Any other source would be translated as well, but packets that the kernel sends for its sockets after they are closed
# (resets, port unreachable) would match no rule for placeholders and would leave by the uplink.
_THROUGH = "meta skuid . oifname @open ip saddr . oifname @open_source"
# A key without an IPv6 address has no element here.
_THROUGH_6 = "meta skuid . oifname @open ip6 saddr . oifname @open_source6"
# WireGuard's outer packets, half of a fleet's packets. The chain `outer` has checked who sends them.
_OUTER = f"meta mark {OUTER_MARK}"
# If the other table is gone, nothing is translated: then nothing leaves.
_TRANSLATED = f"""
    {_OUTER} accept
    oif lo accept
    ip saddr @placeholders counter drop
    ip6 saddr @placeholders6 counter drop
"""

PACE = "pace"
"""The set that the kernel fills: each UID's recent rate of new connections."""
_TOO_FAST = "limit rate over 500/second burst 5000 packets"

ZONES = "zones"
"""The map of each open interface's connection tracking zone."""

HOOKS: dict[str, tuple[str, str, int]] = {
    # Before connection tracking itself, which comes at -200 (NF_IP_PRI_RAW, linux/netfilter_ipv4.h).
    "zone_out": ("filter", "output", -300),
    "zone_in": ("filter", "prerouting", -300),
    "outer": ("nat", "output", -100),
    "output": ("filter", "output", 0),
    "translate": ("nat", "postrouting", 100),
    "last": ("filter", "postrouting", 150),
    "forward": ("filter", "forward", 0),
    "input": ("filter", "input", 0),
}
"""The type, hook and priority of the chains that have one; the policy of all is accept."""
RULES: dict[str, str] = {
    "zone_out": f"ct zone set oifname map @{ZONES}",
    "zone_in": f"ct zone set iifname map @{ZONES}",
    # A chain of this type sees the first packet of a connection. With another way out that is another connection, for
    # each tunnel has a zone of its own.
    "outer": f"""
        {_OUTER} oifname @interfaces counter drop
        {_OUTER} meta l4proto != udp counter drop
        # Kernel WireGuard encrypts in place: the outer packet still has the worker's socket, so its UID
        # (skb_scrub_packet keeps it since Linux 4.19). wireguard-go sends under netctl's UID: then the set is empty.
        {_OUTER} meta mark != @outer_marks meta skuid @workers counter drop
    """,
    "output": f"""
        # Its port may be 53, and its server on this host, so before `lo`. Setting a mark needs CAP_NET_RAW, which no
        # worker can get (launcher/privileges.py). A packet of no connection has not passed the chain `outer`.
        {_OUTER} meta l4proto udp ct state != invalid accept
        # `lo` has the index 1 in every namespace (LOOPBACK_IFINDEX in net/flow.h). A comparison of numbers is cheap, a
        # look at the UID is not: it locks the socket (nft_meta_get_eval_skugid in net/netfilter/nft_meta.c).
        oif lo goto on_lo
        meta skuid @workers goto worker
        ip saddr @placeholders goto placeholder
        ip6 saddr @placeholders6 goto placeholder
        oifname @interfaces counter drop
    """,
    "on_lo": """
        # A process that reaches a driver's port can run programs under that driver's UID; one that answers there gets
        # its session. So root is refused too.
        tcp dport @browser_ports meta skuid . tcp dport != @own_ports goto refuse
        tcp sport @browser_ports meta skuid . tcp sport != @own_ports counter drop
        meta skuid @workers goto worker
        # A packet without a socket has no UID and passes the rules above; the reset of a closed port should pass. What
        # starts a connection must not: a SYN cookie has no socket (tcp_make_synack in net/ipv4/tcp_output.c), and a
        # listener without a queue makes the kernel answer with cookies.
        tcp flags & syn == syn tcp dport @browser_ports counter drop
        tcp flags & syn == syn tcp sport @browser_ports counter drop
    """,
    "worker": f"""
        # An established connection passed all rules below with its first packet (conntrack confirms it when that packet
        # has left, in the zone of this gate), and its gate is checked again here: 4.2 us a packet, and 4.7 without.
        ct state established {_THROUGH} accept
        ct state established {_THROUGH_6} accept
        meta l4proto {{ tcp, udp }} th dport {{ 53, 853 }} goto dns
        oif lo goto loopback
        # Also through the tunnel: no page may reach a VPN server's own network or its cloud's metadata.
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
    # `lo` also leads to all the host's own addresses, including its LAN address.
    "loopback": """
        ct state established,related accept
        meta skuid . tcp dport @own_ports goto paced
        # Replies of its own ports, also where connection tracking is off for `lo` or has lost a long connection.
        meta skuid . tcp sport @own_ports tcp flags & (syn | ack) != syn accept
        tcp dport @loopback_ports goto paced
        goto refuse
    """,
    "paced": f"""
        # Each connection takes an entry in the conntrack table, which the whole namespace shares, for up to minutes.
        # It is counted once: later packets without a reply yet are new too, but their connection is confirmed.
        ct state new ct status ! confirmed add @{PACE} {{ meta skuid {_TOO_FAST} }} counter drop
        accept
    """,
    "refuse": """
        # A reset, not an ICMP error: an ICMP error arrives while connect() still holds the socket, which then only
        # notes it and waits a second for the next SYN (tcp_v4_err in net/ipv4/tcp_ipv4.c; measured). A drop here gives
        # a UDP sender EPERM at once. IPV6_FREEBIND, which needs no privilege, lets a socket send from any address: a
        # reset to that address would leave by the uplink, so only local sources get one.
        fib saddr type local counter reject with tcp reset
        counter drop
    """,
    "placeholder": f"""
        # netctl's own check of the tunnel's exit, only through an open gate. No worker can set a mark.
        meta mark {PROBE_MARK} ip saddr . oifname @open_source accept
        # Packets of a socket have a UID here; those that the kernel sends for a closed socket have none.
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
        # An old conntrack entry would still translate to the previous lease's address. Its zone hides it; this rule
        # drops such packets even without zones.
        ip saddr . oifname != @leased counter drop
        ip6 saddr . oifname != @leased6 counter drop
    """,
    "forward": """
        iifname @interfaces counter drop
        oifname @interfaces counter drop
    """,
    "input": """
        # First, and for any interface: other interfaces accept everything anyway, and so a tunnel's packets, encrypted
        # and decrypted, need no set lookup (measured: bin/bench isolation).
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
"""By interface: the leased addresses and the lease's zone."""
INTERVALS = ("reachable", "reachable6")
"""The sets whose elements are networks."""

_GATED = ("zone_out", "zone_in", "translate", "leased_only")
OWNED_RULES = {name: RULES[name] for name in RULES if name not in _GATED} | {"last": _TRANSLATED}
OWNED_SETS = {name: kind for name, kind in SETS.items() if name not in ("leased", "leased6")}
