"""Local targets: loopback, the host's LAN address, the LAN, cloud metadata, a neighbour's browser, and exceptions.

Listeners on all of them decide: a worker's attempts come first, then the same attempts of another UID, and each
listener must have received exactly the latter.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from fleet.model import Worker
from lab import run
from lab.net import Lab
from lab.topology import HOST_ADDRESS, HOST_ADDRESS_V6, SITE_NAME, WEB_ADDRESS
from tests.fleets import FREE, Rig, running
from tests.inside import Client, Ear, capturing, server, speaking
from tests.programs.sockets import place
from tests.waiting import until

PORT, HELPER = 8080, 3128
CHANGES: run.Changes = {"reach": {"allow": ["10.66.0.0/16"], "loopback_ports": [HELPER]}}
OF_HOST = ("127.0.0.1", "127.7.7.7", "::1", "192.168.77.10", "fd00:77::10", str(HOST_ADDRESS), str(HOST_ADDRESS_V6))
"""Addresses of the host itself."""
TO_ALL = (*OF_HOST, "127.0.0.2", "0.0.0.0", "::", "::ffff:127.0.0.1")
"""By these a socket on all addresses is reached; the kernel takes the unspecified ones for loopback."""
OF_LAN = ("192.168.77.1", "169.254.169.254", "fd00:77::1")
"""A neighbour on the host's LAN, and the cloud's metadata."""
REFUSED, ALLOWED = "10.9.9.9", "10.66.0.1"
"""Private addresses behind the tunnel."""
AT_ONCE = {"ConnectionRefusedError", "PermissionError", "OSError"}
"""Refused, not permitted, no route. A wait in vain would be TimeoutError."""
BULK = """
import socket, sys, threading
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
listener = socket.create_server((sys.argv[1], int(sys.argv[2])), family=family)
def serve():
    with listener.accept()[0] as one:
        while got := one.recv(1 << 16):
            one.sendall(got)
threading.Thread(target=serve, daemon=True).start()
asking, count = socket.create_connection(listener.getsockname()[:2], 3), 0
sending = threading.Thread(target=lambda: [asking.sendall(bytes(1 << 20)) for _ in range(16)])
sending.start()
while count < 16 << 20:
    count += len(asking.recv(1 << 16))
print(count)
"""

WITHOUT_QUEUE = """
import socket, sys
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(0)
listener.settimeout(1.5)
print("ready", flush=True)
try:
    accepted = [listener.accept()]
except OSError:
    accepted = []
print(len(accepted), flush=True)
"""
MANY_AT_ONCE = """
import select, socket, sys
made = [socket.socket() for _ in range(4)]
for one in made:
    one.setblocking(False)
    one.connect_ex(("127.0.0.1", int(sys.argv[1])))
select.select([], made, [], 1)
"""


@pytest.fixture(scope="module")
def rig(lab: Lab) -> Iterator[Rig]:
    """Two workers of one VPN server's keys."""
    places = [("vpn1", "lo", f"{REFUSED}/32"), ("vpn1", "lo", f"{ALLOWED}/32")]
    for host, device, address in places:
        lab.run(host, ["ip", "address", "add", address, "dev", device], check=True)
    try:
        with running(lab, 2, keys=("vpn1-*.conf",), changes=CHANGES) as made:
            yield made
    finally:
        for host, device, address in places:
            lab.run(host, ["ip", "address", "del", address, "dev", device], check=True)


@contextlib.contextmanager
def listening(rig: Rig, where: str, hosts: Sequence[str], port: int, uid: int = 0) -> Iterator[Ear]:
    """Listeners in the namespace WHERE, on every address of HOSTS."""
    argv = server(rig.lab, *(("tell", host, port) for host in hosts))
    argv = rig.as_worker(Worker(uid=uid), *argv) if uid else argv
    with speaking(rig.lab, where, argv, "ready") as made:
        yield made


@contextlib.contextmanager
def asking(rig: Rig, worker: Worker) -> Iterator[Client]:
    """A process of WORKER's."""
    made = rig.client_of(worker)
    try:
        yield made
    finally:
        made.kill()


