"""What the options of the built-in tasks share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fleet.model import Settings, WebAddress

__all__ = ["Selector", "TaskOptions", "WebAddress"]
Selector = Annotated[str, Field(min_length=1)]
"""CSS."""


class TaskOptions(Settings):
    """The table `[task.options]`."""

    wait_seconds: float = Field(default=20, gt=0, le=600)
    """How long a selector may take to appear."""
    seen_address: Selector | None = None
    """An element that shows the address the site sees; the loop compares it with the leased exit."""
