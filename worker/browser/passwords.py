"""Answers a site that asks for a name and a password (HTTP authentication, RFC 7235), its own origin alone.

A site is told once. Where it asks again the answer was wrong: its refusal is what the page is then. Nobody is told of
another origin, and none by a page of another one: only the tab's document and what belongs to it may ask.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from worker.browser.cdp import Command, Parameters


def origin(url: str) -> str:
    """Scheme, host and port of URL, as the address of a site has them."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()


class Passwords:
    """Those of one tab."""

    def __init__(self, by_origin: Mapping[str, str]) -> None:
        """BY_ORIGIN: `user:password`."""
        self._by_origin = dict(by_origin)
        self._told = set[str]()
        self.refused = set[str]()
        """The origins that did not take what they were told."""

    def commands(self) -> tuple[Command, ...]:
        """What the tab is told: requests to these origins stop until they are let through."""
        patterns = [{"urlPattern": f"{one}/*"} for one in self._by_origin]
        return (("Fetch.enable", {"handleAuthRequests": True, "patterns": patterns}),) if patterns else ()

    def react(self, event: str, told: Parameters, *, frame: str, document: str) -> Command | None:
        """What is to be answered to EVENT of a tab in whose FRAME the address DOCUMENT stands."""
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