def tries(client: Client, hosts: Sequence[str], port: int, **more: Any) -> dict[str, dict[str, Any]]:
    """The results of a TCP and a UDP attempt at each of HOSTS; 0.8 s is less than TCP's first retransmission."""
    return {
        f"{kind} {host}": client.ask(do=kind, host=host, port=port, timeout=0.8, **more)
        for host in hosts
        for kind in ("tcp", "udp")
    }


def assert_refused(answers: dict[str, dict[str, Any]]) -> None:
    """Assert that every attempt failed, and at once."""
    for what, answer in answers.items():
        assert answer.get("error") in AT_ONCE, (what, answer)


def everybody(hosts: Sequence[str], port: int = PORT, kinds: Sequence[str] = ("tcp", "udp")) -> Counter[str]:
    """The expected count: each of HOSTS reached once by TCP and once by UDP, or once by each of KINDS."""
    return Counter(f"{kind} {place(host, port)}" for kind in kinds for host in hosts)


def test_a_worker_reaches_no_service_of_the_host(rig: Rig) -> None:
    """Loopback, the host's LAN and public address: refused at once, sealed or connected; another UID gets through."""
    with asking(rig, rig.worker()) as worker, asking(rig, FREE) as free, listening(rig, "host", OF_HOST, PORT) as ear:
        for connected in (False, True):
            assert not connected or "ok" in worker.ask(do="connect")
            assert_refused(tries(worker, OF_HOST, PORT))
            assert_refused(tries(worker, OF_HOST, PORT, device="lo"))
            assert all("ok" in one for one in tries(free, OF_HOST, PORT).values())
            assert ear.heard(2 * len(OF_HOST)) == everybody(OF_HOST)


def test_a_worker_reaches_neither_the_lan_nor_cloud_metadata(rig: Rig) -> None:
    """Plain and bound to the uplink, sealed and connected: refused at once; another UID gets through."""
    with asking(rig, rig.worker()) as worker, asking(rig, FREE) as free, listening(rig, "isp", OF_LAN, PORT) as ear:
        for connected in (False, True):
            assert not connected or "ok" in worker.ask(do="connect")
            for more in ({}, {"device": "uplink"}):
                assert_refused(tries(worker, OF_LAN, PORT, **more))
                assert all("ok" in one for one in tries(free, OF_LAN, PORT, **more).values())
                assert ear.heard(2 * len(OF_LAN)) == everybody(OF_LAN)


def test_a_servers_own_network_is_refused_and_an_exception_is_not(rig: Rig) -> None:
    """Private addresses beyond the tunnel are refused at once, except `reach.allow`; names resolve and sites open."""
    hosts = (REFUSED, ALLOWED)
    with asking(rig, rig.worker()) as worker, listening(rig, "vpn1", hosts, PORT) as ear:
        worker.ask(do="connect")
        assert_refused(tries(worker, (REFUSED,), PORT))
        assert all("ok" in one for one in tries(worker, (ALLOWED,), PORT).values())
        assert ear.heard(2) == everybody((ALLOWED,))
        assert "ok" in worker.ask(do="tcp", host=str(WEB_ADDRESS), port=443)
        query = "123401000001000000000000047368" + b"op".hex() + "07" + b"example".hex() + "0000010001"
        assert "received" in worker.ask(do="udp", host="198.18.0.53", port=53, data=query)["ok"], SITE_NAME


@pytest.mark.parametrize("port", [53, 853])
def test_names_are_asked_of_the_resolvers_alone(rig: Rig, port: int) -> None:
    """DNS and DNS over TLS to loopback, the LAN or any other server are refused at once."""
    hosts = ("127.0.0.53", "127.0.0.1", "::1", "192.168.77.1", str(WEB_ADDRESS))
    with asking(rig, rig.worker()) as worker:
        worker.ask(do="connect")
        assert_refused(tries(worker, hosts, port))


def stranger(rig: Rig, name: str) -> Worker:
    """The UID of one of STRANGERS; a Worker of UID 0 stands for root."""
    return {"a neighbour": rig.worker(1), "an ordinary user": FREE, "root": Worker.model_construct(uid=0)}[name]


