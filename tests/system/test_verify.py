"""`fleet verify` in a lab: 0 if nothing leaks, 1 if something does, 75 if it could not have seen a leak.

A run takes some 20 s on an idle machine, so each test is one run that shows as much as it can. The first two bring a
fleet up and down by themselves; the others share a running one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest

from fleet.launch_spec import POLICY_FOLDERS
from lab import run
from lab.net import Lab
from lab.topology import ISP_RESOLVER, ROUTER_ADDRESS, SITE_NAME
from tests.hostile.mutants import KINDS
from tests.layers import without_ipv6
from tests.system.verifying import Verified
from tests.waiting import until
from worker import seccomp

FIRST_UID = 1281
WORKERS = 2
UID_ALONE = pytest.mark.parametrize("isolation", ["uid"], scope="session")
BLIND = "blind0"
"""An interface that nothing is sent by."""
HOLE = f"""
table ip hole {{
    chain out {{
        type filter hook output priority -400
        meta skuid {FIRST_UID} dup to {ROUTER_ADDRESS} device "uplink"
    }}
}}
"""
"""Copies have no socket, so that no rule about a UID sees them (net/ipv4/netfilter/nf_dup_ipv4.c)."""
PROPERTIES = {
    *("tunnel", "exit", "uplink", "names", "ipv6", "webrtc"),
    *("loopback", "lan", "metadata", "devtools", "sandbox"),
    *("strangers", "ends", "programs"),
}


@pytest.fixture(scope="module")
def verified(bare: Lab, isolation: str) -> Iterator[Verified]:
    """The lab with settings with which everything must hold; no fleet is left running."""
    made = Verified(bare, WORKERS, first_uid=FIRST_UID, isolation=isolation)
    made.prepare()
    yield made
    done = made.operate("down")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def at_work(verified: Verified, isolation: str) -> Verified:
    """The same with a running fleet and keys that carry IPv6, shared by all tests that leave it unchanged.

    The spool of the other worker has every kind of file that may be there instead of a result.
    """
    verified.keys(ipv6=True)
    done = verified.operate("up")
    assert done.returncode == 0, done.stderr
    spool = verified.paths.spool(verified.worker(1))
    until("its worker has made it", spool.is_dir, 30)
    for number, kind in enumerate(KINDS, 1):
        KINDS[kind](spool / f"{isolation}-{number:06d}.json")
    return verified


def test_everything_holds(verified: Verified) -> None:
    """Exit code 0, every property holds, and nothing runs afterwards that did not run before."""
    verified.keys(ipv6=False)
    said = verified.verify()
    assert said.but("holds") == {}, said.report
    assert said.code == 0
    assert said.are("holds") == PROPERTIES
    assert said.seen("ipv6").startswith("blocked")
    assert said.report["capture"]["seen"] > 0 and said.report["capture"]["lost"] == 0
    assert verified.operate("status").returncode == 1


def test_each_breach_is_named(verified: Verified, isolation: str) -> None:
    """Three at once, exit code 1, and the report names them: no sandbox, another resolver, copies past the tunnel.

    The host's own resolver answers names, although through the tunnel; a foreign rule sends copies of worker UIDs'
    packets by the uplink. A worker in its own namespace has no packets in the host's, so the rule copies nothing.
    """
    verified.keys(ipv6=True)
    browser = {"sandbox": False, "i_know_what_no_sandbox_means": True}
    verified.configure({"dns": {"resolvers": [str(ISP_RESOLVER)]}, "browser": browser})
    verified.lab.run("host", ["nft", "-f", "-"], input=HOLE, check=True)
    try:
        said = verified.verify()
    finally:
        verified.lab.run("host", ["nft", "delete", "table", "ip", "hole"], check=True)
        verified.configure()
    assert said.code == 1
    if isolation == "netns":
        assert said.are("broken") == {"names", "sandbox"}, said.report
        return
    assert said.are("broken") == {"uplink", "names", "metadata", "sandbox"}, said.report
    assert {"tunnel", "exit", "loopback"} <= said.are("holds"), said.report
    evidence = next(one["evidence"] for one in said.report["properties"] if one["name"] == "uplink")
    assert any(line.startswith("sealed: ") for line in evidence) and all("by uplink" in line for line in evidence)


def test_webrtc_left_to_itself_is_seen(at_work: Verified, isolation: str) -> None:
    """Without Chrome's policies for it, candidates are seen, so `no address at all` is not a blind check.

    In `uid` isolation they show only the exit, because the placeholder is on loopback. In `netns` it is on the device,
    and a page sees it: exit code 1, and the report names the address.
    """
    path = run.paths(at_work.lab).launch_spec(at_work.worker())
    before = path.read_text()
    spec = json.loads(before)
    for folder in POLICY_FOLDERS:
        policies = json.loads(spec["etc"][f"{folder}/fleet.json"])
        del policies["WebRtcIPHandling"]
        policies["WebRtcLocalIpsAllowedUrls"] = ["*"]
        spec["etc"][f"{folder}/fleet.json"] = json.dumps(policies)
    path.write_text(json.dumps({**spec, "denied_calls": seccomp.compiled(netlink=True)}))
    try:
        said = at_work.verify()
    finally:
        path.write_text(before)
    if isolation == "netns":
        assert said.but("holds") == {"webrtc": f"a page learns {at_work.worker().placeholder}"}
        assert said.code == 1
        return
    assert said.code == 0, said.but("holds")
    told = re.fullmatch(r"a page learns (\S+)", said.seen("webrtc"))
    assert told and told[1] in said.seen("exit")


@UID_ALONE
def test_a_capture_that_sees_nothing_proves_nothing(at_work: Verified) -> None:
    """If even the control's packets are not seen, the verdict is `unproven` and the exit code 75."""
    at_work.lab.run("host", ["ip", "link", "add", BLIND, "type", "veth", "peer", "name", "blind1"], check=True)
    try:
        said = at_work.verify("--interface", BLIND)
    finally:
        at_work.lab.run("host", ["ip", "link", "del", BLIND], check=True)
    assert said.are("broken") == set(), said.report
    assert {"uplink", "names", "metadata"} <= said.are("unproven")
    assert said.code == 75
    done = at_work.operate("verify", "--interface", at_work.worker().interface)
    assert done.returncode == 64


