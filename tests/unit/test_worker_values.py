"""From text to typed values: what is certain is read, what could mean two things is an error."""

from __future__ import annotations

import time
from typing import Any

import pytest

from worker.tasks.options import FieldOptions
from worker.tasks.structured import only
from worker.tasks.values import Bound, NoValue, typed


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
        ("US$ 1 299.00", 1299, "USD"),
        ("1 299,- Kč", 1299, "CZK"),
        ("12.000원", 12000, "KRW"),
        ("1억 2천만원", 120_000_000, "KRW"),
        ("1억2,500만원", 125_000_000, "KRW"),
        ("１２，０００원", 12000, "KRW"),
        ("$.99", 0.99, "$"),
        ("0,999 €", 0.999, "EUR"),
        ("NT$1,290", 1290, "TWD"),
        ("₹1,29,999", 129_999, "INR"),
        ("10% ↓ 12,000원", 12000, "KRW"),
        ("최저 10,000원", 10000, "KRW"),
        ("12,000\u200b원", 12000, "KRW"),
        ("오늘까지 12,000원", 12000, "KRW"),
        ("1 299 Kč", 1299, "CZK"),
        ("1万2千円", 12000, "JPY"),
        ("1.2万元", 12000, "CNY"),
        ("3萬元", 30000, "CNY"),
        ("12€99", 12.99, "EUR"),
        ("AU $12.99", 12.99, "AUD"),
        ("COP $ 1.299.000", 1_299_000, "COP"),
        ("12,99 Euro", 12.99, "EUR"),
        ("CHF 12.–", 12, "CHF"),
        ("12,900원 (10% 할인)", 12900, "KRW"),
        ("$9.99 10% off", 9.99, "$"),
        ("Pro Max $999", 999, "$"),
        ("회원할인 9,900원", 9900, "KRW"),
    ],
)
def test_prices(text: str, amount: float, currency: str | None) -> None:
    """Won, euro, francs; separators either way; tens of thousands; a percentage beside it is no price."""
    assert read("price", text) == {"amount": amount, "currency": currency, "text": text}


@pytest.mark.parametrize(
    "text",
    [
        *("품절", "", "15,000원 12,900원", "12,900원 ~ 15,000원", "-3,000원", "2개 12,900원", "1.2k"),
        *("10~20만원", "12,000원부터", "from $10", "$10+", "12,000원대", "약 12,000원", "1,280円～"),
        *("+3,000원", "▼ 3,000원", "$1.299", "12.900", "KD 1.250", "12,9001원", "12,00,000원", "1,2만원"),
        *("12,900¹원", "$12⁹⁹", "12,000p", "남은 수량 12개", "상품 2 500원", "3만원 2만원", "\ufffd 12,900"),
        *(
            "12,000원/kg",
            "100g당 1,200원",
            "㎡당 900만원",
            "월 납입 12,000원",
            "하루 500원",
            "9" * 40,
            "$12.99/month",
            "12,000원(개당 500원)",
        ),
        *("à partir de 9,99 €", "desde 9,99 €", "od 9,99 zł", "от 999 ₽", "as low as $9.99", "$10 or more"),
        *("≥ 12,99 €", "> $12", "9,900원 -", "1,280円より", "max. $9.99", "5억 5,000원"),
        *(
            "9,99 € pro Monat",
            "9,99 € par mois",
            "¥99/月",
            "月額1,990円",
            "$9.99 monthly",
            "12,900원(월)",
            "일 1,000원",
        ),
        *("일 1,000원", "$5 off", "Save $5", "5만원 할인", "5,000원 적립", "할인금액 5,000원"),
        *("₹ 1.2 lakh", "$1.2 million", "1,2 Mio. €", "5 тыс. ₽", "2tr", "2 juta", "5€ le kg", "£5 pp"),
        *("99¢", "99 cents", "12,900원($12,900)", "US$9.99 CA$9.99", "l2,9OO원"),
    ],
)
def test_no_single_price(text: str) -> None:
    """Sold out, two prices, a span, what is saved, a count, a price for so much: nothing is guessed."""
    with pytest.raises(NoValue):
        read("price", text)


