"""The worker's hold on its tunnel, against fleet.sockets.rpc's real server with a small service behind it."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from fleet.errors import HandshakeTimeout, NoWay, TunnelLost
from fleet.sockets import netctl_api
from fleet.sockets.callers import Caller, Connection, Limits, Rate
from fleet.sockets.rpc import Server
from fleet.sockets.wire import Done, Request
from tests.waiting import until
from worker.tunnel import Tunnel


class Leases:
    """The requests of a worker, without any tunnel behind them."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.ended = threading.Semaphore(0)
        self.refuse: type[Exception] | None = None

    async def connect(self, connection: Connection, request: Request) -> netctl_api.Tunnel:
        """A lease with the number of the request, or the one to be resumed."""
        self.asked.append(request)
        if self.refuse is not None:
            raise self.refuse()
        lease = (request.resume if isinstance(request, netctl_api.Connect) else None) or f"lease-{len(self.asked)}"
        return netctl_api.Tunnel(
            exit_server="one.example",
            exit_address=IPv4Address("203.0.113.11"),
            lease=lease,
            handshake_ms=1,
        )

    async def proved(self, _: Connection, request: Request) -> Done:
        """A claim is heard."""
        self.asked.append(request)
        return Done()

    rotate = status = start_browser = stuck = another_exit = keys_by_server = connect

    async def closed(self, connection: Connection) -> None:
        """Count the end."""
        self.ended.release()


class Daemon:
    """The server in a thread of its own; can go away and come back."""

    def __init__(self, path: Path) -> None:
        self.path, self.leases = path, Leases()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self._server: Server | None = None

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def start(self) -> None:
        """Serve."""
        limits = Limits(rates=dict.fromkeys(netctl_api.RATES, Rate(per_second=1, burst=10)))
        self._server = Server(netctl_api.TABLE, self.leases, caller=lambda _: Caller.WORKER, limits=limits)
        self._do(self._server.start(self.path))

    def stop(self) -> None:
        """End every connection and remove the socket's listener."""
        assert self._server is not None
        self._do(self._server.close())


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A serving daemon."""
    made = Daemon(tmp_path / "n.sock")
    made.start()
    yield made
    made.stop()


def test_first_connects_then_rotates(daemon: Daemon) -> None:
    """The first tunnel is a connect, each further one a rotation on the same connection."""
    with Tunnel(daemon.path, deadline_seconds=5) as tunnel:
        assert [tunnel.fresh()[1] for _ in range(3)] == [False, True, True]
    assert [request.method for request in daemon.leases.asked] == ["connect", "rotate", "rotate"]
    assert daemon.leases.ended.acquire(timeout=5)  # leaving gives the lease back


def test_another_exit_is_connected_to_and_the_same_one_is_rotated_at(daemon: Daemon) -> None:
    """A job may ask for a server or a region; the next one that asks for none has the worker's own again."""
    with Tunnel(daemon.path, deadline_seconds=5, server="usual") as tunnel:
        rotated = [tunnel.fresh(wanted)[1] for wanted in ("", "KR", "KR", "", "")]
        for _ in range(2):
            assert daemon.leases.ended.acquire(timeout=10), "the tunnel before is not given back"
    assert rotated == [False, False, True, False, True]
    connects = [one.server for one in daemon.leases.asked if isinstance(one, netctl_api.Connect)]
    assert connects == ["usual", "KR", "usual"]


def test_rotation_that_fails_is_tried_as_rotation(daemon: Daemon) -> None:
    """A silent server does not cost the connection: the next try rotates again."""
    with Tunnel(daemon.path, deadline_seconds=5) as tunnel:
        tunnel.fresh()
        daemon.leases.refuse = HandshakeTimeout
        with pytest.raises(HandshakeTimeout):
            tunnel.fresh()
        daemon.leases.refuse = None
        assert tunnel.fresh()[1]


