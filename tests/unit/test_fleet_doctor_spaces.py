"""The doctor's checks where each worker has a network namespace: what that needs, and what no longer matters."""

from __future__ import annotations

from pathlib import Path

import pytest

from fleet.operate.doctor.check import Verdict
from fleet.operate.doctor.machine import Answer
from tests.unit.doctored import SETTINGS, Change, Laid, answers, both, settings

ALONE = SETTINGS.replace('"uid"', '"netns"')
NETNS = settings(ALONE)
DEAF = settings(ALONE.replace("count = 2", "count = 2\ndeny_netlink = false"))

BAD: dict[str, tuple[str, Change, str, str]] = {
    "no namespaces here": (
        "namespaces",
        answers("unshare --mount", 1, err="unshare: unshare failed: Operation not permitted"),
        "error",
        'isolation = "uid"',
    ),
    "no folder for names": (
        "namespaces",
        lambda laid: laid.write("run/netns"),
        "error",
        "ls -ld",
    ),
    "names of a larger fleet": (
        "namespaces",
        lambda laid: laid.write("run/netns/fleet-w1103"),
        "warning",
        "netctl cleanup",
    ),
}


@pytest.fixture
def laid(tmp_path: Path) -> Laid:
    made = Laid(tmp_path)
    NETNS(made)
    return made


@pytest.mark.parametrize("what", BAD)
def test_what_keeps_namespaces_away_is_told(laid: Laid, what: str) -> None:
    """The verdict, and the command that repairs it; without the problem, or with it in `uid` isolation, all is ok."""
    name, change, verdict, command = BAD[what]
    assert laid.finding(name).verdict is Verdict.OK
    change(laid)
    found = laid.finding(name)
    assert (found.verdict.value, command in found.command) == (verdict, True), found
    settings(SETTINGS)(laid)
    assert laid.finding(name).verdict is Verdict.OK


GOOD: dict[str, tuple[str, Change, str]] = {
    "names of each worker": (
        "namespaces",
        both(lambda laid: laid.write("run/netns/fleet-w1102"), lambda laid: laid.write("run/netns/kims")),
        "one for each worker",
    ),
    "strict, and no tunnel in sight": ("rp-filter", lambda laid: laid.filter("all", 1), "not needed"),
    "networkd elsewhere": (
        "networkd",
        lambda laid: laid.process(4, "systemd-network"),
        "own namespace",
    ),
    "NetworkManager elsewhere": (
        "networkmanager",
        lambda laid: laid.process(4, "NetworkManager"),
        "own namespace",
    ),
    "Docker elsewhere": (
        "docker",
        both(DEAF, lambda laid: laid.process(9, "dockerd")),
        "do not reach the workers' namespaces",
    ),
}


@pytest.mark.parametrize("what", GOOD)
def test_what_reaches_no_namespace_is_ok(laid: Laid, what: str) -> None:
    """Other programs and the host's filters are ok; in `uid` isolation the same is a warning."""
    name, change, text = GOOD[what]
    change(laid)
    found = laid.finding(name)
    assert (found.verdict, text in found.seen) == (Verdict.OK, True), found
    laid.write("etc/fleet/fleet.toml", (laid.root / "etc/fleet/fleet.toml").read_text().replace('"netns"', '"uid"'))
    assert laid.finding(name).verdict is (Verdict.OK if name in ("namespaces", "rp-filter") else Verdict.WARNING)


def test_another_fleets_workers_are_found_in_their_namespaces(laid: Laid) -> None:
    """A worker's UID that another fleet uses is reported, in whatever namespace; the fleet's own processes are ok."""
    laid.answers["getent passwd"] = Answer(code=2, out="w1101:x:1101:990::/nonexistent:/usr/sbin/nologin\n")
    laid.answers["getent group"] = Answer(code=0, out="fleet:x:990:\n")
    laid.of_fleet(7, str(laid.root), network="net:[2]")
    assert laid.finding("accounts").verdict is Verdict.OK
    laid.of_fleet(9, "/elsewhere", network="net:[3]")
    found = laid.finding("accounts")
    assert (found.verdict, "process 9" in found.seen) == (Verdict.ERROR, True), found
