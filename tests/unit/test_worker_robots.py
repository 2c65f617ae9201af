"""What a worker makes of robots.txt, whatever a site says in it."""

from __future__ import annotations

import time

import httpcore
import pytest

from fleet.errors import Answered
from worker import robots
from worker.robots import Answer, Robots


class Site:
    """Sites that answer by address; what is not there is 404."""

    def __init__(self, **answers: Answer | Exception) -> None:
        self.answers = {f"https://{host}.example/robots.txt": one for host, one in answers.items()}
        self.asked: list[str] = []

    def __call__(self, url: str) -> Answer:
        """The answer at URL."""
        self.asked.append(url)
        found = self.answers.get(url, Answer(404, {}, ""))
        if isinstance(found, Exception):
            raise found
        return found


def text(words: str) -> Answer:
    """A robots.txt."""
    return Answer(200, {}, words)


def allowed(own: Robots, url: str) -> bool:
    """Whether URL may be opened."""
    try:
        own.check(url)
    except Answered as error:
        assert error.outcome == "refused"
        return False
    return True


def test_what_a_site_does_not_allow_is_left_alone() -> None:
    """By its rules for all, or for us by name; asked once for all of its pages; other sites have their own."""
    site = Site(
        a=text("User-agent: *\nDisallow: /private\nAllow: /private/open\nDisallow: /*.pdf$"),
        b=text("User-agent: *\nAllow: /\nUser-agent: fleet\nDisallow: /"),
        c=text("User-agent: other\nDisallow: /"),
    )
    own = Robots(site)
    for url, may in {
        "https://a.example/": True,
        "https://a.example/private/1": False,
        "https://a.example/private/open": True,
        "https://a.example/x.pdf": False,
        "https://b.example/": False,
        "https://c.example/": True,
        "https://none.example/private": True,
        "data:text/html,x": True,
    }.items():
        assert allowed(own, url) is may, url
    assert len(site.asked) == len({*site.asked}) == 4


def test_a_crawl_delay_is_told_and_bounded() -> None:
    """The longest of the sites that were opened; a request rate is one too; none is 0; None: nobody was asked."""
    site = Site(
        a=text("User-agent: *\nCrawl-delay: 7"),
        b=text("User-agent: *\nRequest-rate: 1/20"),
        c=text("User-agent: *\nCrawl-delay: 99999999"),
        d=text("User-agent: *\nCrawl-delay: nan\nDisallow:"),
    )
    own = Robots(site)
    assert own.delay_seconds is None
    told: list[float | None] = []
    for host in "dabc":
        own.check(f"https://{host}.example/")
        told.append(own.delay_seconds)
    assert told == [0, 7, 20, robots.MOST_DELAY_SECONDS]
    own.delay_seconds = None
    own.check("https://a.example/again")
    assert own.delay_seconds == 7 and len(site.asked) == 4


def test_a_site_that_fails_to_say_is_left_alone_and_one_out_of_reach_is_not_asked_each_time() -> None:
    """5xx and 429 are `limited`; without a connection the page itself has to tell."""
    site = Site(
        a=Answer(503, {"retry-after": "120"}, ""),
        b=httpcore.ConnectError("refused"),
        c=Answer(301, {"location": "https://d.example/robots.txt"}, ""),
        d=text("User-agent: *\nDisallow: /"),
        e=Answer(302, {"location": "https://e.example/robots.txt"}, ""),
        f=Answer(302, {"location": "file:///etc/passwd"}, ""),
    )
    own = Robots(site)
    with pytest.raises(Answered) as caught:
        own.check("https://a.example/")
    assert (caught.value.outcome, caught.value.retry_after_seconds) == ("limited", 120)
    assert allowed(own, "https://b.example/") and allowed(own, "https://b.example/x")
    assert site.asked.count("https://b.example/robots.txt") == 1
    assert not allowed(own, "https://c.example/")
    assert allowed(own, "https://e.example/") and allowed(own, "https://f.example/")
    assert "file:///etc/passwd" not in site.asked


@pytest.mark.parametrize(
    "words",
    [
        "Disallow: /" + "a*" * 40 + "b$",
        "\0\ufffd<html>" * 1000,
        "User-agent: *\nCrawl-delay: " + "9" * 5000,
        "User-agent: *\nRequest-rate: 1/0\nRequest-rate: 0/1\nCrawl-delay: -1\nCrawl-delay: inf",
        "User-agent: *\nDisallow: /%zz%\nAllow: [((\nDisallow: \\",
        "Disallow: x\n" * 40_000,
    ],
)
def test_a_hostile_file_takes_no_time_and_stops_nothing(words: str) -> None:
    """Whatever it holds: patterns that match for ever, numbers that are none, lines without end."""
    began = time.process_time()
    own = Robots(Site(a=text(f"User-agent: *\n{words}")))
    allowed(own, "https://a.example/" + "a" * 2000)
    assert own.delay_seconds is not None and 0 <= own.delay_seconds <= robots.MOST_DELAY_SECONDS
    assert time.process_time() - began < 5