def test_resumes_while_in_use(daemon: Daemon) -> None:
    """When netctl goes away and comes back the same lease is asked for, without the loop's doing."""
    with Tunnel(daemon.path, deadline_seconds=5) as tunnel:
        held, _ = tunnel.fresh("KR")
        daemon.stop()
        daemon.start()
        wanted = netctl_api.Connect(resume=held.lease, server="KR")
        until("it asks for its lease", lambda: wanted in daemon.leases.asked)
        until("it has a tunnel", lambda: tunnel.current is not None)
        tunnel.check()
        assert tunnel.fresh("KR")[1], "the resumed connection rotates"


def test_a_dying_netctl_is_not_taken_for_its_successor(daemon: Daemon, tmp_path: Path) -> None:
    """Who is let in by a listener that is about to end, and thrown out at once, asks the next one."""
    with Tunnel(daemon.path, deadline_seconds=5) as tunnel:
        held, _ = tunnel.fresh()
        with socket.socket(socket.AF_UNIX) as dying:
            dying.settimeout(10)
            dying.bind(str(tmp_path / "dying.sock"))
            dying.listen()
            (tmp_path / "dying.sock").rename(daemon.path)
            daemon.stop()
            for _ in range(2):
                dying.accept()[0].close()
        daemon.start()
        until("it asks for its lease", lambda: netctl_api.Connect(resume=held.lease) in daemon.leases.asked)
        until("it has a tunnel", lambda: tunnel.current is not None)
        tunnel.check()


def test_a_claim_under_which_netctl_goes_away_is_made_to_the_next(daemon: Daemon) -> None:
    """It costs no attempt: the lease is taken back, and the world has seen what it has seen."""
    with Tunnel(daemon.path, deadline_seconds=5) as tunnel:
        held, _ = tunnel.fresh()
        with tunnel._lock:  # so that the claim notices first
            daemon.stop()
            daemon.start()
            tunnel.proved(IPv4Address("203.0.113.11"))
        assert [one.method for one in daemon.leases.asked] == ["connect", "connect", "proved"]
        assert tunnel.current is not None and tunnel.current.lease == held.lease
        assert tunnel.fresh()[1], "the resumed connection rotates"
        daemon.stop()
        daemon.start()
        until("and so does the watcher", lambda: daemon.leases.asked[-1].method == "connect")


def test_refused_resume_is_told(daemon: Daemon) -> None:
    """When another process has the lease by then, the loop gets TunnelLost and connects again."""
    with Tunnel(daemon.path, deadline_seconds=5) as tunnel:
        tunnel.fresh()
        daemon.leases.refuse = TunnelLost
        daemon.stop()
        daemon.start()
        until("its tunnel is gone", lambda: tunnel.current is None)
        with pytest.raises(TunnelLost):
            tunnel.check()
        daemon.leases.refuse = None
        assert not tunnel.fresh()[1]
        tunnel.check()


def test_waits_for_netctl(tmp_path: Path) -> None:
    """A request made while netctl is away is answered once it is there."""
    daemon = Daemon(tmp_path / "n.sock")
    threading.Timer(0.3, daemon.start).start()
    with Tunnel(daemon.path, deadline_seconds=5) as tunnel:
        assert tunnel.fresh()[0].lease == "lease-1"
    daemon.stop()


def test_end_does_not_wait_for_netctl(daemon: Daemon) -> None:
    """A worker that ends while netctl is away does not wait for it."""
    tunnel = Tunnel(daemon.path, deadline_seconds=5)
    tunnel.fresh()
    daemon.stop()
    ended = threading.Thread(target=tunnel.close)
    ended.start()
    ended.join(5)
    assert not ended.is_alive()
    daemon.start()


def test_a_host_without_a_way_is_why_nobody_answers(daemon: Daemon) -> None:
    """netctl says so to who tells that it hears nothing; whatever else it says is no matter there."""
    with Tunnel(daemon.path, deadline_seconds=5) as tunnel:
        tunnel.fresh()
        daemon.leases.refuse = HandshakeTimeout
        tunnel.stuck()
        daemon.leases.refuse = NoWay
        with pytest.raises(NoWay):
            tunnel.stuck()
