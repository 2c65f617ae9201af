"""Slots end to end: real netctl under its own account, real wireguard-go, real servers. `ip`, `wg` and `nft` judge."""

from __future__ import annotations

import json
import re
import signal
import statistics
import subprocess
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import pairwise

import pytest

from lab import run
from lab.net import Lab
from tests.fleets import Rig, running
from tests.inside import PIPES, server
from tests.waiting import until

SITE = "203.0.113.80"
CHANGES: run.Changes = {"netctl": {"key_cooldown_seconds": 0.1}}


@pytest.fixture(scope="module")
def rig(lab: Lab, isolation: str) -> Iterator[Rig]:
    """Two workers' slots, and keys with a very short rest."""
    with running(lab, 2, changes=CHANGES, isolation=isolation) as made:
        yield made


def seen_address(rig: Rig, index: int = 0) -> str:
    """The address the site sees, asked by a program of the worker's UID."""
    argv = rig.as_worker(
        rig.worker(index), "curl", "-sS", "--max-time", "10", "-k", "--resolve", f"shop.example:443:{SITE}"
    )
    done = rig.there([*argv, "https://shop.example/ip"], index)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def gates(rig: Rig) -> list[str]:
    """Interfaces that the tables translate, as nft lists them."""
    argv = ("nft", "-j", "list", "map", "inet", "fleet", "translation")
    places = {tuple(rig.inside(worker, argv)) for worker in rig.fleet.members}
    listed = [part for place in places for part in rig.json(*place)["nftables"]]
    return [entry[0] for part in listed if "map" in part for entry in part["map"].get("elem", [])]


def peers(rig: Rig, index: int = 0) -> list[str]:
    """The peers of a worker's device, as wg shows them."""
    return rig.host(["wg", "show", rig.worker(index).interface, "peers"], check=True).stdout.split()


def address_events(rig: Rig) -> list[subprocess.Popen[str]]:
    """`ip monitor address` in the host and where the first worker is, as the judges."""
    argv = ("ip", "-o", "monitor", "address")
    places = {argv, tuple(rig.inside(rig.worker(), argv))}
    return [rig.popen(place, stdout=subprocess.PIPE) for place in places]


def heard(judges: list[subprocess.Popen[str]]) -> str:
    """End the judges; what they heard."""
    for process in judges:
        process.terminate()
    return "".join(process.communicate(timeout=10)[0] for process in judges)


def is_sealed(rig: Rig, index: int = 0) -> bool:
    """Whether the kernel, not netctl, says that the slot is sealed."""
    return rig.worker(index).interface not in gates(rig) and not peers(rig, index)


def test_connect_and_rotate_change_the_exit(rig: Rig) -> None:
    """Each tunnel has its leased exit, different from the last one; the old peer is gone; no address event."""
    client, judge = rig.client(), address_events(rig)
    answer = client.ask(do="connect")["ok"]
    exits = []
    for _ in range(4):
        assert seen_address(rig) == answer["exit_address"]
        assert len(peers(rig)) == 1
        exits.append(answer["exit_server"])
        answer = client.ask(do="rotate")["ok"]
    assert all(one != other for one, other in pairwise(exits))
    assert heard(judge) == ""
    client.kill()
    until("sealed", lambda: is_sealed(rig), 2)


def test_rotate_is_quick(rig: Rig) -> None:
    """Rotate, from order to answer, takes at most four times as long as its handshake and one status together.

    Those wake the same programs and are measured in turn with it; on a quiet machine four times is 25 ms. On a busy
    machine a rotation waits for a processor more often than they do, so one round within the bound is enough.
    """
    client = rig.client()
    client.ask(do="connect")
    rounds: list[tuple[float, float]] = []
    while len(rounds) < 5 and not any(ratio <= 4 or fastest <= 25 for ratio, fastest in rounds):
        rotate, rest = [], []
        for _ in range(30):
            answer, milliseconds = client.timed(do="rotate")
            rotate.append(milliseconds)
            rest.append(answer["ok"]["handshake_ms"] + client.timed(do="status")[1])
        rounds.append((statistics.median(rotate) / statistics.median(rest), min(rotate)))
        print(f"rotate: median {statistics.median(rotate):.1f} ms, {rounds[-1][0]:.1f} times handshake and status")
    client.kill()
    assert any(ratio <= 4 or fastest <= 25 for ratio, fastest in rounds), rounds


