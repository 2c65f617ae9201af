"""The parts of the built-in tasks' options: selectors, marks, fields."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator

from fleet.model import Settings, WebAddress
from worker.browser.interface import Pick

__all__ = ["FieldOptions", "Fields", "Marks", "Selector", "TaskOptions", "WebAddress"]
_NOT_CSS = (
    (r"^\s*(\.{0,2}//?|\(//)", "is an XPath; selectors are CSS"),
    (r":(contains|eq|gt|lt|first|last|visible|hidden|button|text|selected)(?![-\w])", "is of jQuery, and no CSS: {}"),
    (r"^\s*(>|\+|~|,)|[>+~,]\s*$", "begins or ends with a sign that joins two selectors"),
)
_PAIRS = {")": "(", "]": "["}


def checked_selector(text: str) -> str:
    """TEXT; raises ValueError when it is certainly no CSS selector. Only the browser can check it fully."""
    bare = re.sub(r"\\.|\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'", "", text)
    for pattern, why in _NOT_CSS:
        if found := re.search(pattern, bare):
            raise ValueError(f"{text!r} {why.format(found[0])}")
    open_ones: list[str] = []
    for sign in re.sub(r"[^\[\]()'\"]", "", bare):
        if sign in "[(":
            open_ones.append(sign)
        elif not open_ones or _PAIRS.get(sign) != open_ones.pop():
            raise ValueError(f"{text!r} has a {sign} too many")
    if open_ones:
        raise ValueError(f"{text!r} has a {open_ones[0]} that is not closed")
    return text


Selector = Annotated[str, Field(min_length=1, max_length=2000), AfterValidator(checked_selector)]
"""A CSS selector. It also matches in open shadow roots and frames of the same site."""


def by(key: str, table: type[Settings]) -> BeforeValidator:
    """A validator: a string stands for a table with only that KEY."""
    return BeforeValidator(
        lambda given: {key: given} if isinstance(given, str) else given, json_schema_input_type=str | table
    )


class MarkOptions(Settings):
    """A mark that identifies a page: a visible match of a selector, a text in it, or both."""

    select: Selector = "body"
    text: str = ""


Mark = Annotated[MarkOptions, by("select", MarkOptions)]
Marks = Annotated[
    tuple[Mark, ...],
    BeforeValidator(
        lambda given: given if isinstance(given, list | tuple) else [given],
        json_schema_input_type=Mark | tuple[Mark, ...],
    ),
]
"""Marks: a single one stands for a list of one."""


class FieldOptions(Settings):
    """One field: its place and its kind."""

    select: Selector = ":scope"
    attribute: str = ""
    """The attribute to take; without it the visible text."""
    meta: str = ""
    """The name, property or itemprop of a `<meta>` in place of a selector."""
    json_ld: str = ""
    """A path into the page's structured data, such as `Product.offers.price`, in place of a selector."""
    kind: Literal["text", "number", "price", "date", "html"] = "text"
    currency: str = ""
    """The currency of a price whose text names none."""
    per: str = Field(default="", max_length=40)
    """For a price per unit, such as `kg` or `100g`: the unit that the page must show."""
    decimals: Literal["", ".", ","] = ""
    """The decimal sign, for numbers that are ambiguous (1.299)."""
    every: bool = False
    """All matches as a list, instead of the first."""
    optional: bool = False
    """It may be missing, and is null then."""

    @field_validator("currency", "per")
    @classmethod
    def _of_a_price(cls, given: str, rest: ValidationInfo) -> str:
        if given and rest.data.get("kind") != "price":
            raise ValueError('belongs to kind = "price"')
        return given

    @property
    def pick(self) -> Pick:
        """What the browser has to read."""
        return Pick(
            select=self.select,
            attribute=self.attribute,
            html=self.kind == "html",
            valid=self.kind == "price",
            figures=self.kind in ("number", "price"),
            every=self.every or self.is_one,
            meta=self.meta,
        )

    @property
    def is_one(self) -> bool:
        """Whether all matches must have the same value (numbers, prices, dates); of texts the first is taken."""
        return not self.every and self.kind in ("number", "price", "date")


Fields = dict[
    Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")], Annotated[FieldOptions, by("select", FieldOptions)]
]


class TaskOptions(Settings):
    """The table `[task.options]`."""

    wait_seconds: float = Field(default=20, gt=0, le=600)
    """How long a selector may take to appear."""
    seen_address: Selector | None = None
    """An element that shows the visitor's address; the loop compares it with the leased exit."""


def picks(fields: dict[str, Any]) -> dict[str, Pick]:
    """What the browser has to read for FIELDS, except those from structured data, which are read separately."""
    return {name: field.pick for name, field in fields.items() if not field.json_ld}
