"""Errors that nobody foresaw: what is said of them holds no key either."""

from __future__ import annotations

import asyncio
import io
import socket
import tempfile
import threading
from contextlib import redirect_stderr
from pathlib import Path

import pytest

from fleet import log
from fleet.errors import TunnelError
from netctl.plan.key import Secret
from netctl.plan.things import Device
from netctl.wireguard.wireguard_go import UserspaceWireGuard

SECRET = Secret(b"0123456789abcdefghijklmnopqrstuv")


def said(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the log says of a crash whose frames hold the secret."""

    def crash(private_key: str) -> None:
        raise ValueError(f"after {len(private_key)} digits")

    stream = io.StringIO()
    monkeypatch.setattr(stream, "isatty", lambda: terminal)
    with redirect_stderr(stream):
        log.configure()
        try:
            crash(SECRET.reveal().hex())
        except ValueError:
            log.get("test").exception("request.crashed")
    return stream.getvalue()


@pytest.mark.parametrize("terminal", [False, True])
def test_a_traceback_shows_no_variables(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log names error and place of a crash, never what the frames held."""
    text = said(terminal, monkeypatch)
    assert "after 64 digits" in text and "crash" in text
    assert SECRET.reveal().hex()[:16] not in text


def test_a_wireguard_go_that_dies_in_a_request_is_a_tunnel_error() -> None:
    """A connection that is reset in the middle is an error with a name, and not a crash."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{folder}/wg150.sock")
        server.listen()

        def die() -> None:
            accepted, _ = server.accept()
            accepted.recv(1)  # the rest is unread: closing resets
            accepted.close()

        thread = threading.Thread(target=die)
        thread.start()
        with pytest.raises(TunnelError, match="wg150"):
            asyncio.run(UserspaceWireGuard(Path(folder)).write(Device(interface="wg150", private=SECRET)))
        thread.join()
