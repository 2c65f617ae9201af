"""The page's words: each in both languages, and none beside them."""

from __future__ import annotations

import re
from typing import get_args

from fleet.outcomes import ENDINGS
from hub.web import pages
from hub.web.acting import RETRY, SITE, WORKER
from hub.web.cards import Trouble
from hub.web.metrics import SITE_STATES, STAGES, WATCH_STATES, WORKER_STATES
from hub.web.words import words

NAMES = {"English", "한국어", "sudo", "fleet", "log", "--around", "job"}
"""Languages' own names, and a command."""


def test_every_word_is_korean_in_korean() -> None:
    """No entry was left as it is in English; names of programs and settings may stand in it."""
    english, korean = words("en"), words("ko")
    assert [key for key, word in korean.items() if not re.search("[가-힣]", word)] == []
    assert [key for key, word in english.items() if re.search("[가-힣]", word)] == []


def test_templates_have_no_words_of_their_own() -> None:
    """What a person reads or hears comes from the words, so each language has all of it."""
    own = {path.name: stray(path.read_text()) for path in pages.HERE.glob("*.j2")}
    assert len(own) > 10 and {name: found for name, found in own.items() if found} == {}


def test_a_word_in_a_template_is_found() -> None:
    """The control: in the text, and in what a screen reader says."""
    assert stray("<p>{{ t.last }} Now</p>") == {"Now"}
    assert stray('<img src="x" alt="A picture">{% if x %}{% endif %}') == {"A", "picture"}


def stray(template: str) -> set[str]:
    """The words in TEMPLATE outside of its markup and its values."""
    text = re.sub(r"\{%.*?%\}|\{\{.*?\}\}", "", template, flags=re.DOTALL)
    heard = re.findall(r'(?:alt|aria-label|title|placeholder)="([^"]*)"', text)
    letters = " ".join([re.sub(r"<[^>]+>", " ", text), *heard])
    return {*re.findall(r"[A-Za-z가-힣-]*[A-Za-z가-힣]", letters)} - NAMES


def test_whatever_has_a_name_in_the_hub_has_a_word() -> None:
    """Outcomes, states, troubles, acts, and the stages of a loop."""
    names = {*ENDINGS, *WORKER_STATES, *SITE_STATES, *WATCH_STATES, *SITE, RETRY, *WORKER}
    names |= {f"trouble_{one}" for one in get_args(Trouble) if one} | {f"stage_{one}" for one in STAGES}
    assert names - {*words("en")} == set()
