"""Pictures show what they are to show: the found item outlined, nothing that is masked, and no more than they may."""

from __future__ import annotations

import io
from typing import Any

import pytest
from PIL import Image

from tests.browser.cases import SITE
from tests.inside import Ear
from tests.system.launching import Puppet

BLUE, GREEN, GREY, RED = (0, 0, 255), (0, 255, 0), (96, 96, 96), (214, 0, 60)
FIND: dict[str, Any] = {
    "pages": [f"{SITE}/colours"],
    "items": {"select": ".item", "fields": {"id": {"attribute": "data-id"}}},
    "find": {"id": "p1"},
}
ABOVE = 1500 + 100 / 2 - 900 / 2
"""Of the page, above the window that is scrolled to the item."""


def shown(browser: Puppet, shot: Any, **options: Any) -> tuple[dict[str, Any], Image.Image]:
    """The result of a watch, and its picture."""
    result = browser("perform", "watch", {**FIND, **options, "screenshot": shot})
    return result, Image.open(io.BytesIO(bytes.fromhex(browser("picture"))))


def is_near(picture: Image.Image, place: tuple[float, float], colour: tuple[int, int, int]) -> bool:
    """Whether the pixel at PLACE has that COLOUR; WebP changes it a little."""
    pixel = picture.convert("RGB").getpixel((int(place[0]), int(place[1])))
    assert isinstance(pixel, tuple)
    return all(abs(one - other) < 24 for one, other in zip(pixel, colour, strict=True))


@pytest.mark.parametrize(
    ("of", "size", "item"),
    [
        ("full", (1280, 3000), (200, 1550)),
        ("window", (1280, 900), (200, 1550 - ABOVE)),
        ("element:.item", (300, 100), (150, 50)),
    ],
)
def test_the_item_is_outlined_and_masks_hide(
    browser: Puppet, site: Ear, of: str, size: tuple[int, int], item: tuple[float, float]
) -> None:
    """In each kind of picture; in the page nothing is changed. Without the mask the same place shows what is there."""
    result, picture = shown(browser, {"of": of, "format": "webp", "quality": 90, "mask": ["#name"]})
    assert (result["outcome"], picture.format, picture.size) == ("good", "WEBP", size)
    assert is_near(picture, item, GREEN)
    assert is_near(picture, (1 if of.startswith("element") else 45, item[1]), RED)
    if not of.startswith("element"):
        name = (item[0] + 100, item[1] - 130)
        assert is_near(picture, name, GREY)
        bare = shown(browser, of)[1]
        assert bare.format == "PNG" and is_near(bare, name, BLUE)
    assert browser("texts", "#name") == ["홍길동"]


SHELF: dict[str, Any] = {
    "pages": [f"{SITE}/ok", f"{SITE}/shelf"],
    "items": {"select": ".item", "fields": {"id": {"attribute": "data-id"}, "name": ".name"}, "next": ".next"},
}


@pytest.mark.parametrize(("find", "outlined"), [(None, None), ({"id": "p17", "name": "another"}, 0)])
def test_each_page_has_its_picture(browser: Puppet, site: Ear, find: Any, outlined: int | None) -> None:
    """Of every page that it opened or turned to; first the one, which is of the found item or of the last page.

    The others come in their order. Without `each` there is the one (control).
    """
    options = {**SHELF, **({"find": find} if find else {})}
    result = browser("perform", "watch", {**options, "screenshot": {"each": True}})
    others = [f"run-1-000001_{number:02}.png" for number in (1, 2, 3)]
    assert (result["screenshot"], result["more_screenshots"]) == ("run-1-000001.png", others)
    shown = [Image.open(io.BytesIO(bytes.fromhex(browser("picture", number)))).convert("RGB") for number in range(4)]
    assert len({one.tobytes() for one in shown}) == 4
    reds = [number for number, one in enumerate(shown) if RED in {colour for _, colour in one.getcolors(1 << 24) or ()}]
    assert reds == ([] if outlined is None else [outlined])
    assert not browser("perform", "watch", options)["more_screenshots"]


def test_the_picture_of_a_failure_is_masked(browser: Puppet, site: Ear) -> None:
    """It is of the window, in the format of the others; the control shows what the mask hides."""
    missing = {"items": {"select": ".none", "fields": {"id": "b"}}, "wait_seconds": 0.5}
    steps = {"steps": [{"scroll": 1000}]}
    for mask, colour in ((["#name"], GREY), ([], BLUE)):
        result, picture = shown(browser, {"of": "full", "mask": mask}, **missing, **steps)
        assert (result["outcome"], picture.size) == ("failed", (1280, 900))
        assert is_near(picture, (300, 410), colour)


def test_a_picture_has_an_end(browser: Puppet, site: Ear) -> None:
    """A page without end is cut, and the result says so."""
    result = browser("perform", "visit", {"urls": [f"{SITE}/endless"], "screenshot": "full"})
    picture = Image.open(io.BytesIO(bytes.fromhex(browser("picture"))))
    assert picture.size == (1280, 16_383)
    assert any("1280 x 16383 of 1280 x 400" in note for note in result["notes"]), result["notes"]