@UID_ALONE
@pytest.mark.parametrize("off", [False, True], ids=["no route", "switched off"])
def test_a_host_without_ipv6_is_no_doubt(at_work: Verified, *, off: bool) -> None:
    """Exit code 0, and the report says that the host has none, whatever errors the fleet's rules then give to senders.

    If only the route is missing, the tunnel still carries IPv6.
    """
    with without_ipv6(at_work, off=off):
        said = at_work.verify()
    assert said.but("holds") == {}, said.report
    assert said.code == 0
    assert said.seen("uplink").endswith("each of the control's was seen; the host has no IPv6")
    assert said.seen("ipv6").startswith("blocked" if off else "carried: the world sees 2001:db8:")


def test_a_fleet_that_runs_goes_on(at_work: Verified, isolation: str) -> None:
    """The worker under test is stopped and started again, its neighbours and netctl are left alone; IPv6 is carried.

    The report can be shared: it has no key and nothing of what the fleet watches.
    """
    before = at_work.programs()
    said = at_work.verify()
    assert said.but("holds") == {}, said.report
    assert said.code == 0
    assert said.seen("ipv6").startswith("carried: the world sees 2001:db8:")
    after = at_work.programs()
    name = f"worker:{at_work.worker().name}"
    assert {one for one in after if after[one] != before[one]} == {name}
    assert all(after.values())
    private = [*at_work.private_keys(), run.QUERY, SITE_NAME]
    assert len(private) > 10 and not [one for one in private if one in said.text]
    other = "netns" if isolation == "uid" else "uid"
    refuses(at_work, {"": {"isolation": other}}, "another isolation", "fleet down")
    refuses(at_work, {"workers": {"count": WORKERS + 1}}, "has no", "fleet status", worker=f"w{FIRST_UID + WORKERS}")
    assert at_work.operate("supervisorctl", "stop", "netctl").returncode == 0
    refuses(at_work, {}, "netctl does not answer", "fleet supervisorctl start netctl")
    assert at_work.operate("supervisorctl", "start", "netctl").returncode == 0


def refuses(verified: Verified, changes: run.Changes, *words: str, worker: str = "") -> None:
    """Assert that with CHANGES of the settings it prints WORDS and nothing more, exits with 75, and stops no worker."""
    before = verified.programs()
    verified.configure(changes)
    done = verified.operate("verify", "--worker", worker or verified.worker().name)
    verified.configure()
    assert (done.returncode, done.stdout) == (75, ""), done.stderr
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert "stopping" not in done.stderr and "Traceback" not in done.stderr
    assert verified.programs() == before
