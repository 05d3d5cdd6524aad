"""The schedule of Python's search for garbage in cycles."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import ClassVar

from dte.master.turns import Turns

EVERY_S = 60.0
SHARE = 0.005
"""Share of the time that the search may take."""
NEVER = 1_000_000_000
SEARCH = ("the search for garbage",)


class GarbageCollector:
    """Has Python search all objects once a minute, instead of whenever a quarter of them is new.

    100,000 unfinished jobs are 700,000 objects. A search through them takes 0.3 s, in which the
    master does not answer, and under load Python would search every second. Young objects are
    searched as usual, and objects outside of cycles, nearly all, are freed at once in any case.
    """

    _running: ClassVar[set[GarbageCollector]] = set()
    _thresholds: ClassVar[tuple[int, int, int]]

    def __init__(self, turns: Turns | None = None) -> None:
        self._turns = turns or Turns()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Search by this schedule until `stop`."""
        if not self._running:
            GarbageCollector._thresholds = gc.get_threshold()
        self._running.add(self)
        gc.set_threshold(*self._thresholds[:2], NEVER)
        self._collect_after(EVERY_S)

    def stop(self) -> None:
        """Leave the schedule to Python again, unless another master of this process needs it."""
        if self not in self._running:
            return
        self._running.remove(self)
        if self._timer is not None:
            self._timer.cancel()
        if not self._running:
            gc.set_threshold(*self._thresholds)

    def _collect_after(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._collect)

    def _collect(self) -> None:
        self._turns.note(SEARCH)
        started = time.monotonic()
        gc.collect()
        self._turns.note()
        self._collect_after(max(EVERY_S, (time.monotonic() - started) / SHARE))
