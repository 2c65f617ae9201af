"""Turns values into HTML. Everything but this page's own markup is escaped; invisible characters appear as numbers."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from fleet import visible
from fleet.given_up import GivenUp
from fleet.outcomes import OK
from fleet.terminal.shapes import LEVELS, SHAPES
from hub.queue.values import moment
from hub.web.cards import TICKS, Card
from hub.web.charts import HEIGHT, WIDTH
from hub.web.ticks import CELL, drawn
from hub.web.words import words

HERE = Path(__file__).parent
_HREFS = {"w": "/workers/", "j": "/watches/", "s": "/sites/"}


def page(template: str, language: str, **values: Any) -> str:
    """The HTML of TEMPLATE."""
    return _environment().get_template(template).render(t=words(language), language=language, **values)


def shown(card: Card, language: str) -> dict[str, Any]:
    """CARD as text, for the page and its live updates."""
    t, last = words(language), card.ticks[-1] if card.ticks else None
    good = sum(one.outcome in OK for one in card.ticks)
    return {
        "id": card.id,
        "level": card.level,
        "name": visible.line(card.name),
        "href": _HREFS[card.id[0]] + _segment(card.id[2:]),
        "state": f"{LEVELS[card.level]} {t[card.state]}",
        "detail": visible.line(card.detail),
        "at": card.last_at,
        "run": f"{last.job}.{last.fence}" if last else "",
        "summary": f"{good}/{len(card.ticks)}",
        "ticks": drawn(one.outcome for one in card.ticks),
        "runs": "\n".join(f"{one.job}.{one.fence} {t[one.outcome]}" for one in card.ticks),
    }


def _text(value: Any) -> Any:
    return visible.line(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _moment(value: float | None) -> str:
    return "-" if value is None else f"{moment(value):%Y-%m-%d %H:%M:%S}"


def _document(value: Any) -> Markup:
    """JSON over many lines."""
    text = json.dumps(value, ensure_ascii=False, indent=2)
    return Markup("<pre tabindex=0>{}</pre>").format(visible.lines(text))


def told(many: Iterable[GivenUp], language: str) -> list[str]:
    """A line for each program that supervisord has given up."""
    t = words(language)

    def line(one: GivenUp) -> str:
        again = f"{t['again_at']} {_moment(one.again_at)}"
        return f"▲ {visible.line(one.name)}: {t['given_up']} ({one.times}); {again}"

    return [line(one) for one in many]


def _segment(name: str) -> str:
    """NAME as one part of an address."""
    return quote(name, safe="")


def _stages(details: Mapping[str, Any] | None) -> list[tuple[str, float, float, float]]:
    """Each stage's name and milliseconds, and where its bar begins and how wide it is, in percent."""
    found = (details or {}).get("stages_ms")
    kept = {k: v for k, v in found.items() if isinstance(v, int | float) and v >= 0} if isinstance(found, dict) else {}
    whole, before, rows = sum(kept.values()) or 1.0, 0.0, []
    for name, milliseconds in kept.items():
        rows.append((name, milliseconds, 100 * before / whole, 100 * milliseconds / whole))
        before += milliseconds
    return rows


@functools.cache
def _environment() -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_text,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"moment": _moment, "document": _document, "stages": _stages, "segment": _segment}
    made.globals |= {"SHAPES": SHAPES, "LEVELS": LEVELS, "WIDTH": WIDTH, "HEIGHT": HEIGHT}
    made.globals |= {"CELL": CELL, "WIDE": CELL * TICKS, "drawn": drawn}
    return made
