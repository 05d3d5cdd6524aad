"""The master's clock: monotonic moments inside, wall time for people."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache

MOMENTS_KEPT = 1_000
"""Number of converted moments that are cached: the jobs of a batch share theirs."""


class Clock:
    """Moments of the monotonic clock, in seconds; `offset_s` is the wall time at moment 0."""

    def __init__(self) -> None:
        self.offset_s = time.time() - time.monotonic()

    def now(self) -> float:
        """The current moment."""
        return time.monotonic()

    def wall_time(self, moment: float | None) -> datetime | None:
        """A moment as a UTC datetime; None for None."""
        return None if moment is None else _wall_time(moment + self.offset_s)


@lru_cache(MOMENTS_KEPT)
def _wall_time(wall_s: float) -> datetime:
    return datetime.fromtimestamp(wall_s, UTC)
