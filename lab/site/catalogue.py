"""The shop's products: always the same 144, so that a page can be checked against them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_KINDS: Final = ("커피", "녹차", "김치", "라면", "쌀과자", "참기름", "된장", "고추장", "김", "꿀", "유자차", "한과")
_MANNERS: Final = (
    "제주 햇살",
    "강릉 바다",
    "지리산 깊은 숲",
    "전주 한옥마을",
    "서울 골목",
    "부산 자갈치",
    "보성 언덕",
    "안동 종가",
    "울릉도",
    "설악산",
    "경주 달빛",
    "남해 바람",
)


@dataclass(frozen=True, slots=True)
class Product:
    """One thing to buy."""

    number: int
    name: str
    price_won: int

    @property
    def price(self) -> str:
        """`12,300원`."""
        return f"{self.price_won:,}원"


PRODUCTS: Final = tuple(
    Product(number, f"{manner} {kind} {100 + 50 * (number % 7)}g", 2_900 + 700 * (number * 37 % 61))
    for number, (manner, kind) in enumerate((manner, kind) for manner in _MANNERS for kind in _KINDS)
)


def search(words: str) -> tuple[Product, ...]:
    """Products whose name has every one of WORDS; none for no words."""
    wanted = words.split()
    if not wanted:
        return ()
    return tuple(product for product in PRODUCTS if all(word in product.name for word in wanted))
