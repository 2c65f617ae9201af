"""Starting, refusing, cleaning up: foreign objects are reported and left alone; key imports are all or nothing."""

from __future__ import annotations

import json
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path

import pytest

from fleet import snapshot
from fleet.machine import spaces
from fleet.model import Paths
from fleet.operate import configuration
from fleet.snapshot import Snapshot
from lab import run
from lab.net import Lab
from lab.topology import TUNNEL_RESOLVER, WEB_ADDRESS
from tests.fleets import FREE, Rig
from tests.inside import PAST_THE_TUNNELS, Capture, capturing
from tests.waiting import until

CHANGES: run.Changes = {"netctl": {"request_deadline_seconds": 4, "key_cooldown_seconds": 0.1}}


@pytest.fixture
def rig(lab: Lab) -> Iterator[Rig]:
    """One worker's fleet, nothing started."""
    made = Rig(lab, changes=CHANGES)
    yield made
    made.stop()


@pytest.fixture
def either(lab: Lab, isolation: str) -> Iterator[Rig]:
    """The same, in each isolation."""
    made = Rig(lab, changes=CHANGES, isolation=isolation)
    yield made
    made.stop()


FOREIGN = {
    "link": ([["ip", "link", "add", "wg101", "type", "bridge"]], ["ip", "link", "delete", "wg101"], "link wg101"),
    "rule": (
        [["ip", "rule", "add", "from", "192.0.2.77", "lookup", "main", "priority", "10101"]],
        ["ip", "rule", "delete", "from", "192.0.2.77", "lookup", "main", "priority", "10101"],
        "priority 10101",
    ),
    "route": (
        [["ip", "route", "add", "blackhole", "192.0.2.0/24", "table", "10101"]],
        ["ip", "route", "delete", "blackhole", "192.0.2.0/24", "table", "10101"],
        "table 10101",
    ),
    "table": (
        [["nft", "add table inet fleet; add chain inet fleet mine"]],
        ["nft", "delete table inet fleet"],
        "inet fleet",
    ),
    "address": (
        [["ip", "link", "add", "br9", "type", "bridge"], ["ip", "address", "add", "10.255.0.101/16", "dev", "br9"]],
        ["ip", "link", "delete", "br9"],
        "10.255.0.101/16 on br9",
    ),
}


def test_a_foreign_object_is_named_and_left_alone(either: Rig) -> None:
    """Foreign objects inside netctl's marks: exit code 78, each named with the command that shows it; no change."""
    rig = either
    with ExitStack() as planted:
        for make, remove, _ in FOREIGN.values():
            for argv in make:
                rig.host(argv, check=True)
            planted.callback(rig.host, remove, check=True)
        before = _everything(rig)
        done = rig.host(rig.serving(), timeout=30)
        assert done.returncode == 78
        assert [kind for kind, (*_, name) in FOREIGN.items() if name not in done.stderr] == []
        assert "what to do" in done.stderr
        assert _everything(rig) == before
        assert rig.command("cleanup").returncode in (0, 78)
        assert _everything(rig) == before


KERNEL = (
    ["ip", "-details", "link"],
    ["ip", "address"],
    ["ip", "rule"],
    ["ip", "route", "show", "table", "all"],
    ["nft", "-s", "list", "ruleset"],
)
"""What the kernel of a host holds; nft's counters left out."""


def _kernel(rig: Rig) -> list[str]:
    """The kernel's objects as sorted lines, because tables are listed by age; without what depends on traffic."""
    lines = (line for argv in KERNEL for line in rig.host(argv).stdout.splitlines())
    return sorted(line for line in lines if not re.search(r"\d+ limit rate", line))


SECOND = (
    *(("netctl", verb) for verb in ("alone", "serve", "cleanup")),
    *(("fleet", *words.split()) for words in ("up", "run", "verify", "down", "accounts remove")),
)
"""What starts a fleet, ends one, or changes what both would share."""


_QUERY = "123401000001000000000000047368" + b"op\x07example\0\0\1\0\1".hex()
WAYS: dict[str, list[dict[str, object]]] = {
    "": [
        {"kind": "udp", "host": str(WEB_ADDRESS), "port": 9, "device": "", "kept": True},
        # This one gets answers: a tunnel that sends but receives nothing for 15 s is sealed.
        {"kind": "udp", "host": str(TUNNEL_RESOLVER), "port": 53, "data": _QUERY, "kept": True},
    ],
    "uplink": [{"kind": "udp", "host": str(WEB_ADDRESS), "port": 9, "device": "uplink", "kept": True}],
}
"""Datagrams, plain and bound to the uplink."""


