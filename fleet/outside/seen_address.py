"""Asks the services in `[egress] urls` which address the world sees when this host or a worker sends.

A service is no more trusted than a page. Its time and bytes are bounded: one deadline from the name lookup to the last
byte, no compression, no redirects, and the answers of several services must agree.
"""

from __future__ import annotations

import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from fleet import log, visible
from fleet.errors import Unproved
from fleet.imports import absent
from fleet.model import EgressSettings
from fleet.outside.bounded import Opened, Way
from fleet.sockets.wire import Address

with absent("trio", "h2"):
    import httpcore

IPV4, IPV6 = "IPv4", "IPv6"
_FAMILIES = {IPV4: socket.AF_INET, IPV6: socket.AF_INET6}
_ANSWER_BYTES = 4096
_CONNECTION_BYTES = 32_768
"""The most that a service may send: interim responses (1xx), headers, the answer and its framing."""
_MISTAKE_CHARACTERS = 200
_HEADERS = (
    *(("Accept", "text/plain, application/json"), ("Accept-Encoding", "identity"), ("User-Agent", "fleet")),
    # The padding fills a packet: a tunnel that carries only small packets could load no page.
    ("X-Padding", "0" * 1500),
)
_LATE = "no answer in time"
_log = log.get("fleet")


class Asker:
    """Asks the services; make it once, because reading the authorities takes longer than asking."""

    def __init__(self, settings: EgressSettings, authorities: Iterable[Path], opened: Opened | None = None) -> None:
        """AUTHORITIES are PEM files of certificate authorities that are trusted beside the system's.

        OPENED makes the socket of each request, in that request's thread; None: an ordinary one.
        """
        self._settings, self._opened = settings, opened
        self._trust = ssl.create_default_context()
        for path in authorities:
            self._trust.load_verify_locations(path)

    def seen(self, family: str = IPV4) -> Address:
        """The address that the services see over FAMILY. Blocks up to `egress.timeout_seconds`; for any thread.

        Raises Unproved when none answers, or when answers differ. A service that does not answer is logged.
        """
        until = time.monotonic() + self._settings.timeout_seconds
        kind = _FAMILIES[family]
        asked = [
            _Question(url, family, self._trust, Way(kind, until, self._opened, most_bytes=_CONNECTION_BYTES))
            for url in self._settings.urls
        ]
        for one in asked:
            one.start()
        for one in asked:
            one.join(max(0.0, until - time.monotonic()))
        answers = {one.name: one.answer for one in asked if one.answer is not None}
        mistakes = [f"{one.name}: {one.mistake}" for one in asked if one.answer is None]
        for one in asked:
            one.end()
        if not answers:
            raise Unproved("\n".join(mistakes), hint="are egress.urls and dns.resolvers reached through the tunnel?")
        if len(set(answers.values())) > 1:
            said = "; ".join(f"{name} sees {address}" for name, address in answers.items())
            raise Unproved(f"the services disagree: {said}", hint="take the one that is wrong out of egress.urls")
        for mistake in mistakes:
            _log.warning("exit_echo.down", reason=mistake)
        return next(iter(answers.values()))

    def seen_over(self, *families: str) -> tuple[tuple[Address, ...], str]:
        """The addresses seen over each of FAMILIES in turn, and why there is no answer over the others."""
        found, troubles = [], []
        for family in families:
            try:
                found.append(self.seen(family))
            except Unproved as error:
                troubles.append(error.message)
        return tuple(found), "; ".join(troubles)


class _Question(threading.Thread):
    """Asks one service in a thread, because a name lookup and a flood of TLS messages heed no deadline."""

    def __init__(self, url: str, family: str, trust: ssl.SSLContext, way: Way) -> None:
        super().__init__(daemon=True)
        self.name = url.partition("?")[0]  # some services have a key after the `?`
        self._url, self._family, self._trust, self._way = url, family, trust, way
        self.answer: Address | None = None
        self.mistake = _LATE

    def run(self) -> None:
        """Ask, and set `answer` or `mistake`."""
        try:
            self.answer = self._ask()
        except httpcore.TimeoutException:
            pass  # its mistake is to be late
        except Exception as error:  # noqa: BLE001 - any error is caused by the service's answer
            self.mistake = visible.line(str(error) or type(error).__name__)[:_MISTAKE_CHARACTERS]

    def _ask(self) -> Address:
        # A new connection each time: an old one would still show the previous exit.
        with (
            httpcore.ConnectionPool(self._trust, network_backend=self._way) as pool,
            pool.stream("GET", self._url, headers=_HEADERS) as answer,
        ):
            if answer.status != 200:  # a redirect is no answer: its target is not in the settings
                raise ValueError(f"answered with status {answer.status}")
            if any(name.lower() == b"content-encoding" for name, _ in answer.headers):
                raise ValueError("answered with a content encoding, which was not accepted")
            return self._parsed(answer)

    def _parsed(self, answer: httpcore.Response) -> Address:
        body = bytearray()
        for part in answer.iter_stream():
            body += part
            if len(body) > _ANSWER_BYTES:
                raise ValueError(f"answered with more than {_ANSWER_BYTES} bytes")
        address = parse_address(body.decode("ascii"))
        if f"IPv{address.version}" != self._family:
            raise ValueError(f"answered {address}, asked over {self._family}")
        return address

    def end(self) -> None:
        """Shut the connection down, whatever its thread does."""
        self._way.end()


def parse_address(text: str) -> Address:
    """The address in TEXT: itself, or JSON {"ip": ...}; raises ValueError."""
    words = text.strip()
    if words.startswith("{"):
        try:
            words = str(json.loads(words).get("ip", ""))
        except RecursionError:
            raise ValueError("no address, but endless JSON") from None
    try:
        address = ipaddress.ip_address(words)
    except ValueError:
        raise ValueError(f"no address: {words[:60]!a}") from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            raise ValueError(f"no global address: {address}")
        return address.ipv4_mapped or address  # mapped: a service with one socket for both families
    return address
