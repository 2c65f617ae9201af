"""From what a page says to a typed value: text, number, price, date. What could mean two things is an error."""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal, InvalidOperation

from price_parser import Price
from pydantic import JsonValue

from worker.tasks.numerals import Bound as Bound  # noqa: PLC0414
from worker.tasks.numerals import NoValue as NoValue  # noqa: PLC0414
from worker.tasks.numerals import number, plain
from worker.tasks.options import FieldOptions

_PERCENT = re.compile(r"[-+−▲▼↑↓]?\s*\d[\d.,]*\s*(?:%|퍼센트)\s*[▲▼↑↓]?")
_CURRENCIES = {
    **{"US$": "USD", "HK$": "HKD", "NT$": "TWD", "NZ$": "NZD", "AU$": "AUD", "A$": "AUD", "CA$": "CAD", "C$": "CAD"},
    **{
        "S$": "SGD",
        "R$": "BRL",
        "₩": "KRW",
        "원": "KRW",
        "won": "KRW",
        "€": "EUR",
        "£": "GBP",
        "円": "JPY",
        "엔": "JPY",
    },
    **{"元": "CNY", "₹": "INR", "Rs": "INR", "₫": "VND", "Rp": "IDR", "zł": "PLN", "Kč": "CZK", "₺": "TRY", "₽": "RUB"},
    **{"₴": "UAH", "฿": "THB", "₱": "PHP", "달러": "USD", "유로": "EUR", "엔": "JPY"},
    **{"JP¥": "JPY", "CN¥": "CNY", "RM": "MYR", "₪": "ILS"},
}
_BESIDE = "|".join(re.escape(one) for one in sorted(_CURRENCIES, key=len, reverse=True))
_AFTER = re.compile(rf"[\d만천백십억.,-]\s*({_BESIDE}|[A-Z]{{3}}(?![A-Za-z]))")
_BEFORE = re.compile(rf"(?<![A-Za-z])({_BESIDE}|[A-Z]{{3}})\s*[.]?\s*\d")
_UNITS = (
    r"kg|mg|g|ml|l|cc|cm|mm|km|m2|m²|㎡|m|개|장|매|인|"
    r"명|박|회|병|캔|팩|포|권|평|건|시간|일|월|정|알|구|입|세트|롤|박스|봉"
)
_PER = re.compile(
    rf"(?:^|[\s(\[])((?:\d+\s*)?(?:{_UNITS}))\s*당(?![가-힣])|(?<=[\d원A-Z€$£¥₩.-])\s*/\s*((?:\d+\s*)?[A-Za-z가-힣]+)|"
    r"(?<![가-힣\d])(?:매\s*)?(월|연|년|하루)\s*(?:납입금?|납|구독료|이용료|요금)?\s*(?=[₩\d])|\bper\s+((?:\d+\s*)?\w+)|\ba\s+(month|year|week|day|night)\b",
    re.IGNORECASE,
)
_COUNTED = re.compile(
    rf"\d[\d.,]*\s?(?:{_UNITS}|점|위|년|분|초|주|번|호|층|세|px|gb|mb|tb|w|mah|hz|p|pt|포인트|마일|마일리지|x|×)(?![A-Za-z가-힣])",
    re.IGNORECASE,
)
_DATE = re.compile(r"(?<![0-9A-Za-z.-])(\d{4})\s*[-./년]\s*(\d{1,2})\s*[-./월]\s*(\d{1,2})(?!\d)(?!\s*[-./]\s*\d)")
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})")
_ISO = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d\S*)?")
_SPAN = re.compile(r"[~∼〜]|부터|까지")
_MISREAD = ("cp1252", "latin-1", "cp949")


def typed(raw: str, field: FieldOptions) -> JsonValue:
    """What RAW says as a value of the FIELD's kind; raises NoValue."""
    if field.kind != "html" and _misread(raw):
        raise NoValue(f"{raw[:80]!r} was written in another encoding than the page says")
    if field.kind == "number":
        return _plain(number(plain(raw), signed=True, decimals=field.decimals))
    if field.kind == "price":
        return _price(raw, field)
    if field.kind == "date":
        return _date(plain(raw).strip())
    return raw


def _price(raw: str, field: FieldOptions) -> dict[str, JsonValue]:
    text = _PERCENT.sub(" ", plain(raw))
    units = {re.sub(r"\s+", "", next(filter(None, one.groups()))).casefold() for one in _PER.finditer(text)}
    if units != ({re.sub(r"\s+", "", field.per).casefold()} if field.per else set()):
        told = f"is a price per {' and per '.join(sorted(units))}" if units else f"is no price per {field.per}"
        raise NoValue(f"{raw[:80]!r} {told} (`per` says which it has to be)")
    text = _PER.sub(" ", text)
    if found := _COUNTED.search(text):
        raise NoValue(f"{raw[:80]!r} holds {found[0]!r}, which is no price")
    currency = _currency(text) or field.currency
    amount = number(text, signed=False, currency=currency, decimals=field.decimals, of=raw)
    return {"amount": _plain(amount), "currency": currency or None, "text": raw}


def _currency(text: str) -> str:
    """Beside the number, or, as price-parser knows them, anywhere."""
    beside = _AFTER.search(text) or _BEFORE.search(text)
    written = beside[1] if beside else Price.fromstring(text).currency or ""
    return _CURRENCIES.get(written, written)


def _date(text: str) -> str:
    if _ISO.fullmatch(text):
        try:
            return datetime.fromisoformat(text.replace("Z", "+00:00")).isoformat()
        except ValueError:
            raise NoValue(f"{text[:80]!r} is no day of the calendar") from None
    if _SPAN.search(text):
        raise NoValue(f"{text[:80]!r} is a span, and no date")
    compact = _COMPACT.fullmatch(text)
    found = {tuple(map(int, one.groups())) for one in ([compact] if compact else _DATE.finditer(text))}
    if len(found) != 1:
        raise NoValue(f"{text[:80]!r} holds {'more than one' if found else 'no'} date that is certain")
    try:
        return date(*found.pop()).isoformat()
    except ValueError:
        raise NoValue(f"{text[:80]!r} is no day of the calendar") from None


def _misread(text: str) -> bool:
    """Whether TEXT holds what no decoder could read, or UTF-8 that was read as something else."""
    if "\ufffd" in text:
        return True
    for encoding in _MISREAD if not text.isascii() else ():
        try:
            meant = text.encode(encoding).decode()
        except UnicodeError:
            continue
        if len(re.findall("[가-힣]", meant)) >= 2:
            return True
    return False


def _plain(value: Decimal) -> JsonValue:
    try:
        return int(value) if value == value.to_integral_value() else float(value)
    except (InvalidOperation, OverflowError):
        raise NoValue(f"{value} is no number") from None
