"""The kill switch: what a worker's UID tries on its own, and what a capture at the ISP sees of it."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from fleet.model import Worker
from lab.net import Lab
from lab.topology import ISP_RESOLVER, WEB_ADDRESS, WEB_ADDRESS_V6
from tests.fleets import FREE, Rig, running
from tests.inside import Client, tcpdump
from tests.layers import flush_both, layers
from tests.waiting import until

TCP, UDP = 4443, 4444
PROBES = (
    f"tcp dst port {TCP} or udp dst port {UDP} or udp dst port 53 or tcp dst port 53 or net 10.255.0.0/16"
    " or icmp[icmptype] = icmp-echo or (icmp6 and ip6[40] = 128)"
)
OPEN = ("open", '{ 1101 . "wg101" }')
PLACES, AT_ONCE, A_SECOND, OF_OTHERS = 12_000, 5000, 500, 1000
"""How many connections a flood tries, how many a worker may begin, and what else comes and goes meanwhile."""


@pytest.fixture(scope="module")
def rig(lab: Lab, isolation: str) -> Iterator[Rig]:
    """One worker's slot, and ping sockets for everybody."""
    with running(lab, isolation=isolation) as made:
        made.everywhere(["sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647"])
        yield made


@pytest.fixture
def client(rig: Rig) -> Iterator[Client]:
    """A process of the worker; it is gone at the end of the test, also if that fails."""
    made = rig.client()
    yield made
    made.kill()


@dataclass
class Capture:
    """tcpdump at the ISP's end of the host's uplink, which every packet of the host passes.

    Tunnelled packets pass it as WireGuard's UDP and come out at another port of the ISP. So netctl may repair the
    tunnel while a probe runs: what is seen here still went past the tunnel.
    """

    process: subprocess.Popen[str]
    read: list[str] = field(default_factory=list)

    def seen(self, mark: str) -> bool:
        """Read one more line: whether it has MARK."""
        assert self.process.stdout
        self.read.append(self.process.stdout.readline())
        return mark in self.read[-1]

    def lines(self) -> list[str]:
        """Stop, and return the captured lines; if there are none, assert that no packet was dropped either."""
        self.process.terminate()
        seen, said = self.process.communicate(timeout=10)
        found = [line for line in [*self.read, *seen.splitlines()] if line.strip()]
        assert found or "\n0 packets dropped by kernel" in said, said
        return found