@pytest.mark.parametrize("name", ["a neighbour", "an ordinary user", "root"])
def test_a_browser_hears_its_owner_alone(rig: Rig, name: str) -> None:
    """Driver and DevTools ports: their owner gets through, all others are refused at once, on IPv4 and IPv6.

    This holds for every address of the host; the listener is on all of them.
    """
    owner = rig.worker()
    with asking(rig, stranger(rig, name)) as other, asking(rig, owner) as own:
        for port in owner.browser_ports:
            with listening(rig, "host", ("::",), port, owner.uid) as ear:
                assert_refused({host: other.ask(do="tcp", host=host, port=port, timeout=0.8) for host in TO_ALL})
                assert all("ok" in own.ask(do="tcp", host=host, port=port) for host in TO_ALL)
                assert ear.heard(len(TO_ALL)) == Counter({f"tcp {place('::', port)}": len(TO_ALL)})


@pytest.mark.parametrize("name", ["a neighbour", "an ordinary user", "root"])
def test_only_the_owner_answers_on_a_browsers_port(rig: Rig, name: str) -> None:
    """A stranger that listens on another worker's port gets none of its sessions: its answers are dropped."""
    hosts, owner = ("127.0.0.1", "::1"), rig.worker()
    for port in owner.browser_ports:
        with listening(rig, "host", hosts, port, stranger(rig, name).uid) as ear, asking(rig, owner) as own:
            answers = [own.ask(do="tcp", host=host, port=port, timeout=0.8) for host in hosts]
            assert {one.get("error") for one in answers} == {"TimeoutError"}
            assert not ear.says_more()


def started_by_cookie(rig: Rig) -> bool:
    """Whether a stranger that listens on a browser's port without a queue accepts a connection of the port's owner."""
    port, python = str(rig.worker().browser_ports[1]), [sys.executable, "-I", "-c"]
    with speaking(rig.lab, "host", rig.as_worker(FREE, *python, WITHOUT_QUEUE, port), "ready") as ear:
        rig.host(rig.as_worker(rig.worker(), *python, MANY_AT_ONCE, port), cwd="/", check=True)
        return ear.lines(1) == ["1"]


def test_no_cookie_starts_a_session(rig: Rig, restored: None) -> None:
    """A SYN cookie carries no UID, and starts no session with a stranger. Without the rule for cookies it does."""
    assert not started_by_cookie(rig)
    rules_off(rig, "output")
    port = "{ " + ", ".join(map(str, rig.worker().browser_ports)) + " }"
    wrong = f"tcp sport {port} meta skuid != {rig.worker().uid} drop"
    rig.host(["nft", f"insert rule inet fleet output {wrong}"], check=True)
    assert started_by_cookie(rig)


def test_without_the_two_rules_strangers_are_heard(rig: Rig, restored: None) -> None:
    """The control: with output chains that accept everything, an ordinary user gets through, and its answers arrive.

    With netctl dead and its held table gone they still do not.
    """
    port = rig.worker().browser_ports[0]
    with asking(rig, FREE) as other, listening(rig, "host", ("127.0.0.1",), port, rig.worker().uid) as ear:
        rig.kill_netctl()
        assert_refused({"netctl is dead": other.ask(do="tcp", host="127.0.0.1", port=port, timeout=0.8)})
        rules_off(rig, "output")
        assert "ok" in other.ask(do="tcp", host="127.0.0.1", port=port)
        assert ear.heard(1) == everybody(("127.0.0.1",), port, ("tcp",))
    with asking(rig, rig.worker()) as own, listening(rig, "host", ("127.0.0.1",), port, FREE.uid) as ear:
        assert "ok" in own.ask(do="tcp", host="127.0.0.1", port=port)


def test_a_named_port_of_loopback_is_open(rig: Rig) -> None:
    """`reach.loopback_ports` is an exception for TCP, on every address of the host, and for no other port."""
    with asking(rig, rig.worker()) as worker, listening(rig, "host", OF_HOST, HELPER) as ear:
        answers = tries(worker, OF_HOST, HELPER)
        assert_refused({what: answer for what, answer in answers.items() if what.startswith("udp")})
        assert ear.heard(len(OF_HOST)) == everybody(OF_HOST, HELPER, ("tcp",))


