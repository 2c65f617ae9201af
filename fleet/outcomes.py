"""The possible outcomes of a loop or of a job's run: one list of words for every program."""

from __future__ import annotations

from typing import Final, Literal, get_args

Outcome = Literal["good", "empty", "refused", "limited", "absent", "failed"]
"""The outcome of a loop. `good`: what a careful person would have seen. `empty`: the site says there are no results.
`refused`, `limited` (asks to be left alone for a while) and `absent` (there is no such page) are answers of the site
and are accepted: a refused page is left alone. `failed`: the outcome is unknown; the reason says why."""
Ending = Literal[Outcome, "lost", "cancelled"]
"""How a run of a job ended. `lost`: its host or its worker died."""
OK: Final = ("good", "empty")
ENDINGS: Final[tuple[str, ...]] = get_args(Ending)
