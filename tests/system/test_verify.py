"""`fleet verify` in a lab: 0 where nothing leaks, 1 where something does, 75 where it could not have seen a leak."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator

import pytest

from lab import run
from lab.net import Lab
from lab.topology import ISP_RESOLVER, ROUTER_ADDRESS
from tests.system.verifying import FIRST_UID, WORKERS, Verified
from worker.mounts import POLICY_FOLDERS

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
    said = verified.verify()
    assert said.but("holds") == {}, said.report
    assert said.code == 0
    assert said.are("holds") == PROPERTIES
    assert said.report["capture"]["seen"] > 0 and said.report["capture"]["lost"] == 0
    assert verified.fleet("status").returncode == 1


def test_a_capture_that_sees_nothing_proves_nothing(verified: Verified) -> None:
    """Where even the control's packets are not seen, the verdict is `unproven` and the exit code 75."""
    verified.lab.run("host", ["ip", "link", "add", BLIND, "type", "veth", "peer", "name", "blind1"], check=True)
    try:
        said = verified.verify("--interface", BLIND)
    finally:
        verified.lab.run("host", ["ip", "link", "del", BLIND], check=True)
    assert said.are("broken") == set(), said.report
    assert {"uplink", "names", "metadata"} <= said.are("unproven")
    assert said.code == 75


def test_a_hole_past_the_tunnel_is_a_breach(verified: Verified) -> None:
    """Where somebody's rule sends copies of the host's packets of worker UIDs by the uplink: exit code 1, and how.

    In a namespace of its own a worker has no packets in the host's; there the same rule finds nothing to copy.
    """
    verified.lab.run("host", ["nft", "-f", "-"], input=HOLE, check=True)
    try:
        said = verified.verify()
    finally:
        verified.lab.run("host", ["nft", "delete", "table", "ip", "hole"], check=True)
    if verified.isolation == "netns":
        assert said.code == 0, said.report
        return
    assert said.code == 1
    assert {"uplink", "metadata"} <= said.are("broken"), said.report
    assert {"tunnel", "exit", "loopback", "sandbox"} <= said.are("holds"), said.report
    evidence = next(one["evidence"] for one in said.report["properties"] if one["name"] == "uplink")
    assert any(line.startswith("sealed: ") for line in evidence) and all("by uplink" in line for line in evidence)


def test_a_fleet_that_runs_goes_on(verified: Verified) -> None:
    """The worker under test is stopped and started again; its neighbours and netctl are left alone."""
    done = verified.fleet("up")
    assert done.returncode == 0, done.stderr
    before = programs(verified)
    assert verified.verify().code == 0
    after = programs(verified)
    name = f"worker:{verified.worker.name}"
    assert {one for one in after if after[one] != before[one]} == {name}
    assert all(after.values())


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
    seen = {one["name"]: one["seen"] for one in said.report["properties"]}
    told = re.fullmatch(r"a page is told (\S+)", seen["webrtc"])
    assert told and told[1] in seen["exit"]


def programs(verified: Verified) -> dict[str, int]:
    """By name: the process of every program under supervisord."""
    snapshot = json.loads(verified.fleet("status", "--json").stdout)
    return {one["name"]: one["pid"] for one in snapshot["programs"]}


def test_names_asked_by_the_hosts_resolver_are_a_breach(verified: Verified) -> None:
    """A worker whose names end at the host's own resolver, though by its tunnel: exit code 1, and `names` says it."""
    verified.configure({"dns": {"resolvers": [str(ISP_RESOLVER)]}})
    said = verified.verify()
    assert said.are("broken") == {"names"}, said.report
    assert said.code == 1


def test_a_browser_without_its_sandbox_is_a_breach(verified: Verified) -> None:
    """Without Chrome's sandbox, exit code 1 whatever else holds; the report names the setting."""
    verified.configure({"browser": {"sandbox": False, "i_know_what_no_sandbox_means": True}})
    said = verified.verify()
    assert said.are("broken") == {"sandbox"}, said.report
    assert said.code == 1