@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_browsers_own_connections_carry_much(rig: Rig, host: str, tracked: bool) -> None:
    """16 MiB in each direction over a worker's own port, also with connection tracking off for loopback."""
    off = "table inet raw { chain output { type filter hook output priority -300; oifname lo notrack; }; }"
    if not tracked:
        rig.host(["nft", "-f", "-"], input=off, check=True)
    argv = ["/usr/bin/python3", "-I", "-c", BULK, host, str(rig.worker().browser_ports[0])]
    try:
        done = rig.host(rig.as_worker(rig.worker(), *argv), cwd="/")
    finally:
        if not tracked:
            rig.host(["nft", "delete", "table", "inet", "raw"], check=True)
    assert done.stdout.strip() == str(16 << 20), done.stderr


SPOOFED = "2001:db8:77::5"
"""Nobody's address, whose way is the uplink."""


def spoof(client: Client, port: int) -> Any:
    """Connect to the host itself from an address that is not its own: IPV6_FREEBIND needs no privilege."""
    host = str(HOST_ADDRESS_V6)
    return client.ask(do="tcp", host=host, port=port, source=SPOOFED, freebind=True, timeout=0.3)


def rules_off(rig: Rig, *chains: str) -> None:
    """Kill netctl, with which its held table ends; delete IPv6's policy rules, and let everything pass CHAINS."""
    rig.kill_netctl()
    until("the held table is gone", lambda: rig.host(["nft", "list", "table", "inet", "fleet_hold"]).returncode, 10)
    rig.host(["ip", "-6", "rule", "flush", "protocol", "77"], check=True)
    for chain in chains:
        rig.host(["nft", f"flush chain inet fleet {chain}; add rule inet fleet {chain} accept"], check=True)


@pytest.fixture
def restored(rig: Rig) -> Iterator[None]:
    """After the test netctl is started again, and restores the rules."""
    yield
    rig.kill_netctl()
    rig.start_netctl()
    rig.wait_until_settled()


def test_a_refusal_answers_no_address_but_the_hosts(rig: Rig, restored: None) -> None:
    """A foreign source address gets no reset, which would leave by the uplink. Without that condition it does."""
    with (
        asking(rig, rig.worker()) as worker,
        asking(rig, FREE) as free,
        capturing(rig.lab, f"host {SPOOFED}") as seen,
    ):
        assert spoof(worker, PORT)["error"] == "TimeoutError"
        spoof(free, HELPER)
        assert f".{HELPER} > {SPOOFED}" in seen.lines(1)[0], "the first that is seen is the control's"
        rules_off(rig)
        reject = "flush chain inet fleet refuse; add rule inet fleet refuse meta l4proto tcp reject with tcp reset"
        rig.host(["nft", reject], check=True)
        spoof(worker, PORT)
        seen.before(f".{PORT} > {SPOOFED}")


def test_without_the_rules_a_worker_is_heard_everywhere(rig: Rig, restored: None) -> None:
    """Positive control: without the rules and the refusing chains the attempts arrive."""
    with contextlib.ExitStack() as stack:
        worker, owner = stack.enter_context(asking(rig, rig.worker())), rig.worker(1)
        worker.ask(do="connect")
        port = owner.browser_ports[0]
        host = stack.enter_context(listening(rig, "host", OF_HOST, PORT))
        lan = stack.enter_context(listening(rig, "isp", OF_LAN, PORT))
        browser = stack.enter_context(listening(rig, "host", ("127.0.0.1", "::1"), port, owner.uid))
        server = stack.enter_context(listening(rig, "vpn1", (REFUSED,), PORT))
        rules_off(rig, "worker", "output")
        tries(worker, OF_HOST, PORT)
        assert host.heard(2 * len(OF_HOST)) == everybody(OF_HOST)
        tries(worker, OF_LAN, PORT, device="uplink")
        assert lan.heard(2 * len(OF_LAN)) == everybody(OF_LAN)
        tries(worker, ("127.0.0.1", "::1"), port)
        assert browser.heard(4) == everybody(("127.0.0.1", "::1"), port)
        tries(worker, (REFUSED,), PORT)
        assert server.heard(2) == everybody((REFUSED,))
