"""From `[task]` to a task that can run."""

from __future__ import annotations

import contextlib
import datetime
import decimal
import importlib
import math
import re
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from pydantic_core import to_json

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from fleet.errors import ConfigurationError, TaskFailed
from fleet.model import TaskSettings
from worker.browser.commands import Browser
from worker.tasks.bounds import ANSWER_BYTES, MOST_ENTRIES, TEXT_CHARACTERS
from worker.tasks.contract import Found
from worker.tasks.find import folded
from worker.tasks.registry import Ready, check, resolve
from worker.tasks.search import Options

SEARCH = {"home": "https://shop.example/", "search_box": "#q", "query": "커피", "result_items": ".item"}


def test_root_imports_no_task_of_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """check() knows a package's task by its metadata alone (positive control: resolve() imports it), and no other."""
    metadata = tmp_path / "mine-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[fleet.tasks]\nprices = mine_task:prices\n")
    (tmp_path / "mine_task.py").write_text("raise AttributeError('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("prices", "mine_task:prices"):
        check(TaskSettings(run=name, options={"anything": 1}))
        with pytest.raises(ConfigurationError, match="imported"):
            resolve(TaskSettings(run=name))
    with pytest.raises(ConfigurationError, match="'price' cannot be loaded"):
        check(TaskSettings(run="price"))
    with pytest.raises(ConfigurationError, match="home"):
        check(TaskSettings(run="search"))


def test_search_options() -> None:
    """The built-in task gets its options as a checked value."""
    ready = resolve(TaskSettings(run="search", options={**SEARCH}))
    assert isinstance(ready.options, Options)
    assert (ready.options.query, ready.options.seen_address) == ("커피", None)


def test_every_mistake_is_named() -> None:
    """Missing, unknown and wrong options are all in one message, with code 78 and the known names."""
    with pytest.raises(ConfigurationError) as caught:
        resolve(TaskSettings(run="search", options={"home": "shop.example", "query": "", "colour": "red"}))
    message = caught.value.message
    for key in ("home", "query", "colour", "search_box", "result_items"):
        assert f"task.options.{key}: " in message
    assert caught.value.exit_code == 78 and "seen_address" in caught.value.hint


def test_visit_needs_an_address() -> None:
    """`visit` without a page is a mistake."""
    with pytest.raises(ConfigurationError, match=r"task\.options\.urls"):
        resolve(TaskSettings(run="visit", options={"urls": []}))


@pytest.mark.parametrize(
    "selector",
    [
        "//h1[text()='x']",
        "(//a)[1]",
        "li:contains('x')",
        "li:eq(2)",
        "li[",
        "li)",
        "a:not(",
        "> li",
        "li >",
        "",
        "a[x=']('][",
    ],
)
def test_what_is_no_selector(selector: str) -> None:
    """XPath, jQuery's own words and what is left open are mistakes before the first loop."""
    with pytest.raises(ConfigurationError, match=r"task\.options\.result_items"):
        resolve(TaskSettings(run="search", options={**SEARCH, "result_items": selector}))


@pytest.mark.parametrize(
    "selector",
    [
        "#q",
        "a[href*='(x']",
        "li:not(.ad):has(> b)",
        ":is(h1, h2)",
        "a[title=':eq(1)']",
        r"#a\:first",
        "li:nth-child(2)",
    ],
)
def test_what_may_be_a_selector(selector: str) -> None:
    """Whatever CSS there is, the browser is the judge."""
    resolve(TaskSettings(run="search", options={**SEARCH, "result_items": selector}))


@pytest.mark.parametrize(
    "url", ["https://exa mple.com/", "https://", "https://a.example:x/", "https://[::1", "ftp://a/"]
)
def test_what_is_no_address(url: str) -> None:
    """It is named before the first loop."""
    with pytest.raises(ConfigurationError, match=r"task\.options\.urls\.0"):
        resolve(TaskSettings(run="visit", options={"urls": [url]}))


def test_an_address_of_any_language() -> None:
    """A name in Hangul is one."""
    resolve(TaskSettings(run="visit", options={"urls": ["http://한글상점.example/정상?q=커피"]}))


WATCH: dict[str, Any] = {"pages": ["https://a.example/"]}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"steps": [{}]}, "a step is one of"),
        ({"steps": [{"click": "#a", "press": "Enter"}]}, "this has click, press"),
        ({"steps": [{"press": "Any"}]}, "there is no key"),
        ({"fields": {"a": {"kind": "cost"}}}, "fields.a"),
        ({"fields": {"a": {"currency": "KRW"}}}, "belongs to kind"),
        ({"fields": {"A b": "h1"}}, "fields"),
        ({"find": {"id": "1"}}, "items.fields has no id"),
        ({"items": {"select": ".a"}, "find": {}}, "find"),
        ({"screenshot": "element:"}, "none of window, full, element"),
        ({"screenshot": "element:li["}, "screenshot"),
        ({"screenshot": {"of": "full", "quality": 50}}, "belongs to format"),
        ({"screenshot": {"format": "jpeg"}}, "screenshot.format"),
        ({"screenshot": {"mask": ["//a"]}}, "screenshot.mask.0"),
        ({"empty": {"select": "li["}}, "empty"),
    ],
)
def test_mistakes_in_a_watch(options: dict[str, Any], why: str) -> None:
    """Each is named with its place."""
    with pytest.raises(ConfigurationError) as caught:
        resolve(TaskSettings(run="watch", options={**WATCH, **options}))
    assert why in caught.value.message


