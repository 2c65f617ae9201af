"""The country of a server (two letters), from its file's name, its folder, a comment or its own name."""

from __future__ import annotations

import re

_COUNTRIES = (
    " ad ae af ag ai al am ao aq ar as at au aw ax az ba bb bd be bf bg bh bi bj bl bm bn bo bq br bs bt bv bw by bz"
    " ca cc cd cf cg ch ci ck cl cm cn co cr cu cv cw cx cy cz de dj dk dm do dz ec ee eg eh er es et fi fj fk fm fo"
    " fr ga gb gd ge gf gg gh gi gl gm gn gp gq gr gs gt gu gw gy hk hm hn hr ht hu id ie il im in io iq ir is it je"
    " jm jo jp ke kg kh ki km kn kp kr kw ky kz la lb lc li lk lr ls lt lu lv ly ma mc md me mf mg mh mk ml mm mn mo"
    " mp mq mr ms mt mu mv mw mx my mz na nc ne nf ng ni nl no np nr nu nz om pa pe pf pg ph pk pl pm pn pr ps pt pw"
    " py qa re ro rs ru rw sa sb sc sd se sg sh si sj sk sl sm sn so sr ss st sv sx sy sz tc td tf tg th tj tk tl tm"
    " tn to tr tt tv tw tz ua ug uk um us uy uz va vc ve vg vi vn vu wf ws xk ye yt za zm zw"
    " "
)
"""ISO 3166-1, and `uk` and `xk`, which providers use."""
# Two lower-case letters are a country only before a city or a number, as in kr-seo-wg-001 and kr12; not in "my-vpn".
_CODES = re.compile(r"(?<![A-Za-z])(?:([A-Z]{2})(?![A-Za-z])|([a-z]{2})(?:\d|-(?!vpn|wg|net)[a-z]{3}(?![a-z])))")


def region_of(*texts: str) -> str | None:
    """The first country code in TEXTS, in upper case; None without one."""
    for text in texts:
        for capitals, small in _CODES.findall(text):
            code: str = (capitals or small).lower()
            if f" {code} " in _COUNTRIES:
                return code.upper()
    return None
