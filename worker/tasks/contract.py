"""What a task gets and what it brings home: all that a task of your own has to know."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, Field, JsonValue
from pydantic_core import from_json, to_json

from worker.browser.interface import Browser

ANSWER_BYTES = 3 << 20
"""The largest answer, as JSON."""
Options = TypeVar("Options")
Model = TypeVar("Model", bound=BaseModel)


@dataclass(frozen=True, kw_only=True)
class Context(Generic[Options]):
    """What a task has to work with."""

    browser: Browser
    options: Options
    """As the task's model has checked them; of a task without one, the table of fleet.toml as it stands."""
    stage: Callable[[str], AbstractContextManager[None]]
    """`with context.stage("load"):` names and times a part of the task; load, search, screenshot."""


def _kept(answer: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """ANSWER, which a reader of the result can read back; raises ValueError."""
    text = to_json({"answer": answer})
    if len(text) > ANSWER_BYTES:
        raise ValueError(f"{len(text)} bytes as JSON, more than {ANSWER_BYTES}")
    from_json(text)
    return answer


class Found(BaseModel, frozen=True, extra="forbid", strict=True, allow_inf_nan=False):
    """What a task brings home."""

    screenshot: bytes | None = None
    """PNG."""
    seen_address: str | None = None
    """The address the site saw, when the page shows it."""
    answer: Annotated[dict[str, JsonValue], AfterValidator(_kept)] = Field(default_factory=dict)
    """JSON alone: text, finite numbers, true, false, None, lists, and tables whose keys are text."""


Task = Callable[[Context[Any]], Found]


def takes(model: type[Model]) -> Callable[[Callable[[Context[Model]], Found]], Callable[[Context[Model]], Found]]:
    """The decorator of a task whose `[task.options]` are a MODEL: it becomes the task's attribute `Options`."""

    def mark(task: Callable[[Context[Model]], Found]) -> Callable[[Context[Model]], Found]:
        vars(task)["Options"] = model
        return task

    return mark
