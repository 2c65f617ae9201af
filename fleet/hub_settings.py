"""What fleet.toml says to the hub."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fleet.paths import Paths
from fleet.settings import Settings


class HubSettings(Settings):
    """`[hub]`."""

    jobs: Literal["none", "first", "only"] = "none"
    """`first`: workers do the jobs of the queue, and `[task]` while there is none to begin. `only`: they wait then."""
    database: str = Field(default="", max_length=500, pattern=r"^(postgresql://[^:@/?#]*(@[^@]*)?)?$")
    """A PostgreSQL that many hosts share; "": a file on this one. Without a password: these settings are no secret."""

    def address(self, paths: Paths) -> str:
        """Where the database is."""
        return self.database or f"sqlite:///{paths.hub_database}"
