"""The schedule of Python's search for garbage in cycles."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from typing import ClassVar

from dte.master.turns import Turns

EVERY_S = 60.0
SHARE = 0.005
"""Share of the time that the search may take."""
NEVER = 1_000_000_000
LOOK_S = 5.0
"""Time between looks whether much has ended."""
ENDED_BYTES = 100_000_000
"""Jobs of so many bytes end before a search that is earlier than usual."""
MUCH_WAITS = 20_000
"""Operations that wait before old objects are set aside: searching a million calls takes 1 s."""
SEARCH = ("the search for garbage",)


class GarbageCollector:
    """Has Python search all objects once a minute, instead of whenever a quarter of them is new.

    100,000 unfinished jobs are 700,000 objects. A search through them takes 0.3 s, in which the
    master does not answer, and under load Python would search every second. Young objects are
    searched as usual, and objects outside of cycles, nearly all, are freed at once in any case.

    While much waits, nothing old is searched but set aside, until it has ended.

    Args:
        ended_bytes: gives the bytes of all jobs that have ended so far.
        waiting: gives the number of operations that are unfinished, or in memory to be shown.
    """

    _running: ClassVar[set[GarbageCollector]] = set()
    _thresholds: ClassVar[tuple[int, int, int]]

    def __init__(
        self,
        turns: Turns | None = None,
        ended_bytes: Callable[[], int] = lambda: 0,
        waiting: Callable[[], int] = lambda: 0,
    ) -> None:
        self._turns = turns or Turns()
        self._ended_bytes = ended_bytes
        self._waiting = waiting
        self._set_aside = False
        self._searched_bytes = 0
        self._soonest_s = self._latest_s = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Search by this schedule until `stop`."""
        if not self._running:
            GarbageCollector._thresholds = gc.get_threshold()
        self._running.add(self)
        gc.set_threshold(*self._thresholds[:2], NEVER)
        self._latest_s = asyncio.get_running_loop().time() + EVERY_S
        self._look_later()

    def stop(self) -> None:
        """Leave the schedule to Python again, unless another master of this process needs it."""
        if self not in self._running:
            return
        self._running.remove(self)
        if self._timer is not None:
            self._timer.cancel()
        if not self._running:
            gc.set_threshold(*self._thresholds)

    def _look_later(self) -> None:
        look_s = min(LOOK_S, EVERY_S)
        self._timer = asyncio.get_running_loop().call_later(look_s, self._look)

    def _look(self) -> None:
        now, ended = asyncio.get_running_loop().time(), self._ended_bytes()
        has_much_ended = ended - self._searched_bytes > ENDED_BYTES
        if now >= self._latest_s or (has_much_ended and now >= self._soonest_s):
            self._searched_bytes = ended
            self._soonest_s = now + self._collect() / SHARE
            self._latest_s = max(now + EVERY_S, self._soonest_s)
        self._look_later()

    def _collect(self) -> float:
        """Search, and return the time that it took."""
        self._turns.note(SEARCH)
        started = time.monotonic()
        if self._waiting() > MUCH_WAITS:
            gc.collect(1)
            gc.freeze()
            self._set_aside = True
        elif self._set_aside:
            gc.unfreeze()
            gc.collect()
            gc.freeze()  # Modules, and jobs from before a restart, were set aside before.
            self._set_aside = False
        else:
            gc.collect()
        self._turns.note()
        return time.monotonic() - started
