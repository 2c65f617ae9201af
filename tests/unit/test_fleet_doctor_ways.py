"""The doctor's checks of how the host and other programs treat packets of tunnels and workers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fleet.operate.doctor.check import Verdict
from tests.unit.doctored import SETTINGS, Change, Laid, answers, both, settings

DEFAULT = {"dst": "default", "dev": "eth0"}
TAILSCALE = {"priority": 5270, "src": "all", "table": "52"}
ROUTED = [DEFAULT, {"table": "52", "dst": "203.0.113.80", "dev": "tailscale0"}]
FIREWALLD = """table inet fleet {
    chain output { fib saddr . iif oif missing drop }
}
table inet firewalld {
    chain mangle_PREROUTING {
        meta nfproto ipv6 fib saddr . mark . iif oif missing drop
    }
}
"""


def routes(*found: dict[str, Any]) -> Change:
    return answers("ip -4 -json route show table all", 0, json.dumps(found))


def rules(*found: dict[str, Any]) -> Change:
    return both(routes(*ROUTED), answers("ip -4 -json rule", 0, json.dumps(found)))


def table(most: int, count: int) -> Change:
    """The kernel's table of connections."""
    folder = "proc/sys/net/netfilter"
    return lambda laid: (
        laid.write(f"{folder}/nf_conntrack_max", str(most)),
        laid.write(f"{folder}/nf_conntrack_count", str(count)),
    )


def ufw(policy: str, *rules: str, enabled: str = "yes") -> Change:
    """ufw's files, as Debian's package has them."""
    return lambda laid: (
        laid.write("etc/ufw/ufw.conf", f"# /etc/ufw/ufw.conf\nENABLED={enabled}\n"),
        laid.write("etc/default/ufw", f'IPV6=yes\nDEFAULT_OUTPUT_POLICY="{policy}"\n'),
        laid.write("etc/ufw/user.rules", "\n".join(["*filter", *(f"### tuple ### {rule}" for rule in rules)])),
    )


OUT = "allow udp 51820 0.0.0.0/0 any 0.0.0.0/0 out"
TUNNELS = [f"allow any any 0.0.0.0/0 any 0.0.0.0/0 out_wg{number}" for number in (101, 102)]


def mtu(number: int) -> Change:
    return lambda laid: laid.write("sys/class/net/eth0/mtu", str(number))


