"""The three requests to the key service, over the host's own route."""

from __future__ import annotations

import asyncio
import secrets
from urllib.parse import quote

from fleet.errors import Unanswered
from fleet.outside.calls import Answer, Later, Refused, Web
from fleet.settings.keys import KeyServiceSettings
from fleet.sockets.callers import Connection
from fleet.sockets.keyservice_api import Allocate, Allocated, AskStatus, GiveBack
from fleet.sockets.wire import Done
from keyservice import answers

AT_ONCE = 8
"""Requests at one time; more wait."""


class KeyService:
    """A method for each row of fleet.sockets.keyservice_api.TABLE (fleet.sockets.rpc.Service)."""

    def __init__(self, settings: KeyServiceSettings, web: Web) -> None:
        self._settings, self._web = settings, web
        self._places = asyncio.Semaphore(AT_ONCE)

    async def closed(self, _: Connection) -> None:
        """See fleet.sockets.rpc.Service: nothing is held."""

    async def allocate(self, _: Connection, request: Allocate) -> Allocated:
        """Raises Unanswered."""
        url = self._settings.allocate
        if request.server:
            url += f"{'&' if '?' in url else '?'}{self._settings.server_parameter}={quote(request.server, safe='')}"
        return answers.allocated(await self._ask("GET", url), self._settings)

    async def give_back(self, _: Connection, request: GiveBack) -> Done:
        """Raises Unanswered."""
        answers.document(await self._ask("POST", self._settings.release, json=request.back), self._settings)
        return Done()

    async def ask_status(self, _: Connection, __: AskStatus) -> Done:
        """Raises Unanswered."""
        answers.document(await self._ask("GET", self._settings.status), self._settings)
        return Done()

    async def _ask(self, method: str, url: str, **content: object) -> Answer:
        async with self._places:
            try:
                return await self._web.ask(method, url, secrets.token_hex(8), **content)
            except (Later, Refused) as error:
                words = str(error)  # but without text of the answer, which may quote a key
                told = words.partition(": ")[0] if words.startswith("answered with") else words
                raise Unanswered(told) from None
