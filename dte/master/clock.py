"""The master's clocks: moments of its loop for durations, the wall clock for times people see.

The wall clock may be set, or leap when the machine sleeps. So moments of it are never derived from
a reading of long ago: the master looks at it in each tick, and at least every `LOOK_S` seconds.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache

from dte.master.journal.bounds import is_time

log = logging.getLogger("dte.master")

LOOK_S = 1.0
"""Longest time until a change of the wall clock is noticed."""
NOTICED_S = 0.001
"""Smaller changes are of reading two clocks one after the other."""
LOGGED_S = 1.0
TIMES_KEPT = 1_000
"""Number of converted times that are cached: the jobs of a batch share theirs."""


class Clock:
    """The master's time, in seconds; `offset_s` turns its moments into seconds since 1970.

    Args:
        now: gives the current moment: of the monotonic clock, or of a loop, whose time stands still
            while the loop does.

    Attributes:
        still_s: the time for which the loop stood still, as far as `look` has noticed.
    """

    def __init__(self, now: Callable[[], float] | None = None) -> None:
        self.now = now or time.monotonic
        self.still_s = time.monotonic() - self.now()
        self._set_s = time.time() - time.monotonic()
        self.offset_s = self._set_s + self.still_s

    def look(self) -> float:
        """Read the wall clock, and return `offset_s`, which has changed if the clock was set."""
        monotonic = time.monotonic()
        set_s, still_s = time.time() - monotonic, monotonic - self.now()
        if abs(set_s - self._set_s) < NOTICED_S > abs(still_s - self.still_s):
            return self.offset_s
        step_s, paused_s = set_s - self._set_s, still_s - self.still_s
        self._set_s, self.still_s, self.offset_s = set_s, still_s, set_s + still_s
        if abs(step_s) >= LOGGED_S:
            way = "ahead" if step_s > 0 else "back"
            log.warning("the wall clock was set %s by %.1f s", way, abs(step_s))
        if paused_s >= LOGGED_S:
            log.warning("the master stood still for %.1f s; deadlines move by that", paused_s)
        return self.offset_s

    def wall_s(self, moment: float) -> float:
        """A moment in seconds since 1970, by the wall clock as it stands now."""
        return moment + self.offset_s

    def moment_of(self, past: datetime) -> float:
        """The moment of a time in the past. A time that is still to come is taken as now."""
        if past.tzinfo is None:
            past = past.replace(tzinfo=UTC)  # Local times near year 1 are none.
        return min(self.now(), past.timestamp() - self.offset_s)

    @staticmethod
    def wall_time(wall_s: float | None) -> datetime | None:
        """Seconds since 1970 as a UTC datetime; None for None, and for what is no date."""
        return None if wall_s is None else _wall_time(wall_s)


@lru_cache(TIMES_KEPT)
def _wall_time(wall_s: float) -> datetime | None:
    return datetime.fromtimestamp(wall_s, UTC) if is_time(wall_s) else None
