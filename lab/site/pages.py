"""The shop's pages and what they load, as text. Every page asks for 40 further things.

No page may be saved by a cache: every sub-resource is `no-store` and takes 300 ms, because requests
in flight are what an address event kills (shared fact: HTTP/2 streams die, idle connections do not).
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Final
from urllib.parse import quote

from lab.site.catalogue import PRODUCTS, Product

IMAGES: Final = 36
STYLES: Final = ("base.css", "shop.css")
SCRIPTS: Final = ("cart.js", "seen.js")

BASE_CSS: Final = """
body{margin:0;font-family:'Noto Sans CJK KR','Noto Sans KR',sans-serif;color:#222;background:#f6f5f1}
header{background:#0b6b4f;color:#fff;padding:14px 28px;display:flex;gap:24px;align-items:center}
header h1{margin:0;font-size:24px}header form{flex:1;display:flex}
#q{flex:1;max-width:480px;padding:9px 12px;font-size:16px;border:0;border-radius:6px 0 0 6px}
header button{padding:9px 18px;border:0;border-radius:0 6px 6px 0;background:#f2b705;font-size:16px}
main{padding:18px 28px}footer{padding:14px 28px;color:#666}
"""
SHOP_CSS: Final = """
.shelf{display:grid;grid-template-columns:repeat(6,1fr);gap:12px;padding:0;list-style:none}
.item,.hint{background:#fff;border-radius:8px;padding:8px;font-size:14px}
.shelf img{width:100%;height:96px;object-fit:cover;border-radius:6px}
.price{color:#b3261e;font-weight:bold}.name{display:block;margin:6px 0}
"""
CART_JS: Final = "document.documentElement.dataset.cart='0';\n"
SEEN_JS: Final = "document.documentElement.dataset.ready='1';\n"
TEXTS: Final = {"base.css": BASE_CSS, "shop.css": SHOP_CSS, "cart.js": CART_JS, "seen.js": SEEN_JS}


def home(seen_address: str) -> str:
    """The front page: search box and 36 products to look at."""
    shelf = _shelf(PRODUCTS[:IMAGES], "hint")
    return _page("한빛상회", "", seen_address, f"<h2>오늘의 추천 상품</h2>{shelf}")


def results(words: str, found: tuple[Product, ...], page: int, seen_address: str) -> str:
    """One page of the result list, then recommendations until it has as many images as any other."""
    shown = found[IMAGES * (page - 1) : IMAGES * page]
    more = len(found) > IMAGES * page
    onward = f'<a class="next" href="/search?q={quote(words)}&amp;page={page + 1}">다음</a>' if more else ""
    others = [product for product in PRODUCTS if product not in shown][: IMAGES - len(shown)]
    title = f"‘{escape(words)}’ 검색 결과 {len(found)}개" if found else f"‘{escape(words)}’ 검색 결과가 없습니다"
    wanted = f"<h2 id='title'>{title}</h2>{_shelf(shown, 'item')}{onward}"
    body = f"{wanted}<h2>함께 보면 좋은 상품</h2>{_shelf(others, 'hint')}"
    return _page(f"{escape(words)} - 한빛상회", words, seen_address, body)


def picture(number: int) -> str:
    """The picture of product NUMBER, as SVG."""
    hue = number * 47 % 360
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 160 96">'
        f'<rect width="160" height="96" fill="hsl({hue} 55% 78%)"/>'
        f'<circle cx="80" cy="48" r="{24 + number % 18}" fill="hsl({(hue + 40) % 360} 60% 55%)"/></svg>'
    )


def _shelf(products: Iterable[Product], kind: str) -> str:
    cards = (
        f'<li class="{kind}"><img alt="" src="/asset/image/{product.number}.svg">'
        f'<span class="name">{escape(product.name)}</span><span class="price">{product.price}</span></li>'
        for product in products
    )
    return f'<ul class="shelf">{"".join(cards)}</ul>'


def _page(title: str, words: str, seen_address: str, body: str) -> str:
    styles = "".join(f'<link rel="stylesheet" href="/asset/text/{name}">' for name in STYLES)
    scripts = "".join(f'<script defer src="/asset/text/{name}"></script>' for name in SCRIPTS)
    return f"""<!doctype html>
<html lang="ko"><head><meta charset="utf-8"><title>{title}</title>
<link rel="icon" href="data:,">{styles}{scripts}</head>
<body><header><h1>한빛상회</h1><form action="/search" method="get">
<input id="q" name="q" type="search" value="{escape(words)}" placeholder="무엇을 찾으세요?" autocomplete="off">
<button type="submit">검색</button></form>
<span>접속 주소 <b id="seen-address">{escape(seen_address)}</b></span></header>
<main>{body}</main>
<footer>전국 무료 배송 · 오후 3시 전 주문은 오늘 출발</footer></body></html>
"""