def test_what_the_settings_say_of_a_price() -> None:
    """For how much of something it is, and which sign stands before decimals; another one is no price."""
    assert read("price", "12,000원 / 100 g", per="100g")["amount"] == 12000
    for text, per in (("12,000원/kg", "100g"), ("12,000원", "kg")):
        with pytest.raises(NoValue, match="per"):
            read("price", text, per=per)
    assert (read("number", "1.234", decimals="."), read("number", "1.234", decimals=",")) == (1.234, 1234)
    with pytest.raises(NoValue):
        read("price", "1.299,00", decimals=".")


@pytest.mark.parametrize("kind", ["price", "number", "date"])
def test_a_page_keeps_nobody_busy_with_digits(kind: str) -> None:
    """As long as a text may be, it is no value at once; as a text it is one."""
    for part in ("1", "1,", "2026.", "£5 "):
        started = time.process_time()
        with pytest.raises(NoValue):
            read(kind, part * (10_000 // len(part)))
        assert time.process_time() - started < 1
    assert read("text", "1" * 10_000) == "1" * 10_000


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


@pytest.mark.parametrize(
    "text", ["많음", "4.8 (120)", "1.2k", "3/10", "1.234", "1½", "▼3", "999+", "약 500", "1천여개"]
)
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


def test_a_bound_is_known_as_one() -> None:
    """`999+` says that there are more: no number, and no mistake of the page's."""
    with pytest.raises(Bound):
        read("number", "999+")


@pytest.mark.parametrize(
    "text",
    [
        *("강릉 커피".encode().decode(wrong, "replace") for wrong in ("cp949", "latin-1", "cp1251")),
        *("강릉 커피".encode("euc-kr").decode("latin-1"), "12,900원".encode("euc-kr").decode("latin-1")),
        *("カタカナ".encode("shift_jis").decode("cp1252", "replace"), "Кофе".encode().decode("cp1251")),
        "Café crème".encode().decode("cp1252"),
    ],
)
def test_text_in_another_encoding(text: str) -> None:
    """What a person would see as rubbish is no text; Hangul, Hanja and accents are."""
    with pytest.raises(NoValue, match="encoding"):
        read("text", text)
    for right in ("강릉 커피", "漢字 東京", "Café é ñ", "₩12,900 €", "élève crème Größe", "Кофе", "AÇÃO", "コーヒー"):
        assert read("text", right) == right


@pytest.mark.parametrize(
    "text",
    [
        *(
            "어제",
            "11/12/26",
            "2026.13.40",
            "2026.11.25 ~ 2026.11.26",
            "2026.11.26~12.01",
            "12026.11.26",
            "v2026.11.26",
        ),
        *("주문 20261126-12345", "2026-11-26T25:00", "2026년 11월 26일부터 30일까지"),
    ],
)
def test_no_certain_date(text: str) -> None:
    """Without a year in front, two of them, a span, or part of another number: it is not certain."""
    with pytest.raises(NoValue):
        read("date", text)


def test_structured_data() -> None:
    """A path begins with a type or a key and reaches through lists; different values are no value."""
    data = [{"@graph": [{"@type": ["https://schema.org/Product", "X"], "offers": [{"price": "1"}, {"price": 1}]}]}]
    assert only(data, "Product.offers.price") == only(data, "offers.price") == "1"
    assert only(data, "Offer.price") is only({"a": 1}, "a.b.c") is only(None, "a") is None
    with pytest.raises(NoValue, match="more than once"):
        only([*data, {"@type": "Product", "offers": {"price": "2"}}], "Product.offers.price")


def test_one_of_several_products() -> None:
    """Where one of them has no price, the other's may not be the page's; a reference is no product of its own."""
    whole = {"@type": "Product", "@id": "#p", "sku": "1", "offers": {"price": 5}}
    assert only([whole, {"@type": "Product", "@id": "#p", "name": "x"}], "Product.offers.price") == "5"
    assert (
        only([{"@type": "WebPage", "about": {"@type": "Product", "name": "x"}}, whole], "Product.offers.price") == "5"
    )
    with pytest.raises(NoValue, match="not all of them"):
        only([{"@type": "Product", "sku": "2"}, whole], "Product.offers.price")
