"""Counting requests and losses from BiDi events."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fleet.result import Losses
from worker.browser.count import Counter


class Events:
    """Calls handlers as selenium does: each in a thread of its own."""

    def __init__(self) -> None:
        self.handlers: dict[str, Callable[..., None]] = {}
        self.threads: list[threading.Thread] = []

    def add_event_handler(self, event: str, callback: Callable[..., None]) -> int:
        """Remember it."""
        self.handlers[event] = callback
        return len(self.handlers)

    def send(self, event: str, content: object) -> None:
        """One event."""
        self.threads.append(threading.Thread(target=self.handlers[event], args=(content,)))
        self.threads[-1].start()

    def join(self) -> None:
        """All handlers have run."""
        for thread in self.threads:
            thread.join()


@dataclass
class Parameters:
    """An event in selenium's own form."""

    request: dict[str, Any]
    error_text: str | None = None


def event(url: str, error: str | None = None) -> dict[str, Any]:
    """An event as it comes over the wire."""
    return {"request": {"url": url}, "errorText": error}


def test_counts() -> None:
    """Losses are told apart by Chrome's own text; what the page gave up itself is none."""
    counter, events = Counter(), Events()
    counter.listen(events)
    errors = ["net::ERR_NETWORK_CHANGED", "net::ERR_NAME_NOT_RESOLVED", "net::ERR_ABORTED", None]
    for error in errors * 25:
        events.send("before_request", event("https://a.example/"))
        events.send("fetch_error" if error else "response_completed", event("https://a.example/", error))
    events.join()
    assert counter.losses == Losses(requests=100, network_changed=25, other_losses=25)


def test_both_forms_of_an_event() -> None:
    """selenium hands out plain dicts or objects of its own, by version."""
    counter, events = Counter(), Events()
    counter.listen(events)
    events.send("before_request", Parameters(request={"url": "https://a.example/"}))
    events.send("fetch_error", Parameters(request={"url": "https://a.example/"}, error_text="net::ERR_NETWORK_CHANGED"))
    events.join()
    assert counter.losses == Losses(requests=1, network_changed=1)


def test_only_the_network_counts() -> None:
    """data:, chrome: and blob: requests never leave the browser."""
    counter, events = Counter(), Events()
    counter.listen(events)
    for url in ("data:text/plain,x", "chrome://version/", "blob:https://a.example/1", "about:blank"):
        events.send("before_request", event(url))
    events.join()
    assert counter.losses == Losses()


def test_settle() -> None:
    """Settling waits for requests under way, and no longer than it may."""
    counter, events = Counter(), Events()
    counter.listen(events)
    events.send("before_request", event("https://a.example/"))
    events.join()
    counter.settle(seconds=0.05)
    threading.Timer(0.1, events.send, ("response_completed", event("https://a.example/"))).start()
    waiting = threading.Thread(target=counter.settle, kwargs={"seconds": 30})
    waiting.start()
    waiting.join(5)
    assert not waiting.is_alive()
