"""One line each way: what goes in comes out, and everything else is a named error."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue

from fleet import errors
from fleet.errors import FleetError, NoKeyFree, ProtocolError
from fleet.sockets import wire
from fleet.sockets.netctl_api import TABLE, Connect, NetctlStatus, Proved, Rotate, SlotStatus, Status, Tunnel

SECRETS = ("uid", "interface", "table", "path", "key", "private_key")
addresses = st.ip_addresses()
requests = st.one_of(
    st.builds(Connect, resume=st.none() | st.text(max_size=64)),
    st.just(Rotate()),
    st.builds(Proved, address=addresses),
    st.just(Status()),
)
numbers = st.floats(0, 1e6)
tunnels = st.builds(
    Tunnel,
    exit_server=st.text(max_size=60),
    exit_address=st.none() | addresses,
    lease=st.text(max_size=64),
    handshake_ms=numbers,
    rotate_ms=st.none() | numbers,
)


@given(requests)
def test_requests_come_back(request: wire.Request) -> None:
    """A request decodes to itself, on exactly one line."""
    line = wire.encode_request(request)
    assert line.endswith(b"\n") and line.count(b"\n") == 1 and len(line) <= wire.FRAME_BYTES
    assert wire.decode_request(line, TABLE.kinds) == request


@given(tunnels)
def test_replies_come_back(tunnel: Tunnel) -> None:
    """A reply decodes to itself, whatever characters are in it."""
    line = wire.encode_result(tunnel)
    assert line.count(b"\n") == 1
    assert wire.decode_reply(line, Tunnel) == tunnel


def test_status_comes_back() -> None:
    """The largest reply keeps its times aware."""
    now = datetime.now(timezone.utc)
    slot = SlotStatus(
        worker="w1101",
        interface="wg101",
        state="connected",
        exit_server="vpn1",
        exit_address=IPv4Address("203.0.113.11"),
        lease="a",
        generation=1,
        since=now,
        received_bytes=1,
        sent_bytes=2,
        last_handshake=None,
        counted_at=None,
    )
    status = NetctlStatus(backend="kernel", pid=1, slots=(slot,), pool=None)
    back = wire.decode_reply(wire.encode_result(status), NetctlStatus)
    assert back == status and back.slots[0].since.tzinfo is not None


def test_a_request_longer_than_a_frame_is_refused() -> None:
    """The limit is checked where a request is decoded: nothing longer is ever half understood."""
    with pytest.raises(ProtocolError, match="65536"):
        wire.decode_request(b'{"method":"status","parameters":{}}' + b" " * wire.FRAME_BYTES, TABLE.kinds)


@pytest.mark.parametrize("kind", errors.TREE.values())
def test_errors_cross_as_their_name(kind: type[FleetError]) -> None:
    """An error keeps its class, message, hint and data across the socket."""
    parameters: dict[str, JsonValue] = {"message": "no", "hint": "do that", "data": {"free_in_seconds": 3}}
    sent = errors.from_wire(kind.__name__, parameters)
    with pytest.raises(kind) as caught:
        wire.decode_reply(wire.encode_error(sent), wire.Done)
    assert type(caught.value) is kind
    assert caught.value.parameters() == sent.parameters()


def test_unknown_error_is_still_an_error() -> None:
    """A newer program's error arrives as a plain FleetError with its message."""
    line = json.dumps({"error": "FromTheFuture", "parameters": {"message": "later"}}).encode()
    with pytest.raises(FleetError, match="later"):
        wire.decode_reply(line, wire.Done)


def test_default_message_is_the_docstring() -> None:
    """An error without words says what its class says."""
    with pytest.raises(NoKeyFree, match="every key of the pool is leased"):
        wire.decode_reply(wire.encode_error(NoKeyFree()), wire.Done)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"[]",
        b'"connect"',
        b"{",
        b"\xff\xfe",
        b'{"method": "no"}',
        b'{"method": ["connect"]}',
        b'{"method": "connect", "parameters": 1}',
        b'{"method": "connect", "parameters": {}, "more": 1}',
        b'{"method": "proved", "parameters": {"address": "here"}}',
        b"[" * 60_000,
    ],
)
def test_anything_else_is_a_protocol_error(line: bytes) -> None:
    """No input reaches a service except a request of ours."""
    with pytest.raises(ProtocolError):
        wire.decode_request(line, TABLE.kinds)


@given(st.binary(max_size=200))
def test_noise_never_crashes(line: bytes) -> None:
    """Any bytes decode to a request or a ProtocolError."""
    try:
        wire.decode_request(line, TABLE.kinds)
    except ProtocolError:
        pass


@pytest.mark.parametrize("method", TABLE.kinds)
@pytest.mark.parametrize("field", SECRETS)
def test_workers_cannot_say_who_they_are(method: str, field: str) -> None:
    """No request has a field for a uid, interface, table, path or key, and none may be added."""
    line = json.dumps({"method": method, "parameters": {field: "1101"}}).encode()
    with pytest.raises(ProtocolError):
        wire.decode_request(line, TABLE.kinds)


def test_values_of_a_refused_request_stay_out_of_the_message() -> None:
    """What a client sent may be a secret, and the message may end in a log."""
    with pytest.raises(ProtocolError) as caught:
        wire.decode_request(b'{"method": "connect", "parameters": {"resume": ["hunter2"]}}', TABLE.kinds)
    assert "hunter2" not in caught.value.message
