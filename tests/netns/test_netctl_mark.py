"""The mark of kernel WireGuard's outer packets lets only those pass, and none with wireguard-go."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator

import pytest

from fleet.backends import KERNEL, USERSPACE, Backend
from fleet.numbers import OUTER_MARK
from lab.net import Lab
from lab.topology import WEB_ADDRESS
from lab.wires import inside
from netctl.host import Host
from netctl.plan import desired
from netctl.plan.diff import Operation
from netctl.wireguard.wireguard_go import UserspaceWireGuard
from tests.contract.ground import fleet_of
from tests.fleets import FREE, Rig, running
from tests.inside import Ear, capturing, speaking

PORT = 47477
SEND = """
import socket, struct, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as first:
    for mark in (0, int(sys.argv[2])):
        for device in (b"", b"uplink"):
            for made in (first, socket.socket(socket.AF_INET, socket.SOCK_DGRAM)):
                made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
                made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
                try:
                    made.sendto(b"%x %s" % (mark, device), (sys.argv[1], int(sys.argv[3])))
                except OSError:
                    pass
        # Of no connection: its length is too short (udp_error in net/netfilter/nf_conntrack_proto_udp.c).
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            try:
                raw.sendto(struct.pack("!HHHH", 9, int(sys.argv[3]), 4, 0), (sys.argv[1], 0))
            except OSError:
                pass
"""


def send(lab: Lab, uid: int, address: str = str(WEB_ADDRESS)) -> None:
    """Send 10 packets: plain and bound to the uplink, unmarked and marked, from one or separate sockets, malformed.

    The sender is UID with CAP_NET_RAW, as if a file gave it.
    """
    raw = ["setpriv", f"--reuid={uid}", "--regid=65534", "--clear-groups", "--inh-caps=+net_raw"]
    words = [sys.executable, "-Ic", SEND, address, str(OUTER_MARK), str(PORT)]
    lab.run("host", [*raw, "--ambient-caps=+net_raw", *words], check=True)


@pytest.fixture
def seen(lab: Lab) -> Iterator[Ear]:
    """What of it arrives at the ISP."""
    with capturing(lab, f"udp dst port {PORT}") as made:
        yield made


@pytest.fixture
def rig(lab: Lab) -> Iterator[Rig]:
    """One worker's slot, with wireguard-go."""
    with running(lab) as made:
        yield made


def test_a_marked_packet_is_held_like_any_other(rig: Rig, seen: Ear) -> None:
    """With wireguard-go no mark that a worker's UID can set lets its packets pass. Another UID's are all seen."""
    send(rig.lab, rig.worker().uid)
    send(rig.lab, FREE.uid)
    assert len(seen.lines(10)) == 10
    assert not seen.says_more()


def test_no_marked_packet_leaves_through_a_tunnel(rig: Rig) -> None:
    """Outer packets never enter another tunnel: they are dropped at an open one; the control leaves by the uplink."""
    assert "ok" in rig.client().ask(do="connect")
    text = (
        "import socket, sys; made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
        "made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, int(sys.argv[1]));"
        "made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, sys.argv[2].encode());"
        "made.sendto(b'x', (sys.argv[3], int(sys.argv[4])))"
    )

    def sent(device: str) -> bool:
        words = [sys.executable, "-Ic", text, str(OUTER_MARK), device, str(WEB_ADDRESS), str(PORT)]
        done = rig.host(words)
        assert done.returncode == 0 or "PermissionError" in done.stderr, done.stderr
        return done.returncode == 0

    assert (sent("uplink"), sent(rig.worker().interface)) == (True, False)


@contextlib.contextmanager
def table(lab: Lab, backend: Backend) -> Iterator[int]:
    """Make the table for BACKEND and one worker; gives the worker's UID."""
    fleet = fleet_of(1)
    (whole,) = desired.shared(fleet, backend.link_kind).filters

    async def do(verb: str) -> None:
        async with Host(UserspaceWireGuard(), fleet) as host:
            await host.apply([Operation(verb=verb, thing=whole)])  # type: ignore[arg-type]  # a literal

    inside(f"{lab.name}-host", lambda: asyncio.run(do("add")))
    try:
        yield fleet.members[0].uid
    finally:
        inside(f"{lab.name}-host", lambda: asyncio.run(do("delete")))


@pytest.mark.parametrize(
    ("backend", "arrive"), [(USERSPACE, 0), (KERNEL, 4)], ids=lambda one: getattr(one, "name", one)
)
def test_the_mark_counts_where_the_kernel_carries(lab: Lab, seen: Ear, backend: Backend, arrive: int) -> None:
    """The control: the table for kernel WireGuard lets UDP with its mark pass, and nothing else."""
    with table(lab, backend) as uid:
        send(lab, uid)
        send(lab, FREE.uid)
        assert len(seen.lines(10 + arrive)) == 10 + arrive
        assert not seen.says_more()


@pytest.mark.parametrize(
    ("backend", "arrive"), [(USERSPACE, 0), (KERNEL, 2)], ids=lambda one: getattr(one, "name", one)
)
def test_the_kernels_outer_packets_reach_a_server_on_this_host(lab: Lab, backend: Backend, arrive: int) -> None:
    """An endpoint may be a program of the host (an obfuscating proxy); a worker's own packets do not reach it."""
    capture = ["tcpdump", "-n", "-l", "-U", "--immediate-mode", "-i", "lo", f"udp dst port {PORT}"]
    with table(lab, backend) as uid, speaking(lab, "host", capture, "listening on") as seen:
        send(lab, uid, "127.0.0.1")
        send(lab, FREE.uid, "127.0.0.1")
        assert len(seen.lines(6 + arrive)) == 6 + arrive
        assert not seen.says_more()