@pytest.fixture
def second(either: Rig) -> Iterator[Paths]:
    """Another FLEET_ROOT on the same host, with settings of the same workers, where nothing was started."""
    made = Paths(root=either.paths.root / "other")
    made.config.parent.mkdir(parents=True)
    shutil.copy(either.paths.config, made.config)
    made.snapshot.parent.mkdir(parents=True)
    snapshot.write(Snapshot(release=either.installation.release, fleet=configuration.load(made.config)), made)
    yield made
    shutil.rmtree(made.root)


def test_a_second_fleet_in_one_network_namespace_is_refused(either: Rig, second: Paths, isolation: str) -> None:
    """Exit code 75 naming the other fleet: no change and no process killed, also while its netctl restarts.

    Nothing that the first fleet's worker sends meanwhile goes past its tunnel. In either isolation the shared namespace
    is the host's, so each state is tested with one isolation.

    The control: the first fleet's own `down` ends the same process, and after that no fleet is refused.
    """
    rig, state = either.start(), {"uid": "netctl is dead", "netns": "netctl serves"}[isolation]
    worker, marker = rig.client(), rig.client_of(FREE)
    assert "ok" in worker.ask(do="connect")
    if state == "netctl is dead":
        rig.kill_netctl()
    # netctl's first look lists its rules as the kernel shows them, in a table that is gone a moment later.
    before = until("a look of its own is over", lambda: [] if "fleet_shape_" in str(found := _kernel(rig)) else found)
    with capturing(rig.lab, *PAST_THE_TUNNELS) as seen:
        capture = Capture(seen, marker)
        worker.send(do="probe", ways=WAYS, seconds=60, rounds=1_000_000)
        for words in SECOND:
            done = rig.host(["env", f"FLEET_ROOT={second.root}", *run.program(*words)])
            assert done.returncode == 75, (words, done.stderr)
            assert f"the fleet in {rig.paths.root} is at work in this network namespace" in done.stderr
        assert capture.lines() == [], "what the worker sends all the while"
    # A serving netctl may still be repairing; with a dead one nothing is repaired, and the capture covered both.
    seconds = 20 if state == "netctl serves" else 0
    until("nothing has changed", lambda: _kernel(rig) == before, seconds, lambda: {*_kernel(rig)} ^ {*before})
    assert worker.process.poll() is None
    if state == "netctl is dead":
        assert rig.operate("down").returncode == 0
        assert worker.process.wait(5)
        assert rig.host(["env", f"FLEET_ROOT={second.root}", *run.program("netctl", "alone")]).returncode == 0


AT_ONCE = """
import asyncio, sys, threading
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from fleet.errors import TryLater
from netctl.filter.owned_table import OwnedTable
start, said = threading.Barrier(8), []
made = [OwnedTable(Path(f"/root-{number}")) for number in range(8)]
def make(one):
    start.wait()
    try:
        said.append(asyncio.run(one.make(None)))
    except TryLater:
        said.append("75")
threads = [threading.Thread(target=make, args=(one,)) for one in made]
for one in threads:
    one.start()
for one in threads:
    one.join()
print(sorted(map(str, said)))
"""


def test_of_fleets_that_start_at_once_one_has_the_namespace(rig: Rig) -> None:
    """Eight netctl try to take the lock at the same time: one gets it, the others exit with 75 and change nothing."""
    done = rig.host([sys.executable, "-I", "-c", AT_ONCE, str(rig.installation.release)], check=True)
    assert done.stdout.strip() == str(["75"] * 7 + ["True"])


def test_the_second_netctl_says_who_has_the_lock(rig: Rig) -> None:
    """While one runs, a second exits with 78 and names the first's process; cleanup refuses as well."""
    first = rig.start().netctl
    assert first
    for argv in (rig.serving(), rig.installation.module("netctl", "cleanup")):
        done = rig.host(argv)
        assert done.returncode == 78
        assert str(first.pid) in done.stderr


