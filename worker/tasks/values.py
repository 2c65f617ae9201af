"""Converts a page's text to a typed value: text, number, price, date. An ambiguous text is an error."""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal, InvalidOperation

from price_parser import Price
from pydantic import JsonValue

from worker.tasks.numerals import RAISED, number, plain
from worker.tasks.numerals import Bound as Bound  # noqa: PLC0414
from worker.tasks.numerals import NoValue as NoValue  # noqa: PLC0414
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
    **{"₹": "INR", "Rs": "INR", "₫": "VND", "Rp": "IDR", "zł": "PLN", "Kč": "CZK", "₺": "TRY", "₽": "RUB"},
    **{"₴": "UAH", "฿": "THB", "₱": "PHP", "달러": "USD", "유로": "EUR", "엔": "JPY"},
    **{"JP¥": "JPY", "CN¥": "CNY", "RM": "MYR", "₪": "ILS", "MX$": "MXN", "đ": "VND", "元": "CNY", "$": "$", "¥": "¥"},
    **{"euro": "EUR", "euros": "EUR", "Euro": "EUR", "Euros": "EUR"},
}
_BESIDE = "|".join(re.escape(one) for one in sorted(_CURRENCIES, key=len, reverse=True))
_AFTER = re.compile(rf"[\d만천백십억.,-]\s*({_BESIDE}|[A-Z]{{3}}(?![A-Za-z]))")
_BEFORE = re.compile(rf"(?<![A-Za-z])({_BESIDE}|[A-Z]{{3}})\s*[$.]?\s*\d")
_PARTED = re.compile(r"(?<![A-Za-z])(US|HK|NT|NZ|AU|CA|MX|A|C|S|R) \$")
_RAISED_CENTS = re.compile(rf"(\d[\d.,'’ ]*){RAISED}(\d\d)(?![\d.,])")
_CENTS = re.compile(r"(?<=\d)([€£$])(\d\d)(?!\d)")
"""12€99, as French shops write it."""
_UNITS = (
    r"kg|mg|g|ml|l|cc|cm|mm|km|m2|m²|㎡|m|개|장|매|인|"
    r"명|박|회|병|캔|팩|포|권|평|건|시간|일|월|정|알|구|입|세트|롤|박스|봉"
)
_PER = re.compile(
    rf"(?:^|[\s(\[])((?:\d+\s*)?(?:{_UNITS}))\s*당(?![가-힣])|(?<=[\d원円元A-Z€$£¥₩.-])\s*/\s*((?:\d+\s*)?[^\W\d_]+)|"
    r"(?<![가-힣\d])(?:매\s*)?(월|연|년|주|일|하루)\s*(?:납입금?|납|구독료|이용료|요금)?\s*(?=[₩\d])|\(\s*(월|연|년|주|일)\s*\)|"
    r"\bper\s+((?:\d+\s*)?\w+)|\ba\s+(month|year|week|day|night)\b|(月額|年額|月々|毎月|每月|每年)|"
    r"(?<=[\d€$£łč.])\s*(?:pro|par|je|por|al|за)\s+((?:\d+\s*)?[^\W\d_]+)|"
    r"(?<=[\d€$£])\s*(?:le|la|el|il|das|der)\s+((?:\d+\s*)?(?:kg|kilo|g|litre|liter|pièce|unité|mois|mes|mese|nuit|jour|Stück|Monat))\b|"
    r"(?<=[\d€$£])\s*(pp\b|p\.\s?p\.)|\b(monthly|weekly|yearly|annually|daily|nightly|monatlich|jährlich|mensuel|mensual|mensile|mensal|pcm|pw)\b",
    re.IGNORECASE,
)
_LESS = re.compile(
    r"(?:[\d만천백십억]\s?[원円元]|[\d€$£¥])\s*(?:off\b|discount|할인(?!\s*[가-힣]*가)|적립|쿠폰(?!\s*적용)|割引|引き|オフ|rabatt|"
    r"de réduction|de descuento|de desconto|di sconto)|"
    r"(?:\b(?:save|spare|sparen|économisez|ahorra|risparmi)\b|할인\s*(?:액|금액)|적립금?|포인트)\W{0,3}(?:[A-Z]{1,3}\W?)?(?=\d)",
    re.IGNORECASE,
)
"""An amount that is saved, which is no price; a saved percentage may stand beside a price."""
_COUNTED = re.compile(
    rf"\d[\d.,]*\s?(?:{_UNITS}|점|위|년|분|초|주|번|호|층|세|px|gb|mb|tb|w|mah|hz|p|pt|포인트|마일|마일리지|x|×|¢|ct|cents?|센트|전)(?![A-Za-z가-힣])|¢\s*\d",
    re.IGNORECASE,
)
_DATE = re.compile(r"(?<![0-9A-Za-z.-])(\d{4})\s*[-./년年]\s*(\d{1,2})\s*[-./월月]\s*(\d{1,2})(?!\d)(?!\s*[-./]\s*\d)")
_COMPACT = re.compile(r"(\d{4})(\d{2})(\d{2})")
_ISO = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d\S*)?")
_SPAN = re.compile(r"[~∼〜]|부터|까지")
_LONGEST = 500
"""The longest text of a value: on ten thousand digits these patterns take half a minute."""
_UTF_8 = ("utf-8", r"[\u0080-\uffff]")
_READ_AS = {
    "cp1252": (_UTF_8, ("euc-kr", r"^[가-힣]{2,}$|^원$"), ("shift_jis", r"[ぁ-ヿ].*[ぁ-ヿ]")),
    "cp1251": (_UTF_8,),
    "cp949": (("utf-8", r"[가-힣]{2}|[가-힣].*[가-힣]"),),
}
"""Encoding that a text was decoded with -> encodings that may be the right ones, each with a pattern of its result."""


