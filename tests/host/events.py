"""What services and operators of a real host do to its network: commands, by name of the event."""

from __future__ import annotations

from tests.host.machine import UPLINK

DNSMASQ = (
    "dnsmasq --user=root --keep-in-foreground --conf-file=/dev/null --pid-file= --interface=virbr0 "
    "--except-interface=lo --bind-interfaces --dhcp-range=192.168.122.2,192.168.122.254"
)
"""As libvirt starts it for its default network."""
GUARD = """flush ruleset
table inet guard {
chain input { type filter hook input priority 0; policy drop; ct state established,related accept; iif lo accept; }
chain forward { type filter hook forward priority 0; policy drop; }
}"""
RESTORED = """*nat
-A POSTROUTING -s 10.0.0.0/8 -o host0 -j MASQUERADE
COMMIT
*filter
:INPUT DROP
-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A INPUT -i lo -j ACCEPT
COMMIT"""
HARDENED = """net.ipv4.conf.all.accept_source_route = 0
net.ipv4.conf.*.accept_redirects = 0
net.ipv4.conf.*.log_martians = 1
net.ipv4.conf.*.forwarding = 1
net.ipv4.ip_local_reserved_ports = 8080
net.netfilter.nf_conntrack_tcp_be_liberal = 1
net.netfilter.nf_conntrack_tcp_loose = 0
net.ipv6.conf.all.forwarding = 1
"""
"""Of guides to hardening, and to routers; rp_filter has a file of its own."""
AS_BEFORE = (
    "sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0 "
    "net.ipv4.ip_local_reserved_ports= net.netfilter.nf_conntrack_tcp_loose=1"
)
EVENTS = {
    "networkd is restarted": ("systemctl restart systemd-networkd",),
    "networkd is reloaded": ("networkctl reload",),
    "nftables is restarted": ("systemctl restart nftables",),
    "firewalld comes, is reloaded, and goes": (
        "systemctl start firewalld && firewall-cmd --reload && systemctl stop firewalld",
    ),
    "ufw comes, is reloaded, and goes": ("ufw --force enable && ufw reload && ufw --force disable",),
    "resolved is restarted, and has another server": (
        "systemctl restart systemd-resolved",
        f"until resolvectl dns {UPLINK} 203.0.113.53; do sleep 0.1; done",
    ),
    "resolv.conf is a file, leads nowhere, and is as before": (
        "mv /etc/resolv.conf /root && echo nameserver 203.0.113.53 >/etc/resolv.conf",
        "ln -sf /run/nowhere /etc/resolv.conf && fleet supervisorctl restart worker:w1301",
        "mv /root/resolv.conf /etc/resolv.conf",
    ),
    "a bridge with dnsmasq forwards, and sysctls are set again": (
        "ip link add virbr0 type bridge && ip address add 192.168.122.1/24 dev virbr0 && ip link set virbr0 up",
        f"systemd-run --quiet --unit=virbr0 {DNSMASQ}",
        "systemctl is-active virbr0 && for one in 1 0 1; do sysctl -qw net.ipv4.ip_forward=$one; done",
        "sysctl --system; true",
        "systemctl stop virbr0; ip link delete virbr0; sysctl -qw net.ipv4.ip_forward=0",
    ),
    "IPv6 is switched off, and on": (
        "sysctl -qw net.ipv6.conf.all.disable_ipv6=1",
        "sysctl -qw net.ipv6.conf.all.disable_ipv6=0",
    ),
    "journald is restarted, and systemd itself": (
        "systemctl restart systemd-journald",
        "systemctl daemon-reload && systemctl daemon-reexec && systemctl daemon-reload",
    ),
    "others load, restore and flush rules, and forget all connections": (
        f"echo '{GUARD}' | nft -f - && echo '{RESTORED}' | iptables-restore && conntrack -F",
        "iptables -P INPUT ACCEPT && iptables -F && iptables -t nat -F && iptables -X && nft delete table inet guard",
    ),
}
RARE = {
    "sysctls of guides are set": (
        f"echo '{HARDENED}' >/etc/sysctl.d/90-guides.conf && sysctl --system; rm /etc/sysctl.d/90-guides.conf",
        AS_BEFORE,
    ),
    "the uplink goes down, and up": (
        f"ip link set {UPLINK} down",
        f"ip link set {UPLINK} up; until ip route | grep default; do sleep 0.1; done",
    ),
}
"""Before a release."""
