"""What a loop, or a run of a job, can come to: one list of words for every program."""

from __future__ import annotations

from typing import Final, Literal, get_args

Outcome = Literal["good", "empty", "refused", "limited", "absent", "failed"]
"""What a loop came to. `good`: what a careful person would have seen. `empty`: the site says there is nothing of it.
`refused`, `limited` (asks to be left alone for a while) and `absent` (there is no such page) are answers of the site,
and kept: what a site refuses is left alone. `failed`: nobody knows; the reason says why."""
Ending = Literal[Outcome, "lost", "cancelled"]
"""How a run of a job ended. `lost`: its host or its worker died."""
OK: Final = ("good", "empty")
ENDINGS: Final[tuple[str, ...]] = get_args(Ending)
