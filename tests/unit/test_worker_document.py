"""Which document stands in the tab, from what Chrome tells."""

from __future__ import annotations

from typing import Any

from worker.browser.document import MOST_LOADS, Documents

FRAME = {"frameId": "F"}
PAGE = "https://a.example/"


def documents() -> Documents:
    """Of a tab whose main frame is F."""
    made = Documents()
    made.frame = "F"
    return made


def ask(made: Documents, number: str, url: str = PAGE, **more: Any) -> None:
    """A document is asked for."""
    told = {"requestId": number, "loaderId": number, "type": "Document", "request": {"url": url}, **FRAME, **more}
    made.hear("Network.requestWillBeSent", told)


def answer(made: Documents, number: str, status: int = 200) -> None:
    """Its headers come."""
    response = {"url": PAGE, "status": status, "headers": {"Retry-After": "9"}}
    told = {"requestId": number, "loaderId": number, "type": "Document", "response": response, **FRAME}
    made.hear("Network.responseReceived", told)


def stand(made: Documents, number: str, **more: Any) -> None:
    """It takes the tab."""
    made.hear("Page.frameNavigated", {"frame": {"id": "F", "loaderId": number, "url": PAGE, **more}})


def test_a_page_and_the_next() -> None:
    """A document is the tab's when it stands there, with its own status; until then the one before is."""
    made = documents()
    ask(made, "1")
    assert made.pending
    answer(made, "1", 429)
    stand(made, "1")
    assert (made.current.status, made.current.headers["retry-after"], made.pending) == (429, "9", False)
    ask(made, "2")
    assert made.pending and made.current.number == "1"
    made.hear("Network.loadingFailed", {"requestId": "2", "errorText": "net::ERR_ABORTED"})
    assert not made.pending and made.current.number == "1"


def test_redirects_are_kept() -> None:
    """Each address on the way, in order."""
    made = documents()
    ask(made, "1", "https://a.example/1")
    ask(made, "1", "https://a.example/2", redirectResponse={})
    ask(made, "1", redirectResponse={})
    answer(made, "1")
    stand(made, "1")
    assert (made.current.redirects, made.current.url) == (["https://a.example/1", "https://a.example/2"], PAGE)


def test_a_document_that_is_cut() -> None:
    """The end of its own body is told of by its own number; that of a picture is another matter."""
    made = documents()
    ask(made, "1")
    answer(made, "1")
    stand(made, "1")
    made.hear("Network.loadingFailed", {"requestId": "7", "errorText": "net::ERR_FAILED"})
    assert made.current.error == ""
    made.hear("Network.loadingFailed", {"requestId": "1", "errorText": "net::ERR_CONTENT_LENGTH_MISMATCH"})
    assert made.current.error == "ERR_CONTENT_LENGTH_MISMATCH"


def test_an_answer_without_a_body() -> None:
    """Chrome drops it and tells of its headers alone: the status is known."""
    made = documents()
    ask(made, "1")
    made.hear("Network.responseReceivedExtraInfo", {"requestId": "1", "statusCode": 401, "headers": {"A": "b"}})
    assert (made.of("1").status, made.of("1").headers) == (401, {"a": "b"})


def test_the_end_of_a_short_page_is_told_of_before_it_stands() -> None:
    """Until it does, it is still on its way; what came without a page never was."""
    made = documents()
    for number, status in (("1", 200), ("2", 204)):
        ask(made, number)
        answer(made, number, status)
        made.hear("Network.loadingFinished", {"requestId": number})
    assert made.of("1").is_coming(0) and not made.of("2").is_coming(0)
    stand(made, "1")
    assert not made.pending


def test_frames_are_not_the_page() -> None:
    """What happens in a frame of the page leaves the page what it is."""
    made = documents()
    stand(made, "1")
    stand(made, "2", parentId="F")
    ask(made, "3", frameId="G")
    assert made.current.number == "1" and not made.pending


def test_notes_are_bounded_and_said_once() -> None:
    """Dialogs without end leave one line, and no line is long."""
    made = documents()
    for number in range(1000):
        made.hear("Page.javascriptDialogOpening", {"type": "alert", "message": "x" * 10_000})
        made.hear("Page.javascriptDialogOpening", {"type": "alert", "message": str(number)})
    assert len(made.notes) == 50 and max(map(len, made.notes)) == 200


def test_a_link_out_of_the_browser_is_no_page_on_its_way() -> None:
    """Nothing waits for another program's answer."""
    made = documents()
    stand(made, "1")
    ask(made, "2", "kakaotalk://launch")
    assert not made.pending and "kakaotalk" in made.notes[0]


def test_a_document_whose_loading_was_ended_has_loaded() -> None:
    """A link out of the browser takes the load event away from the page it is on."""
    made = documents()
    stand(made, "1")
    ask(made, "2", PAGE)
    made.hear("Page.frameStoppedLoading", FRAME)
    assert made.current.stages == set()
    made.hear("Network.loadingFailed", {"requestId": "2", "errorText": "net::ERR_ABORTED"})
    made.hear("Page.frameStoppedLoading", {"frameId": "G"})
    assert made.current.stages == set()
    made.hear("Page.frameStoppedLoading", FRAME)
    assert made.current.stages == {"DOMContentLoaded", "load"}


def test_loads_are_counted_from_the_last_page_asked_for() -> None:
    """A page that replaces itself is told by their number."""
    made = documents()
    for number in range(MOST_LOADS):
        stand(made, str(number))
    assert made.loads == MOST_LOADS
    made.begin()
    assert made.loads == 0
