"""What one caller may use of a server: every limit by itself, over real sockets."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from fleet.errors import FleetError, NotAllowed, ProtocolError, RateLimited
from fleet.sockets import callers, wire
from fleet.sockets.callers import Bucket, Caller, Limits, Peer, Rate, turn
from fleet.sockets.netctl_api import NetctlStatus, SlotStatus
from fleet.sockets.wire import Done
from tests.unit.test_rpc import client, everything, raw, serving
from tests.unit.test_rpc import path as path  # noqa: PLC0414 - a fixture
from tests.unit.toy import RATES, TAKES, Look, Take
from tests.waiting import until

BROKEN = {
    "no JSON": b"hello",
    "two objects": b'{"method":"look"}{"method":"look"}',
    "a list": b"[]",
    "a number": b"1e999",
    "an empty line": b"",
    "NUL": b'{"method":"look"\0}',
    "no UTF-8": b'{"method":"\xff"}',
    "half a surrogate pair": b'{"method":"look","parameters":{"\\ud800":1}}',
    "NaN": b'{"method":"look","parameters":NaN}',
    "infinity": b'{"method":"look","parameters":{"a":-Infinity}}',
    "a huge number": b'{"method":"look","parameters":' + b"9" * 50_000 + b"}",
    "deep nesting": b'{"method":"look","parameters":' + b"[" * 50_000,
    "unknown fields": json.dumps({"method": "look", "parameters": {f"f{n}": n for n in range(4000)}}).encode(),
    "an unknown method": b'{"method":"shutdown"}',
    "a method that is no text": b'{"method":["look"]}',
    "a field beside": b'{"method":"look","uid":0}',
    "parameters that are a list": b'{"method":"look","parameters":[]}',
    "a wrong type": b'{"method":"take","parameters":{"name":7}}',
    "no address": b'{"method":"crash","parameters":{"address":"203.0.113.999"}}',
}


def replies(connection: socket.socket, count: int) -> list[bytes]:
    """The next COUNT lines."""
    text = b""
    while text.count(b"\n") < count:
        chunk = connection.recv(1 << 16)
        assert chunk, text
        text += chunk
    return text.splitlines()


def long_status() -> NetctlStatus:
    """The status of 512 slots."""
    slot = SlotStatus(
        worker="w1101",
        interface="wg101",
        state="connected",
        exit_server="a-server-with-a-name.example.net",
        exit_address=IPv4Address("203.0.113.11"),
        lease="0123456789abcdef",
        generation=1_000_000,
        since=datetime.now(timezone.utc),
        received_bytes=10**12,
        sent_bytes=10**12,
        last_handshake=datetime.now(timezone.utc),
        counted_at=None,
    )
    return NetctlStatus(backend="userspace", pid=1, slots=(slot,) * 512, pool=None)


@pytest.mark.parametrize("frame", BROKEN.values(), ids=BROKEN)
def test_a_broken_frame_has_a_named_error(path: Path, frame: bytes) -> None:
    """It is answered with ProtocolError, quickly, and the connection goes on."""
    with serving(path), raw(path) as connection:
        connection.sendall(frame + b"\n" + wire.encode_request(Look()))
        first, second = replies(connection, 2)
        with pytest.raises(ProtocolError):
            wire.decode_reply(first, Done)
        assert wire.decode_reply(second, Done) == Done()


def test_requests_over_the_rate_wait_for_their_turn(path: Path) -> None:
    """Twenty a second: five at once after a rest, then one each twentieth of a second; none is refused."""
    with serving(path, limits=Limits(rates=RATES, requests_per_second=20, requests_burst=5)), client(path) as asking:
        started = time.monotonic()
        for _ in range(15):
            asking.ask(Look(), Done)
        assert time.monotonic() - started >= 10 / 20 * 0.9


def test_nobody_waits_longer_than_its_patience(path: Path) -> None:
    """Many connections of one caller share its rate; who would wait too long is told so, and not at once."""
    with serving(path, limits=Limits(rates=RATES, requests_per_second=1, requests_burst=1)):
        held = [raw(path) for _ in range(6)]
        started = time.monotonic()
        for one in held:
            one.sendall(wire.encode_request(Look()))
        answers = [replies(one, 1)[0] for one in held]
        refused = [answer for answer in answers if b'"RateLimited"' in answer]
        assert len(refused) == 4
        assert time.monotonic() - started >= callers.PATIENCE_SECONDS * 0.9
        for one in held:
            one.close()


def test_a_request_may_have_a_slower_rate_of_its_own(path: Path) -> None:
    """Who only takes waits; who looks meanwhile does not."""
    limits = Limits(rates={TAKES: Rate(per_second=2, burst=1)})
    with serving(path, limits=limits), client(path) as taking, client(path) as looking:
        started = time.monotonic()
        for _ in range(3):
            with pytest.raises(FleetError):  # the toy has nothing
                taking.ask(Take(), Done)
            looking.ask(Look(), Done)
        assert time.monotonic() - started >= 2 / 2 * 0.9


def test_connections_over_the_rate_are_closed_and_the_first_is_told(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line to the first of a period, one in the log, and one more with the number of the others."""
    monkeypatch.setattr(callers, "PERIOD_SECONDS", 0.5)
    with serving(path, limits=Limits(rates=RATES, connections_per_second=0.001, connections_burst=2)) as recorder:
        admitted = [raw(path) for _ in range(2)]
        refused = [raw(path) for _ in range(20)]
        told = [everything(one) for one in refused]
        with pytest.raises(RateLimited, match="connections a second"):
            wire.decode_reply(told[0], Done)
        assert told[1:] == [b""] * 19
        text = ""

        def counted() -> bool:
            nonlocal text
            text += "".join(capsys.readouterr())
            return "refused_more" in text

        until("the others are counted", counted, 5)
        assert text.count("connection.refused") == 2
        assert "count=19" in text or '"count": 19' in text
        for one in admitted:
            one.sendall(wire.encode_request(Look()))
            assert replies(one, 1)
        assert len(recorder.peers) == 2
        for one in (*admitted, *refused):
            one.close()


