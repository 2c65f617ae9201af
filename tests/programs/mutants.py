"""Thirty right product pages, and ten ways to break each: ten kinds of markup, each made in three ways.

A page's truth is its name and price. `page(way, number)` gives the page's status and body; for the way "cut" the body is
the half that is sent.
"""

from __future__ import annotations

from collections.abc import Callable

HEAD = "<!doctype html><meta charset=utf-8><link rel=icon href='data:,'><body>"
RIGHT = 30
OTHER = ("다른 상품", 999)
"""What a page says that takes another's place."""


def truth(number: int) -> tuple[str, int]:
    """Name and price of page NUMBER."""
    return f"상품 {number}", 1_000 * (number + 3) + 900


def won(price: int) -> str:
    """As shops write it."""
    return f"{price:,}원"


MARKUPS: tuple[Callable[[str, str], str], ...] = (
    lambda name, price: f"<h1 class=name>{name}</h1><b class=price>{price}</b>",
    lambda name, price: f"<table><tr><td class=name>{name}<td class=price>{price}</table>",
    lambda name, price: f"<dl><dt class=name>{name}<dd class=price>{price}</dl>",
    lambda name, price: f"<ul><li class=name>{name}<li><span class=price><em>{price[:-1]}</em>{price[-1:]}</span></ul>",
    lambda name, price: f"<form><input name=innerText><p class=name>{name}</p><p class=price>{price}</p></form>",
    lambda name, price: f"<h2 class=name>{name}</h2><p class=price>\n  {price}\n  <s hidden>99,000원</s></p>",
    lambda name, price: (
        f"<svg height=90><text class=name y=20>{name}</text><text class=price y=60>{price}</text></svg>"
    ),
    lambda name, price: f"<div style='display:flex'><i class=name>{name}</i><i class=price>{price}</i></div>",
    lambda name, price: f"<p class=name>{name}</p><input class=price value='{price}' readonly>",
    lambda name, price: (
        f"<p class=price style='display:none'>1원</p><p class=name>{name}</p><p class=price>{price}</p>"
    ),
)


def made(number: int, body: str) -> str:
    """BODY as the page itself has it, as a script writes it, or as one fetches it."""
    kind = number % 3
    if kind == 0:
        return HEAD + f"<main id=m>{body}</main>"
    late = f"<main id=m></main><script>const write=()=>{{m.innerHTML=`{body}`}};"
    return HEAD + late + ("write()" if kind == 1 else "fetch('/tiny').then(write)") + "</script>"


def content(number: int, name: str, price: str) -> str:
    """The product's part of page NUMBER."""
    return MARKUPS[number // 3](name, price)


def right(number: int) -> str:
    """The whole page, unbroken."""
    name, price = truth(number)
    return made(number, content(number, name, won(price)))


def _scripted(script: str) -> Callable[[int], tuple[int, str]]:
    return lambda number: (200, right(number).replace("<body>", f"<body><script>{script}</script>", 1))


def _after(milliseconds: int, price: str) -> Callable[[int], tuple[int, str]]:
    """First with another PRICE, then as it should be."""

    def page(number: int) -> tuple[int, str]:
        name, value = truth(number)
        later = f"<script>setTimeout(()=>{{m.innerHTML=`{content(number, name, won(value))}`}},{milliseconds})</script>"
        return 200, HEAD + f"<main id=m>{content(number, name, price)}</main>{later}"

    return page


def _priced(change: str) -> Callable[[int], tuple[int, str]]:
    """With a price that is written as CHANGE says."""
    return lambda number: (200, made(number, content(number, truth(number)[0], change.format(won(truth(number)[1])))))


def _hidden(number: int) -> tuple[int, str]:
    style = "<style>.price{{{}}}</style>"
    # A transform too: to text of SVG a position means nothing.
    aside = "position:absolute;left:-9999px;transform:translateX(-9999px)"
    ways = ("display:none", "visibility:hidden", "opacity:0", aside, "font-size:0")
    return 200, right(number).replace("<body>", "<body>" + style.format(ways[number % len(ways)]), 1)


POLYFILLS = (
    "Array.prototype.map=Array.from=()=>[];String.prototype.trim=()=>'1원';document.querySelectorAll=()=>[];"
    "Object.defineProperty(HTMLElement.prototype,'innerText',{get:()=>'1원'});"
    "Object.defineProperty(Node.prototype,'textContent',{get:()=>'1원'});"
    "JSON.stringify=()=>'1';Object.prototype.toJSON=()=>1;window.getComputedStyle=()=>({})"
)
CLOCK = "Date.now=()=>1e15;performance.now=()=>-5;const t=setTimeout;window.setTimeout=(f,n)=>t(f,(n||0)/10);Date=class extends Date{constructor(){super(0)}}"
WAYS: dict[str, Callable[[int], tuple[int, str]]] = {
    "status": lambda number: ((403, 404, 429, 500, 503)[number % 5], right(number)),
    "cut": lambda number: (200, right(number)),
    "late": _after(800, "0원"),
    "skeleton": _after(900, "&nbsp;"),
    "hidden": _hidden,
    "replaced": _scripted("setTimeout(()=>location.replace('/mutant?other'),200)"),
    "overridden": _scripted(POLYFILLS),
    "clock": _scripted(CLOCK),
    "doubled": _priced("15,000원 {}"),
    "sold": _priced("품절"),
}


def page(query: str) -> tuple[int, str, bool]:
    """Status, body, and whether that is cut; QUERY is `WAY-NUMBER`, `right-NUMBER` or `other`."""
    if query == "other":
        return 200, made(0, content(0, OTHER[0], won(OTHER[1]))), False
    way, _, number = query.partition("-")
    if way == "right":
        return 200, right(int(number)), False
    status, body = WAYS[way](int(number))
    return status, body, way == "cut"
