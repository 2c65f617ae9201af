"""The shortcut past the policy rules of all workers: who takes it, and that it skips no rule of another program."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from fleet.numbers import PROTOCOL
from lab.net import Lab
from tests.fleets import Rig, running
from tests.waiting import until

PATIENCE_SECONDS = 20
AWAY = {"-4": "203.0.113.199", "-6": "2001:db8:77::1"}
"""Where only the other program's table leads, by family."""


@pytest.fixture
def rig(lab: Lab) -> Iterator[Rig]:
    """One worker's slot."""
    with running(lab) as made:
        yield made


def way(rig: Rig, family: str, *words: str) -> str:
    """The route that the host takes for WORDS (`ip route get`)."""
    return rig.host(["ip", family, "route", "get", *words]).stdout


def leads(rig: Rig, family: str) -> bool:
    """Whether the shortcut is there."""
    return "goto 30000" in rig.host(["ip", family, "rule"]).stdout


def test_workers_rules_are_met_by_workers_alone(rig: Rig) -> None:
    """A worker's UID and its placeholder use its table; another UID uses the main table, as without the shortcut."""
    worker, far = rig.worker(), "192.0.2.1"
    assert leads(rig, "-4") and leads(rig, "-6")
    assert "ok" in rig.client().ask(do="connect")
    for words in (["uid", str(worker.uid)], ["from", str(worker.placeholder)]):
        assert f"dev {worker.interface} table {worker.table}" in way(rig, "-4", far, *words)
    other = way(rig, "-4", far, "uid", "4321")
    assert "dev uplink" in other
    assert rig.netctl
    rig.netctl.send_signal(signal.SIGSTOP)
    rig.host(["ip", "rule", "del", "priority", "9999"], check=True)
    assert way(rig, "-4", far, "uid", "4321") == other
    rig.netctl.send_signal(signal.SIGCONT)
    until("the shortcut is restored", lambda: leads(rig, "-4"), PATIENCE_SECONDS)


@pytest.mark.parametrize("family", AWAY)
def test_a_rule_of_another_program_is_not_skipped(rig: Rig, family: str) -> None:
    """With its priority among the workers' rules it counts for the host, and the shortcut returns after it has gone.

    The control: while netctl is stopped the shortcut skips it.
    """
    far, rule = AWAY[family], ["priority", "15000", "to", AWAY[family], "lookup", "99"]
    rig.host(["ip", family, "route", "add", far, "dev", "lo", "table", "99"], check=True)
    assert rig.netctl
    rig.netctl.send_signal(signal.SIGSTOP)
    rig.host(["ip", family, "rule", "add", *rule], check=True)
    try:
        assert leads(rig, family) and "table 99" not in way(rig, family, far)
        rig.netctl.send_signal(signal.SIGCONT)
        until("the rule counts", lambda: "table 99" in way(rig, family, far), PATIENCE_SECONDS)
    finally:
        rig.host(["ip", family, "rule", "del", *rule])
        rig.host(["ip", family, "route", "flush", "table", "99"])
    until("the shortcut is back", lambda: leads(rig, "-4") and leads(rig, "-6"), PATIENCE_SECONDS)


@pytest.mark.parametrize(
    ("family", "source"), [("-4", "10.255.3.7/16"), ("-6", "fd66:6c74:0:ffff::7/64")], ids=["IPv4", "IPv6"]
)
def test_a_rule_with_netctls_mark_is_removed_whatever_its_source(rig: Rig, family: str, source: str) -> None:
    """The kernel lists a source with bits after its prefix, as it was given, and for a rule without a source deletes
    the first one of its priority: netctl removes the rule, keeps its own, and goes on."""
    before = rig.host(["ip", family, "rule"]).stdout
    for words in (["9998", "from", source], ["9999", "from", source], ["9999"]):
        argv = ["ip", family, "rule", "add", "priority", *words, "goto", "30000", "protocol", str(PROTOCOL)]
        rig.host(argv, check=True)
        until("removed", lambda: rig.host(["ip", family, "rule"]).stdout == before, PATIENCE_SECONDS)


def test_copies_of_the_shortcut_skip_no_rule_either(rig: Rig) -> None:
    """`ip rule restore` adds each rule a second time: with a rule of another program every copy is removed."""
    script = "ip rule save > $0; ip rule restore < $0; ip rule add priority 15000 to 203.0.113.199 lookup 99"
    assert rig.host(["ip", "rule"]).stdout.count("goto 30000") == 1
    rig.host(["sh", "-c", script, str(rig.paths.root / "rules")])
    try:
        until("no copy is left", lambda: not leads(rig, "-4"), PATIENCE_SECONDS)
    finally:
        rig.host(["ip", "rule", "del", "priority", "15000"])
        rig.host(["ip", "rule", "del", "priority", "9997"])  # a copy of the kernel's own, where `restore` put it
    until("the shortcut is back", lambda: leads(rig, "-4"), PATIENCE_SECONDS)
