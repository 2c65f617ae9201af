"""Links to the hub's page for readers: a link expires by itself, or when the token that signed it changes.

A link is not the token: with it one can change nothing and make no other link.
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
    """An address that began with a valid link, split."""

    link: str
    path: str
    """The path after the link."""


def link(token: str, until: int) -> str:
    """The first part of addresses that are valid until UNTIL (seconds since 1970); "" if TOKEN is too short."""
    return f"/look/{until}-{_sign(token, until)}" if len(token) >= LEAST_TOKEN else ""


def looked(address: str, token: str, now: float) -> Looked | None:
    """ADDRESS, split; None when its link was not signed with TOKEN, or has expired."""
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