@pytest.fixture
def capture(rig: Rig) -> Iterator[Capture]:
    """A running capture of every probe."""
    process = rig.lab.popen("isp", tcpdump(PROBES), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr
    while "listening on" not in (line := process.stderr.readline()):
        assert line, "tcpdump ended"
    yield Capture(process)
    process.kill()
    process.wait(10)


def uplink(rig: Rig) -> str:
    """The interface of the host that leads to the ISP."""
    route: str = rig.json("ip", "-json", "route", "get", str(WEB_ADDRESS))[0]["dev"]
    return route


def is_open(rig: Rig) -> bool:
    """Whether the worker's gate is open."""
    return rig.there(["nft", "get", "element", "inet", "fleet", *OPEN]).returncode == 0


def try_everything(rig: Rig, client: Client) -> list[str]:
    """Try every way out, plain and bound to the uplink; returns the names of those that did not fail at once."""
    passed = []
    device, host = uplink(rig), "198.51.100.10"
    for target, sources in ((str(WEB_ADDRESS), (None, host)), (str(WEB_ADDRESS_V6), (None,))):
        for bound in (None, device):
            for source in sources:
                for kind, port in (("tcp", TCP), ("udp", UDP), ("udp", 53), ("icmp", 0)):
                    order = {"host": target, "port": port, "device": bound, "source": source, "timeout": 0.2}
                    if "ok" in client.ask(do=kind, **order):
                        passed.append(f"{kind} {target} {port} {bound} {source}")
    return passed


def test_a_sealed_worker_reaches_nothing(rig: Rig, client: Client, capture: Capture) -> None:
    """No tunnel: TCP, UDP, ICMP, DNS, v4, v6, plain, bound to the uplink or its address: nothing arrives at the ISP."""
    try_everything(rig, client)
    assert capture.lines() == []


def test_a_worker_outside_its_namespace_reaches_nothing(rig: Rig, client: Client, capture: Capture) -> None:
    """If the worker's UID gets into the host's namespace, with or without its tunnel, nothing leaves there."""
    outside = rig.client_of(rig.worker(), at=FREE)
    assert client.ask(do="connect")
    try_everything(rig, outside)
    outside.kill()
    assert capture.lines() == []


def test_the_same_probes_are_seen_of_another_uid(rig: Rig, capture: Capture) -> None:
    """Positive control: another UID's probes are all seen, so that the zero above means something."""
    control = rig.client_of(FREE)
    try_everything(rig, control)
    # Wait for the last kind that is tried: a busy tcpdump that is told to end leaves its buffer unread.
    until("the capture has come so far", lambda: capture.seen("ICMP6, echo request"), 30, lambda: capture.read)
    control.kill()
    seen = "\n".join(capture.lines())
    for mark in (f".{TCP}: Flags [S]", f".{UDP}: UDP", ".53:", "ICMP echo request", "ICMP6, echo request"):
        assert mark in seen, f"{mark} was not seen in:\n{seen}"
    assert str(WEB_ADDRESS_V6) in seen


def test_a_connected_worker_leaves_through_its_tunnel_alone(rig: Rig, client: Client, capture: Capture) -> None:
    """With a tunnel: the site through it, but nothing past it, and no DNS but the tunnel's own resolver."""
    client.ask(do="connect")
    assert client.ask(do="tcp", host=str(WEB_ADDRESS), port=443) == {"ok": {"from": str(rig.worker().placeholder)}}
    query = "123401000001000000000000047368 6f70076578616d706c650000010001".replace(" ", "")
    assert "received" in client.ask(do="udp", host="198.18.0.53", port=53, data=query)["ok"]
    for resolver in (str(ISP_RESOLVER), "127.0.0.53", "127.0.0.1"):
        assert "error" in client.ask(do="udp", host=resolver, port=53, data=query, timeout=0.3), resolver
    device = uplink(rig)
    assert "error" in client.ask(do="tcp", host=str(WEB_ADDRESS), port=443, device=device, timeout=0.3)
    assert "error" in client.ask(do="tcp", host=str(WEB_ADDRESS_V6), port=443, timeout=0.3)
    assert capture.lines() == []


def test_a_worker_sends_from_its_placeholder_alone(rig: Rig, client: Client) -> None:
    """The host's own address as source: nothing enters the tunnel, so no answer's reset can take the uplink."""
    client.ask(do="connect")
    query = "12340100000100000000000004" + b"shop".hex() + "07" + b"example".hex() + "0000010001"
    site = {"do": "tcp", "host": str(WEB_ADDRESS), "port": 443, "timeout": 2}
    name = {"do": "udp", "host": "198.18.0.53", "port": 53, "data": query, "timeout": 2}
    for order in (site, name):
        assert "ok" in client.ask(**order), "positive control: from the placeholder it passes"
        assert "error" in client.ask(**{**order, "source": "198.51.100.10", "timeout": 0.5}), order


def test_nothing_leaks_while_rules_are_flushed(rig: Rig, client: Client, capture: Capture) -> None:
    """With the policy rules flushed, the nftables chain alone still confines the worker."""
    client.ask(do="connect")
    saved = rig.there(["ip", "rule", "show"], check=True).stdout
    assert "uidrange 1101-1101" in saved
    for family in ("-4", "-6"):
        rig.there(["ip", family, "rule", "flush", "protocol", "77"], check=True)
    try_everything(rig, client)
    assert capture.lines() == []
    until("netctl brings them back", lambda: rig.there(["ip", "rule", "show"]).stdout == saved, 20)


FLOOD = """
import socket, sys
targets = [(socket.AF_INET, sys.argv[1]), (socket.AF_INET6, sys.argv[2])]
ports = (int(sys.argv[3]), 53)
sys.stdout.write("sending\\n")
sys.stdout.flush()
while True:
    for family, host in targets:
        for port in ports:
            with socket.socket(family, socket.SOCK_DGRAM) as sender:
                try:
                    sender.sendto(b"probe", (host, port))
                except OSError:
                    pass
"""


@contextlib.contextmanager
def flooding(rig: Rig, worker: Worker) -> Iterator[None]:
    """A process of WORKER's that sends in a tight loop."""
    argv = ["/usr/bin/python3", "-I", "-c", FLOOD, str(WEB_ADDRESS), str(WEB_ADDRESS_V6), str(UDP)]
    process = rig.popen(rig.inside(worker, rig.as_worker(worker, *argv)), stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline()
    try:
        yield
    finally:
        process.kill()
        process.wait(10)


TAKES_PLACES = f"""
import socket, sys
made = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(4)]
for number in range({PLACES}):
    try:
        made[number % 4].sendto(b"x", (sys.argv[1], 10_000 + number // 4))
    except OSError:
        pass
"""


def test_a_flood_leaves_places_for_others(rig: Rig, client: Client) -> None:
    """A worker's flood of connections takes a bounded number of conntrack entries, and the worker still works.

    The control: the same flood from another UID takes one entry per connection.
    """
    client.ask(do="connect")

    def taken(worker: Worker) -> int:
        before = _tracked(rig, worker)
        argv = ["/usr/bin/python3", "-I", "-c", TAKES_PLACES, str(WEB_ADDRESS)]
        rig.host(rig.inside(worker, rig.as_worker(worker, *argv)), check=True)
        return _tracked(rig, worker) - before

    began = time.monotonic()
    found = taken(rig.worker())
    assert AT_ONCE / 2 < found < AT_ONCE + A_SECOND * (time.monotonic() - began) + OF_OTHERS
    assert "ok" in client.ask(do="tcp", host=str(WEB_ADDRESS), port=443, timeout=5)
    assert taken(FREE) > AT_ONCE + OF_OTHERS


def _tracked(rig: Rig, worker: Worker) -> int:
    """The number of conntrack entries in WORKER's namespace."""
    argv = rig.inside(worker, ["sysctl", "-n", "net.netfilter.nf_conntrack_count"])
    return int(rig.host(argv, check=True).stdout)


def test_nothing_leaks_while_both_are_flushed(rig: Rig, client: Client, capture: Capture) -> None:
    """Rules and nftables are flushed together, five times, while the worker sends in a tight loop: nothing leaves.

    The table that netctl owns survives; everything else is restored each time.
    """
    client.ask(do="connect")
    before = layers(rig)
    with flooding(rig, rig.worker()):
        for _ in range(5):
            flush_both(rig)
            until("all is back", lambda: layers(rig) == before and is_open(rig), 25, lambda: layers(rig))
        rig.wait_until_settled()
    assert capture.lines() == []
    assert "ok" in client.ask(do="tcp", host=str(WEB_ADDRESS), port=443, timeout=5)


def test_the_same_flood_is_seen_when_nothing_holds_it(rig: Rig, capture: Capture) -> None:
    """Positive control and known limit: with netctl killed and then both flushed, it leaks until netctl is back.

    A worker's own namespace has no other way out; there the control is another UID's flood.
    """
    rig.kill_netctl()
    alone = rig.fleet.isolation == "netns"
    with contextlib.ExitStack() as floods:
        floods.enter_context(flooding(rig, rig.worker()))
        flush_both(rig)
        if alone:
            assert not sees_a_flood(rig, capture)
            floods.enter_context(flooding(rig, FREE))
        until("the flood is seen", lambda: capture.seen(f".{UDP}: UDP"), 10)
        rig.start_netctl()
        rig.wait_until_settled()
    lines = capture.lines()
    assert any(str(WEB_ADDRESS_V6) in line for line in lines)


def sees_a_flood(rig: Rig, capture: Capture) -> bool:
    """Whether a flood is seen before another UID's connection attempts, which are made after it."""
    control = rig.client_of(FREE)

    def tried() -> bool:
        control.ask(do="tcp", host=str(WEB_ADDRESS), port=TCP, timeout=0.1)
        return capture.seen(f".{TCP}: Flags [S]")

    until("the control is seen", tried, 10)
    control.kill()
    return any(f".{UDP}: UDP" in line for line in capture.read)


def test_the_held_table_is_nobody_elses_to_change(rig: Rig, client: Client) -> None:
    """Root's nft cannot delete the held table or add to it, and a flush skips it."""
    held = ["nft", "-s", "list", "table", "inet", "fleet_hold"]
    before = rig.host(held, check=True).stdout
    assert "flags owner" in before
    for command in ("delete table inet fleet_hold", "insert rule inet fleet_hold worker accept"):
        refused = rig.host(["nft", command])
        assert refused.returncode != 0 and "not permitted" in refused.stderr, command
    rig.host(["nft", "flush", "ruleset"], check=True)
    assert rig.host(held, check=True).stdout == before
    until("the other is back", lambda: rig.host(["nft", "list", "table", "inet", "fleet"]).returncode == 0, 20)


def test_a_flushed_firewall_is_brought_back(rig: Rig, client: Client) -> None:
    """`nft flush ruleset`, as a firewall's reload does it: nothing goes past the tunnel, and the table is restored."""
    client.ask(do="connect")
    device = uplink(rig)
    rig.there(["nft", "flush", "ruleset"], check=True)
    until("the gate is open again", lambda: is_open(rig), 20)
    assert "ok" in client.ask(do="tcp", host=str(WEB_ADDRESS), port=443, timeout=5)
    assert "error" in client.ask(do="tcp", host=str(WEB_ADDRESS), port=443, device=device, timeout=0.3)
    rig.there(["nft", "flush", "ruleset"], check=True)
    assert "ok" in client.ask(do="rotate"), "a request that meets the flush repairs it itself"
    assert "ok" in client.ask(do="tcp", host=str(WEB_ADDRESS), port=443, timeout=5)


def test_sockets_of_a_killed_worker_are_silent(rig: Rig, client: Client, capture: Capture) -> None:
    """A worker is killed with an open connection: no packet from its placeholder, whatever the kernel sends for it."""
    client.ask(do="connect")
    argv = rig.as_worker(rig.worker(), "curl", "-sk", "--max-time", "60", f"telnet://{WEB_ADDRESS}:443")
    holder = rig.popen(rig.inside(rig.worker(), argv), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    source = str(rig.worker().placeholder)
    until("it is connected", lambda: source in rig.there(["ss", "-tnH", "state", "established"]).stdout, 10)
    holder.kill()
    client.kill()
    rig.wait_until_sealed()
    # Only the worker's sockets: root's own requests to the site may still be in TIME_WAIT.
    until("gone", lambda: source not in sockets(rig), 10, lambda: sockets(rig))
    until("no longer tracked", lambda: "dport=443" not in tracked(rig), 10, lambda: tracked(rig))
    assert capture.lines() == []


def sockets(rig: Rig) -> str:
    """Every TCP socket where the worker is."""
    return rig.there(["ss", "-tnaH"], check=True).stdout


def tracked(rig: Rig) -> str:
    """The connections the kernel knows of the worker's placeholder."""
    return rig.there(["conntrack", "-L", "--src", str(rig.worker().placeholder)], check=True).stdout


def test_nobody_else_sends_through_a_workers_interface(rig: Rig, client: Client) -> None:
    """Another UID whose socket is bound to a worker's interface gets nothing through."""
    client.ask(do="connect")
    control = rig.client_of(FREE, at=rig.worker())
    device = rig.worker().interface
    assert "error" in control.ask(do="tcp", host=str(WEB_ADDRESS), port=443, device=device, timeout=0.5)
    control.kill()