HOLD = """
import socket, sys
with socket.socket(socket.AF_INET6) as mapped, socket.socket() as plain:
    mapped.connect(("::ffff:" + sys.argv[1], 443))
    plain.connect((sys.argv[1], 443))
    print("connected", flush=True)
    sys.stdin.read()
"""


def script(rig: Rig, index: int, text: str, argument: str) -> subprocess.Popen[str]:
    """Start a small program under a worker's UID, and wait until it reports that it is ready."""
    argv = rig.as_worker(rig.worker(index), "/usr/bin/python3", "-I", "-c", text, argument)
    process = rig.popen(rig.inside(rig.worker(index), argv), **PIPES)
    assert process.stdout and process.stdout.readline()
    return process


def test_a_rotation_ends_the_sockets_of_the_old_exit(rig: Rig) -> None:
    """Also IPv6 sockets that speak IPv4: if they kept sending, a site could link both exits to one worker."""
    client = rig.client()
    client.ask(do="connect")
    holder = script(rig, 0, HOLD, SITE)
    established = ["ss", "-tnH", "state", "established", "dst", SITE]
    assert len(rig.there(established).stdout.splitlines()) == 2
    client.ask(do="rotate")
    assert rig.there(established).stdout == ""
    holder.kill()
    client.kill()


def test_a_worker_does_not_reach_its_neighbours_browser(rig: Rig) -> None:
    """Only its owner may reach the driver's port, because the driver runs any program for its caller."""
    port = rig.worker(1).browser_ports[1]
    argv = rig.as_worker(rig.worker(1), *server(rig.lab, ("tell", "127.0.0.1", port)))
    listener = rig.popen(rig.inside(rig.worker(1), argv), stdout=subprocess.PIPE)
    assert listener.stdout and listener.stdout.readline() == "ready\n"
    neighbour, owner = rig.client(0), rig.client(1)
    assert "ok" in owner.ask(do="tcp", host="127.0.0.1", port=port)
    assert "error" in neighbour.ask(do="tcp", host="127.0.0.1", port=port, timeout=0.5)
    for process in (listener, neighbour, owner):
        process.kill()


def test_a_killed_worker_is_sealed_within_a_second(rig: Rig) -> None:
    """SIGKILL of the worker: no peer, no gate, no lease, and that within 1 s of the kill."""
    client = rig.client()
    client.ask(do="connect")
    assert not is_sealed(rig)
    killed = datetime.now(timezone.utc)
    client.kill()
    until("sealed", lambda: is_sealed(rig), 10)
    until("its key is free", lambda: rig.status()["pool"]["leased"] == 0, 10)
    # The tools above are slow on a busy machine; the log has the time of the seal.
    seconds, _ = rig.seal_after(killed)
    print(f"sealed {seconds * 1000:.0f} ms after the kill")
    assert seconds < 1


def test_a_second_connection_of_a_worker_is_refused(rig: Rig) -> None:
    """One owner connection at a time; the refusal names the process that has it."""
    first, second = rig.client(), rig.client()
    lease = first.ask(do="connect")["ok"]["lease"]
    refused = second.ask(do="connect")
    assert refused["error"] == "NotAllowed"
    assert str(first.process.pid) in refused["message"]
    assert second.ask(do="rotate")["error"] == "TunnelLost"
    assert second.ask(do="status")["ok"]["slots"][0]["lease"] == lease
    first.kill()
    assert "ok" in second.ask(do="connect")
    second.kill()


def test_a_worker_sees_its_own_slot_alone(rig: Rig) -> None:
    """The status for a worker has one slot and no pool; a stranger is refused."""
    client = rig.client(1)
    client.ask(do="connect")
    status = client.ask(do="status")["ok"]
    assert [slot["worker"] for slot in status["slots"]] == [rig.worker(1).name]
    assert status["pool"] is None
    client.kill()


def test_netctl_killed_tunnels_go_on_and_are_adopted(rig: Rig) -> None:
    """kill -9 of netctl: the tunnel goes on, the next netctl adopts it without an address event, resume works."""
    client = rig.client()
    before = client.ask(do="connect")["ok"]
    generation = rig.slot()["generation"]
    judge, wireguard = address_events(rig), peers(rig)
    rig.kill_netctl()
    assert seen_address(rig) == before["exit_address"]
    rig.start_netctl()
    assert seen_address(rig) == before["exit_address"]
    assert rig.slot()["state"] == "orphaned"
    after = client.ask(do="connect", resume=before["lease"])["ok"]
    assert (after["lease"], rig.slot()["generation"]) == (before["lease"], generation)
    assert peers(rig) == wireguard
    assert heard(judge) == ""
    assert "ok" in client.ask(do="rotate")
    client.kill()
    until("sealed", lambda: is_sealed(rig), 2)