def test_cleanup_removes_ours_and_nothing_else(either: Rig) -> None:
    """After cleanup rules, routes, placeholders, links and table are gone; a neighbour's objects are as they were.

    A neighbour has an address of the usual placeholders; this fleet has its own elsewhere, and sends from there.
    """
    rig = either
    rig.configure({"workers": {"placeholders": "172.31.0.0/24"}})
    rig.host(["ip", "address", "add", "10.255.0.101/32", "dev", "lo"], check=True)
    rig.host(["ip", "rule", "add", "from", "192.0.2.77", "lookup", "main", "priority", "15000"], check=True)
    rig.host(["nft", "add table inet neighbour; add chain inet neighbour c"], check=True)
    try:
        before = _everything(rig)
        rig.start()
        client = rig.client()
        assert "ok" in client.ask(do="connect")
        assert client.ask(do="tcp", host=str(WEB_ADDRESS), port=443) == {"ok": {"from": "172.31.0.101"}}
        assert _everything(rig) != before
        rig.kill_netctl()
        rig.command("cleanup", check=True)
        assert _everything(rig) == before
        listed = json.loads(rig.command("keys", "list", "--json", check=True).stdout)
        assert [key["leased_to"] for key in listed if key["leased_to"]] == []
        assert rig.command("cleanup", "--json", check=True).stdout.strip() == "[]"
        assert spaces.names(rig.paths.spaces) == frozenset()
    finally:
        rig.host(["ip", "address", "delete", "10.255.0.101/32", "dev", "lo"], check=True)
        rig.host(["ip", "rule", "delete", "priority", "15000"], check=True)
        rig.host(["nft", "delete table inet neighbour"], check=True)


def test_other_interfaces_are_filtered_no_less(either: Rig) -> None:
    """Lowering rp_filter of `all` leaves the effective value of every other interface as it was."""
    rig = either
    rig.host(["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1"], check=True)
    before = _effective(rig)
    rig.start()
    after = _effective(rig)
    if rig.fleet.isolation == "uid":
        assert after.pop("wg101") == 0
    assert {name: after[name] for name in before} == before


def test_a_silent_server_is_left_for_another(rig: Rig) -> None:
    """If a server does not answer, the next key is tried within the deadline; without one: a clear error, sealed."""
    _only_keys(rig, [_silent(rig, "vpn1-01.conf", "198.18.1.200")])
    rig.start()
    client = rig.client()
    answer = client.ask(do="connect")
    assert answer["error"] in ("HandshakeTimeout", "NoKeyFree")
    assert rig.slot()["state"] == "sealed"
    assert "wg101" not in rig.host(["nft", "list", "map", "inet", "fleet", "translation"]).stdout
    good = rig.lab.places.keys / "vpn2-01.conf"
    rig.command("keys", "import", str(good), check=True)
    until("connected over the good one", lambda: "ok" in client.ask(do="connect"), 30)
    client.kill()


def test_a_worker_killed_while_it_connects_gives_its_key_back(rig: Rig) -> None:
    """A hang-up is noticed during a request: slot sealed and key free within a second, not at the deadline."""
    _only_keys(rig, [_silent(rig, "vpn1-01.conf", "198.18.1.200")])
    rig.configure({"netctl": {"request_deadline_seconds": 60}})
    rig.start()
    for _ in range(5):  # each at a different moment between two checks for the handshake
        client = rig.client()
        client.send(do="connect")
        until("its server is being waited for", lambda: rig.slot()["state"] == "connecting", 10)
        killed = datetime.now(timezone.utc)
        client.kill()
        # By the log: between two attempts with its one key the pool has nothing leased for a moment.
        seconds, reason = rig.seal_after(killed)
        assert "CancelledError" in reason
        assert seconds < 1
        until("its key is free", lambda: rig.status()["pool"]["leased"] == 0, 10)


def test_no_key_free_is_said_within_the_deadline(rig: Rig) -> None:
    """One key, two claims on it: the second gets NoKeyFree with the pool in numbers."""
    _only_keys(rig, [])
    rig.start()
    client = rig.client()
    answer = client.ask(do="connect")
    assert answer["error"] == "NoKeyFree"
    assert "empty" in answer["message"]
    client.kill()


def test_bad_key_files_are_all_named_and_nothing_is_imported(rig: Rig, tmp_path: Path) -> None:
    """All mistakes of all files at once, with file and entry, never with key material; the pool does not change."""
    good = (rig.lab.places.keys / "vpn1-01.conf").read_text()
    private = next(line.split("=", 1)[1].strip() for line in good.splitlines() if line.startswith("PrivateKey"))
    (tmp_path / "good.conf").write_text(good)
    (tmp_path / "short.conf").write_text(good.replace(private, private[:-8]))
    (tmp_path / "bare.conf").write_text(f"[Interface]\nPrivateKey = {private}\n")
    before = rig.command("keys", "list", "--json", check=True).stdout
    done = rig.command(
        "keys", "import", *(str(tmp_path / name) for name in ("good.conf", "short.conf", "bare.conf", "no.conf"))
    )
    assert done.returncode == 78
    for text in (
        "short.conf: [Interface] PrivateKey",
        "bare.conf: [Interface] Address",
        "; [Peer] Endpoint is missing",
        "no.conf",
    ):
        assert text in done.stderr
    assert private[:20] not in done.stderr + done.stdout
    assert rig.command("keys", "list", "--json", check=True).stdout == before


