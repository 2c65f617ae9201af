"""From `[task]` to a task that can run."""

from __future__ import annotations

import pytest

from fleet.errors import ConfigurationError
from fleet.model import TaskSettings
from worker.tasks.registry import resolve
from worker.tasks.search import Options

SEARCH = {"home": "https://shop.example/", "search_box": "#q", "query": "커피", "result_items": ".item"}


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


def test_own_task_by_dotted_path() -> None:
    """A function of an installed module is a task, its options as they stand."""
    ready = resolve(TaskSettings(run="json:dumps", options={"a": 1}))
    assert ready.options == {"a": 1} and callable(ready.run)


@pytest.mark.parametrize("name", ["serach", "no_such_module:run", "json:no_such", "json:__doc__"])
def test_unknown_task(name: str) -> None:
    """A task that is not there is a configuration error that names the kinds there are."""
    with pytest.raises(ConfigurationError, match=name):
        resolve(TaskSettings(run=name))