def test_netctl_stopped_keeps_tunnels_too(rig: Rig) -> None:
    """SIGTERM (an upgrade) acts like a kill: the tunnel stays and is adopted; without resume it is replaced."""
    client = rig.client()
    before = client.ask(do="connect")["ok"]
    generation = rig.slot()["generation"]
    assert rig.kill_netctl(signal.SIGTERM) == 0
    assert seen_address(rig) == before["exit_address"]
    rig.start_netctl()
    after = client.ask(do="connect")["ok"]
    assert after["lease"] != before["lease"]
    assert rig.slot()["generation"] == generation + 1
    client.kill()


def test_an_adopted_tunnel_whose_worker_is_gone_is_sealed_at_once(rig: Rig) -> None:
    """The owner died while netctl was away: sealed before the first request is answered."""
    client = rig.client()
    client.ask(do="connect")
    rig.kill_netctl()
    client.kill()
    assert not is_sealed(rig)
    rig.start_netctl()
    assert is_sealed(rig)
    assert rig.status()["pool"]["leased"] == 0


def test_an_adopted_tunnel_is_sealed_when_nobody_comes_back(rig: Rig) -> None:
    """The owner lives but does not come back within the grace time: sealed, and its resume is refused."""
    client = rig.client()
    lease = client.ask(do="connect")["ok"]["lease"]
    rig.kill_netctl()
    rig.configure({"netctl": {"owner_grace_seconds": 2}})
    try:
        rig.start_netctl()
    finally:
        rig.configure()
    assert not is_sealed(rig)
    until("sealed after the grace time", lambda: is_sealed(rig), 20)
    assert client.ask(do="connect", resume=lease)["error"] == "TunnelLost"
    client.kill()


def test_a_restarted_wireguard_go_is_repaired(rig: Rig) -> None:
    """wireguard-go dies and is started again: the same lease works on the new device."""
    client = rig.client()
    tunnel = client.ask(do="connect")["ok"]
    wireguard = rig.devices["wg101"]
    wireguard.kill()
    wireguard.wait()
    rig.start_wireguard(rig.worker())
    until("repaired", lambda: rig.host(["wg", "show", "wg101", "peers"]).stdout.strip() != "", 5)
    until("open again", lambda: "wg101" in gates(rig), 5)
    assert seen_address(rig) == tunnel["exit_address"]
    client.kill()


def test_a_hung_tunnel_is_no_trouble_of_its_neighbour(rig: Rig) -> None:
    """While one worker's wireguard-go hangs, another worker's lost objects are restored, and it rotates."""
    client = rig.client(0)
    client.ask(do="connect")
    hung = rig.devices["wg102"]
    hung.send_signal(signal.SIGSTOP)
    try:
        rig.there(["ip", "rule", "flush", "protocol", "77"], check=True)
        until("brought back", lambda: "uidrange 1101-1101" in rig.there(["ip", "rule"]).stdout, 25)
        assert "ok" in client.ask(do="rotate")
    finally:
        hung.send_signal(signal.SIGCONT)
    rig.wait_until_settled()
    client.kill()


def test_a_foreign_object_keeps_no_slot_open(rig: Rig) -> None:
    """With a foreign route in a worker's table nothing is repaired there, but a killed worker is still sealed."""
    client, link = rig.client(1), rig.worker(1).interface
    client.ask(do="connect")
    route = ["192.0.2.0/24", "dev", "lo", "table", str(rig.worker(1).table)]
    rig.there(["ip", "route", "add", *route], 1, check=True)
    try:
        for state in ("down", "up"):  # netctl has to look again
            rig.there(["ip", "link", "set", link, state], 1, check=True)
        until("noticed", lambda: '"slot.repair_failed"' in rig.log.read_text(), 10)
        assert not is_sealed(rig, 1)
        client.kill()
        until("sealed", lambda: is_sealed(rig, 1), 3)
        until("free", lambda: rig.status()["pool"]["leased"] == 0, 3)
    finally:
        rig.there(["ip", "route", "del", *route], 1, check=True)
    for state in ("down", "up"):
        rig.there(["ip", "link", "set", link, state], 1, check=True)
    rig.wait_until_settled(15)