def test_the_watches_of_the_document() -> None:
    """What docs/watch.md shows can be run, in at most twenty lines each."""
    text = (Path(__file__).parents[2] / "docs/watch.md").read_text(encoding="utf-8")
    found = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(found) == 2
    for one in found:
        assert len(one.splitlines()) <= 20
        resolve(TaskSettings.model_validate(tomllib.loads(one)["task"]))


def test_own_task_by_dotted_path() -> None:
    """A function of an installed module is a task, its options as they stand."""
    ready = resolve(TaskSettings(run="json:dumps", options={"a": 1}))
    assert ready.options == {"a": 1} and callable(ready.run)


@pytest.mark.parametrize("name", ["serach", "no_such_module:run", "json:no_such", "json:__doc__"])
def test_unknown_task(name: str) -> None:
    """A task that is not there is a configuration error that names the kinds there are."""
    with pytest.raises(ConfigurationError, match=name):
        resolve(TaskSettings(run=name))


def perform(run: Callable[..., Any]) -> Found:
    """What a task of one's own brings home that needs no browser."""
    return Ready(name="own", run=run, options={}).perform(cast(Browser, None), lambda _: contextlib.nullcontext())


def test_an_answer_is_json() -> None:
    """Everything that JSON has is brought home as it is."""
    answer: dict[str, Any] = {
        "text": "커피",
        "number": 1.5,
        "yes": True,
        "none": None,
        "list": [1, [2, {"deep": "x"}]],
        "big": 10**40,
    }
    assert perform(lambda _: Found(answer=answer)).answer == answer
    assert perform(lambda _: Found()).answer == {}


circle: list[Any] = []
circle.append(circle)
deep: Any = 1
for _ in range(210):
    deep = [deep]
NO_JSON: dict[str, tuple[Any, str]] = {
    "tuple": ({"prices": [1, (2, 3)]}, r"answer\.prices\.1: .*\(a tuple\)"),
    "Decimal": ({"price": decimal.Decimal("1.5")}, r"answer\.price: .*\(a Decimal\)"),
    "datetime": ({"shop": {"seen": datetime.datetime.now(datetime.timezone.utc)}}, r"answer\.shop\.seen: .*datetime"),
    "NaN": ({"items": [{"price": math.nan}]}, r"answer\.items\.0\.price: .*finite"),
    "bytes": ({"page": b"x"}, r"answer\.page: .*\(a bytes\)"),
    "a key that is no text": ({"by": {1: "x"}}, r"answer\.by\.1: .*\(a int\)"),
    "half a letter": ({"title": "\ud83d"}, r"answer: .*surrogates"),
    "a circle": ({"circle": circle}, r"answer\.circle\.0: .*cyclic"),
    "deeper than can be read": ({"deep": deep}, r"answer.*: .*(recursion|Recursion|depth)"),
    "no table": ([1], r"answer: .*\(a list\)"),
}


