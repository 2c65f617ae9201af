"""Answers HTTP authentication (RFC 7235) with a name and a password, only for the origin that they belong to.

A site gets them once per request. If it asks again, they were wrong, and its refusal becomes the page. No other origin
gets them, and a page of another origin cannot cause them to be sent: only the tab's document and its own requests may.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from worker.browser.cdp import Command, Parameters


def origin(url: str) -> str:
    """Scheme, host and port of URL, in lower case."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()


class Passwords:
    """The passwords of one tab."""

    def __init__(self, by_origin: Mapping[str, str]) -> None:
        """BY_ORIGIN: origin -> `user:password`."""
        self._by_origin = dict(by_origin)
        self._told = set[str]()
        self.refused = set[str]()
        """The origins that refused their password."""

    def commands(self) -> tuple[Command, ...]:
        """The commands for the tab: requests to these origins are paused until they are continued."""
        patterns = [{"urlPattern": f"{one}/*"} for one in self._by_origin]
        return (("Fetch.enable", {"handleAuthRequests": True, "patterns": patterns}),) if patterns else ()

    def react(self, event: str, told: Parameters, *, frame: str, document: str) -> Command | None:
        """The command that answers EVENT, of a tab whose FRAME shows the address DOCUMENT; None: no answer."""
        number = told.get("requestId")
        if event == "Fetch.requestPaused":
            return "Fetch.continueRequest", {"requestId": number}
        if event != "Fetch.authRequired":
            return None
        answer = self._answer(str(number), told, frame, document)
        return "Fetch.continueWithAuth", {"requestId": number, "authChallengeResponse": answer}

    def _answer(self, number: str, told: Parameters, frame: str, document: str) -> dict[str, str]:
        challenge: Any = told["authChallenge"]
        asks = origin(str(challenge["origin"]))
        main = told.get("frameId") == frame and told.get("resourceType") == "Document"
        if number in self._told:
            self.refused.add(asks)
        known = self._by_origin.get(asks)
        meant = challenge.get("source") == "Server" and origin(str(told["request"]["url"])) == asks
        if known is None or not meant or asks in self.refused or not (main or origin(document) == asks):
            return {"response": "CancelAuth"}
        self._told.add(number)
        name, _, password = known.partition(":")
        return {"response": "ProvideCredentials", "username": name, "password": password}
