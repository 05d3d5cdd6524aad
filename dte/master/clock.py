"""The master's clock: monotonic moments inside, wall time for people."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import lru_cache

MOMENTS_KEPT = 1_000
"""Number of converted moments that are cached: the jobs of a batch share theirs."""


class Clock:
    """Moments in seconds of the monotonic clock, which no change of the system clock affects.

    Attributes:
        offset_s: the wall time at monotonic 0, measured once at the start.
    """

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
