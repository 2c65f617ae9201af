"""What a page of programs/odd_site.py has to come to, one row each; the same with both drivers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PORT = 9443
SITE = f"https://shop.example:{PORT}"
NOTHING: Mapping[str, Any] = {}
WAIT_SECONDS = {"good": 20, "empty": 20, "limited": 20}
"""For what has to come; what never comes is waited for in vain."""
IN_VAIN_SECONDS = 5


@dataclass(frozen=True)
class Case:
    """A task on a page, and what it has to bring home."""

    name: str
    run: str
    options: Mapping[str, Any]
    outcome: str = "good"
    answer: Mapping[str, Any] = field(default_factory=dict)
    """What its answer holds, among other things."""
    reason: str = ""
    """A regular expression that is found in it."""
    notes: str = ""
    """Likewise, in a note."""
    status: int | None = 200
    most_requests: int = 100
    """How often the site may be asked for the page."""
    restart: bool = False
    """The browser is of no use afterwards."""
    both: bool = False
    """The driver's own settings have a part in it: always seen with both."""


def visit(
    path: str, outcome: str = "good", *, wait: str = "", options: Mapping[str, Any] = NOTHING, **more: Any
) -> Case:
    """`visit` of one page."""
    waits = {"wait_for": wait} if wait else {}
    given = {"urls": [SITE + path], **_patience(outcome), **waits, **options}
    return Case(f"visit {path}", "visit", given, outcome, **more)


def search(
    path: str, outcome: str = "good", *, name: str = "", options: Mapping[str, Any] = NOTHING, **more: Any
) -> Case:
    """`search` from one page."""
    given = {"home": SITE + path, "search_box": "#q", "query": "키보드", "result_items": ".item"}
    return Case(f"search {path}{name}", "search", {**given, **_patience(outcome), **options}, outcome, **more)


def watch(path: str, name: str, options: Mapping[str, Any], outcome: str = "good", **more: Any) -> Case:
    """`watch` of one page."""
    given = {"pages": [SITE + path], **_patience(outcome), **options}
    return Case(f"watch {path} {name}", "watch", given, outcome, **more)


def _patience(outcome: str) -> Mapping[str, Any]:
    return {"wait_seconds": WAIT_SECONDS.get(outcome, IN_VAIN_SECONDS)}


def texts(path: str, *expected: str, select: str = ".price", both: bool = False) -> Case:
    """The visible texts of a selector."""
    wanted = {"fields": {"all": {"select": select, "every": True}}}
    return watch(path, "texts", wanted, answer={"fields": {"all": [*expected]}}, both=both)


FIRST = ["상품 1 1,000원", "상품 2 2,000원", "상품 3 3,000원", "상품 4 4,000원", "상품 5 5,000원"]
ALL = [f"상품 {n}" for n in range(1, 11)]
PRICE = {"select": ".price", "kind": "price"}
WANTED = {"name": ".name", "price": {"select": ".price", "kind": "price"}, "id": {"attribute": "data-id"}}
SHELF: dict[str, Any] = {
    "items": {"select": ".item", "fields": WANTED, "next": ".next", "advertisement": ".ad", "total": "#total"}
}