def typed(raw: str, field: FieldOptions) -> JsonValue:
    """RAW as a value of the FIELD's kind; raises NoValue."""
    if field.kind != "html" and _misread(raw):
        raise NoValue(f"{raw[:80]!r} was written in another encoding than the page says")
    if field.kind in ("number", "price", "date") and len(raw) > _LONGEST:
        raise NoValue(f"{raw[:80]!r} goes on for {len(raw)} characters, which is no {field.kind}")
    if field.kind == "number":
        return _plain(number(plain(raw), signed=True, decimals=field.decimals))
    if field.kind == "price":
        return _price(raw, field)
    if field.kind == "date":
        return _date(plain(raw).strip())
    return raw


def _price(raw: str, field: FieldOptions) -> dict[str, JsonValue]:
    text = _CENTS.sub(r".\2\1", _PARTED.sub(r"\1$", _RAISED_CENTS.sub(_with_cents, plain(raw))))
    raw = raw.replace(RAISED, " ")
    if _LESS.search(text):
        raise NoValue(f"{raw[:80]!r} is an amount that is saved, not a price")
    text = _PERCENT.sub(" ", text)
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


def _with_cents(found: re.Match[str]) -> str:
    """FOUND with raised digits after a whole number as its decimals."""
    whole, cents = found.groups()
    sign = "" if whole[-1] in ".," else "," if "." in whole else "."
    return f"{whole}{sign}{cents}"


def _currency(text: str) -> str:
    """The currency next to the number, or anywhere (by price-parser); raises NoValue for several currencies."""
    beside = [one[1] for pattern in (_AFTER, _BEFORE) for one in pattern.finditer(text)]
    found = {_CURRENCIES.get(one, one): None for one in beside}
    if len(found) > 1 and len(re.findall(r"\d[\d.,'’\s]*", text)) > 1:
        raise NoValue(f"{text[:80]!r} is in several currencies: {', '.join(found)}")
    written = next(iter(found), None) or Price.fromstring(text).currency or ""
    return _CURRENCIES.get(written, written)


def _date(text: str) -> str:
    if _ISO.fullmatch(text):
        try:
            return datetime.fromisoformat(text.replace("Z", "+00:00")).isoformat()
        except ValueError:
            raise NoValue(f"{text[:80]!r} is no day of the calendar") from None
    if _SPAN.search(text):
        raise NoValue(f"{text[:80]!r} is a range, not a date")
    compact = _COMPACT.fullmatch(text)
    found = {tuple(map(int, one.groups())) for one in ([compact] if compact else _DATE.finditer(text))}
    if len(found) != 1:
        raise NoValue(f"{text[:80]!r} holds {'more than one' if found else 'no'} date that is certain")
    try:
        return date(*found.pop()).isoformat()
    except ValueError:
        raise NoValue(f"{text[:80]!r} is no day of the calendar") from None


def _misread(text: str) -> bool:
    """Whether TEXT has undecodable characters, or was decoded with the wrong encoding."""
    if "\ufffd" in text:
        return True
    parts = () if text.isascii() else (text, *re.findall(r"[^\x00-\x7f]{2,}", text))
    return any(
        _is_meant(_written(part, read), encoding, signs)
        for read, meant in _READ_AS.items()
        for part in parts
        for encoding, signs in meant
    )


def _written(text: str, encoding: str) -> bytes:
    """The bytes that a browser decodes to TEXT, if there are any; it decodes unassigned bytes to C1 characters."""
    try:
        return b"".join(one.encode("latin-1" if "\x80" <= one <= "\x9f" else encoding) for one in text)
    except UnicodeError:
        return b""


def _is_meant(raw: bytes, encoding: str, signs: str) -> bool:
    try:
        return re.search(signs, raw.decode(encoding)) is not None
    except UnicodeError:
        return False


def _plain(value: Decimal) -> JsonValue:
    try:
        return int(value) if value == value.to_integral_value() else float(value)
    except (InvalidOperation, OverflowError):
        raise NoValue(f"{value} is no number") from None
