"""The Chrome DevTools Protocol over one WebSocket to the whole browser: commands, events, sessions of its targets.

Why not WebDriver BiDi: three subscriptions cost 0.5 s and 0.3 processor seconds a start, and a hidden tab of 30 MiB.
ChromeDriver starts the browser and is then silent; everything a page is asked goes this way.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import websocket

Parameters = Mapping[str, Any]
Heard = Callable[[str, str, Parameters], None]
"""An event: its session (empty: the browser's own), its name, its parameters. Must not wait for the browser."""
_CONNECT_SECONDS = 10
_WRONG = (OSError, websocket.WebSocketException, http.client.HTTPException, ValueError)


class Refused(Exception):
    """The browser answered a command with an error."""


class Silent(Exception):
    """The browser did not answer a command in time."""


class Gone(Exception):
    """The connection to the browser is closed."""


@dataclass
class _Reply:
    come: threading.Event = field(default_factory=threading.Event)
    message: Parameters | None = None


class Connection:
    """One connection; HEARD is called for every event, in order, in a thread of this connection."""

    def __init__(self, port: int, heard: Heard) -> None:
        """Connect to the browser whose DevTools listen on PORT of loopback; raises Gone."""
        self._heard = heard
        self._numbers = itertools.count(1)
        self._replies: dict[int, _Reply] = {}
        self._closed = False
        try:
            # No Origin: Chrome refuses pages by it (--remote-allow-origins), and we are none.
            self._socket = websocket.create_connection(
                _address(port), timeout=_CONNECT_SECONDS, suppress_origin=True, http_no_proxy=["*"]
            )
        except _WRONG as error:
            raise Gone(f"its DevTools do not answer: {error}") from error
        self._socket.settimeout(None)
        self._thread = threading.Thread(target=self._listen, name="devtools", daemon=True)
        self._thread.start()

    def call(self, method: str, parameters: Parameters | None = None, *, session: str = "", seconds: float) -> Any:
        """What METHOD gives; raises Refused, Silent after SECONDS, Gone."""
        reply = _Reply()
        number = self._send(method, parameters, session, reply)
        if not reply.come.wait(seconds):
            self._replies.pop(number, None)
            raise Silent(f"{method} was not answered within {seconds:g} s")
        if reply.message is None:
            raise Gone(f"it ended at {method}")
        if error := reply.message.get("error"):
            raise Refused(f"{method}: {error.get('message')}")
        return reply.message.get("result", {})

    def post(self, method: str, parameters: Parameters | None = None, *, session: str = "") -> None:
        """The same without waiting, and whatever comes of it: the one that event handlers may use."""
        try:
            self._send(method, parameters, session, None)
        except Gone:
            pass  # who waits for something is told

    def close(self) -> None:
        """The thread has ended afterwards."""
        self._closed = True
        self._socket.shutdown()  # type: ignore[no-untyped-call]
        self._thread.join(5)

    def _send(self, method: str, parameters: Parameters | None, session: str, reply: _Reply | None) -> int:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": dict(parameters or {})}
        if session:
            message["sessionId"] = session
        if reply is not None:
            self._replies[number] = reply
        try:
            if self._closed:
                raise OSError("closed")
            self._socket.send(json.dumps(message))
        except _WRONG as error:
            self._replies.pop(number, None)
            raise Gone(f"{method} could not be sent: {error}") from error
        return number

    def _listen(self) -> None:
        try:
            while text := self._socket.recv():
                self._take(json.loads(text))
        except _WRONG:
            pass
        self._closed = True
        while self._replies:
            self._replies.popitem()[1].come.set()
        self._heard("", "closed", {})

    def _take(self, message: Parameters) -> None:
        if "id" not in message:
            self._heard(str(message.get("sessionId", "")), str(message["method"]), message.get("params", {}))
        elif reply := self._replies.pop(message["id"], None):
            reply.message = message
            reply.come.set()


def _address(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_CONNECT_SECONDS)
    try:
        connection.request("GET", "/json/version")
        return str(json.loads(connection.getresponse().read())["webSocketDebuggerUrl"])
    finally:
        connection.close()