CASES = [
    visit("/ok"),
    # What the site answers
    visit("/401", "refused", status=401, reason="status 401.*log-in", most_requests=1, both=True),
    visit("/407", "refused", status=407),
    visit("/mine", "refused", reason="leads to its log-in", most_requests=2),
    visit("/401-empty", "refused", status=401, most_requests=2),
    visit("/403", "refused", status=403, reason="status 403", most_requests=1),
    visit("/challenge", "refused", status=403, reason="proof that a person", most_requests=1),
    visit("/404", "absent", status=404, most_requests=1),
    visit("/404-empty", "absent", status=404),
    visit("/410", "absent", status=410),
    visit("/429", "limited", status=429, most_requests=1),
    visit("/503", "limited", status=503),
    visit("/451", "refused", status=451),
    visit("/999", "refused", status=999),
    visit("/503-empty", "limited", status=503),
    visit("/500", "failed", status=500, reason="HTTP_500"),
    visit("/500-empty", "failed", status=500, reason="HTTP_500"),
    watch("/403", "fields", {"fields": {"price": {"select": ".price", "kind": "price"}}}, "refused", status=403),
    # No page, half a page
    visit("/204", "failed", status=204, reason="NO_CONTENT"),
    visit("/empty", "failed", reason="NO_CONTENT"),
    visit("/attachment", "failed", reason="DOWNLOAD", notes="download refused: prices.bin", both=True),
    visit("/download-inside", wait="#late", notes="download refused: prices.bin", both=True),
    visit("/cut", "failed", reason="ERR_CONTENT_LENGTH_MISMATCH"),
    visit("/cut-chunks", "failed", reason="ERR_INCOMPLETE_CHUNKED_ENCODING"),
    watch("/cut", "items", {"items": {"select": ".item"}}, "failed", reason="ERR_CONTENT_LENGTH_MISMATCH"),
    visit("/no-gzip", "failed", reason="ERR_CONTENT_DECODING_FAILED"),
    visit("/206", "failed", reason="HTTP_206"),
    visit("/broken-off", "failed", reason="MALFORMED"),
    visit("/unstyled", "failed", reason="NOT_DRAWN.*/hang"),
    visit("/leads-nowhere", "failed", options={"wait_for": ".never"}, reason="TIMEOUT"),
    visit("/redirects", "failed", status=None, reason="ERR_TOO_MANY_REDIRECTS"),
    visit("/bomb", wait="#late"),
    # On the way
    visit("/moved", answer={"visited": [f"{SITE}/ok"]}),
    visit("/refresh", wait="#late", answer={"visited": [f"{SITE}/ok"]}),
    watch("/wait", "chain", {"fields": {"price": PRICE}}, answer={"visited": [f"{SITE}/ok"], "fields": {"price": {"amount": 12900}}}),
    # A picture of the whole page makes the window larger for a moment, and these pages hear it.
    watch("/photographed", "price", {"fields": {"price": PRICE}, "screenshot": "full"}, "failed", reason="CHANGING"),
    watch("/photographed-once", "price", {"fields": {"price": PRICE}, "screenshot": "full"}, answer={"fields": {"price": {"amount": 2000}}}),
    watch("/ticker", "itself", {"fields": {"price": PRICE}}, answer={"fields": {"price": {"amount": 12900}}}),
    visit("/replaces-itself", "failed", reason="RELOADS", most_requests=40),
    visit("/hanging-picture", wait="#late", notes="without an answer yet"),
    visit("/hanging-picture", notes="without an answer yet"),
    visit("/hanging-script", wait="#late"),
    visit("/hang", "failed", status=None, reason="TIMEOUT", both=True),
    visit("/sockets", wait="#late"),
    visit("/many", wait="#late"),
    visit("/sandboxed", wait="#late"),
    visit("/strict", wait="#late"),
    # Dialogs, windows, scripts, mistakes
    visit("/alert", wait="#late", notes=r"dialog \(alert\): 점검 안내", both=True),
    texts("/confirm-late", "false", select="#late", both=True),
    visit("/alert-loop", "failed", reason="DIALOGS", restart=True, both=True),
    visit("/print", wait="#late", both=True),
    visit("/program", wait="#late", notes="kakaotalk://launch", restart=True, both=True),
    visit("/permissions", wait="#late", both=True),
    visit("/popup", wait="#late", both=True),
    visit("/beforeunload", options={"urls": [f"{SITE}/beforeunload", f"{SITE}/ok"]}, answer={"visited": [f"{SITE}/beforeunload", f"{SITE}/ok"]}, both=True),
    visit("/busy", "failed", options={"wait_for": ".never"}, reason="BUSY|no '.never'", restart=True),
    visit("/ok", "failed", options={"wait_for": "li:not("}, reason="task.options.wait_for", status=None),
    visit("/ok", "failed", options={"wait_for": "li::nonsense(x"}, reason="task.options.wait_for", status=None),
    visit("/ok", "failed", options={"wait_for": "a:no-such-thing"}, reason="not a valid selector"),
    # What a person sees
    texts("/hidden", "상품 1 1,000원", "상품 2 2,000원", select=".item"),
    texts("/hidden-within", "12,900원"),
    texts("/polyfilled", "1,000원", "2,000원"),
    texts("/clobbered", "1,000원"),
    texts("/shadow", "1,000원"),
    texts("/frame", "1,000원"),
    texts("/deep", "1,000원"),
    texts("/svg", "1,000원"),
    texts("/before", "1,000원"),
    texts("/xml", "100", "200", select="price"),
    # Searches
    search("/home", answer={"count": 30, "query": "키보드"}),
    search("/home-items", answer={"count": 30}),
    search("/home-late", answer={"count": 10, "items": ALL}),
    search("/home-stream", answer={"count": 10}),
    search("/home-drip", answer={"count": 10}),
    search("/home-skeleton", answer={"count": 5, "items": FIRST}),
    search("/home-replaced", answer={"count": 5, "items": FIRST}),
    search("/home-here", answer={"count": 5, "items": FIRST}),
    search("/home-dead", "failed", reason="shows what it showed before"),
    search("/home-hidden", "failed", reason="'#q' is there, and not visible"),
    search("/home-hidden", name=" click", options={"click_first": ["#icon"]}, answer={"count": 30}),
    search("/home-modal", "failed", reason="'#q' is covered by <dialog#d>"),
    search("/home-modal", name=" click", options={"click_first": ["#agree"]}, answer={"count": 30}),
    search("/home-overlay", notes="lay over it", answer={"count": 30}),
    search("/home-button", "failed", reason="no '.item'"),
    search("/home-button", name=" click", options={"search_button": "#go"}, answer={"count": 30}),
    search("/home-euckr", answer={"items": ["키보드 결과"]}),
    search("/home", name=" emoji", options={"query": "이어폰 🎧"}, answer={"query": "이어폰 🎧", "count": 30}),
    search("/home-suggests", answer={"count": 30, "address": f"{SITE}/results?q=%ED%82%A4%EB%B3%B4%EB%93%9C%20%EC%B6%94%EC%B2%9C"}),
    search("/home-none", "failed", reason="no '.item'"),
    search("/home-none", "empty", name=" said", options={"empty": [{"select": ".none", "text": "결과가 없습니다"}]}, reason="결과가 없습니다", answer={"count": 0}),
    search("/home-limited", "limited", options={"limited": ".blocked"}, reason="잠시 후 다시"),
    search("/home-hang", "failed", reason="TIMEOUT|BUSY"),
    search("/home-virtual", answer={"complete": False}),
    # Fields and lists
    watch("/virtual", "scrolled", {"items": {"select": ".item", "scroll": True}}, answer={"count": 25}),
    watch("/product", "fields", {"fields": {
        "name": "h1",
        "price": {"select": ".price", "kind": "price"},
        "reviews": {"select": ".reviews", "kind": "number"},
        "day": {"select": "time", "kind": "date"},
        "more": {"select": ".more", "attribute": "href"},
        "meta": {"meta": "product:price:amount", "kind": "number"},
        "data": {"json_ld": "Product.offers.price", "kind": "number"},
        "gone": {"select": ".gone", "optional": True},
    }}, answer={"fields": {
        "name": "강릉 바다 커피",
        "price": {"amount": 12900, "currency": "KRW", "text": "12,900원"},
        "reviews": 1234,
        "day": "2026-11-26",
        "more": f"{SITE}/ok",
        "meta": 12900,
        "data": 12900,
        "gone": None,
    }}),
    watch("/two-prices", "price", {"fields": {"price": {"select": ".price", "kind": "price"}}}, "failed", reason="more than one number"),
    watch("/old-price", "price", {"fields": {"price": PRICE}}, answer={"fields": {"price": {"amount": 12900, "currency": "KRW"}}}),
    watch("/old-price", "as seen", {"fields": {"all": {"select": "del", "every": True}}}, answer={"fields": {"all": ["15,000원"]}}),
    watch("/sold-out", "price", {"fields": {"price": PRICE}}, "failed", reason="price: there is none that can be seen"),
    watch("/sold-out", "optional", {"fields": {"price": {**PRICE, "optional": True}}}, answer={"fields": {"price": None}}),
    watch("/raised", "price", {"fields": {"price": PRICE}}, answer={"fields": {"price": {"amount": 12.99, "text": "$12 99"}}}),
    watch("/in-parts", "price", {"fields": {"price": PRICE}}, answer={"fields": {"price": {"amount": 12900}}}),
    *(watch(path, "price", {"fields": {"price": PRICE}}, "failed", reason="written backwards") for path in ("/footnote", "/backwards", "/digit-picture")),
    watch("/crossed", "price", {"fields": {"price": PRICE}}, answer={"fields": {"price": {"amount": 12900}}}),
    watch("/unseen", "price", {"fields": {"price": PRICE}}, answer={"fields": {"price": {"amount": 12900}}}),
    watch("/over", "price", {"fields": {"price": PRICE}}, notes="<div#ask> lay over price"),
    watch("/leads-aside", "price", {"fields": {"price": PRICE}, "steps": [{"click": "#go"}]}, notes="another window.*/ok"),
    watch("/turned", "order", {"items": {"select": ".item", "fields": {"id": {"attribute": "data-id"}}}, "find": {"id": "p5"}}, answer={"count": 5, "find": {"rank": 1}}),
    watch("/fills", "scrolled", {"items": {"select": ".item", "scroll": True}}, answer={"count": 12, "complete": True}),
    watch("/same-again", "pages", {"items": {"select": ".item", "next": ".next"}}, answer={"count": 3, "pages": 1, "complete": True}, most_requests=2),
    watch("/two-products", "price", {"fields": {"price": PRICE}}, "failed", reason="several that differ, such as '12,900원'"),
    watch("/two-products", "count", {"fields": {"n": {"select": ".n", "kind": "number"}}}, answer={"fields": {"n": 5}}),
    watch("/related", "data", {"fields": {"data": {"json_ld": "Product.offers.price"}}}, "failed", reason="not all of them have"),
    watch("/other-charset", "name", {"fields": {"name": "h1"}}, "failed", reason="another encoding"),
    watch("/wrong-charset", "name", {"fields": {"name": "h1"}}, "failed", reason="another encoding"),
    watch("/busy-price", "price", {"fields": {"price": PRICE}}, answer={"fields": {"price": {"amount": 12900}}}),
    watch("/busy-for-ever", "price", {"fields": {"price": PRICE}}, "failed", reason="aria-busy"),
    watch("/", "price", {"fields": {"price": PRICE}}, answer={"fields": {"price": {"amount": 9900}}}),
    watch("/goods/17", "front page", {"fields": {"price": PRICE}}, "absent", reason="front page"),
    watch("/gone", "said", {"fields": {"price": PRICE}, "absent": {"select": "h1", "text": "종료된 상품"}}, "absent", reason="종료된 상품"),
    watch("/grows", "find", {**SHELF, "items": {**SHELF["items"], "total": None}, "find": {"id": "p17"}}, answer={"find": {"rank": 17, "page": 2}, "count": 20}),
    watch("/grows", "all", {"items": {"select": ".item", "next": ".next"}}, answer={"count": 30, "pages": 3, "complete": True}),
    watch("/scrolls-on", "unasked", {"items": {"select": ".item"}}, answer={"complete": False}),
    watch("/scrolls-on", "scrolled", {"items": {"select": ".item", "scroll": True}}, answer={"count": 30, "complete": True}),
    watch("/draws-anew", "unasked", {"items": {"select": ".item"}}, answer={"count": 10, "complete": False}),
    watch("/product", "no price", {"fields": {"price": {"select": "h1", "kind": "price"}}}, "failed", reason="holds no number"),
    watch("/shelf", "pages", SHELF, answer={"count": 31, "pages": 3, "total": 30, "complete": True}),
    watch("/shelf", "find", {**SHELF, "find": {"id": "p17", "name": "상품 17"}}, answer={"find": {
        "found": True,
        "rank": 17,
        "page": 2,
        "item": {"id": "p17", "name": "상품 17", "price": {"amount": 17000, "currency": "KRW", "text": "17,000원"}},
        "matched": {"id": "p17", "name": "상품 17"},
    }}),
    watch("/shelf", "half", {**SHELF, "find": {"id": "p17", "name": "another"}}, answer={"pages": 3}),
    watch("/shelf", "nothing", {**SHELF, "find": {"id": "p99"}}, answer={"pages": 3, "complete": True, "find": {
        "found": False, "rank": None, "page": None, "item": None,
    }}),
    # The address that a site shows
    watch("/address", "seen", {"seen_address": "#seen"}),
    watch("/ok", "not seen", {"seen_address": "h1"}, "failed", reason="shows no address"),
    watch("/ok", "no such", {"seen_address": "#seen"}, "failed", reason="no '#seen'"),
    visit("/tall", options={"screenshot": "full"}),
    visit("/tall", options={"screenshot": "element:#late"}),
]  # fmt: skip
