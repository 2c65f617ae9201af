"""What a task gets and what it brings home: all that a task of your own has to know."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, Field, JsonValue, model_validator
from pydantic_core import from_json, to_json

from fleet.result import MOST_PICTURES
from worker.browser.commands import Browser
from worker.tasks.bounds import bounded

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
    from_json(to_json({"answer": answer}))
    return answer


class Found(BaseModel, frozen=True, extra="forbid", strict=True, allow_inf_nan=False):
    """What a task brings home."""

    screenshot: bytes | None = None
    """PNG or WebP."""
    more_screenshots: tuple[bytes, ...] = Field(default=(), max_length=MOST_PICTURES - 1)
    """Of other pages, in their order."""
    outcome: Literal["good", "empty"] = "good"
    """`empty`: the site says itself that there is nothing. What a site refuses is raised, see fleet.errors.Answered."""
    reason: str = ""
    """Of an empty outcome: what the site says, in one line."""
    seen_address: str | None = None
    """The address the site saw, when the page shows it."""
    answer: Annotated[dict[str, JsonValue], AfterValidator(_kept)] = Field(default_factory=dict)
    """JSON alone: text, finite numbers, true, false, None, lists, and tables whose keys are text."""
    answer_cut: bool = False
    """Whether the answer was longer than it may be (worker.tasks.bounds), and texts or entries were left out."""

    @model_validator(mode="before")
    @classmethod
    def _within_bounds(cls, fields: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(fields.get("answer"), dict):
            return fields
        answer, cut = bounded(fields["answer"])
        return {**fields, "answer": answer, "answer_cut": cut or fields.get("answer_cut", False)}


Task = Callable[[Context[Any]], Found]


def takes(model: type[Model]) -> Callable[[Callable[[Context[Model]], Found]], Callable[[Context[Model]], Found]]:
    """The decorator of a task whose `[task.options]` are a MODEL: it becomes the task's attribute `Options`."""

    def mark(task: Callable[[Context[Model]], Found]) -> Callable[[Context[Model]], Found]:
        vars(task)["Options"] = model
        return task

    return mark
