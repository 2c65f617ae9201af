"""The exits of keys whose files do not name one: netctl asks through real tunnels; workers may lie."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from fleet.numbers import OUTER_MARK, PROBE_MARK
from lab import run
from lab.net import Lab
from tests.fleets import Rig, running
from tests.waiting import until

WRONG = "192.0.2.66"
CHANGES: run.Changes = {"netctl": {"key_cooldown_seconds": 0.1}}


@pytest.fixture(scope="module")
def bare(lab: Lab) -> Iterator[str]:
    """A pattern of key files that name no exit, two for each server."""
    made = []
    for path in sorted(lab.places.keys.glob("vpn*-0[12].conf")):
        made.append(path.with_name(f"bare-{path.name}"))
        made[-1].write_text("".join(line for line in path.read_text().splitlines(True) if "ExitAddress" not in line))
    yield "bare-*.conf"
    for path in made:
        path.unlink()


@pytest.fixture
def rig(lab: Lab, isolation: str, bare: str) -> Iterator[Rig]:
    """Two workers' slots, and keys whose exits are unknown."""
    with running(lab, 2, changes=CHANGES, isolation=isolation, keys=(bare,)) as made:
        yield made


def listed(rig: Rig) -> list[dict[str, Any]]:
    """`netctl keys list --json`."""
    found: list[dict[str, Any]] = json.loads(rig.command("keys", "list", "--json", check=True).stdout)
    return found


def test_netctl_sees_for_itself_and_believes_no_worker(rig: Rig) -> None:
    """A worker that reports a wrong exit for every key changes none: netctl learns each exit by its own request.

    The neighbour's tunnels have the right exits; a report against a known exit changes nothing; `forget-exit` forgets.
    """
    liar, honest = rig.client(0), rig.client(1)
    answer = liar.ask(do="connect")["ok"]
    assert answer["exit_address"] is None
    for _ in range(5):
        refused = liar.ask(do="proved", address=WRONG)
        assert refused["error"] == "WrongExit", refused
        answer = liar.ask(do="rotate")["ok"]
    # The server's own address is its exit, in this lab.
    for one in listed(rig):
        assert one["exit_address"] in (None, one["server"])
    learned = [one for one in listed(rig) if one["exit_address"]]
    assert len(learned) >= 4
    assert {line["seen_by"] for line in rig.logged("exit.learned")} == {"netctl"}
    for order in ("connect", "rotate", "rotate"):
        tunnel = honest.ask(do=order)["ok"]
        assert tunnel["exit_address"] in (None, tunnel["exit_server"])
        assert "ok" in honest.ask(do="proved", address=tunnel["exit_server"])
    forgotten = json.loads(rig.command("keys", "forget-exit", "--all", "--json", check=True).stdout)
    assert {one["public_key"] for one in learned} <= set(forgotten["forgotten"])
    assert not any(one["exit_address"] for one in listed(rig))


@pytest.fixture
def deaf(rig: Rig) -> Iterator[Callable[..., None]]:
    """Makes the echo service unreachable from given sources, until the test ends."""
    try:
        yield partial(_refuse, rig)
    finally:
        rig.host(["nft", "add table inet deaf; delete table inet deaf"], at="web", check=True)


def _refuse(rig: Rig, *sources: str) -> None:
    rules = (
        "add table inet deaf; flush table inet deaf; add chain inet deaf input { type filter hook input priority 0; }"
    )
    for source in sources:
        rules += f"; add rule inet deaf input ip saddr {source} tcp dport 443 reject with tcp reset"
    rig.host(["nft", rules], at="web", check=True)


def test_an_exit_of_this_host_is_none(rig: Rig, deaf: Callable[..., None]) -> None:
    """If netctl's own request has no answer, workers' reports count, but never one with an address of the host.

    Nothing is believed before the host's address is known, as after a start without network; netctl asks for it again
    after it has changed; a report of one worker alone is not enough.
    """
    exits, here = "203.0.113.0/27", run_words(rig, "ip", "-json", "route", "get", "203.0.113.80")["prefsrc"]
    new = "198.51.100.77"
    deaf(exits, here)
    client = rig.client()
    client.ask(do="connect")

    def claim(address: str) -> str:
        answer: dict[str, Any] = client.ask(do="proved", address=address)
        return str(answer.get("message", "taken"))

    assert "cannot be judged" in claim(new)
    deaf(exits)
    until("the host's address is known", lambda: claim(new) == "taken", 20)
    assert "an address of this host" in claim(here)
    route = run_words(rig, "ip", "-json", "route", "show", "default")
    change = ["ip", "route", "replace", "default", "via", route["gateway"], "dev", route["dev"]]
    rig.host(["ip", "address", "add", f"{new}/24", "dev", route["dev"]], check=True)
    try:
        rig.host([*change, "src", new], check=True)
        assert "an address of this host" in claim(new)
    finally:
        rig.host(change, check=True)
        rig.host(["ip", "address", "delete", f"{new}/24", "dev", route["dev"]], check=True)
    assert not any(one["exit_address"] for one in listed(rig))


KNOCK = """
import socket, sys
mark, source, interface = int(sys.argv[1]), *sys.argv[2:]
with socket.socket() as made:
    made.settimeout(1)
    made.setsockopt(socket.SOL_SOCKET, 36, mark)  # SO_MARK
    made.setsockopt(socket.SOL_SOCKET, 25, interface.encode())  # SO_BINDTODEVICE
    made.bind((source, 0))
    print(made.connect_ex(("203.0.113.80", 443)))
"""


def test_the_look_goes_through_an_open_gate_alone(rig: Rig) -> None:
    """Root with netctl's mark gets out from a placeholder through an open gate; not if sealed or with another mark."""
    worker = rig.worker()

    def heard(mark: int) -> bool:
        argv = [str(rig.installation.python), "-I", "-c", KNOCK, str(mark), str(worker.placeholder), worker.interface]
        return rig.there(argv, check=True).stdout.strip() == "0"

    assert not heard(PROBE_MARK)
    client = rig.client()
    client.ask(do="connect")
    assert (heard(PROBE_MARK), heard(0), heard(OUTER_MARK)) == (True, False, False)
    client.kill()
    rig.wait_until_sealed()
    assert not heard(PROBE_MARK)


def run_words(rig: Rig, *argv: str) -> dict[str, Any]:
    """The first object of what a tool prints."""
    found: dict[str, Any] = rig.json(*argv)[0]
    return found
