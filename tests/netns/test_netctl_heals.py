"""netctl repairs at once what another program changes inside its marks, and leaves foreign objects alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.net import Lab
from tests.fleets import Rig, running
from tests.inside import Client
from tests.waiting import frozen, until

SITE = "203.0.113.80"
OPEN = """nft get element inet fleet open '{ 1101 . "wg101" }'"""
HEALED_SECONDS = 15.0
"""A batch of 250 ms, a look, and the tools of a busy machine. Looks without a notification are 60 s apart."""


@pytest.fixture(scope="module")
def rig(lab: Lab, isolation: str) -> Iterator[Rig]:
    """Two workers' slots."""
    with running(lab, 2, changes={"netctl": {"key_cooldown_seconds": 0.1}}, isolation=isolation) as made:
        yield made


@pytest.fixture
def client(rig: Rig) -> Iterator[Client]:
    """The first worker's client, with a tunnel."""
    made = rig.client()
    made.ask(do="connect")
    yield made
    made.kill()


@dataclass(frozen=True)
class Damage:
    """A change by another program (DONE), and the condition that holds after its repair (MENDED)."""

    done: str
    mended: str


DAMAGES = {
    "every rule": Damage(
        "ip rule flush protocol 77; ip -6 rule flush protocol 77",
        "ip rule | grep -q '1101-1101 prohibit' && ip -6 rule | grep -q '1102-1102 lookup'",
    ),
    "one rule": Damage(
        "ip rule delete uidrange 1101-1101 lookup 10101 priority 10101",
        "ip rule | grep -q '1101-1101 lookup 10101 proto 77'",
    ),
    # The kernel treats it as a different rule; deleting it must not delete netctl's.
    "a rule like ours with more to it": Damage(
        "ip rule add iif lo uidrange 1101-1101 lookup 10101 priority 10101 protocol 77",
        "ip rule | grep -q 'from all uidrange 1101-1101 lookup 10101 proto 77' && ! ip rule | grep -q 'iif lo'",
    ),
    "a rule for our workers and others": Damage(
        "ip rule add uidrange 1101-1200 lookup 10101 priority 10101 protocol 77",
        "ip rule | grep -q '1101-1101 lookup 10101 proto 77' && ! ip rule | grep -q '1101-1200'",
    ),
    "routes": Damage("ip route flush table 10101", "test $(ip route show table 10101 | wc -l) = 2"),
    "a route past the tunnel": Damage(
        "ip route add default via 198.51.100.1 table 10101 metric 7 proto 77",
        "! ip route show table 10101 | grep -q via",
    ),
    "placeholder": Damage(
        "ip address delete 10.255.0.101/32 dev lo",
        "ip address show lo | grep -q 10.255.0.101 && ip route show table 10101 | grep -q 'src 10.255.0.101'",
    ),
    "the placeholders' own routes": Damage(
        "ip route delete local 10.255.0.101 table local; ip -6 route delete local fd66:6c74:0:ffff::65 table local",
        "ip route get 10.255.0.101 | grep -q ^local && ip -6 route get fd66:6c74:0:ffff::65 | grep -q ^local",
    ),
    "lo down and up": Damage(
        "ip link set lo down; ip link set lo up", "ip -6 route get fd66:6c74:0:ffff::65 | grep -q ^local"
    ),
    "an address on our link": Damage(
        "ip address add 192.0.2.1/24 dev wg101", "! ip -4 address show wg101 | grep -q inet"
    ),
    "IPv6 on our link": Damage(
        "sysctl -qw net.ipv6.conf.wg101.disable_ipv6=0; ip address add 2001:db8:9::1/64 dev wg101",
        "test $(sysctl -n net.ipv6.conf.wg101.disable_ipv6) = 1 && ! ip address show wg101 | grep -q inet6",
    ),
    "rp_filter of all": Damage(
        "sysctl -qw net.ipv4.conf.all.rp_filter=1", "test $(sysctl -n net.ipv4.conf.all.rp_filter) = 0"
    ),
    "rp_filter of our link": Damage(
        "sysctl -qw net.ipv4.conf.wg101.rp_filter=2", "test $(sysctl -n net.ipv4.conf.wg101.rp_filter) = 0"
    ),
    "mtu": Damage("ip link set wg101 mtu 1300", "ip link show wg101 | grep -q 'mtu 1420'"),
    "alias": Damage("ip link set wg101 alias mine", "ip link show wg101 | grep -q 'alias fleet:w1101'"),
    "down": Damage("ip link set wg101 down", "ip link show up dev wg101 | grep -q wg101"),
    "the ruleset": Damage("nft flush ruleset", OPEN),
    "our table": Damage("nft delete table inet fleet", OPEN),
    "its mark": Damage(
        "nft delete chain inet fleet $(nft list table inet fleet | grep -o 'owner_netctl_[0-9a-f]*')",
        "nft list table inet fleet | grep -q owner_netctl_",
    ),
    "an element of a gate": Damage("""nft delete element inet fleet open '{ 1101 . "wg101" }'""", OPEN),
    "another gate opened": Damage(
        """nft add element inet fleet open '{ 1102 . "wg101" }'""",
        """! nft get element inet fleet open '{ 1102 . "wg101" }'""",
    ),
    "a translation changed": Damage(
        # In one step: between two, netctl has often repaired the first already.
        "nft 'flush map inet fleet translation; "
        """add element inet fleet translation { "wg101" : 198.51.100.10 }'""",
        "! nft list map inet fleet translation | grep -q 198.51.100.10 && " + OPEN,
    ),
    "a worker let go": Damage(
        "nft delete element inet fleet workers '{ 1101 }'", "nft get element inet fleet workers '{ 1101 }'"
    ),
    "a rule in our chain": Damage(
        "nft insert rule inet fleet worker ip daddr 203.0.113.80 accept",
        "! nft list chain inet fleet worker | grep -q 203.0.113.80",
    ),
    "a rule of ours replaced": Damage(
        "nft flush chain inet fleet dns; nft add rule inet fleet dns accept; nft add rule inet fleet dns accept",
        "nft list chain inet fleet dns | grep -q @resolvers",
    ),
    "a chain's policy": Damage(
        "nft chain inet fleet input '{ policy drop; }'", "nft list chain inet fleet input | grep -q 'policy accept'"
    ),
}


