"""Parses the one number in a text as shops write it: with groups, decimals, or Korean units. It never guesses."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal

Decimals = str
"""The decimal sign, `.` or `,`; empty: as the number itself shows."""
DOTTED = frozenset(
    {"KRW", "EUR", "VND", "IDR", "BRL", "DKK", "SEK", "NOK", "ISK", "TRY", "HUF", "RON", "CLP", "COP", "ARS", "PYG"}
    | {"RSD", "PLN", "CZK", "UAH", "RUB", "kr", "TL", "Ft", "lei"}
)
"""Currencies in which 1.299 means 1299; in others it may mean 1 and 299 thousandths."""
SPACED = frozenset(["EUR", "DKK", "SEK", "NOK", "PLN", "CZK", "UAH", "RUB", "HUF", "CHF", "kr", "Ft"])
"""Currencies in which a blank separates thousands, whatever words precede the number."""
_TOKEN = re.compile(
    r"\d{1,3}(?:[ \u00a0\u202f]\d{3})+(?:[.,]\d{1,2})?(?![\d.,’']*\d)|(?:(?<![\w.,)])\.)?\d(?:[\d.,'’]*\d)?"
)
_UNITS = {"조": 10**12, "억": 10**8, "만": 10**4, "천": 1000, "백": 100, "십": 10}
_SPOKEN = re.compile(
    r"\d[\d,.]*\s*[조억만천백십]+(?:\s*\d[\d,.]*\s*[조억만천백십]+)*(?:\s*\d[\d,]*)?(?!\s*\d)"
    r"(?=[^가-힣]|$|원|개|명|건|회|여|대|장|권|표|번|점|이상|이하|부터|까지|정도)"
)
_PART = re.compile(r"(\d[\d,.]*)\s*([조억만천백십]*)")
_LETTERS = re.compile(r"(?<![A-Za-z])[OolI]+\d|\d[.,]?[OolI]+(?![A-Za-z])")
"""Letters that look like digits, next to digits."""
_SHORT = re.compile(
    r"\d\s*([kKmM](?![A-Za-zÀ-ɏ²³])|(?:lakhs?|lac|crores?|cr|millions?|millionen|mio|mln|mrd|bn|billions?|thousand|tsd|mil|"
    r"milyon|bin|млн|млрд|тыс|triệu|tr|tỷ|nghìn|ngàn|ribu|rb|juta|jt)(?!\w)|พัน|หมื่น|แสน|ล้าน)",
    re.IGNORECASE,
)
"""A number followed by a word like "thousand"; only Korean, Chinese and Japanese ones are parsed."""
_SHOWN = r"\W{0,3}(?:[A-Z]{1,3}\W{0,2}|(?:Rp|kr|zł)\W{0,2})?(?=\d)"
"""What may stand between a word and its number."""
_BOUND = re.compile(
    r"[~∼〜⁓≈≃≤≥]|[<>]\s*[₩$€£¥₹]?\s*(?=\d)|(?<=[\d원円元€$])\s*[-–—]\s*$|"
    r"(?<=[\d원円元개명건점만천백억회€$])\s*(?:부터|까지|이상|이하|미만|초과|내외|정도|から|より|起|以上|以下|まで)|"
    # "From" and "up to", only before the number, because elsewhere some of them are names.
    r"(?<!\w)(?:à partir de|dès|jusqu['’]à|a?partir de|a partire da|da|fino a|desde|hasta|até|vanaf|tot|fra|från|"
    rf"alkaen|od|do|от|до|mulai|từ|başlayan|max\.|min\.|maximum|minimum|starts at|as low as|เริ่มต้น){_SHOWN}|"
    r"(?:and|or) (?:above|more|less|below)|et plus|o más|ou mais|başlayan|"
    r"대략|원\s*대|여\s*[개명건원]|"
    r"최[대소](?=\s*[₩$\d])|(?<![가-힣])약(?=\s*[₩$\d])|[\d원€]\s*\+(?!\s*\d)|(?<![a-z])"
    r"(?:from|up to|starting|about|approx\.?|circa|ca\.|ab|bis|over|under|more than|less than|at least|"
    r"and up)(?![a-z])",
    re.IGNORECASE,
)
_SIGN = re.compile(r"(?:^|[^0-9A-Za-z가-힣])([-−–+▲▼△▽↑↓])\s*(?:[A-Z]{0,3}[₩$€£¥₹]|[A-Z]{3})?\s*$")
RAISED = "\ue000"
"""The mark that the browser's script puts between digits and raised digits after them (seeing.js)."""
_NOT_A_DIGIT = re.compile(r"\ufffc\d|\d\ufffc")
"""A picture in place of a digit."""
_LONGEST = 25
"""The longest number, in characters, that a shop can mean."""
_WRITTEN_SO = {
    **{"￦": "₩", "￥": "¥", "٬": ",", "٫": "."},
    **{"萬": "만", "万": "만", "億": "억", "亿": "억", "兆": "조", "千": "천", "百": "백", "十": "십"},
}
UNSEEN = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")


