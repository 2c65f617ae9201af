"""Runs in a lab's web: a site of which every page is odd in one way, as pages of the world are. tests/browser asks it.

    odd_site CERTIFICATE KEY ADDRESS PORT

Every request is told on standard output. What a page looks like when it is right is in PAGES, what is odd about the
answer itself in ANSWERS; the rest is plain.
"""

from __future__ import annotations

import base64
import gzip
import http.server
import socketserver
import ssl
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable
from typing import Any

from tests.programs import mutants

HEAD = "<!doctype html><meta charset=utf-8><title>t</title><link rel=icon href='data:,'>"
FOREVER = threading.Event()
TOLD = ("Accept-Language", "User-Agent", "Sec-CH-UA-Mobile", "Sec-CH-UA-Platform")


def items(first: int, last: int) -> str:
    """List items with a name and a price each."""
    numbers = range(first, last + 1)
    return "".join(
        f"<li class=item data-id=p{n}><a class=name href=/ok?{n}>상품 {n}</a> <b class=price>{1000 * n:,}원</b></li>"
        for n in numbers
    )


def page(body: str, script: str = "") -> str:
    """A whole page."""
    return f"{HEAD}<body>{body}{f'<script>{script}</script>' if script else ''}"


def shop(action: str, more: str = "", script: str = "") -> str:
    """A front page with a search box that leads to ACTION."""
    return page(f"<h1>홈</h1><form id=f action={action}><input id=q name=q></form>{more}", script)


def shelf(number: int) -> str:
    """One of three pages of ten items; the first has an advertisement."""
    ad = "<li class='item ad' data-id=ad><a class=name>광고</a> <b class=price>1원</b></li>" if number == 1 else ""
    onward = (
        f"<a class=next href=/shelf?page={number + 1}>다음</a>"
        if number < 3
        else "<a class=next aria-disabled=true>다음</a>"
    )
    return page(f"<p>총 <b id=total>30개</b></p><ul>{ad}{items(10 * number - 9, 10 * number)}</ul>{onward}")


