"""When a repeating job is due again: after an interval, or by cron's words in a time zone. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timezone
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

SHORTEST_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Interval:
    """Every so many seconds, counted from the first time: missed times are skipped, the beat stays."""

    seconds: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds >= SHORTEST_SECONDS):
            raise ValueError(f"{self.seconds!r} is not an interval of at least {SHORTEST_SECONDS:g} s")

    def after(self, due_at: float, now: float) -> float:
        """The first time after NOW, for a job that was due at DUE_AT."""
        return due_at + max(1, math.floor((now - due_at) / self.seconds) + 1) * self.seconds


@dataclass(frozen=True, slots=True)
class Cron:
    """By the five words of crontab(5), in a time zone: `0 9 * * 1-5` in `Asia/Seoul`."""

    words: str
    zone: str = "UTC"

    def __post_init__(self) -> None:
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{self.zone!r} is not a time zone, such as Asia/Seoul") from None
        if len(self.words.split()) != 5:
            raise ValueError(f"{self.words!r} does not have the five words of crontab(5)")
        self.after(0, 0)

    def after(self, due_at: float, now: float) -> float:
        """The first time after NOW; raises ValueError if there is none."""
        start = datetime.fromtimestamp(now, timezone.utc).astimezone(ZoneInfo(self.zone))
        try:
            return next(CronSim(self.words, start)).timestamp()
        except (CronSimError, StopIteration):
            raise ValueError(f"{self.words!r} is not a crontab(5) time, or one that never comes") from None


Repeat = Interval | Cron
