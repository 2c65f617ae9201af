"""Counts a browser's requests and losses from WebDriver BiDi events.

`fetch_error` found every loss that Chrome's own network log had; the performance log misses a quarter
and an exception of the driver nearly all (`driver.get()` returns normally for ERR_NETWORK_CHANGED).
selenium calls each handler in a new thread, so the order is lost and a lock is needed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from fleet.result import Losses

NETWORK_CHANGED = "ERR_NETWORK_CHANGED"
ABORTED = "ERR_ABORTED"
_COUNTED = ("http://", "https://", "ws://", "wss://")


class Events(Protocol):
    """selenium's `driver.network`, as far as it is used here."""

    def add_event_handler(self, event: str, callback: Callable[..., None]) -> int: ...


class Counter:
    """The running numbers of one browser session."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._losses = Losses()
        self._ended = 0

    def listen(self, events: Events) -> None:
        """Start to count what EVENTS tells."""
        events.add_event_handler("before_request", self._on_request)
        events.add_event_handler("fetch_error", self._on_error)
        events.add_event_handler("response_completed", self._on_response)

    def settle(self, *, seconds: float) -> None:
        """Wait until no request is under way, at most SECONDS: pages may poll for ever."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended >= self._losses.requests, timeout=seconds)

    @property
    def losses(self) -> Losses:
        """So far."""
        return self._losses

    def add(self, more: Losses, *, ended: int = 0) -> None:
        """Count MORE, and so many requests as ended."""
        with self._changed:
            self._losses += more
            self._ended += ended
            self._changed.notify_all()

    def _on_request(self, event: object) -> None:
        if _is_counted(event):
            self.add(Losses(requests=1))

    def _on_response(self, event: object) -> None:
        if _is_counted(event):
            self.add(Losses(), ended=1)

    def _on_error(self, event: object) -> None:
        if not _is_counted(event):
            return
        text = str(_field(event, "errorText", "error_text"))
        changed = NETWORK_CHANGED in text
        self.add(Losses(network_changed=changed, other_losses=not changed and ABORTED not in text), ended=1)


def _is_counted(event: object) -> bool:
    """Whether EVENT is about something that went over the network (data: and chrome: did not)."""
    url = _field(_field(event, "request"), "url")
    return isinstance(url, str) and url.startswith(_COUNTED)


def _field(event: object, *names: str) -> object:
    """selenium hands out an event as it came (a dict) or as an object of its own, by version and kind."""
    known = event if isinstance(event, dict) else getattr(event, "__dict__", {})
    return next((known[name] for name in names if name in known), None)
