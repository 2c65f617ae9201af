"""Describes what is wrong with a table of settings to the person who wrote it."""

from __future__ import annotations

import re

from pydantic import ValidationError
from pydantic_core import ErrorDetails


def mistakes(error: ValidationError, prefix: str) -> str:
    """Every mistake on its own line: PREFIX, key, what is wrong, value."""
    found = error.errors()
    # A tuple whose items are all wrong is also "too short" to pydantic; the items say it better.
    within = {item["loc"][:length] for item in found for length in range(len(item["loc"]))}
    return "\n".join(
        f"{prefix}{hidden('.'.join(map(str, item['loc'])))}: {_wrong(item)}"
        for item in found
        if item["type"] != "too_short" or item["loc"] not in within
    )


def _wrong(item: ErrorDetails) -> str:
    if item["type"] == "missing":
        return "is missing"
    if item["type"] == "extra_forbidden":
        return "there is no such key"
    return f"{item['msg'][:1].lower()}{item['msg'][1:]} (it is {hidden(repr(item['input']))})"


def hidden(text: str) -> str:
    """TEXT with user names and passwords in addresses removed, so that no message shows them."""
    return re.sub(r"://\S*@", "://...@", text)