IN_A_SPACE = {
    "every rule": Damage(
        "ip rule flush protocol 77; ip -6 rule flush protocol 77",
        "ip rule | grep -q '1101-1101 prohibit' && ip -6 rule | grep -q '1101-1101 lookup'",
    ),
    "a route past the tunnel": Damage(
        "ip route add default dev lo table 10101 metric 7 proto 77",
        "! ip route show table 10101 | grep -q 'dev lo'",
    ),
    "placeholder": Damage(
        "ip address delete 10.255.0.101/32 dev wg101",
        "ip address show wg101 | grep -q 10.255.0.101 && ip route show table 10101 | grep -q 'src 10.255.0.101'",
    ),
    "an address on our link": Damage(
        "ip address add 192.0.2.1/24 dev wg101", "! ip -4 address show wg101 | grep -q 192.0.2.1"
    ),
}
"""Of DAMAGES, those that are others in a namespace of the worker's own."""


def _is(rig: Rig, condition: str) -> bool:
    """Whether CONDITION is true where the first worker is."""
    return rig.there(["sh", "-c", condition]).returncode == 0


@pytest.mark.parametrize("what", DAMAGES)
def test_damage_is_put_right_as_it_happens(rig: Rig, client: Client, what: str) -> None:
    """Long before the next periodic check; then the plan is empty and the tunnel works."""
    damage = IN_A_SPACE.get(what, DAMAGES[what]) if rig.fleet.isolation == "netns" else DAMAGES[what]
    # Frequent damage of one kind is repaired at a limited rate (netctl.slots.repair), and these come in a row.
    settled = time.monotonic()
    rig.there(["sh", "-c", damage.done], check=True)
    until(f"{what}: as it was", lambda: _is(rig, damage.mended), HEALED_SECONDS + _rest(rig))
    print(f"{what}: {time.monotonic() - settled:.2f} s")
    rig.wait_until_settled(10)
    assert "ok" in client.ask(do="tcp", host=SITE, port=443, timeout=5)


def _rest(rig: Rig) -> float:
    """How much longer a repair may take once this module has used up its burst."""
    return 5.0 if len(rig.logged("repair.done")) >= 10 else 0.0


def test_a_renamed_link_is_replaced(rig: Rig, client: Client) -> None:
    """netctl knows its renamed link by the mark: it removes it, and wireguard-go's next one replaces it."""
    rig.there(["sh", "-c", "ip link set wg101 down; ip link set wg101 name other9"], check=True)
    until("it is gone", lambda: not _is(rig, "ip link show other9"), 10)
    rig.start_wireguard(rig.worker())  # the earlier one has ended with its link
    rig.wait_until_settled(20)


