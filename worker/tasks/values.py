"""From what a page says to a typed value: text, number, price, date. What could mean two things is an error."""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from price_parser import Price
from pydantic import JsonValue

from worker.tasks.options import FieldOptions

_NUMBER = re.compile(r"\d{1,3}(?:[ \u00a0\u202f]\d{3})+(?:[.,]\d{1,2})?(?!\d)|\d(?:[\d.,'’]*\d)?")
_PERCENT = re.compile(r"[-+−]?\d[\d.,]*\s*(?:%|％|퍼센트)")
_TENS = {"억": 100_000_000, "만": 10_000, "천": 1_000, "백": 100}
_SPOKEN = re.compile(r"(\d[\d,]*(?:\.\d+)?)\s*([억만천백])")
_SHORT = re.compile(r"\d\s*([kKmM])(?![A-Za-z²³])")
_CURRENCIES = {"₩": "KRW", "￦": "KRW", "원": "KRW", "€": "EUR", "£": "GBP", "円": "JPY", "元": "CNY", "US$": "USD"}
_DATES = (
    re.compile(r"(\d{4})\s*[-./년]\s*(\d{1,2})\s*[-./월]\s*(\d{1,2})(?:\s*일|\.)?(?!\d)"),
    re.compile(r"(?<!\d)(\d{4})(\d{2})(\d{2})(?!\d)"),
)


class NoValue(ValueError):
    """The text holds no value of that kind, or more than one."""


def typed(raw: str, field: FieldOptions) -> JsonValue:
    """What RAW says as a value of the FIELD's kind; raises NoValue."""
    if field.kind == "number":
        return _plain(_number(raw, signed=True))
    if field.kind == "price":
        return _price(raw, field.currency)
    if field.kind == "date":
        return _date(raw)
    return raw


def _price(text: str, currency: str) -> dict[str, JsonValue]:
    amount = _number(text, signed=False)
    written = Price.fromstring(text).currency or ""
    if not written:
        written = next((sign for sign in _CURRENCIES if sign in text), "")
    return {"amount": _plain(amount), "currency": _CURRENCIES.get(written, written) or currency or None, "text": text}


def _number(text: str, *, signed: bool) -> Decimal:
    bare = _PERCENT.sub(" ", text) if not signed else text
    if found := _SHORT.search(bare):
        raise NoValue(f"{text[:80]!r} is short for a number ({found[1]})")
    if _SPOKEN.search(bare):
        return _spoken(text, bare)
    found_all = list(_NUMBER.finditer(bare))
    values = {_decimal(one[0]) for one in found_all}
    if len(values) != 1:
        what = "more than one number" if values else "no number"
        raise NoValue(f"{text[:80]!r} holds {what}")
    value = values.pop()
    before = bare[: found_all[0].start()].rstrip(" ₩￦$€£")
    negative = before.endswith(("-", "−", "–")) and (len(before) == 1 or not before[-2].isalnum())
    if negative and not signed:
        raise NoValue(f"{text[:80]!r} is a difference, and no price")
    return -value if negative else value


def _decimal(token: str) -> Decimal:
    """As price-parser reads it: 1,299.00 and 1.299,00 are the same."""
    found = Price.fromstring(token.replace("'", "").replace("’", "")).amount
    if not isinstance(found, Decimal):
        raise NoValue(f"{token!r} is no number")
    return found


def _spoken(text: str, bare: str) -> Decimal:
    """3만 5천 and 1만2,500."""
    total = sum((Decimal(one[1].replace(",", "")) * _TENS[one[2]] for one in _SPOKEN.finditer(bare)), Decimal(0))
    rest = _NUMBER.findall(_SPOKEN.sub(" ", bare))
    units = [_TENS[one[2]] for one in _SPOKEN.finditer(bare)]
    if len(rest) > 1 or units != sorted(units, reverse=True) or len(set(units)) != len(units):
        raise NoValue(f"{text[:80]!r} holds more than one number")
    return total + (_decimal(rest[0]) if rest else 0)


def _date(text: str) -> str:
    words = text.strip()
    try:
        return datetime.fromisoformat(words.replace("Z", "+00:00")).isoformat()
    except ValueError:
        pass
    found = {tuple(map(int, one.groups())) for pattern in _DATES for one in pattern.finditer(words)}
    if len(found) != 1:
        raise NoValue(f"{text[:80]!r} holds {'more than one' if found else 'no'} date that is certain")
    try:
        return date(*found.pop()).isoformat()
    except ValueError:
        raise NoValue(f"{text[:80]!r} is no day of the calendar") from None


def _plain(value: Decimal) -> JsonValue:
    try:
        return int(value) if value == value.to_integral_value() else float(value)
    except (InvalidOperation, OverflowError):
        raise NoValue(f"{value} is no number") from None


def at(data: Any, path: str) -> list[str]:
    """What stands at PATH in structured DATA, each different one; `Product.offers.price` begins with a type."""
    first, *rest = path.split(".")
    places = [one for one in _objects(data) if first in _types(one)] if first[:1].isupper() else [*_objects(data)]
    found: list[Any] = [*places]
    for key in rest if first[:1].isupper() else [first, *rest]:
        below = (one.get(key) for one in found if isinstance(one, dict))
        found = [part for one in below for part in (one if isinstance(one, list) else [one])]
    return list(dict.fromkeys(str(one) for one in found if isinstance(one, str | int | float)))


def _objects(data: Any) -> list[dict[str, Any]]:
    if isinstance(data, list):
        return [found for one in data for found in _objects(one)]
    if not isinstance(data, dict):
        return []
    return [data, *(found for one in data.values() if isinstance(one, dict | list) for found in _objects(one))]


def _types(one: dict[str, Any]) -> list[str]:
    kind = one.get("@type")
    return [str(part) for part in (kind if isinstance(kind, list) else [kind])]
