"""Counts a browser's requests and losses from DevTools events, of all its tabs, frames and workers.

A request is identified by its requestId, whichever target reports it: the script of a web worker is reported by the
page that starts it and by the worker itself. A redirect keeps the id and counts as one more request.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from fleet.result import Losses
from worker.browser.cdp import Parameters

NETWORK_CHANGED = "ERR_NETWORK_CHANGED"
ABORTED = "ERR_ABORTED"
_COUNTED = ("http://", "https://", "ws://", "wss://")
_OPEN_ENDED = ("EventSource", "WebSocket", "Ping")
"""Kinds of requests that may stay open as long as the page; their end is not awaited."""
_UNREAD_SECONDS = 0.5
_CHANGES = ("XHR", "Fetch", "Script", "Document", "Stylesheet")


class Counter:
    """The counts of one browser session, and its open requests."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._losses = Losses()
        self._under_way: dict[str, tuple[str, str]] = {}
        """Kind and address by identifier."""
        self._parts: dict[str, float] = {}
        """When a part of an answer last arrived, by identifier."""
        self._open = set[str]()
        self._ended = set[str]()
        self._moved = time.monotonic()
        self._heard = {
            "Network.requestWillBeSent": self._on_request,
            "Network.responseReceived": self._on_part,
            "Network.dataReceived": self._on_part,
            "Network.loadingFinished": self._on_end,
            "Network.loadingFailed": self._on_failure,
            "Network.webSocketCreated": self._on_socket,
            "Network.webSocketHandshakeResponseReceived": self._on_end,
            "Network.webSocketClosed": self._on_end,
            "Network.webSocketFrameError": self._on_failure,
        }

    def hear(self, event: str, parameters: Parameters) -> None:
        """Count an EVENT of any target."""
        if handler := self._heard.get(event):
            with self._changed:
                handler(parameters)
                self._moved = time.monotonic()
                self._changed.notify_all()

    @property
    def losses(self) -> Losses:
        """The counts so far."""
        return self._losses

    def add(self, more: Losses) -> None:
        """Count MORE."""
        with self._changed:
            self._losses += more

    def go_back(self, losses: Losses) -> None:
        """Reset the counts to LOSSES, because the later requests did not go to a site."""
        with self._changed:
            self._losses = losses

    def quiet_seconds(self) -> float:
        """How long ago a request last began or ended."""
        with self._changed:
            return time.monotonic() - self._moved

    def under_way(self) -> tuple[str, ...]:
        """The addresses of the requests whose end is awaited."""
        with self._changed:
            return tuple(url for _, url in self._under_way.values())

    def styles(self) -> str:
        """The address of a style sheet that is still loading, or "": Chrome draws nothing before it has loaded."""
        with self._changed:
            return next((url for kind, url in self._under_way.values() if kind == "Stylesheet"), "")

    def changing(self) -> bool:
        """Whether a request is open that may change the page's content.

        Chrome never reports the end of an answer that a script does not read to its end.
        """
        now = time.monotonic()
        with self._changed:
            coming = (number for number, (kind, _) in self._under_way.items() if kind in _CHANGES)
            return any(now - self._parts.get(number, now) < _UNREAD_SECONDS for number in coming)

    def leave(self, document: str) -> None:
        """Another DOCUMENT has replaced the present one: the old one's requests are no longer awaited."""
        with self._changed:
            for number in [number for number in self._under_way if number != document]:
                del self._under_way[number]
                self._open.add(number)
            self._changed.notify_all()

    def settle(self, *, seconds: float) -> None:
        """Wait until no request is open, at most SECONDS: pages may poll forever."""
        with self._changed:
            self._changed.wait_for(lambda: not self._under_way, timeout=seconds)

    def _on_request(self, told: Parameters) -> None:
        request: Any = told.get("request", {})
        self._begin(told, str(request.get("url", "")), str(told.get("type", "")), again="redirectResponse" in told)

    def _on_socket(self, told: Parameters) -> None:
        self._begin(told, str(told.get("url", "")), "WebSocket", again=False)

    def _begin(self, told: Parameters, url: str, kind: str, *, again: bool) -> None:
        number = str(told.get("requestId"))
        known = number in self._under_way or number in self._open or number in self._ended
        if not url.startswith(_COUNTED) or (known and not again):
            return
        self._losses += Losses(requests=1)
        if kind in _OPEN_ENDED:
            self._open.add(number)
        else:
            self._under_way[number] = kind, url

    def _on_part(self, told: Parameters) -> None:
        if (number := str(told.get("requestId"))) in self._under_way:
            self._parts[number] = time.monotonic()

    def _on_end(self, told: Parameters) -> None:
        self._end(str(told.get("requestId")))

    def _on_failure(self, told: Parameters) -> None:
        text = str(told.get("errorText") or told.get("errorMessage") or "")
        if self._end(str(told.get("requestId"))):
            changed = NETWORK_CHANGED in text
            self._losses += Losses(network_changed=changed, other_losses=not changed and ABORTED not in text)

    def _end(self, number: str) -> bool:
        """Note the end of request NUMBER; returns whether it was the first end of it."""
        known = self._under_way.pop(number, None) is not None or number in self._open
        self._open.discard(number)
        self._parts.pop(number, None)
        if known:
            self._ended.add(number)
        return known