def test_keys_come_from_standard_input_and_twice_is_once(rig: Rig) -> None:
    """`-` reads one key; a known key is reported and skipped; only netctl may read the store."""
    _only_keys(rig, [])
    text = (rig.lab.places.keys / "vpn3-02.conf").read_text()
    for imported in (1, 0):
        done = rig.command("keys", "import", "-", "--json", input=text, check=True)
        assert json.loads(done.stdout)["imported"] == imported
    found = rig.paths.key_store.stat()
    assert found.st_uid == pwd.getpwnam("netctl").pw_uid
    assert found.st_mode & 0o777 == 0o600


def test_monitor_names_the_worker(either: Rig) -> None:
    """`netctl monitor --json` prints an address event of a placeholder with its worker."""
    rig = either
    with (rig.paths.root / "monitor.out").open("w+") as out:
        inside = ["--worker", "w1101"] if rig.fleet.isolation == "netns" else []
        rig.popen(rig.installation.module("netctl", "monitor", "--json", *inside), stdout=out)

        def look() -> str:
            for verb in ("add", "delete"):
                rig.there(["ip", "address", verb, "10.255.0.101/32", "dev", "lo"])
            out.seek(0)
            return out.readline()

        notice = json.loads(until("an event is printed", look, 20))
    assert (notice["interface"], notice["worker"]) == ("lo", "w1101")
    assert notice["kind"] in ("RTM_NEWADDR", "RTM_DELADDR")


def test_probe_and_plan_answer_before_anything_runs(either: Rig) -> None:
    """`probe --json` names the backend; `plan` lists commands and exits 2, and changes nothing."""
    rig = either
    assert json.loads(rig.command("probe", "--json", check=True).stdout) == {"backend": "userspace"}
    before = _everything(rig)
    planned = rig.command("plan")
    assert planned.returncode == 2
    where = "ip -n fleet-w1101" if rig.fleet.isolation == "netns" else "ip"
    assert f"{where} -4 rule add uidrange 1101-1101 lookup 10101 priority 10101 protocol 77" in planned.stdout
    assert _everything(rig) == before


def _everything(rig: Rig) -> str:
    """Links, addresses, routes, rules and tables, as the tools list them; without counters."""
    text = ""
    for argv in (
        ["ip", "-o", "address"],
        ["ip", "rule"],
        ["ip", "-6", "rule"],
        ["ip", "route", "show", "table", "all"],
        ["nft", "-s", "list", "ruleset"],
    ):
        text += rig.host(argv, check=True).stdout
    return text


def _effective(rig: Rig) -> dict[str, int]:
    """By interface, the effective rp_filter: max(all, interface), as the kernel computes it."""
    listed = rig.host(["sysctl", "-a", "-r", r"net\.ipv4\.conf\..*\.rp_filter$"], check=True).stdout
    values = {}
    for line in listed.splitlines():
        name, _, value = line.partition(" = ")
        values[name.removeprefix("net.ipv4.conf.").removesuffix(".rp_filter")] = int(value)
    every = values.pop("all")
    return {name: max(every, value) for name, value in values.items()}


def _only_keys(rig: Rig, texts: list[str]) -> None:
    """Make the pool hold these keys and no others."""
    listed = json.loads(rig.command("keys", "list", "--json", check=True).stdout)
    if listed:
        rig.command("keys", "remove", *(key["public_key"] for key in listed), check=True)
    for text in texts:
        rig.command("keys", "import", "-", input=text, check=True)


def _silent(rig: Rig, name: str, address: str) -> str:
    """A key that its server does not know, because its private key is another one."""
    private = subprocess.run(["wg", "genkey"], capture_output=True, text=True, check=True).stdout.strip()
    lines = (rig.lab.places.keys / name).read_text().splitlines()
    changed = [f"PrivateKey = {private}" if line.startswith("PrivateKey") else line for line in lines]
    return "\n".join(f"Address = {address}/32" if line.startswith("Address") else line for line in changed)
