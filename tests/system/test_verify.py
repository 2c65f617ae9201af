"""`fleet verify` in a lab: 0 where nothing leaks, 1 where something does, 75 where it could not have seen a leak."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lab import run
from lab.net import Lab
from lab.topology import ISP_RESOLVER
from tests.system.verifying import FIRST_UID, WORKERS, Verified

BLIND = "blind0"
"""An interface that nothing is sent by."""
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