BAD: dict[str, tuple[str, Change, str, str]] = {
    "no default route": ("uplink", routes(*ROUTED[1:]), "no default route", "ip route"),
    "a small uplink": ("uplink", mtu(1400), "eth0 1400 bytes", "wireguard.mtu = 1320"),
    "Tailscale's routes": ("rules", rules(TAILSCALE), "rule 5270 (52) takes 203.0.113.80", "--accept-routes=false"),
    "all but a mark": ("rules", rules({**TAILSCALE, "not": None, "fwmark": "0xca6c"}), "5270", "netns"),
    "main in front": (
        "rules",
        both(rules({**TAILSCALE, "table": "main", "suppress_prefixlen": 0}), routes(DEFAULT, {"dst": "192.0.2.0/24"})),
        "rule 5270 (main) takes 192.0.2.0/24",
        "netns",
    ),
    "an address of the host's": (
        "placeholders",
        answers("ip -4 -json address", 0, '[{"ifname": "eth1", "addr_info": [{"local": "10.255.3.4"}]}]'),
        "10.255.3.4 on eth1",
        "netns",
    ),
    "an address among those of the setting": (
        "placeholders",
        both(
            settings(SETTINGS.replace("count = 2", 'count = 2\nplaceholders = "172.31.0.0/24"')),
            answers("ip -4 -json address", 0, '[{"ifname": "eth1", "addr_info": [{"local": "172.31.0.9"}]}]'),
        ),
        "among the placeholders (172.31.0.0/24, ",
        "set workers.placeholders",
    ),
    "a refusal": ("rules", rules({"priority": 99, "src": "all", "action": "prohibit"}), "99 (prohibit) refuses", ""),
    "our UIDs": ("rules", rules({**TAILSCALE, "uid_start": 1000, "uid_end": 1101}), "5270", ""),
    "firewalld": ("filters", answers("nft list", 0, FIREWALLD), "table inet firewalld (IPv6)", "IPv6_rpfilter=no"),
    "ufw that lets nothing out": ("firewalls", ufw("DROP"), "WireGuard (UDP), wg101", "ufw allow out proto udp"),
    "ufw with rules for others": (
        "firewalls",
        ufw("REJECT", OUT.replace("udp", "tcp"), OUT[:-3] + "in"),
        "ufw",
        "51820",
    ),
    "ufw with rules for workers alone": ("firewalls", ufw("DROP", *TUNNELS), "WireGuard", "ufw allow out proto udp"),
    "ufw with rules for one worker": ("firewalls", ufw("DROP", OUT, TUNNELS[0]), "allows wg102", "ufw allow out on"),
    "a small table": ("connections", table(1000, 10), "10 of 1000", "nf_conntrack_max=65536"),
    "a full table": ("connections", table(100_000, 99_000), "nearly full", "nf_conntrack_max=200000"),
}
GOOD: dict[str, tuple[str, Change]] = {
    "a large uplink": ("uplink", mtu(1500)),
    "a mark that workers do not have": ("rules", rules({**TAILSCALE, "fwmark": "0x80000", "fwmask": "0xff0000"})),
    "what comes in": ("rules", rules({**TAILSCALE, "iif": "eth0"})),
    "other sources": ("rules", rules({**TAILSCALE, "src": "192.0.2.0"})),
    "other UIDs": ("rules", rules({**TAILSCALE, "uid_start": 0, "uid_end": 999})),
    "the fleet's own placeholders": (
        "placeholders",
        answers("ip -4 -json address", 0, '[{"ifname": "lo", "addr_info": [{"local": "10.255.0.101"}]}]'),
    ),
    "an address of the usual placeholders": (
        "placeholders",
        both(
            settings(SETTINGS.replace("count = 2", 'count = 2\nplaceholders = "172.31.0.0/24"')),
            answers("ip -4 -json address", 0, '[{"ifname": "eth1", "addr_info": [{"local": "10.255.3.4"}]}]'),
        ),
    ),
    "an empty table": ("rules", rules({**TAILSCALE, "table": "53"})),
    "after ours": ("rules", rules({**TAILSCALE, "priority": 30_000})),
    "only the default, which is passed over": (
        "rules",
        both(rules({**TAILSCALE, "table": "main", "suppress_prefixlen": 0}), routes(DEFAULT)),
    ),
    "a firewall that drops the rest": ("filters", answers("nft list", 0, FIREWALLD.partition("table inet fire")[0])),
    "ufw that lets tunnels out": ("firewalls", ufw("DROP", OUT, *TUNNELS)),
    "ufw as it is installed": ("firewalls", ufw("ACCEPT")),
    "ufw that is off": ("firewalls", ufw("DROP", enabled="no")),
    "room enough": ("connections", table(65_536, 800)),
}


@pytest.fixture
def laid(tmp_path: Path) -> Laid:
    return Laid(tmp_path)


@pytest.mark.parametrize("what", BAD)
def test_what_takes_packets_is_named(laid: Laid, what: str) -> None:
    """The finding names it and the remedy; if workers have namespaces, rules and filters do not matter."""
    name, change, seen, command = BAD[what]
    assert laid.finding(name).verdict is Verdict.OK
    change(laid)
    found = laid.finding(name)
    assert found.verdict is not Verdict.OK and seen in found.seen and command in found.command, found
    settings(SETTINGS.replace('"uid"', '"netns"'))(laid)
    unneeded = name in ("rules", "filters", "placeholders") or what == "ufw with rules for one worker"
    assert (laid.finding(name).verdict is Verdict.OK) == unneeded


@pytest.mark.parametrize("what", GOOD)
def test_what_harms_nobody_is_ok(laid: Laid, what: str) -> None:
    """Rules and filters that match no worker's packet, and a table with enough room, are ok."""
    name, change = GOOD[what]
    change(laid)
    assert laid.finding(name).verdict is Verdict.OK, laid.finding(name)