def test_what_was_found_is_logged_in_one_line(rig: Rig, client: Client) -> None:
    """One line names the notifications and the commands of the repair, however many they are."""
    rig.wait_until_settled(20)  # what follows a connect, or the damage before, is not this repair
    before = len(rig.logged("repair.done"))
    assert rig.netctl
    with frozen(rig.netctl.pid):  # or it puts the first rule right before the last is gone
        rig.there(["sh", "-c", "ip rule flush protocol 77; ip -6 rule flush protocol 77"], check=True)
    until("it is told", lambda: rig.logged("repair.done")[before:], 20)
    rig.wait_until_settled(20)
    lines = rig.logged("repair.done")[before:]
    text = str([line["commands"] for line in lines])
    ip = "ip -n fleet-w1101" if rig.fleet.isolation == "netns" else "ip"
    assert f"{ip} -4 rule add uidrange 1101-1101 lookup 10101 priority 10101 protocol 77" in text
    # Nothing was heard where the look of each minute was due at that moment.
    assert all("rules" in line["heard"] or not line["heard"] for line in lines), lines
    assert len(lines) <= 2, f"one look, and one that it may have been in the middle of: {lines}"


def test_others_objects_are_left_alone_and_hold_nobody_up(rig: Rig, client: Client) -> None:
    """A foreign rule in one worker's range stays and is logged; the other worker is repaired all the same."""
    stranger = ["from", "192.0.2.77", "lookup", "main", "priority", "10102"]
    rig.host(["ip", "rule", "add", *stranger], check=True)
    try:
        rig.there(["ip", "rule", "delete", "uidrange", "1101-1101", "lookup", "10101", "priority", "10101"], check=True)
        until("mended beside it", lambda: _is(rig, DAMAGES["one rule"].mended), HEALED_SECONDS + 5)
        assert "192.0.2.77" in rig.host(["ip", "rule"], check=True).stdout
        assert "priority 10102" in str(rig.logged("kernel.foreign")[-1]["objects"])
    finally:
        rig.host(["ip", "rule", "delete", *stranger], check=True)


def test_own_changes_are_no_news(rig: Rig, client: Client) -> None:
    """Connecting and rotating trigger no check of the kernel: netctl knows its own changes by their sender."""
    rig.wait_until_settled(10)
    before = len(rig.logged("repair.looks"))
    for _ in range(10):
        assert "ok" in client.ask(do="rotate")
    assert _heard(rig, before) == []


def test_a_busy_host_costs_next_to_nothing(rig: Rig, client: Client) -> None:
    """Thousands of foreign notifications, as Docker causes them: hardly any processor time, and no check at all."""
    rig.wait_until_settled(10)
    assert rig.netctl
    looks, before = len(rig.logged("repair.looks")), _processor_seconds(rig.netctl.pid)
    rules = "".join(f"add rule inet docker forward ip daddr 192.0.2.{number % 250} accept\n" for number in range(2000))
    rig.host(["nft", "-f", "-"], input=f"table inet docker {{ chain forward {{ }}\n}}\n{rules}", check=True)
    rig.host(["nft", "delete table inet docker"], check=True)
    batch = "".join(f"route add 192.0.2.{number % 250}/32 dev lo table {3000 + number}\n" for number in range(2000))
    rig.host(["ip", "-batch", "-"], input=batch, check=True)
    rig.host(["ip", "-batch", "-"], input=batch.replace("add", "delete"), check=True)
    for number in range(10):
        rig.host(["ip", "link", "add", f"d{number}", "type", "veth", "peer", "name", f"e{number}"], check=True)
        rig.host(["ip", "link", "delete", f"d{number}"], check=True)
    assert "ok" in client.ask(do="status"), "it has read all that by now"
    seconds = _processor_seconds(rig.netctl.pid) - before
    print(f"12000 notifications: {seconds:.2f} s of processor time")
    assert seconds < 2
    assert _heard(rig, looks) == []


def _heard(rig: Rig, before: int) -> list[str]:
    """The reasons of netctl's checks after the first BEFORE ones; its check each minute has no reason."""
    return [kind for line in rig.logged("repair.looks")[before:] for kind in line["heard"]]


def _processor_seconds(pid: int) -> float:
    """User and system time of the process in seconds, from proc(5) with a resolution of 10 ms."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_nobody_is_fought_for_ever(rig: Rig, client: Client) -> None:
    """A rule that is deleted as soon as it is back: at most ten repairs, and one each five seconds; nothing gets out.

    This test is the last of the file, because the pending repair comes seconds later.
    """
    begun, before = time.monotonic(), len(rig.logged("repair.done"))
    while time.monotonic() < begun + 4:
        rig.there(["ip", "rule", "delete", "uidrange", "1101-1101", "lookup", "10101", "priority", "10101"])
    seconds = time.monotonic() - begun
    assert len(rig.logged("repair.done")) - before <= 10 + seconds / 5 + 1
    until("the last word is netctl's", lambda: _is(rig, DAMAGES["one rule"].mended), 10)
