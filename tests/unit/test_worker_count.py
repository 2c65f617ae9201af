"""Counting requests and losses from DevTools events."""

from __future__ import annotations

from typing import Any

from fleet.result import Losses
from worker.browser.count import Counter

URL = "https://a.example/"


def asked(counter: Counter, number: str, url: str = URL, **more: Any) -> None:
    """A request begins."""
    counter.hear("Network.requestWillBeSent", {"requestId": number, "request": {"url": url}, "type": "Image", **more})


def lost(counter: Counter, number: str, error: str) -> None:
    """It fails."""
    counter.hear("Network.loadingFailed", {"requestId": number, "errorText": error})


def test_counts() -> None:
    """Losses are told apart by Chrome's own text; what the page gave up itself is none."""
    counter = Counter()
    errors = ["net::ERR_NETWORK_CHANGED", "net::ERR_NAME_NOT_RESOLVED", "net::ERR_ABORTED", ""]
    for number, error in enumerate(errors * 25):
        asked(counter, str(number))
        if error:
            lost(counter, str(number), error)
        else:
            counter.hear("Network.loadingFinished", {"requestId": str(number)})
    assert counter.losses == Losses(requests=100, network_changed=25, other_losses=25)
    assert counter.under_way() == ()


def test_a_request_counts_once_whoever_tells_of_it() -> None:
    """The page and its worker both tell of the worker's script, of its loss too; a redirect is one more request."""
    counter = Counter()
    for _ in range(2):
        asked(counter, "1")
    asked(counter, "2")
    asked(counter, "2", redirectResponse={})
    for number in ("1", "1", "2", "2", "3"):
        lost(counter, number, "net::ERR_NETWORK_CHANGED")
    asked(counter, "1")
    assert counter.losses == Losses(requests=3, network_changed=2)


def test_what_never_went_over_the_network_is_not_counted() -> None:
    """Data and pages of Chrome's own are no requests."""
    counter = Counter()
    for number, url in enumerate(("data:,x", "chrome://version/", "blob:https://a.example/1")):
        asked(counter, str(number), url)
        lost(counter, str(number), "net::ERR_NETWORK_CHANGED")
    assert counter.losses == Losses()


def test_streams_are_not_waited_for() -> None:
    """An event stream and a socket stay open as long as their page; their loss counts all the same."""
    counter = Counter()
    asked(counter, "1", type="EventSource")
    counter.hear("Network.webSocketCreated", {"requestId": "2", "url": "wss://a.example/"})
    assert counter.under_way() == () and not counter.changing()
    counter.hear("Network.webSocketFrameError", {"requestId": "2", "errorMessage": "net::ERR_NETWORK_CHANGED"})
    assert counter.losses == Losses(requests=2, network_changed=1)


def test_what_may_change_the_page() -> None:
    """A picture under way changes no text; a script's question does."""
    counter = Counter()
    asked(counter, "1")
    assert counter.under_way() == (URL,) and not counter.changing()
    asked(counter, "2", type="Fetch")
    assert counter.changing()


def test_what_the_page_before_had_asked_for_is_not_waited_for() -> None:
    """Its own request alone is the new document's; the loss of another counts all the same."""
    counter = Counter()
    asked(counter, "1", type="Document")
    asked(counter, "2", type="Fetch")
    counter.leave("1")
    assert counter.under_way() == (URL,)
    lost(counter, "2", "net::ERR_NETWORK_CHANGED")
    assert counter.losses == Losses(requests=2, network_changed=1)