def test_the_layers_are_there(rig: Rig) -> None:
    """Rules, routes, placeholder, link: as `ip` shows them, each with its mark."""
    ip = rig.inside(worker := rig.worker(), ["ip"])
    for family in ("-4", "-6"):
        rules = [rule for rule in rig.json(*ip, family, "-json", "rule") if rule["priority"] in (10101, 20101)]
        assert len(rules) == 4, "of its UID and of its placeholder, each with what holds it when the table is gone"
        assert {rule["protocol"] for rule in rules} == {"77"}
    routes = rig.json(*ip, "-json", "route", "show", "table", "10101")
    assert [(route.get("type"), route.get("dev"), route.get("prefsrc")) for route in routes] == [
        (None, "wg101", str(worker.placeholder)),
        ("unreachable", None, None),
    ]
    link, lo = (rig.json(*ip, "-json", "-details", "address", "show", name)[0] for name in ("wg101", "lo"))
    assert link["ifalias"] == worker.alias
    # In the shared host namespace every Chrome would notice an address that came and went with the link.
    on_link = {str(worker.placeholder)} if rig.fleet.isolation == "netns" else set()
    assert {entry["local"] for entry in link["addr_info"] if entry["scope"] != "host"} == on_link
    theirs = {str(one) for member in rig.fleet.members for one in member.placeholders}
    on_lo = {str(worker.placeholder_v6)} if on_link else theirs
    assert {entry["local"] for entry in lo["addr_info"] if entry["scope"] != "host"} == on_lo


OLD = "198.51.100.200"
SENDS = """
import socket, sys
made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
made.bind(("", int(sys.argv[2])))
made.sendto(b"x", (sys.argv[1], 4445))
"""


def zone(rig: Rig) -> int:
    """The first worker's conntrack zone now."""
    listed = rig.there(["nft", "list", "map", "inet", "fleet", "zones"], check=True).stdout
    return int(re.findall(rf'"{rig.worker().interface}" : (\d+)', listed)[0])


def test_what_an_earlier_lease_left_is_not_met_again(rig: Rig) -> None:
    """A conntrack entry of an earlier lease does not translate packets of this lease, even from the same port.

    The control: an entry in this lease's own zone does, and its packets are dropped in the table's last chain.
    """
    worker, client = rig.worker(), rig.client()
    client.ask(do="connect")
    before = zone(rig)
    client.ask(do="rotate")
    ours = zone(rig)

    def sees(port: int, where: int) -> list[str]:
        """What the datagrams from PORT are translated to, with an old entry in the zone WHERE."""
        flow = ["-p", "udp", "-s", str(worker.placeholder), "-d", SITE, "--sport", str(port), "--dport"]
        reply = ["-r", SITE, "-q", str(worker.placeholder), "--reply-port-src", "4445", "--reply-port-dst", str(port)]
        rig.there(["conntrack", "-I", *flow, "4445", *reply, "-n", OLD, "-w", str(where), "-t", "600"], check=True)
        argv = rig.as_worker(worker, "/usr/bin/python3", "-I", "-c", SENDS, SITE, str(port))
        rig.there(argv)
        listed = rig.there(["conntrack", "-L", *flow, "4445"], check=True).stdout
        return sorted(re.findall(r"dst=(\S+)", listed))

    assert sees(4001, ours) == sorted([SITE, OLD])
    met = sees(4002, before)
    assert before != ours and len(met) == 4 and met.count(OLD) == 1, (before, ours, met)
    client.kill()
    rig.wait_until_sealed()


def test_no_key_is_ever_logged(rig: Rig) -> None:
    """Nothing private is in the log, the plan, the status or the listing, not even with --debug."""
    text = rig.log.read_text() + json.dumps(rig.status())
    text += rig.command("plan").stdout + rig.command("keys", "list", "--json").stdout
    for path in rig.lab.places.keys.glob("*.conf"):
        (private,) = re.findall(r"PrivateKey\s*=\s*(\S+)", path.read_text())
        assert private not in text
    assert rig.paths.key_store.stat().st_mode & 0o077 == 0


def test_a_second_plan_is_empty(rig: Rig) -> None:
    """After `serve` has applied everything, `plan` has nothing to do."""
    assert rig.command("plan", "--json").stdout.strip() == "[]"
