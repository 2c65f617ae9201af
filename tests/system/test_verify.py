"""`fleet verify` in a lab: 0 where nothing leaks, 1 where something does, 75 where it could not have seen a leak.

A run takes some 20 s of an idle machine, so each test is one run that shows as much as it can.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

import pytest

from fleet.launch_spec import POLICY_FOLDERS
from lab import run
from lab.net import Lab
from lab.topology import ISP_RESOLVER, ROUTER_ADDRESS, SITE_NAME
from tests.system.verifying import FIRST_UID, WORKERS, Verified

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
}


@pytest.fixture(scope="module")
def verify_lab(root: None) -> Iterator[Lab]:
    """A lab of these tests alone, with accounts and keys."""
    lab = Lab(f"y{os.getpid() % 10_000}")
    lab.up()
    try:
        run.prepare(lab, WORKERS, first_uid=FIRST_UID)
        yield lab
    finally:
        lab.down()


@pytest.fixture
def verified(verify_lab: Lab, isolation: str) -> Iterator[Verified]:
    """The lab with settings in which everything has to hold; no fleet is left running."""
    made = Verified(verify_lab, isolation)
    made.configure()
    yield made
    done = made.fleet("down")
    assert done.returncode == 0, done.stderr


def test_everything_holds(verified: Verified) -> None:
    """Exit code 0, every property holds, and nothing runs afterwards that did not run before."""
    verified.keys(ipv6=False)
    said = verified.verify()
    assert said.but("holds") == {}, said.report
    assert said.code == 0
    assert said.are("holds") == PROPERTIES
    assert said.seen("ipv6").startswith("blocked")
    assert said.report["capture"]["seen"] > 0 and said.report["capture"]["lost"] == 0
    assert verified.fleet("status").returncode == 1


def test_a_fleet_that_runs_goes_on(verified: Verified) -> None:
    """The worker under test is stopped and started again, its neighbours and netctl are left alone; IPv6 is carried.

    The report can be handed to somebody: no key is in it, and nothing of what the fleet watches.
    """
    verified.keys(ipv6=True)
    done = verified.fleet("up")
    assert done.returncode == 0, done.stderr
    before = programs(verified)
    said = verified.verify()
    assert said.but("holds") == {}, said.report
    assert said.code == 0
    assert said.seen("ipv6").startswith("carried: the world sees 2001:db8:")
    after = programs(verified)
    name = f"worker:{verified.worker.name}"
    assert {one for one in after if after[one] != before[one]} == {name}
    assert all(after.values())
    private = [*verified.private_keys(), run.QUERY, SITE_NAME]
    assert len(private) > 10 and not [one for one in private if one in said.text]
    other = "netns" if verified.isolation == "uid" else "uid"
    refuses(verified, {"": {"isolation": other}}, "another isolation", "fleet down")
    refuses(verified, {"workers": {"count": WORKERS + 1}}, "has no", "fleet status", worker=f"w{FIRST_UID + WORKERS}")
    assert verified.fleet("supervisorctl", "stop", "netctl").returncode == 0
    refuses(verified, {}, "netctl does not answer", "fleet supervisorctl start netctl")


def refuses(verified: Verified, changes: run.Changes, *words: str, worker: str = "") -> None:
    """With CHANGES of the settings it says WORDS and nothing more, ends with 75, and stops nobody."""
    before = programs(verified)
    verified.configure(changes)
    done = verified.fleet("verify", "--worker", worker or verified.worker.name)
    verified.configure()
    assert (done.returncode, done.stdout) == (75, ""), done.stderr
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert "stopping" not in done.stderr and "Traceback" not in done.stderr
    assert programs(verified) == before


def test_a_capture_that_sees_nothing_proves_nothing(verify_lab: Lab) -> None:
    """Where even the control's packets are not seen, the verdict is `unproven` and the exit code 75."""
    verified = Verified(verify_lab, "uid")
    verified.configure()
    verified.lab.run("host", ["ip", "link", "add", BLIND, "type", "veth", "peer", "name", "blind1"], check=True)
    try:
        said = verified.verify("--interface", BLIND)
    finally:
        verified.lab.run("host", ["ip", "link", "del", BLIND], check=True)
    assert said.are("broken") == set(), said.report
    assert {"uplink", "names", "metadata"} <= said.are("unproven")
    assert said.code == 75
    done = verified.fleet("verify", "--interface", verified.worker.interface)
    assert done.returncode == 64


def test_each_breach_is_named(verified: Verified) -> None:
    """Three at once, exit code 1, and the report says which: no sandbox, another resolver, copies past the tunnel.

    Names that the host's own resolver answers, though by the tunnel; somebody's rule that sends copies of the host's
    packets of worker UIDs by the uplink. In a namespace of its own a worker has no packets in the host's, and there
    the same rule finds nothing to copy.
    """
    browser = {"sandbox": False, "i_know_what_no_sandbox_means": True}
    verified.configure({"dns": {"resolvers": [str(ISP_RESOLVER)]}, "browser": browser})
    verified.lab.run("host", ["nft", "-f", "-"], input=HOLE, check=True)
    try:
        said = verified.verify()
    finally:
        verified.lab.run("host", ["nft", "delete", "table", "ip", "hole"], check=True)
    assert said.code == 1
    if verified.isolation == "netns":
        assert said.are("broken") == {"names", "sandbox"}, said.report
        return
    assert said.are("broken") == {"uplink", "names", "metadata", "sandbox"}, said.report
    assert {"tunnel", "exit", "loopback"} <= said.are("holds"), said.report
    evidence = next(one["evidence"] for one in said.report["properties"] if one["name"] == "uplink")
    assert any(line.startswith("sealed: ") for line in evidence) and all("by uplink" in line for line in evidence)


def test_webrtc_left_to_itself_is_seen(verified: Verified) -> None:
    """With Chrome's policies for it out of the way, candidates are seen: `no address at all` is no blindness.

    In `uid` isolation they are the exit alone, as the placeholder lies on loopback. In `netns` it lies on the device,
    and a page is told it: exit code 1, and the report says which address.
    """
    done = verified.fleet("up")
    assert done.returncode == 0, done.stderr
    path = run.paths(verified.lab).launch_spec(verified.worker)
    spec = json.loads(path.read_text())
    for folder in POLICY_FOLDERS:
        policies = json.loads(spec["etc"][f"{folder}/fleet.json"])
        del policies["WebRtcIPHandling"]
        policies["WebRtcLocalIpsAllowedUrls"] = ["*"]
        spec["etc"][f"{folder}/fleet.json"] = json.dumps(policies)
    path.write_text(json.dumps({**spec, "deny_netlink": False}))
    said = verified.verify()
    if verified.isolation == "netns":
        assert said.but("holds") == {"webrtc": f"a page is told {verified.worker.placeholder}"}
        assert said.code == 1
        return
    assert said.code == 0, said.but("holds")
    told = re.fullmatch(r"a page is told (\S+)", said.seen("webrtc"))
    assert told and told[1] in said.seen("exit")


def programs(verified: Verified) -> dict[str, int]:
    """By name: the process of every program under supervisord."""
    snapshot = json.loads(verified.fleet("status", "--json").stdout)
    return {one["name"]: one["pid"] for one in snapshot["programs"]}
