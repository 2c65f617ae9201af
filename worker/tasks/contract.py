"""The input and output of a task: all that your own task has to know."""

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
    """The input of a task."""

    browser: Browser
    options: Options
    """The options, validated by the task's model; for a task without a model, the table as in fleet.toml."""
    stage: Callable[[str], AbstractContextManager[None]]
    """`with context.stage("load"):` names and times a part of the task: load, search, screenshot."""


def _kept(answer: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """ANSWER; raises ValueError when it is no JSON that readers of the result can parse."""
    from_json(to_json({"answer": answer}))
    return answer


class Found(BaseModel, frozen=True, extra="forbid", strict=True, allow_inf_nan=False):
    """The output of a task."""

    screenshot: bytes | None = None
    """PNG or WebP."""
    more_screenshots: tuple[bytes, ...] = Field(default=(), max_length=MOST_PICTURES - 1)
    """Pictures of other pages, in order."""
    outcome: Literal["good", "empty"] = "good"
    """`empty`: the site itself says that there is nothing. A refusal is raised instead, see fleet.errors.Answered."""
    reason: str = ""
    """For an empty outcome: what the site says, as one line."""
    seen_address: str | None = None
    """The visitor's address, if the page shows it."""
    answer: Annotated[dict[str, JsonValue], AfterValidator(_kept)] = Field(default_factory=dict)
    """Only JSON: strings, finite numbers, True, False, None, lists, and dicts with string keys."""
    answer_cut: bool = False
    """Whether the answer was too long (worker.tasks.bounds), so that texts or entries were cut."""

    @model_validator(mode="before")
    @classmethod
    def _within_bounds(cls, fields: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(fields.get("answer"), dict):
            return fields
        answer, cut = bounded(fields["answer"])
        return {**fields, "answer": answer, "answer_cut": cut or fields.get("answer_cut", False)}


Task = Callable[[Context[Any]], Found]


def takes(model: type[Model]) -> Callable[[Callable[[Context[Model]], Found]], Callable[[Context[Model]], Found]]:
    """A decorator for a task whose `[task.options]` are validated by MODEL, which becomes its attribute `Options`."""

    def mark(task: Callable[[Context[Model]], Found]) -> Callable[[Context[Model]], Found]:
        vars(task)["Options"] = model
        return task

    return mark
