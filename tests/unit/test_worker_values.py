"""From text to typed values: what is certain is read, what could mean two things is an error."""

from __future__ import annotations

from typing import Any

import pytest

from worker.tasks.options import FieldOptions
from worker.tasks.values import NoValue, at, typed


def read(kind: str, text: str, **more: Any) -> Any:
    """TEXT as a field of that KIND."""
    return typed(text, FieldOptions.model_validate({"kind": kind, **more}))


@pytest.mark.parametrize(
    ("text", "amount", "currency"),
    [
        ("12,900원", 12900, "KRW"),
        ("₩12,900", 12900, "KRW"),
        ("판매가 12,900\n원", 12900, "KRW"),
        ("30% 12,900원", 12900, "KRW"),
        ("1.299,00 €", 1299, "EUR"),
        ("€1,299.50", 1299.5, "EUR"),
        ("1 299,00 €", 1299, "EUR"),
        ("CHF 1'299.00", 1299, "CHF"),
        ("3만원", 30000, "KRW"),
        ("3만 5천원", 35000, "KRW"),
        ("1만2,500원", 12500, "KRW"),
        ("12,900원 12,900원", 12900, "KRW"),
        ("12900", 12900, None),
        ("0원", 0, "KRW"),
    ],
)
def test_prices(text: str, amount: float, currency: str | None) -> None:
    """Won, euro, francs; separators either way; spoken tens; a percentage beside it is no price."""
    assert read("price", text) == {"amount": amount, "currency": currency, "text": text}


@pytest.mark.parametrize(
    "text", ["품절", "", "15,000원 12,900원", "12,900원 ~ 15,000원", "-3,000원", "2개 12,900원", "1.2k"]
)
def test_no_single_price(text: str) -> None:
    """Sold out, two prices, a span, a difference, a count beside it: nothing is guessed."""
    with pytest.raises(NoValue):
        read("price", text)


def test_currency_of_the_settings() -> None:
    """It fills in where the text names none, and nowhere else."""
    assert read("price", "12,900", currency="KRW")["currency"] == "KRW"
    assert read("price", "€5", currency="KRW")["currency"] == "EUR"


@pytest.mark.parametrize(
    ("text", "number"), [("1,234개", 1234), ("4.8", 4.8), ("-5", -5), ("리뷰 3만", 30000), ("(12)", 12), ("−2도", -2)]
)
def test_numbers(text: str, number: float) -> None:
    """A number with words around it."""
    assert read("number", text) == number


@pytest.mark.parametrize("text", ["많음", "4.8 (120)", "1.2k", "3/10"])
def test_no_single_number(text: str) -> None:
    """None, or two."""
    with pytest.raises(NoValue):
        read("number", text)


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("2026-11-26", "2026-11-26T00:00:00"),
        ("2026년 11월 26일", "2026-11-26"),
        ("등록 2026.11.26.", "2026-11-26"),
        ("2026-11-26T09:30:00Z", "2026-11-26T09:30:00+00:00"),
    ],
)
def test_dates(text: str, day: str) -> None:
    """ISO 8601 and the Korean forms."""
    assert read("date", text) == day


@pytest.mark.parametrize("text", ["어제", "11/12/26", "2026.13.40", "2026.11.25 ~ 2026.11.26"])
def test_no_certain_date(text: str) -> None:
    """Without a year in front, or two of them, it is not certain."""
    with pytest.raises(NoValue):
        read("date", text)


def test_structured_data() -> None:
    """A path begins with a type or a key, and reaches through lists; two different values stay two."""
    data = [{"@graph": [{"@type": ["Product", "X"], "offers": [{"price": "1"}, {"price": 1}, {"price": "2"}]}]}]
    assert at(data, "Product.offers.price") == ["1", "2"]
    assert at(data, "offers.price") == ["1", "2"]
    assert at(data, "Offer.price") == at({"a": 1}, "a.b.c") == at(None, "a") == []
