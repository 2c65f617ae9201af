"""The base class and common types of the tables in fleet.toml."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field

Seconds = Annotated[float, Field(gt=0, le=86_400)]
PerSecond = Annotated[float, Field(gt=0, le=1_000_000)]
Burst = Annotated[int, Field(ge=1, le=1_000_000)]


class Settings(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True):
    """A frozen table of fleet.toml; unknown keys are mistakes."""
