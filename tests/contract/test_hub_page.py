"""The hub's page as a person has it: in Chromium, by keyboard alone, for a screen reader, without JavaScript."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import axe_playwright_python
import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from hub.web import pages
from hub.web.words import words
from tests.hub_pages import ONE, PORT, SCRIPT, TOKEN, Scene, ask, shown
from tests.waiting import until

AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
ADDRESS = f"http://127.0.0.1:{PORT}"
PATIENCE = 60_000
"""Milliseconds; a machine that is busy is no fault."""
SEEN: list[tuple[str, Any, float | None]] = [
    ("kr-1", "good", 39_000.0),
    ("jp-1", "good", 41_000.0),
    ("kr-1", "good", 38_500.0),
    ("de-1", "limited", None),
    ("jp-1", "good", 40_500.0),
]
PLACES = (
    "/",
    "/results",
    "/results/3.5",
    "/jobs",
    "/exits",
    "/keys",
    "/acts",
    "/watches/3",
    "/around/3.5",
    f"/workers/{ONE.name}",
    "/sites/shop.example",
    "/nowhere",
)
Scheme = Literal["light", "dark"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A hub with a page, and a watch that three exits have seen."""
    with shown(tmp_path_factory.mktemp("page")) as made:
        assert made.watch("kettle", SEEN) == 3
        until("the watch is on the page", lambda: [one["name"] for one in fleet()["watches"]] == ["kettle"], 60)
        yield made


def fleet() -> Any:
    """The first look, as a program sees it."""
    return json.loads(ask("/api/fleet")[2])


@pytest.fixture(scope="module")
def browser(root: None, scene: Scene) -> Iterator[Browser]:
    """One browser for all."""
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A window that nobody has used, whose complaints fail the test."""
    context = browser.new_context(locale="en-US", viewport={"width": 1280, "height": 900})
    made = context.new_page()
    made.set_default_timeout(PATIENCE)
    said: list[str] = []
    made.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    made.on("pageerror", lambda error: said.append(str(error)))
    yield made
    context.close()
    assert [line for line in said if not re.search("40[14]", line)] == []


def faults(page: Page) -> list[tuple[str, str]]:
    """What axe-core finds on PAGE that is serious, and where."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    return [(one["id"], one["nodes"][0]["html"][:200]) for one in serious]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("language", ["en", "ko"])
def test_axe_finds_nothing_serious(page: Page, scheme: Scheme, language: str) -> None:
    """On every page, light and dark, in English and Korean."""
    page.emulate_media(color_scheme=scheme)
    for place in PLACES:
        page.goto(f"{ADDRESS}{place}?lang={language}")
        assert page.locator("html").get_attribute("lang") == language
        assert faults(page) == [], place


def test_axe_sees_a_fault(page: Page) -> None:
    """The control: a heading that is nearly as light as the paper, a picture without words."""
    page.goto(f"{ADDRESS}/results/3.5?lang=en")
    page.evaluate("document.querySelector('h1').style.color = '#ddd'")
    page.evaluate("document.querySelector('main img').removeAttribute('alt')")
    assert {name for name, _ in faults(page)} == {"color-contrast", "image-alt"}


def test_no_word_is_something_else_of_a_dictionary() -> None:
    """`t.keys` in a template would be a method."""
    assert {*words("en")}.isdisjoint(dir({}))


def test_a_whole_visit_by_keyboard(page: Page) -> None:
    """From the first look by a watch, a run and its moment to a site, exits, keys, a worker: Tab and Enter alone."""
    t = words("ko")
    page.goto(f"{ADDRESS}/?lang=ko")
    for name, then in (
        ("kettle", f"{t['watch']} kettle"),
        ("3.5", f"{t['run']} 3.5"),
        (t["around"], f"{t['moment']} 3.5"),
        ("3.5", f"{t['run']} 3.5"),
        ("shop.example", f"{t['site']} shop.example"),
        (t["jobs"], t["jobs"]),
        (t["exits"], t["exits"]),
        (t["vpn_keys"], t["vpn_keys"]),
        (t["results"], t["results"]),
        ("1.1", f"{t['run']} 1.1"),
        (ONE.name, f"{t['worker']} {ONE.name}"),
        (t["fleet"], t["trouble_workers"]),
    ):
        press(page, name)
        expect(page.locator("h1")).to_contain_text(then)


