"""The Chrome DevTools Protocol over one WebSocket to the browser: commands, events, the sessions of its targets.

Why not WebDriver BiDi: three subscriptions cost 0.5 s and 0.3 processor seconds per start, and a hidden tab of 30 MiB.
ChromeDriver only starts the browser; all other commands go this way.
"""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import websocket

Parameters = Mapping[str, Any]
Command = tuple[str, Parameters]
"""A method and its parameters."""
Heard = Callable[[str, str, Parameters], None]
"""A handler of events: session (empty: the browser's own), name, parameters. It must not wait for the browser."""
_CONNECT_SECONDS = 10
_WRONG = (OSError, websocket.WebSocketException, http.client.HTTPException, ValueError)


class Refused(Exception):
    """The browser answered a command with an error."""


class Silent(Exception):
    """The browser did not answer a command in time."""


class Gone(Exception):
    """The connection to the browser is closed."""


@dataclass
class Answer:
    """The future answer to a command."""

    method: str
    come: threading.Event = field(default_factory=threading.Event)
    message: Parameters | None = None

    def result(self, seconds: float) -> Any:
        """Wait for the result; raises Refused, Gone, or Silent after SECONDS, after which it may be called again."""
        if not self.come.wait(seconds):
            raise Silent(f"{self.method} was not answered within {seconds:g} s")
        if self.message is None:
            raise Gone(f"it ended at {self.method}")
        if error := self.message.get("error"):
            raise Refused(f"{self.method}: {error.get('message')}")
        return self.message.get("result", {})


class Connection:
    """One connection; HEARD is called for every event, in order, in a thread of this connection."""

    def __init__(self, port: int, heard: Heard) -> None:
        """Connect to the browser whose DevTools listen on PORT of loopback; raises Gone."""
        self._heard = heard
        self._numbers = itertools.count(1)
        self._answers: dict[int, Answer] = {}
        self._closed = False
        self.heard_at = time.monotonic()
        """When the browser last sent a message (monotonic)."""
        try:
            # No Origin header: by it Chrome refuses pages (--remote-allow-origins), and this is no page.
            self._socket = websocket.create_connection(
                _address(port), timeout=_CONNECT_SECONDS, suppress_origin=True, http_no_proxy=["*"]
            )
        except _WRONG as error:
            raise Gone(f"its DevTools do not answer: {error}") from error
        self._socket.settimeout(None)
        self._thread = threading.Thread(target=self._listen, name="devtools", daemon=True)
        self._thread.start()

    def call(self, method: str, parameters: Parameters | None = None, *, session: str = "", seconds: float) -> Any:
        """The result of METHOD; raises Refused, Silent after SECONDS, Gone."""
        return self.begin(method, parameters, session=session).result(seconds)

    def begin(self, method: str, parameters: Parameters | None = None, *, session: str = "") -> Answer:
        """Send METHOD; raises Gone."""
        answer = Answer(method)
        self._send(method, parameters, session, answer)
        return answer

    def post(self, method: str, parameters: Parameters | None = None, *, session: str = "") -> None:
        """Send METHOD and ignore its result and errors; event handlers may use only this."""
        try:
            self._send(method, parameters, session, None)
        except Gone:
            pass  # code that waits for an answer gets the error

    def close(self) -> None:
        """Close the connection and wait for the end of its thread."""
        self._closed = True
        self._socket.shutdown()  # type: ignore[no-untyped-call]
        self._thread.join(5)

    def _send(self, method: str, parameters: Parameters | None, session: str, answer: Answer | None) -> None:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": dict(parameters or {})}
        if session:
            message["sessionId"] = session
        if answer is not None:
            self._answers[number] = answer
        try:
            if self._closed:
                raise OSError("closed")
            self._socket.send(json.dumps(message))
        except _WRONG as error:
            self._answers.pop(number, None)
            raise Gone(f"{method} could not be sent: {error}") from error

    def _listen(self) -> None:
        try:
            while text := self._socket.recv():
                self.heard_at = time.monotonic()
                self._take(json.loads(text))
        except _WRONG:
            pass
        self._closed = True
        while self._answers:
            self._answers.popitem()[1].come.set()
        self._heard("", "closed", {})

    def _take(self, message: Parameters) -> None:
        if "id" not in message:
            self._heard(str(message.get("sessionId", "")), str(message["method"]), message.get("params", {}))
        elif answer := self._answers.pop(message["id"], None):
            answer.message = message
            answer.come.set()


def _address(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_CONNECT_SECONDS)
    try:
        connection.request("GET", "/json/version")
        return str(json.loads(connection.getresponse().read())["webSocketDebuggerUrl"])
    finally:
        connection.close()
