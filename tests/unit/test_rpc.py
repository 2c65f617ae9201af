"""The socket server and its client, over a real socket and with the kernel's word on who calls."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fleet.errors import ConfigurationError, FleetError, NoKeyFree, NotAllowed, ProtocolError, RateLimited, Unavailable
from fleet.sockets import netctl_api, wire
from fleet.sockets.callers import Caller, Connection, Limits, Peer
from fleet.sockets.client import Client
from fleet.sockets.rpc import Server
from fleet.sockets.wire import Done
from fleet.supervise import wait_until
from tests.unit.toy import RATES, TABLE, Crash, Hang, Look, Take, Toy

PYTHON = "/usr/bin/python3"
"""For another user; ours may lie where that user cannot go."""


@contextmanager
def serving(
    path: Path,
    *,
    limits: Limits | None = None,
    mode: int = 0o660,
    reply: wire.Message | None = None,
    caller: Callable[[Peer], Caller] = lambda _: Caller.WORKER,
) -> Iterator[Toy]:
    """The toy's server on a thread of its own; its service is given."""
    recorder, loop = Toy(reply or Done()), asyncio.new_event_loop()
    limits = limits or Limits(connections_per_uid=3, frame_seconds=0.3, request_seconds=0.3, rates=RATES)
    server = Server(TABLE, recorder, caller=caller, limits=limits)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(path, mode), loop).result(5)
        yield recorder
        asyncio.run_coroutine_threadsafe(server.close(), loop).result(5)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)
        loop.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s.sock"


def client(path: Path) -> Client:
    return Client(path, timeout_seconds=5)


def raw(path: Path, bind: socket.socket | None = None) -> socket.socket:
    """A connection; with BIND to that socket, which gets a queue of one."""
    if bind is not None:
        bind.bind(str(path))
        bind.listen(0)
    made = socket.socket(socket.AF_UNIX)
    made.settimeout(5)
    made.connect(str(path))
    return made


def everything(connection: socket.socket) -> bytes:
    """What comes until the other side hangs up."""
    chunks = []
    while chunk := connection.recv(65_536):
        chunks.append(chunk)
    return b"".join(chunks)


def test_question_and_answer(path: Path) -> None:
    """A request gets its reply; a connection carries many, in order."""
    with serving(path) as recorder, client(path) as asking:
        for _ in range(3):
            assert asking.ask(Look(), Done) == Done()
    assert len(recorder.peers) == 3


def test_caller_is_who_the_kernel_says(path: Path) -> None:
    """uid, gid and pid come from the socket's credentials."""
    with serving(path) as recorder, client(path) as asking:
        asking.ask(Look(), Done)
    assert recorder.peers == [Peer(uid=os.getuid(), gid=os.getgid(), pid=os.getpid())]