def test_a_stranger_gets_one_line(path: Path) -> None:
    """Who may ask for nothing is told so before it asks, and hung up on; the service never hears of it."""
    with serving(path, caller=lambda _: Caller.STRANGER) as recorder:
        with raw(path) as connection, pytest.raises(NotAllowed, match=f"not UID {os.getuid()}"):
            wire.decode_reply(everything(connection), Done)
        assert recorder.peers == [] and recorder.closed_connections == []


def test_groups_are_the_kernels_word(path: Path, root: None) -> None:
    """The supplementary groups of a caller come from its socket."""
    seen: list[Peer] = []

    def known(peer: Peer) -> Caller:
        seen.append(peer)
        return Caller.WORKER

    groups = os.getgroups()
    try:
        os.setgroups([4711, 4712])
        with serving(path, caller=known), client(path) as asking:
            asking.ask(Look(), Done)
    finally:
        os.setgroups(groups)
    assert seen[0].groups == {4711, 4712}


def test_who_does_not_read_is_hung_up_on(path: Path) -> None:
    """A caller that never takes its answers loses its connection; the server keeps nothing of it."""
    limits = Limits(rates=RATES, frame_seconds=0.3, requests_per_second=1_000_000, requests_burst=1_000_000)
    with serving(path, limits=limits, reply=long_status()) as recorder, raw(path) as deaf:
        deaf.setblocking(False)

        def ended() -> bool:
            try:
                deaf.send(wire.encode_request(Look()))
            except BlockingIOError:
                return False
            except (BrokenPipeError, ConnectionResetError):
                return True
            return False

        until("hung up on", ended, 10)
        until("the service is told", lambda: recorder.closed_connections, 5)


def test_who_says_that_no_more_comes_is_let_go(path: Path) -> None:
    """Half a frame and the end of writing: the connection ends, whatever of it is held."""
    with serving(path) as recorder, raw(path) as half:
        half.sendall(b'{"method"')
        half.shutdown(socket.SHUT_WR)
        assert everything(half) == b""
        until("the service is told", lambda: recorder.closed_connections, 5)


def test_without_a_free_descriptor_the_server_goes_on(path: Path) -> None:
    """accept() that fails for want of descriptors is tried again: whoever waits is served once there is one."""
    with serving(path):
        hoard: list[int] = []
        with raw(path) as waiting:
            try:
                while True:
                    hoard.append(os.dup(0))
            except OSError:
                pass
            late = threading.Timer(0.3, lambda: [*map(os.close, hoard)])
            late.start()
            waiting.sendall(wire.encode_request(Look()))
            assert replies(waiting, 1)
            late.join()


def test_a_bucket_saves_up_to_its_burst_and_lends_to_the_patient() -> None:
    """Three at once, a fourth and a fifth for those who wait, each behind the one before; nothing beyond patience."""
    bucket = Bucket(10, 3)
    assert [turn(bucket) for _ in range(3)] == [0, 0, 0]
    assert turn(bucket) is None
    waits: Sequence[float | None] = [turn(bucket, 0.25) for _ in range(3)]
    assert waits[0] == pytest.approx(0.1, abs=0.05) and waits[1] == pytest.approx(0.2, abs=0.05)
    assert waits[2] is None


def test_a_reply_may_be_longer_than_a_request(path: Path) -> None:
    """The status of 512 slots does not fit into a caller's frame, and reaches it all the same."""
    status = long_status()
    with serving(path, reply=status), client(path) as asking:
        assert asking.ask(Look(), NetctlStatus) == status
    assert len(wire.encode_result(status)) > wire.FRAME_BYTES
