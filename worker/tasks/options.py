"""What the options of the built-in tasks share."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field


def _web_address(url: str) -> str:
    if not url.startswith(("https://", "http://")):
        raise ValueError(f"{url!r} is no http or https address")
    return url


WebAddress = Annotated[str, AfterValidator(_web_address)]
Selector = Annotated[str, Field(min_length=1)]
"""CSS."""


class TaskOptions(BaseModel):
    """A frozen table `[task.options]`; unknown keys are mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    wait_seconds: float = Field(default=20, gt=0, le=600)
    """How long a selector may take to appear."""
    seen_address: Selector | None = None
    """An element that shows the address the site sees; the loop compares it with the leased exit."""