def test_another_user_is_known_by_its_uid(path: Path, root: None) -> None:
    """A process of another UID is seen as that UID, whatever it sends."""
    path.parent.parent.chmod(0o755)
    path.parent.chmod(0o755)
    code = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
        's.sendall(b\'{"method": "look", "parameters": {}}\\n\'); print(s.recv(9999))'
    )
    for place in path.parents:
        if place.stat().st_mode & 0o001 == 0:
            place.chmod(place.stat().st_mode | 0o011)
    with serving(path, mode=0o666) as recorder:
        done = subprocess.run(
            ["setpriv", "--reuid=4242", "--regid=4242", "--clear-groups", PYTHON, "-I", "-c", code, str(path)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert "result" in done.stdout, done.stderr
        assert (recorder.peers[0].uid, recorder.peers[0].gid) == (4242, 4242)


def test_errors_arrive_as_errors(path: Path) -> None:
    """A service's error is raised at the client with its data, and the connection goes on."""
    with serving(path), client(path) as asking:
        with pytest.raises(NoKeyFree) as caught:
            asking.ask(Take(), Done)
        assert caught.value.data == {"free_in_seconds": 2}
        assert asking.ask(Look(), Done) == Done()


def test_refusal_carries_the_reason(path: Path) -> None:
    """Who may not gets NotAllowed with the reason; the service never hears of it."""
    with serving(path, caller=lambda _: Caller.OPERATOR) as recorder, client(path) as asking:
        reason = f"take is for a worker of this fleet, and this is UID {os.getuid()}"
        with pytest.raises(NotAllowed, match=reason):
            asking.ask(Take(), Done)
        assert recorder.peers == []
        assert asking.ask(Look(), Done) == Done()


def test_a_program_is_asked_what_its_own_table_says(path: Path) -> None:
    """The server knows no program's requests: what another program answers is no method of this one."""
    with serving(path), client(path) as asking:
        with pytest.raises(ProtocolError, match="no method 'connect'") as caught:
            asking.ask(netctl_api.Connect(), netctl_api.Tunnel)
        assert caught.value.hint == "methods are look, take, hang, crash, fail"


def test_a_service_without_a_method_is_not_served() -> None:
    """A row of the table that nothing answers is found when the server is made."""

    class Half:
        look = take = Toy.look

        async def closed(self, connection: Connection) -> None:
            """Nothing to give back."""

    with pytest.raises(AttributeError, match="hang"):
        Server(TABLE, Half(), caller=lambda _: Caller.WORKER, limits=Limits(rates=RATES))


def test_fault_inside_is_one_callers_error(path: Path) -> None:
    """A crash in a request is an error to its caller and nothing to the next request."""
    with serving(path), client(path) as asking:
        with pytest.raises(FleetError, match="failed inside"):
            asking.ask(Crash(), Done)
        assert asking.ask(Look(), Done) == Done()


def test_request_has_a_deadline(path: Path) -> None:
    """A request that does not end is answered in time with an error."""
    with serving(path), client(path) as asking:
        started = time.monotonic()
        with pytest.raises(Unavailable, match="longer than"):
            asking.ask(Hang(), Done)
        assert time.monotonic() - started < 3


def test_end_of_connection_reaches_the_service(path: Path) -> None:
    """Whatever ends the client ends its connection, and the service is told."""
    with serving(path) as recorder:
        asking = client(path)
        asking.open()
        asking.ask(Look(), Done)
        asking.close()
        wait_until(lambda: len(recorder.closed_connections) == 1, 3, lambda: str(recorder.closed_connections))


def test_too_many_connections_of_one_user(path: Path) -> None:
    """One caller cannot take every place; a place that is given back can be had again."""
    with serving(path):
        held = [client(path) for _ in range(3)]
        for one in held:
            one.open()
            one.ask(Look(), Done)
        with client(path) as fourth, pytest.raises((RateLimited, Unavailable)):
            fourth.ask(Look(), Done)
        held.pop().close()

        def free_again() -> bool:
            with client(path) as later:
                try:
                    return later.ask(Look(), Done) == Done()
                except FleetError:
                    return False

        wait_until(free_again, 3, lambda: "still refused")
        for one in held:
            one.close()


def test_long_frame_ends_the_connection(path: Path) -> None:
    """More than 64 KiB without a line break gets an error and no second chance."""
    with serving(path), raw(path) as connection:
        connection.sendall(b"{" + b" " * (2 * wire.FRAME_BYTES))
        with pytest.raises(ProtocolError, match="65536"):
            wire.decode_reply(everything(connection), Done)


def test_slow_frame_ends_the_connection(path: Path) -> None:
    """Who starts a frame and does not finish it is cut off; who is silent between frames is not."""
    with serving(path), raw(path) as slow, client(path) as silent:
        silent.ask(Look(), Done)
        slow.sendall(b'{"method"')
        assert everything(slow) == b""
        assert silent.ask(Look(), Done) == Done()


def test_served_socket_is_not_taken_over(path: Path) -> None:
    """A second server is told who serves; the first one goes on."""
    with serving(path), client(path) as asking:
        with pytest.raises(ConfigurationError, match=f"process {os.getpid()}"), serving(path):
            pass
        assert asking.ask(Look(), Done) == Done()


def test_stale_socket_is_replaced(path: Path) -> None:
    """A socket file that nobody answers on is a left-over of a crash."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    with serving(path), client(path) as asking:
        assert asking.ask(Look(), Done) == Done()


def test_nobody_is_unavailable_and_may_come(path: Path) -> None:
    """Without a server opening is an error with a name; the same client opens once there is one."""
    asking = client(path)
    with pytest.raises(Unavailable):
        asking.open()
    with serving(path):
        asking.open()
        assert asking.ask(Look(), Done) == Done()
        asking.close()


def test_a_full_queue_is_waited_for(path: Path) -> None:
    """Where more come at once than the queue holds, each waits for its place, up to its own deadline."""
    with socket.socket(socket.AF_UNIX) as listener, raw(path, bind=listener) as first:
        waiting = Client(path, timeout_seconds=0.2)
        with pytest.raises(Unavailable):
            waiting.open()
        patient = Client(path, timeout_seconds=10)
        opened = threading.Thread(target=patient.open)
        opened.start()
        listener.accept()[0].close()
        opened.join(10)
        assert patient.fileno() >= 0
        patient.close()
        first.close()


def test_server_that_goes_away_is_unavailable(path: Path) -> None:
    """A connection that ends under a request is an error with a name, and the client can open again."""
    asking = client(path)
    with serving(path):
        asking.open()
        asking.ask(Look(), Done)
    with pytest.raises(Unavailable):
        asking.ask(Look(), Done)
    with serving(path):
        asking.open()
        assert asking.ask(Look(), Done) == Done()
        asking.close()
