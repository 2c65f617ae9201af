"""Parses Retry-After, the time a server asks to be left alone (RFC 9110, 10.2.3). Pure."""

from __future__ import annotations

from datetime import datetime, timezone
from email.utils import parsedate_to_datetime


def retry_after(text: str, most_seconds: float, now: datetime | None = None) -> float | None:
    """The seconds that TEXT asks for, as a number or a date, at most MOST_SECONDS; None when it is neither."""
    words = text.strip()
    if words.isascii() and words.isdigit():
        return min(float(words[:12]), most_seconds)
    try:
        moment = parsedate_to_datetime(words)
    except (TypeError, ValueError, IndexError, OverflowError):  # OverflowError: a year out of range
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return min(max(0.0, (moment - (now or datetime.now(timezone.utc))).total_seconds()), most_seconds)
