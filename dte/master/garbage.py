"""When Python looks for garbage in cycles among all objects."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import ClassVar

EVERY_S = 60.0
SHARE = 0.005
"""Of the time, what may be spent with it."""
NEVER = 1_000_000_000


class GarbageCollector:
    """Has Python look through all objects once a minute, not whenever there are many new ones.

    With 100,000 jobs that wait there are 700,000 objects, and to look through them takes 0.3 s, in
    which nobody is answered. Python would do so whenever a quarter of them is new, which under load
    is every second. Young objects are looked through as ever, and what is in no cycle, which is
    nearly all, is freed at once in any case.
    """

    _running: ClassVar[set[GarbageCollector]] = set()
    _thresholds: ClassVar[tuple[int, int, int]]

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin; it goes on until `stop`."""
        if not self._running:
            GarbageCollector._thresholds = gc.get_threshold()
        self._running.add(self)
        gc.set_threshold(*self._thresholds[:2], NEVER)
        self._collect_after(EVERY_S)

    def stop(self) -> None:
        """Leave it to Python again, if no other master of this process is left."""
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
        started = time.monotonic()
        gc.collect()
        self._collect_after(max(EVERY_S, (time.monotonic() - started) / SHARE))
