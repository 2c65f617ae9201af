"""A link to the hub's page for somebody who may look: it ends by itself, or when the token that made it changes.

It is no token: whoever has it can change nothing, and make no other link of it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from pathlib import Path
from typing import NamedTuple

LEAST_TOKEN = 20
MOST_HOURS = 87_600
_LINK = re.compile(r"(/look/([0-9]{1,12})-([0-9a-f]{32}))(/.*)", re.DOTALL)


class Looked(NamedTuple):
    """An address that begins with a link."""

    link: str
    path: str
    """What it asks for."""


def link(token: str, until: int) -> str:
    """How addresses begin until then (seconds since 1970), a shorter TOKEN makes none: ""."""
    return f"/look/{until}-{_sign(token, until)}" if len(token) >= LEAST_TOKEN else ""


def looked(address: str, token: str, now: float) -> Looked | None:
    """ADDRESS taken apart; None where its link is none of TOKEN's, or has ended."""
    found = _LINK.fullmatch(address)
    if found is None or len(token) < LEAST_TOKEN or int(found[2]) < now:
        return None
    good = hmac.compare_digest(found[3], _sign(token, int(found[2])))
    return Looked(found[1], found[4]) if good else None


def token_in(path: str) -> str:
    """The token in the file at PATH. Raises OSError, ValueError."""
    return Path(path).read_text("ascii").strip()


def _sign(token: str, until: int) -> str:
    return hmac.new(token.encode(), f"look {until}".encode(), hashlib.sha256).hexdigest()[:32]