@pytest.mark.parametrize("kind", NO_JSON)
def test_an_answer_that_is_no_json_fails_its_task(kind: str) -> None:
    """The reason names the task and the field."""
    answer, words = NO_JSON[kind]
    with pytest.raises(TaskFailed, match=f"^task own: {words}"):
        perform(lambda _: Found(answer=answer))


LONG: dict[str, list[str]] = {"x" * 200_000: []}
LARGE: dict[str, Callable[[], dict[str, Any]]] = {
    "long texts": lambda: {"items": ["x" * 500_000] * 10},
    "many": lambda: {"items": ["커피"] * 1_000_000},
    "escapes": lambda: {"items": ["\0" * TEXT_CHARACTERS] * 100},
    "names": lambda: {str(number): LONG for number in range(20_000)},
    "lists": lambda: {"items": [[]] * 2_000_000},
}
"""Each is made by its test, and gone after it."""


@pytest.mark.parametrize("kind", LARGE)
def test_a_page_makes_no_answer_too_large(kind: str) -> None:
    """It is cut where it is brought home, says so, and has the bound of what a reader reads; a small one stays."""
    answer = LARGE[kind]()
    found = perform(lambda _: Found(answer=answer))
    assert found.answer_cut and len(to_json(found.answer)) <= ANSWER_BYTES
    assert all(len(text) <= TEXT_CHARACTERS for text in found.answer)
    assert len(found.answer) <= MOST_ENTRIES
    assert not perform(lambda _: Found(answer={"items": ["x"] * 10})).answer_cut


def test_whatever_a_task_brings_home_is_checked() -> None:
    """Other fields too; nothing at all; and an error of the task's own stays what it is."""
    with pytest.raises(TaskFailed, match=r"screenshot: .*\(a str\)"):
        perform(lambda _: Found(screenshot="png"))  # type: ignore[arg-type]
    with pytest.raises(TaskFailed, match=r"seen_address: .*\(a int\)"):
        perform(lambda _: Found(seen_address=1))  # type: ignore[arg-type]
    with pytest.raises(TaskFailed, match="a NoneType, and no Found"):
        perform(lambda _: None)
    with pytest.raises(ZeroDivisionError):
        perform(lambda _: 1 / 0)


def test_the_task_of_the_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/own-task.md shows can be run, also as it was shown before, by an attribute."""
    text = (Path(__file__).parents[2] / "docs/own-task.md").read_text(encoding="utf-8")
    found = re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert found
    monkeypatch.syspath_prepend(str(tmp_path))
    earlier = found[1].replace("@takes(Options)\n", "") + "\n\nprices.Options = Options\n"
    for name, code in (("own_task", found[1]), ("own_task_earlier", earlier)):
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
        importlib.invalidate_caches()
        settings = TaskSettings(run=f"{name}:prices", options={"page": "https://www.example.com/", "price": ".price"})
        assert resolve(settings).options.price == ".price"
        with pytest.raises(ConfigurationError, match=r"task\.options\.price"):
            resolve(TaskSettings(run=f"{name}:prices", options={"page": "https://www.example.com/"}))


def test_words_that_look_alike_are_alike() -> None:
    """However they are composed, broken into lines or spaced; other words are others."""
    for other in ("상품 결과가 없습니다", "상품\n결과가\u00a0없습니다", "상품 결과가 없습\u200b니다"):
        assert folded(unicodedata.normalize("NFD", other)) == folded("상품 결과가 없습니다")
    assert folded("Ｋ１ KEYBOARD") == folded("k1 Keyboard") != folded("k2 Keyboard")