LATE_ITEMS = "let n=0;const t=setInterval(()=>{u.insertAdjacentHTML('beforeend',`<li class=item>상품 ${++n}</li>`);n<10||clearInterval(t)},150)"
PAGES: dict[str, str] = {
    "/empty": "",
    "/ok": page("<h1>정상</h1><p id=late>x</p><b class=price>12,900원</b>"),
    # Dialogs and windows
    "/alert": page("<p id=late>x</p>", "alert('점검 안내')"),
    "/confirm-late": page("", "setTimeout(()=>{r=confirm('18세 이상?');document.body.innerHTML=`<p id=late>${r}</p>`},300)"),
    "/alert-loop": page("<p id=late>x</p>", "setInterval(()=>alert('again'),20)"),
    "/beforeunload": page("<p>b</p>", "onbeforeunload=e=>{e.preventDefault();return 'x'}"),
    "/print": page("<p id=late>x</p>", "print()"),
    "/program": page("<p id=late>x</p>", "location.href='kakaotalk://launch'"),
    "/permissions": page("<p id=late>x</p>", "Notification.requestPermission();navigator.geolocation.getCurrentPosition(()=>{})"),
    "/popup": page("<p id=late>x</p>", "open('/ok?popup')"),
    # On its way
    "/refresh": page("<meta http-equiv=refresh content='0;url=/ok'>"),
    "/replaces-itself": page("<p>again</p>", "setTimeout(()=>location.reload(),30)"),
    "/hanging-picture": page("<p id=late>가격 12,900원</p><img src=/hang>"),
    "/hanging-script": page("<p id=late>가격</p><script async src=/hang></script>"),
    "/sockets": page("<p id=late>x</p>", "new EventSource('/events');fetch('/hang')"),
    "/many": page("<p id=late>x</p>" + "".join(f"<img src=/tiny?{n}>" for n in range(100))),
    "/busy": page("<p>busy</p>", "setTimeout(()=>{while(1);},200)"),
    "/download-inside": page("<p id=late>x</p><iframe src=/attachment></iframe>"),
    # What a person sees
    "/hidden": page(
        f"<ul>{items(1, 2)}</ul><ul style='display:none'>{items(3, 4)}</ul><ul style='visibility:hidden'>{items(5, 5)}</ul>"
        f"<ul style='opacity:0'>{items(6, 6)}</ul><ul style='filter:opacity(0)'>{items(6, 6)}</ul><ul style='position:absolute;left:-9999px'>{items(7, 7)}</ul>"
        f"<ul style='height:0;overflow:hidden'>{items(8, 8)}</ul><details><summary>더</summary><ul>{items(9, 9)}</ul></details>"
        f"<ul style='position:absolute;clip:rect(0,0,0,0)'>{items(10, 10)}</ul><ul hidden>{items(11, 11)}</ul>"
    ),
    "/hidden-within": page(
        "<p class=price><s style='display:none'>99,000원</s><span style='position:absolute;left:-999px'>88,000원</span>"
        "<i style='opacity:0'>77,000원</i><span style='font-size:0'>66,000원</span>12,900<em>원</em></p>"
    ),
    "/polyfilled": page("<b class=price>1,000원</b><b class=price>2,000원</b>", "Array.from=()=>[];Array.prototype.map=()=>[];String.prototype.toJSON=()=>'x';document.querySelectorAll=()=>[]"),
    "/clobbered": page("<form class=item><input name=children><input name=innerText><input name=shadowRoot><b class=price>1,000원</b></form><img name=querySelectorAll><img name=documentElement>"),
    "/shadow": page("<div id=host></div>", "host.attachShadow({mode:'open'}).innerHTML='<b class=price>1,000원</b><input id=q>'"),
    "/frame": page("<iframe src=/inner width=400 height=200></iframe>"),
    "/inner": page("<b class=price>1,000원</b><input id=q>"),
    "/svg": page("<svg width=200 height=50><text class=price y=20>1,000원</text></svg>"),
    "/before": page("<style>.price::after{content:'원'}</style><b class=price>1,000</b>"),
    "/huge": page("<ul id=u></ul>", "u.innerHTML='<li class=item>'.repeat(1200);for(const n of [...u.children].slice(0,250))n.textContent='가'.repeat(12000)"),
    # Searches
    "/home": shop("/results"),
    "/home-items": shop("/results", f"<ul>{items(90, 93)}</ul>", "f.onsubmit=e=>{e.preventDefault();setTimeout(()=>f.submit(),600)}"),
    "/home-late": shop("/results-late"),
    "/home-stream": shop("/stream"),
    "/home-skeleton": shop("/results-skeleton"),
    "/home-replaced": shop("/results-replaced"),
    "/home-here": shop("/x", f"<ul id=u>{items(90, 93)}</ul>", f"f.onsubmit=e=>{{e.preventDefault();history.pushState(0,'','/here');setTimeout(()=>u.innerHTML=`{items(1, 5)}`,900)}}"),
    "/home-dead": shop("/x", f"<ul>{items(90, 93)}</ul>", "f.onsubmit=e=>e.preventDefault()"),
    "/home-hidden": page("<button id=icon onclick=\"f.style.display='block'\">🔍</button><form id=f action=/results style='display:none'><input id=q name=q></form>"),
    "/home-modal": shop("/results", "<dialog id=d>동의 <button id=agree onclick='d.close()'>동의</button></dialog>", "d.showModal()"),
    "/home-overlay": shop("/results", "<div style='position:fixed;inset:0;background:#000c'><button id=agree onclick='this.parentNode.remove()'>동의</button></div>"),
    "/home-button": page("<input id=q><button id=go onclick=\"location='/results?q='+encodeURIComponent(q.value)\">검색</button>"),
    "/home-none": shop("/none"),
    "/home-limited": shop("/slow-down"),
    "/home-hang": shop("/hang"),
    "/home-virtual": shop("/virtual"),
    "/home-suggests": shop("/results", "<ul id=s></ul>", "q.oninput=()=>{s.innerHTML='<li>'+q.value+' 추천</li>'};q.onkeydown=e=>{if(e.key=='Enter'){e.preventDefault();location='/results?q='+encodeURIComponent(s.textContent)}}"),
    "/results": page(f"<h1>결과</h1><ul>{items(1, 30)}</ul>"),
    "/results-late": page("<ul id=u></ul>", LATE_ITEMS),
    "/results-skeleton": page("<ul id=u>" + "<li class=item>&nbsp;</li>" * 5 + "</ul>", f"setTimeout(()=>u.innerHTML=`{items(1, 5)}`,1200)"),
    "/results-replaced": page(f"<ul id=u>{items(90, 93)}</ul>", "fetch('/slow-items').then(r=>r.text()).then(t=>u.innerHTML=t)"),
    "/none": page("<p class=none>‘키보드’ 검색 결과가 없습니다</p>"),
    "/slow-down": page("<p class=blocked>잠시 후 다시 시도해 주세요</p>"),
    "/virtual": page(
        "<div id=v style='height:600px;overflow:auto'><div id=w style='height:10000px;position:relative'></div></div>",
        "const draw=()=>{w.innerHTML='';const a=Math.floor(v.scrollTop/400);for(let i=a;i<Math.min(25,a+4);i++)w.insertAdjacentHTML('beforeend',`<div class=item style='position:absolute;top:${i*400}px'>상품 ${i+1}</div>`)};v.onscroll=draw;draw()",
    ),
    # Fields
    "/product": page(
        "<meta property='product:price:amount' content='12900'><h1>강릉 바다 커피</h1><b class=price>12,900원</b>"
        "<s class=was>15,000원</s><i class=reviews>1,234개</i><time>2026년 11월 26일</time><a class=more href=/ok>더</a>"
        '<script type=application/ld+json>{"@graph":[{"@type":"Product","offers":{"price":"12900","priceCurrency":"KRW"}}]}</script>'
    ),
    "/old-price": page(
        "<p class=price><del>15,000원</del></p><div style='text-decoration:line-through'><p class=price>14,000원</p></div>"
        "<s><p class=price style='display:inline-block'>12,900원</p></s><b class=price><s>13,000원</s> 12,900원</b>"
    ),
    "/sold-out": page("<s class=price>12,900원</s><p class=gone>품절</p>"),
    "/two-products": page("<b class=price>12,900원</b><ul><li class=price>9,900원</li></ul><i class=n>5</i><i class=n>5개</i>"),
    "/related": page("<h1>커피</h1>") + '<script type=application/ld+json>{"@graph":[{"@type":"Product","name":"커피","sku":"1"},{"@type":"Product","offers":{"price":9900}}]}</script>',
    "/busy-price": page(
        "<main id=m aria-busy=true><b class=price>0원</b></main>",
        "setTimeout(()=>{m.innerHTML='<b class=price>12,900원</b>';m.ariaBusy='false'},4500)",
    ),
    "/busy-for-ever": page("<main aria-busy=true><b class=price>0원</b></main>"),
    "/grows": page(
        f"<ul id=u>{items(1, 10)}</ul><button class=next>더 보기</button>",
        "const b=document.querySelector('.next');let n=10;b.onclick=()=>setTimeout(()=>{for(let i=0;i<10;i++)"
        "u.insertAdjacentHTML('beforeend',`<li class=item data-id=p${++n}><a class=name>상품 ${n}</a> <b class=price>${n},000원</b></li>`);"
        "if(n===30)b.remove()},200)",
    ),
    "/scrolls-on": page(
        "<ul id=u></ul><p id=end style='height:20px'></p>",
        "let n=0;const more=()=>{for(let i=0;i<10&&n<30;i++)u.insertAdjacentHTML('beforeend',`<li class=item style='height:200px'>상품 ${++n}</li>`)};"
        "more();new IntersectionObserver(e=>{if(e[0].isIntersecting&&n<30)fetch('/tiny').then(more)}).observe(end)",
    ),
    "/draws-anew": page(
        "<div id=w style='height:2500px;position:relative'></div>",
        "const draw=()=>{w.innerHTML='';const a=Math.min(15,Math.floor(scrollY/100));for(let i=a;i<a+10;i++)"
        "w.insertAdjacentHTML('beforeend',`<div class=item style='position:absolute;top:${i*100}px'>상품 ${i+1}</div>`)};onscroll=draw;draw()",
    ),
    # Numbers that are drawn in another way than they are written
    "/raised": page("<p class=price style='font-size:28px'>$12<sup>99</sup></p>"),
    "/in-parts": page("<p class=price style='display:flex'><span>12</span><span>,900</span><span>원</span></p>"),
    "/footnote": page("<p class=price>$12<sup>1</sup></p>"),
    "/backwards": page("<p class=price style='direction:rtl;unicode-bidi:bidi-override'>원009,21</p>"),
    "/digit-picture": page("<p class=price><img alt=1 src=/tiny width=9 height=9>2,900원</p>"),
    "/crossed": page(
        "<style>.was{position:relative}.was::after{content:'';position:absolute;left:0;right:0;top:50%;border-top:2px solid}</style>"
        "<span class='price was'>15,000원</span><b class=price>12,900원</b>"
    ),
    "/unseen": page(
        "<div style='position:relative'><b class=price>15,000원</b><i style='position:absolute;inset:0;background:#fff'>품절</i></div>"
        "<b class=price style='position:fixed;left:3000px'>14,000원</b><b class=price style='opacity:0.001'>13,000원</b>"
        "<iframe src=/inner style='width:0;height:0;border:0'></iframe><b class=price>12,900원</b>"
    ),
    "/over": page("<b class=price>12,900원</b><div id=ask style='position:fixed;inset:0;background:#fff'>로봇이 아님을 확인해 주세요</div>"),
    # Lists
    "/turned": page(f"<ul style='display:flex;flex-direction:column-reverse'>{items(1, 5)}</ul>"),
    "/fills": page(
        "<ul id=u></ul>",
        "for(let i=0;i<12;i++)u.insertAdjacentHTML('beforeend','<li class=item style=height:200px></li>');"
        "const o=new IntersectionObserver(es=>es.forEach(e=>{if(e.isIntersecting)e.target.textContent='상품 '+([...u.children].indexOf(e.target)+1)}));"
        "[...u.children].forEach(one=>o.observe(one))",
    ),
    "/same-again": page(f"<ul>{items(1, 3)}</ul><a class=next href=/same-again>다음</a>"),
    "/log-in": page("<form><input name=id><input type=password></form>"),
    "/unstyled": HEAD + "<link rel=stylesheet href=/hang><body><b class=price>1원</b>",
    "/leads-aside": page("<b class=price>12,900원</b><a id=go href=/ok target=_blank>상품</a>"),
    "/leads-nowhere": page("<b class=price>1원</b>", "setTimeout(()=>location.href='/hang',100)"),
    "/wait": page("<b class=price>1원</b><meta http-equiv=refresh content='2;url=/wait-more'>"),
    "/wait-more": page("<b class=price>2원</b><meta http-equiv=refresh content='1;url=/ok'>"),
    "/photographed": page(
        "<b class=price>1,000원</b><p style='height:3000px'>", "let n=1000;onresize=()=>{document.querySelector('.price').textContent=`${++n}원`}"
    ),
    "/photographed-once": page(
        "<b class=price>1,000원</b><p style='height:3000px'>", "onresize=()=>{document.querySelector('.price').textContent='2,000원'}"
    ),
    "/ticker": page("<b class=price>12,900원</b><meta http-equiv=refresh content='3'>"),
    "/home-drip": shop("/drip"),
    "/": page("<b class=price>9,900원</b>"),
    "/gone": page("<h1>판매가 종료된 상품입니다</h1><ul><li class=price>9,900원</li></ul>"),
    "/deep": page(
        "<div id=host></div>", "host.attachShadow({mode:'open'}).innerHTML='<iframe src=/shadow width=400 height=200></iframe>'"
    ),
    "/two-prices": page("<p class=price>15,000원 12,900원</p>"),
    "/address": page("<p id=seen>귀하의 주소: 198.51.100.10 (서울) v1.2.3</p>"),
    "/telephone": page(
        "<meta name=viewport content='width=device-width'><style>.wide{display:none}@media(min-width:800px){.wide{display:block}.small{display:none}}</style>"
        "<b class='price small'>9,900원</b><b class='price wide'>12,900원</b><button id=more>더</button><p id=told></p>",
        "for(const k of ['touchstart','click'])more.addEventListener(k,e=>told.textContent+=k+' ')",
    ),
    "/colours": page(
        "<style>body{margin:0}div,li{position:absolute;left:50px;width:300px}</style><ul>"
        "<li class=item data-id=p1 style='top:1500px;height:100px;background:#0f0'>상품</li></ul>"
        "<div id=name style='top:1400px;height:40px;background:#00f'>홍길동</div><div style='top:2990px;height:10px'></div>"
    ),
    "/endless": page("<div style='height:40000px'>x</div>"),
    "/tall": page("<div style='height:5000px'></div><p id=late>9,900원</p>"),
}  # fmt: skip
STATUS = {"/401": 401, "/403": 403, "/404": 404, "/410": 410, "/429": 429, "/500": 500, "/503": 503}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with a page of PAGES, or as a row of ANSWERS does."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""

    def whole(self, body: str | bytes, status: int = 200, kind: str = "text/html; charset=utf-8", **more: str) -> None:
        """A complete answer; MORE are headers."""
        content = body.encode() if isinstance(body, str) else body
        self.begin(status, kind, Content_Length=str(len(content)), **more)
        self.wfile.write(content)

    def begin(self, status: int, kind: str, **more: str) -> None:
        """Status and headers."""
        self.send_response(status)
        for name, value in {"Content_Type": kind, "Cache_Control": "no-store", **more}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def chunk(self, text: str) -> None:
        """A part of a chunked answer; the empty one is its end."""
        self.wfile.write(f"{len(text.encode()):x}\r\n".encode() + text.encode() + b"\r\n")
        self.wfile.flush()

    def do_GET(self) -> None:
        """One request."""
        path, _, query = self.path.partition("?")
        authorised = f" {self.headers['Authorization']}" if "Authorization" in self.headers else ""
        print(f"{self.path}{authorised}", flush=True)
        try:
            if path in ANSWERS:
                ANSWERS[path](self, query)
            elif path in STATUS:
                name = {"/401": "WWW_Authenticate"}.get(path, "Retry_After")
                value = 'Basic realm="x"' if path == "/401" else urllib.parse.unquote(query) or "120"
                self.whole(page(f"<h1>{path}</h1><b class=price>1원</b>"), STATUS[path], **{name: value})
            else:
                self.whole(PAGES.get(path, "not here"), 200 if path in PAGES else 404)
        except OSError:
            self.close_connection = True


