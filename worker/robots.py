"""robots.txt (RFC 9309) of the sites that a task opens: requested through the worker's own tunnel, kept for a day.

Only addresses that a task opens are checked; following a link by a click, as a person does, is no crawling. A site that
has none (4xx), or that cannot be reached, allows everything: opening the page will show the error. A site that fails
(5xx) is left alone. An answer is no more trusted than a page: its time and size are bounded.
"""

from __future__ import annotations

import re
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

from protego import Protego

from fleet import VERSION, log
from fleet.errors import Answered
from fleet.imports import absent
from fleet.outside.bounded import Way
from fleet.outside.rest import retry_after
from fleet.result import MOST_REST_SECONDS

with absent("trio", "h2"):
    import httpcore

NAME = "fleet"
"""The user agent by which a robots.txt may name us."""
KEPT_SECONDS = 86_400.0
UNREACHED_SECONDS = 600.0
MOST_DELAY_SECONDS = 3600.0
_SECONDS = 10.0
_BYTES = 512_000
"""RFC 9309, 2.5: at least 500 KiB must be read."""
_REDIRECTS = 5
_STARS = 8
"""The most `*` in one pattern; more could take forever to match. A pattern that is cut matches more, not less."""
_HEADERS = (("User-Agent", f"{NAME}/{VERSION}"), ("Accept-Encoding", "identity"))
_log = log.get("worker")


@dataclass(frozen=True, slots=True)
class Answer:
    """A site's answer; the names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    text: str


Ask = Callable[[str], Answer]
"""The answer at an address; raises OSError or httpcore's errors."""


@dataclass(frozen=True, slots=True)
class Known:
    """The rules of a site, and how long they are valid (monotonic)."""

    rules: Protego
    delay_seconds: float | None
    until: float


class Robots:
    """The rules of sites; ASK requests their robots.txt."""

    def __init__(self, ask: Ask) -> None:
        self._ask = ask
        self._known: dict[str, Known] = {}
        self.delay_seconds: float | None = None
        """The longest Crawl-delay of all sites checked since this was set to None; 0: they have none."""

    def check(self, url: str) -> None:
        """Raise Answered when the site's robots.txt disallows URL, or the site fails to serve it."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            return
        origin = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        known = self._known.get(origin)
        if known is None or known.until < time.monotonic():
            known = self._known[origin] = self._asked(origin)
        told = [one for one in (self.delay_seconds, known.delay_seconds) if one is not None]
        self.delay_seconds = max(told, default=None)
        if not known.rules.can_fetch(url, NAME):
            raise Answered("refused", "robots.txt of the site does not allow it", url=url)

    def _asked(self, origin: str) -> Known:
        try:
            text = self._text(f"{origin}/robots.txt")
        except (OSError, httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
            _log.warning("robots.unreached", site=origin, reason=str(error) or type(error).__name__)
            return Known(Protego.parse(""), None, time.monotonic() + UNREACHED_SECONDS)
        rules = Protego.parse("\n".join(map(_tame, text.splitlines())))
        _log.info("robots.read", site=origin, characters=len(text), delay_seconds=_delay(rules))
        return Known(rules, _delay(rules), time.monotonic() + KEPT_SECONDS)

    def _text(self, url: str) -> str:
        for _ in range(_REDIRECTS + 1):
            answer = self._ask(url)
            if answer.status in (301, 302, 303, 307, 308) and "location" in answer.headers:
                url = urljoin(url, answer.headers["location"])
                if urlsplit(url).scheme not in ("http", "https"):
                    return ""
                continue
            if answer.status >= 500 or answer.status == 429:
                words = f"robots.txt of the site: status {answer.status}"
                seconds = retry_after(answer.headers.get("retry-after", ""), MOST_REST_SECONDS)
                raise Answered("limited", words, url=url, retry_after_seconds=seconds)
            return answer.text if answer.status == 200 else ""
        return ""


def _delay(rules: Protego) -> float:
    rate = rules.request_rate(NAME)
    found = [rules.crawl_delay(NAME), rate.seconds / rate.requests if rate and rate.requests else None]
    return max((min(float(one), MOST_DELAY_SECONDS) for one in found if one is not None and one > 0), default=0.0)


def _tame(line: str) -> str:
    *parts, rest = re.sub(r"\*+", "*", line).split("*", _STARS)
    return "*".join([*parts, "" if len(parts) == _STARS else rest])


def asking(authorities: Path) -> Ask:
    """A function that requests over IPv4, like the exit proof; AUTHORITIES are trusted beside the system's."""
    trust = ssl.create_default_context()
    if authorities.is_file() and authorities.stat().st_size:
        trust.load_verify_locations(authorities)

    def ask(url: str) -> Answer:
        way = Way(socket.AF_INET, time.monotonic() + _SECONDS, most_bytes=_BYTES)
        with (
            httpcore.ConnectionPool(trust, network_backend=way) as pool,
            pool.stream("GET", url, headers=_HEADERS) as answer,
        ):
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
            body = b"".join(answer.iter_stream()) if answer.status == 200 else b""
            return Answer(answer.status, headers, body.decode(errors="replace"))

    return ask