class NoValue(ValueError):
    """The text holds no value of that kind, or more than one."""


class Bound(NoValue):
    """The text holds a limit of a range, or an approximate number."""


def plain(text: str) -> str:
    """TEXT with digits, signs and Chinese units normalised, and without zero-width characters."""
    made = UNSEEN.sub("", text)
    narrow = (chr(ord(one) - 0xFEE0) if "！" <= one <= "～" else _WRITTEN_SO.get(one, one) for one in made)
    return "".join(str(unicodedata.decimal(one, one)) for one in narrow)


def number(text: str, *, signed: bool, currency: str = "", decimals: Decimals = "", of: str = "") -> Decimal:
    """The number in TEXT, which has passed plain() and is part of OF; raises NoValue, Bound. Prices are not SIGNED."""
    told = repr((of or text)[:80])
    if found := _SHORT.search(text):
        raise NoValue(f"{told} abbreviates a number ({found[1]})")
    if "\u202e" in text or RAISED in text or _NOT_A_DIGIT.search(text):
        raise NoValue(f"{told} is written backwards, or with raised digits or pictures of digits")
    if _LETTERS.search(text):
        raise NoValue(f"{told} has letters in place of digits")
    if _BOUND.search(text):
        raise Bound(f"{told} is a range or an approximate number, and no exact one")
    spoken = [(one.start(), one.end(), _spoken(one[0])) for one in _SPOKEN.finditer(text)]
    rest = "".join(
        " " if any(start <= place < end for start, end, _ in spoken) else sign for place, sign in enumerate(text)
    )
    found_all = [*spoken, *_written(text, rest, currency, decimals, signed=signed)]
    values = {value for _, _, value in found_all}
    if len(values) != 1:
        raise NoValue(f"{told} holds {'more than one number' if values else 'no number'}")
    sign = _SIGN.search(text[: found_all[0][0]])
    if sign and (not signed or sign[1] in "▲▼△▽↑↓"):
        raise NoValue(f"{told} is a difference, not a price" if not signed else f"{told} is a change, not a number")
    return -values.pop() if sign and sign[1] != "+" else values.pop()


def _written(
    text: str, rest: str, currency: str, decimals: Decimals, *, signed: bool
) -> list[tuple[int, int, Decimal]]:
    """The numbers in REST, which is TEXT without those in Korean units, with their places."""
    made = []
    for found in _TOKEN.finditer(rest):
        around = rest[max(0, found.start() - 1) : found.start()] + rest[found.end() : found.end() + 1]
        if any(unicodedata.category(one) == "No" for one in around):
            raise NoValue(f"{text[:80]!r} holds a number with a fraction or a footnote")
        blank = re.search(r"[ \u00a0\u202f]", found[0])
        if blank and currency not in SPACED and re.search(r"[^\W\d_]\s*$", _without_names(rest[: found.start()])):
            raise NoValue(f"{text[:80]!r} holds more than one number, or one with a blank in it")
        made.append((found.start(), found.end(), _decimal(found[0], currency, decimals, signed=signed)))
    return made


