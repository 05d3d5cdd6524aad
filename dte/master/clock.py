"""The master's clocks: monotonic moments for durations, the wall clock for times that people see.

The wall clock may be set, or leap when the machine sleeps. So moments of it are never derived from
a reading of long ago: the master looks at it in each tick, and at least every `LOOK_S` seconds.
"""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from functools import lru_cache

log = logging.getLogger("dte.master")

LOOK_S = 1.0
"""Longest time until a change of the wall clock is noticed."""
NOTICED_S = 0.001
"""Smaller changes are of reading two clocks one after the other."""
LOGGED_S = 1.0
TIMES_KEPT = 1_000
"""Number of converted times that are cached: the jobs of a batch share theirs."""


class Clock:
    """The monotonic clock, in seconds; `offset_s` turns its moments into seconds since 1970."""

    def __init__(self) -> None:
        self.offset_s = time.time() - time.monotonic()

    def now(self) -> float:
        """The current moment of the monotonic clock."""
        return time.monotonic()

    def look(self) -> float:
        """Read the wall clock, and return `offset_s`, which has changed if the clock was set."""
        offset_s = time.time() - time.monotonic()
        step_s = offset_s - self.offset_s
        if abs(step_s) >= NOTICED_S:
            self.offset_s = offset_s
            if abs(step_s) >= LOGGED_S:
                way = "ahead" if step_s > 0 else "back"
                log.warning("the wall clock was set %s by %.1f s", way, abs(step_s))
        return self.offset_s

    def wall_s(self, moment: float) -> float:
        """A moment in seconds since 1970, by the wall clock as it stands now."""
        return moment + self.offset_s

    def moment_of(self, past: datetime) -> float:
        """The moment of a time in the past. A time that is still to come is taken as now."""
        return min(self.now(), past.timestamp() - self.offset_s)

    @staticmethod
    def wall_time(wall_s: float | None) -> datetime | None:
        """Seconds since 1970 as a UTC datetime; None for None."""
        return None if wall_s is None else _wall_time(wall_s)


@lru_cache(TIMES_KEPT)
def _wall_time(wall_s: float) -> datetime:
    return datetime.fromtimestamp(wall_s, UTC)