def cut(missing: int, body: str, handler: Handler) -> None:
    """All of BODY, and MISSING bytes less than the length that was promised."""
    content = body.encode()
    handler.begin(200, "text/html; charset=utf-8", Content_Length=str(len(content) + missing))
    handler.wfile.write(content)
    handler.close_connection = True


def chunked(*parts: tuple[str, float]) -> Callable[[Handler, str], None]:
    """One answer in PARTS, after each of which nothing comes for so many seconds; whole if the last one is empty."""

    def answer(handler: Handler, _: str) -> None:
        handler.begin(200, "text/html; charset=utf-8", Transfer_Encoding="chunked")
        for part, seconds in parts:
            handler.chunk(part)
            FOREVER.wait(seconds)
        handler.close_connection = True

    return answer


def euckr(handler: Handler, query: str) -> None:
    """What was asked for, in the encoding of old Korean sites, both ways."""
    words = urllib.parse.unquote_to_bytes(query.partition("q=")[2].replace("+", " ")).decode("euc-kr", "replace")
    body = f"<html><head><meta charset=euc-kr></head><li class=item>{words} 결과</li>"
    handler.whole(body.encode("cp949"), kind="text/html")


def bomb(handler: Handler, _: str) -> None:
    """Ten megabytes in a few kilobytes, in a comment of a page that is whole."""
    content = gzip.compress((page("<p id=late>x</p>") + "<!--" + "a" * 10_000_000).encode(), 6)
    handler.whole(content, Content_Encoding="gzip")


