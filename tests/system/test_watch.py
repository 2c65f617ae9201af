"""Watches in a lab, as a user writes them: a rank over result pages, and a site that limits requests."""

from __future__ import annotations

import colorsys
import json
from collections.abc import Iterator
from datetime import datetime

import pytest
from PIL import Image, ImageChops

from fleet.result import Result
from fleet.spool import Reader
from lab.net import Lab
from lab.site.catalogue import PRODUCTS, search
from lab.topology import SITE_NAME
from tests.fleets import Host

FIRST_UID = 1295
WANTED = PRODUCTS[132]
RANK = f"""
[task]
run = "watch"
[task.options]
pages = ["https://{SITE_NAME}/"]
steps = [{{ fill = "#q", text = "00g", submit = true }}]
find = {{ name = "{WANTED.name}" }}
seen_address = "#seen-address"
[task.options.items]
select = ".item"
next = ".next"
fields = {{ name = ".name", price = {{ select = ".price", kind = "price" }} }}
"""
REST_SECONDS = 8
BUSY = f"""
[task]
run = "visit"
options.urls = ["https://{SITE_NAME}/busy/{REST_SECONDS}"]
"""
OUTLINE = (214, 0, 60)


@pytest.fixture(scope="module")
def host(bare: Lab) -> Iterator[Host]:
    """The lab's host with settings and keys; no fleet is left running."""
    made = Host(bare, 1, first_uid=FIRST_UID, changes={"browser": {"patience": 0.5}})
    made.prepare()
    yield made
    assert made.operate("down").returncode == 0


def ran(host: Host, task: str, loops: int) -> list[Result]:
    """The results of LOOPS loops of the one worker; none is from an earlier run."""
    settings = host.paths.config.read_text(encoding="utf-8")
    host.paths.config.write_text(settings[: settings.index("[task]")] + task, encoding="utf-8")
    known = {one.run for one in spooled(host)}
    done = host.operate("run", "--workers", "1", "--loops", str(loops))
    results = [one for one in spooled(host) if one.run not in known]
    assert len(results) == loops, done.stderr[-3000:]
    return results


def spooled(host: Host) -> list[Result]:
    """The results in the worker's spool, oldest first."""
    results, unreadable = Reader(host.paths.spool(host.worker())).look(60)
    assert not unreadable
    return sorted(results, key=lambda one: one.started)


def test_a_rank_over_three_result_pages(host: Host) -> None:
    """The rank over all pages and the typed price match the catalogue, and the picture outlines that product.

    The worker's home has such results and nothing else.
    """
    listed = search("00g")
    for result in ran(host, RANK, 2):
        assert result.outcome == "good", result.reason
        assert result.answer["count"] == len(listed) and result.answer["pages"] == 3
        assert result.answer["find"] == {
            "found": True,
            "rank": listed.index(WANTED) + 1,
            "page": 3,
            "item": {
                "name": WANTED.name,
                "price": {"amount": WANTED.price_won, "currency": "KRW", "text": WANTED.price},
            },
            "matched": {"name": WANTED.name},
        }
        assert outlined(host, result) == pytest.approx(colour(WANTED.number), abs=6)
    home = host.paths.home(host.worker())
    assert [path.name for path in home.iterdir()] == ["spool"]
    assert {path.suffix for path in (home / "spool").iterdir()} == {".json", ".png"}


def outlined(host: Host, result: Result) -> tuple[int, ...]:
    """The colour inside the picture's outline: that of the product's own image, above its text."""
    with Image.open(host.paths.spool(host.worker()) / str(result.screenshot)) as file:
        picture = file.convert("RGB")
    other = ImageChops.difference(picture, Image.new("RGB", picture.size, OUTLINE)).convert("L")
    box = other.point(lambda value: 255 * (value == 0)).getbbox()
    assert box and box[2] - box[0] > 50 < box[3] - box[1], box
    pixel = picture.getpixel((box[0] + 24, box[1] + 24))
    assert isinstance(pixel, tuple)
    return pixel


def colour(number: int) -> tuple[int, ...]:
    """The background colour of a product's picture: `hsl(N*47 55% 78%)`."""
    return tuple(round(255 * part) for part in colorsys.hls_to_rgb(number * 47 % 360 / 360, 0.78, 0.55))


def test_a_limited_page_is_asked_for_once_per_retry_after(host: Host) -> None:
    """Two limited loops send two requests, the second after the rest that the site asked for; no loop retries."""
    for one in ran(host, BUSY, 2):
        assert (one.outcome, one.attempts, one.retry_after_seconds) == ("limited", 1, REST_SECONDS)
    lines = map(json.loads, host.lab.places.access_log.read_text(encoding="utf-8").splitlines())
    first, second = (datetime.fromisoformat(line["time"]) for line in lines if line["path"].startswith("/busy/"))
    assert (second - first).total_seconds() >= REST_SECONDS
