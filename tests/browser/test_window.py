"""A page is opened as the settings say: size, scale, language, time zone, telephone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.browser.cases import SITE
from tests.browser.conftest import LIMITS
from tests.inside import Ear
from tests.system.launching import Puppet, Stage

OWN: dict[str, Any] = {"language": "de-AT", "time_zone": "America/New_York", "window_width": 1000, "window_height": 700}
TELEPHONE: dict[str, Any] = {"mobile": True, "window_width": 412, "window_height": 915, "scale_factor": 2}
SEEN = """
const zone = Intl.DateTimeFormat().resolvedOptions(), day = new Date(Date.UTC(2026, 0, 1, 12));
const media = kind => matchMedia(kind).matches;
return {
    size: [innerWidth, innerHeight, devicePixelRatio, screen.width, screen.height], zone: zone.timeZone,
    offset: day.getTimezoneOffset(), languages: [navigator.language, zone.locale], touches: navigator.maxTouchPoints,
    number: (1234.5).toLocaleString(), mouse: media("(hover: hover) and (pointer: fine)"),
    finger: media("(pointer: coarse)"),
};
"""


@pytest.fixture(scope="module")
def telephone(stage: Stage) -> Iterator[Puppet]:
    """A browser that is one."""
    made = Puppet(stage, "selenium", settings={**LIMITS, **TELEPHONE})
    yield made
    made.end()


def size(picture: str) -> tuple[int, int]:
    """Width and height of a PNG in hexadecimal (PNG, 11.2.2)."""
    header = bytes.fromhex(picture[:64])
    return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")


def test_the_settings_are_what_pages_see(stage: Stage, site: Ear) -> None:
    """The height is that of the page, dates and numbers are the language's, the clock is the time zone's."""
    puppet = Puppet(stage, "undetected", settings={**LIMITS, **OWN})
    assert puppet("open", f"{SITE}/headers") is None
    seen = puppet("_script", SEEN)
    assert seen["size"] == [1000, 700, 1, 1000, 700] and size(puppet("screenshot")) == (1000, 700)
    assert (seen["zone"], seen["offset"]) == ("America/New_York", 300)
    assert (seen["languages"], seen["number"]) == (["de-AT", "de-AT"], "1 234,5".replace(" ", "\u00a0"))
    assert puppet("texts", "#accept-language")[0].startswith("de-AT,de")
    assert seen["mouse"] and not seen["finger"] and seen["touches"] == 0
    assert puppet("texts", "#sec-ch-ua-mobile") == ["?0"]
    puppet.end()


def test_a_telephone(telephone: Puppet, site: Ear) -> None:
    """Touch, the page's own viewport, Android's name in every request; Chrome's version and name stay."""
    telephone("open", f"{SITE}/telephone")
    seen = telephone("_script", SEEN)
    assert seen["size"] == [412, 915, 2, 412, 915] and size(telephone("screenshot")) == (824, 1830)
    assert seen["finger"] and not seen["mouse"] and seen["touches"] > 0
    assert telephone("texts", ".price") == ["9,900원"]
    assert telephone("click", "#more") is None
    assert telephone("texts", "#told") == ["touchstart click"]
    telephone("open", f"{SITE}/headers")
    name = telephone("texts", "#user-agent")[0]
    assert "(Linux; Android 10; K)" in name and "Chrome/" in name and " Mobile Safari/" in name
    assert name == telephone("_script", "return navigator.userAgent")
    assert telephone("texts", "#sec-ch-ua-mobile, #sec-ch-ua-platform") == ["?1", '"Android"']


def test_a_page_that_knows_no_telephones(telephone: Puppet, site: Ear) -> None:
    """It is drawn wide and shown small, as on any telephone; what is pressed is what was meant."""
    telephone("open", f"{SITE}/home-button")
    assert telephone("_script", "return innerWidth") > 900
    telephone("fill", "#q", "키보드")
    assert telephone("click", "#go") is None
    assert telephone("wait", ".item", seconds=10) == 30