def later(seconds: float, body: str) -> Callable[[Handler, str], None]:
    """BODY after SECONDS."""

    def answer(handler: Handler, _: str) -> None:
        FOREVER.wait(seconds)
        handler.whole(body)

    return answer


def events(handler: Handler, _: str) -> None:
    """A stream of events that does not end."""
    handler.begin(200, "text/event-stream")
    handler.wfile.write(b"data: 1\n\n")
    FOREVER.wait(60)


def mutant(handler: Handler, query: str) -> None:
    """A right page or a broken one."""
    status, body, is_cut = mutants.page(query)
    if is_cut:
        cut(1, body, handler)
    else:
        handler.whole(body, status)


def private(handler: Handler, query: str) -> None:
    """A page for who knows the password."""
    told, wanted = handler.headers.get("Authorization", ""), base64.b64encode("watcher:열쇠: 42".encode()).decode()
    if told == f"Basic {wanted}":
        handler.whole(PAGES["/ok"])
    else:
        handler.whole(
            page(f"<p id=told>{told or 'nothing'}</p>"), 401, WWW_Authenticate='Basic realm="x", charset="UTF-8"'
        )


ANSWERS: dict[str, Callable[[Handler, str], Any]] = {
    "/cut": lambda one, _: cut(5000, page(f"<ul>{items(1, 3)}</ul>"), one),
    "/mutant": mutant,
    "/cut-chunks": chunked((page(f"<ul>{items(1, 3)}</ul>"), 0)),
    "/stream": chunked((page("<ul>"), 0.1), *((items(n, n), 0.1) for n in range(1, 11)), ("", 0)),
    "/home-euckr": lambda one, _: one.whole(
        "<meta charset=euc-kr><form action=/euckr><input id=q name=q></form>", kind="text/html"
    ),
    "/euckr": euckr,
    "/bomb": bomb,
    "/shelf": lambda one, query: one.whole(shelf(int(query.partition("page=")[2] or 1))),
    "/hang": later(60, ""),
    "/slow-items": later(0.7, items(1, 5)),
    "/tiny": lambda one, _: one.whole(
        "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'></svg>", kind="image/svg+xml"
    ),
    "/events": events,
    "/redirects": lambda one, query: one.whole("", 302, Location=f"/redirects?{int(query or 0) + 1}"),
    "/moved": lambda one, _: one.whole("", 302, Location="/ok"),
    "/challenge": lambda one, _: one.whole(page("<h1>잠시만요</h1>"), 403, Cf_Mitigated="challenge"),
    "/headers": lambda one, _: one.whole(page("".join(f"<p id={name.lower()}>{one.headers.get(name)}</p>" for name in TOLD))),
    "/204": lambda one, _: one.begin(204, "text/html"),
    "/401-empty": lambda one, _: one.whole("", 401, WWW_Authenticate='Basic realm="x"'),
    "/404-empty": lambda one, _: one.whole("", 404),
    "/500-empty": lambda one, _: one.whole("", 500),
    "/attachment": lambda one, _: one.whole(b"x" * 100_000, kind="application/octet-stream", Content_Disposition="attachment; filename=prices.bin"),
    "/sandboxed": lambda one, _: one.whole(PAGES["/ok"], Content_Security_Policy="sandbox"),
    "/strict": lambda one, _: one.whole(PAGES["/ok"], Content_Security_Policy="require-trusted-types-for 'script'; script-src 'none'"),
    # Nothing for longer than a list has to rest, in the middle.
    "/drip": chunked((page("<ul>") + items(1, 5), 4), (items(6, 10), 0), ("", 0)),
    "/goods/17": lambda one, _: one.whole("", 302, Location="/"),
    "/private": private,
    "/logs-in": lambda one, _: one.whole(
        page("<p id=late>x</p>", "localStorage.token='t0ken'"),
        Set_Cookie="sid=s3cret; Secure; HttpOnly",
        Strict_Transport_Security="max-age=1000",
    ),
    "/known": lambda one, _: one.whole(one.headers.get("Cookie", "")),
    "/cached": lambda one, _: one.whole(f"{time.monotonic()}", Cache_Control="max-age=1000"),
    "/embeds": lambda one, query: one.whole(page(f"<p id=late>x</p><img src={urllib.parse.unquote(query)}>")),
    "/451": lambda one, _: one.whole("", 451),
    "/503-empty": lambda one, _: one.whole("", 503, Retry_After="30"),
    "/999": lambda one, _: one.whole(PAGES["/ok"], 999),
    "/mine": lambda one, _: one.whole("", 302, Location="/log-in?next=%2Fmine"),
    "/407": lambda one, _: one.whole(PAGES["/ok"], 407, Proxy_Authenticate="Basic realm=x"),
    "/206": lambda one, _: one.whole(PAGES["/ok"], 206, Content_Range="bytes 0-499/5000"),
    "/no-gzip": lambda one, _: one.whole(PAGES["/ok"], Content_Encoding="gzip"),
    "/broken-off": lambda one, _: one.whole(
        "<html xmlns='http://www.w3.org/1999/xhtml'><body><b class='price'>1원</b><p>", kind="application/xhtml+xml"
    ),
    "/other-charset": lambda one, _: one.whole(page("<h1>강릉 커피</h1>").encode("euc-kr"), kind="text/html; charset=iso-8859-1"),
    "/wrong-charset": lambda one, _: one.whole(PAGES["/product"].replace("utf-8", "x"), kind="text/html; charset=euc-kr"),
    "/xml": lambda one, _: one.whole("<?xml version='1.0'?><feed><price>100</price><price>200</price></feed>", kind="application/xml"),
}  # fmt: skip


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """A thread for each connection."""

    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True

    def handle_error(self, *_: object) -> None:
        """A browser hangs up when it likes."""


def main() -> None:
    """Serve."""
    certificate, key, address, port = sys.argv[1:5]
    server = Server((address, int(port)), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print("ready", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