def test_a_site_is_paused_by_keyboard(scene: Scene, page: Page) -> None:
    """The token, Tab, Enter: the site is paused, and the page says so; without the token it is refused."""
    t = words("en")
    page.goto(f"{ADDRESS}/sites/a.example?lang=en")
    for token, words_there in (("wrong", "the token is needed"), (TOKEN, t["paused"])):
        page.goto(f"{ADDRESS}/sites/a.example?lang=en")
        page.get_by_label(t["token"]).focus()
        page.keyboard.type(token)
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name=t["pause"])).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.locator("main")).to_contain_text(words_there)
    assert [site.paused for site in scene.store.sites() if site.name == "a.example"] == [True]
    scene.store.pause("a.example", paused=False)


def press(page: Page, name: str) -> None:
    """Tab to the link that is called NAME, and press Enter on it."""
    for _ in range(200):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent").strip() == name:
            page.keyboard.press("Enter")
            page.wait_for_load_state()
            return
    raise AssertionError(f"the keyboard does not reach {name!r} on {page.url}")


def test_an_open_page_is_kept_up_to_date(scene: Scene, page: Page) -> None:
    """A run that ends is on the page that is open, and what is focused stays."""
    page.goto(f"{ADDRESS}/?lang=en")
    expect(page.locator("#live")).to_have_text("Live")
    row = page.locator(f"#w-{ONE.name}")
    before = runs(row)
    row.locator("a.last").focus()
    scene.run("seen", "absent")
    told = re.compile(rf"^(.+\n){{{len(before)}}}.+ absent$")
    expect(row.locator(".runs")).to_have_attribute("data-runs", told)
    expect(row.locator(".ticks .absent")).to_have_count(1)
    row.locator(".ticks").hover(position={"x": 4, "y": 4})
    expect(row.locator(".runs")).to_have_attribute("title", before[0])
    expect(row.locator("a.last")).to_be_focused()
    expect(row.locator("a.name")).to_have_attribute("href", f"/workers/{ONE.name}?lang=en")


def runs(row: Locator) -> list[str]:
    """Those that ROW has ticks of."""
    return (row.locator(".runs").get_attribute("data-runs") or "").split("\n")


def test_it_works_without_javascript(browser: Browser) -> None:
    """Every page is whole without it: the first look has its rows, a watch its exits, picture and numbers."""
    context = browser.new_context(java_script_enabled=False, locale="ko-KR")
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    page.goto(f"{ADDRESS}/")
    expect(page.locator(f"#w-{ONE.name} .name")).to_have_text(ONE.name)
    expect(page.locator("#j-3 .name")).to_have_text("kettle")
    expect(page.locator("#j-3 .ticks path")).to_have_count(2)
    page.goto(f"{ADDRESS}/watches/3")
    expect(page.locator("figcaption strong")).to_have_text(["jp-1", "de-1", "kr-1"])
    expect(page.locator(".beside img")).to_have_count(2)
    expect(page.locator(".chart polyline")).to_have_count(2)
    expect(page.locator("details tbody tr")).to_have_count(4)
    context.close()


def strange(page: Page) -> int:
    """Elements that a stranger's words have made."""
    return page.locator("body script, img[src=x], img[onerror]").count()


def test_words_of_strangers_are_no_elements(page: Page) -> None:
    """A key, a title, a note and a failure that are scripts are letters on every page, and nothing of them runs."""
    for place in PLACES:
        page.goto(f"{ADDRESS}{place}?lang=en")
        assert strange(page) == 0 and "taken" not in page.title(), place
    page.goto(f"{ADDRESS}/around/3.5?lang=en")
    expect(page.locator("main")).to_contain_text(SCRIPT)


def test_without_escaping_they_are(browser: Browser) -> None:
    """The control: the same template that escapes nothing makes elements of them, and they run."""
    loose = pages._environment().overlay(autoescape=False, cache_size=0)
    t = words("en")
    html = loose.get_template("plain.j2").render(t=t, language="en", here="/", look="", text=SCRIPT)
    context = browser.new_context()
    page = context.new_page()
    page.set_content(html)
    assert strange(page) == 2 and page.title() == "taken"
    context.close()


def test_it_is_readable_on_a_telephone(page: Page) -> None:
    """At 360 pixels nothing stands out of the page but wide tables in their own scrollers."""
    page.set_viewport_size({"width": 360, "height": 800})
    for place in PLACES:
        page.goto(f"{ADDRESS}{place}?lang=en")
        wide = page.evaluate("document.documentElement.scrollWidth")
        assert wide <= 360, (place, wide)
        assert re.search(r"\w", page.locator("main").inner_text())