def _without_names(text: str) -> str:
    """TEXT, which precedes a number, without a currency at its end."""
    return re.sub(r"(?:[A-Z]{1,3}\s?[₩$€£¥₹]|[A-Z]{3}|[₩$€£¥₹])\s*$", "", text)


def _decimal(token: str, currency: str, decimals: Decimals, *, signed: bool) -> Decimal:
    """The value of TOKEN; 1,299.00 and 1.299,00 are equal. Raises NoValue when it could mean two numbers."""
    if len(token) > _LONGEST:
        raise NoValue(f"{token[:80]!r} is no number")
    head, *groups = re.split(r"[.,'’ \u00a0\u202f]", token)
    signs = re.findall(r"[.,'’ \u00a0\u202f]", token)
    if not groups:
        return Decimal(head)
    last = signs[-1]
    if len(set(signs)) == 2 and signs.count(last) == 1 and last in ".,":
        fraction = True
    elif len(set(signs)) > 1:
        raise NoValue(f"{token!r} is no number")
    elif decimals:
        fraction = last == decimals and len(signs) == 1
    else:
        fraction = len(signs) == 1 and last in ".," and _is_fraction(token, head, groups[0], last, currency)
    if decimals and (last == decimals) != fraction:
        raise NoValue(f"{token!r} is no number with decimals after {decimals!r}")
    whole, part = (groups[:-1], groups[-1]) if fraction else (groups, "")
    too_fine = not signed and len(part.rstrip("0")) > (3 if head in ("", "0") else 2)
    if too_fine or not _is_grouped(head, whole, currency):
        raise NoValue(f"{token!r} is no number")
    return Decimal("".join([head or "0", *whole]) + (f".{part}" if part else ""))


def _is_fraction(token: str, head: str, tail: str, sign: str, currency: str) -> bool:
    """Whether TAIL, after the only SIGN, is decimals; raises NoValue when that cannot be known."""
    if len(tail) != 3 or head in ("", "0") or len(head) > 3:
        return sign == "." or len(tail) < 3 or head == "0"
    if sign == "." and currency not in DOTTED:
        raise NoValue(f"{token!r} is a thousand and more, or has three decimals (`decimals` says which)")
    return False


def _is_grouped(head: str, groups: list[str], currency: str) -> bool:
    if not groups:
        return True
    thousands = 1 <= len(head) <= 3 and head[0] != "0" and all(len(one) == 3 for one in groups)
    lakhs = 1 <= len(head) <= 2 and len(groups[-1]) == 3 and all(len(one) == 2 for one in groups[:-1])
    return thousands or (lakhs and currency in ("INR", "Rs"))


def _spoken(text: str) -> Decimal:
    """The value of a number in Korean units: 3만 5천, 1만2,500, 1억 2천만."""
    total, section = Decimal(0), Decimal(0)
    great, small = Decimal(10**16), Decimal(10**4)
    for digits, units in _PART.findall(text):
        value = _decimal(digits, "", ".", signed=True)
        if value >= min(small, great) or (not units and 10**8 <= great < 10**16):  # 5억 5,000 may be 5억 5,000만
            raise NoValue(f"{text!r} holds more than one number")
        for unit in units:
            factor = Decimal(_UNITS[unit])
            if factor < 10**4:
                value, small = value * factor, min(small, factor)
            elif factor < great:
                total, section, value = total + (section + value) * factor, Decimal(0), Decimal(0)
                great, small = factor, Decimal(10**4)
            else:
                raise NoValue(f"{text!r} holds more than one number")
        section += value
    return total + section
