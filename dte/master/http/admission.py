"""Admission control: few requests begin in each iteration of the loop, the others queue."""

from __future__ import annotations

import asyncio
import time
from collections import deque

LONG_ITERATION_S = 0.01


class Admission:
    """Admits a few in each iteration of the loop; the others follow in the order they came.

    A thousand requests that begin in one iteration block the loop until the last is answered, and
    so do the next thousand of their clients.

    Args:
        most: admitted in an iteration.
        least: admitted in an iteration while iterations are long.
    """

    def __init__(self, most: int, least: int) -> None:
        self._most = most
        self._least = least
        self._at_a_time = most
        self._left = most
        self._queue: deque[asyncio.Future[None]] = deque()
        self._scheduled = False
        self._admitted_at = 0.0

    def __len__(self) -> int:
        """The length of the queue."""
        return len(self._queue)

    def enter(self) -> asyncio.Future[None] | None:
        """None if admitted at once; otherwise a future that is done when admitted."""
        if not self._scheduled:
            self._schedule()
            self._admitted_at = time.monotonic()
        if self._left and not self._queue:
            self._left -= 1
            return None
        admitted = asyncio.get_running_loop().create_future()
        self._queue.append(admitted)
        return admitted

    def _schedule(self) -> None:
        self._scheduled = True
        asyncio.get_running_loop().call_soon(self._admit)

    def _admit(self) -> None:
        now = time.monotonic()
        if now - self._admitted_at > LONG_ITERATION_S:
            self._at_a_time = max(self._least, self._at_a_time // 2)
        else:
            self._at_a_time = min(self._most, self._at_a_time + 1)
        self._admitted_at = now
        self._left = self._at_a_time
        while self._left and self._queue:
            admitted = self._queue.popleft()
            if not admitted.done():  # A request whose client hung up is done.
                admitted.set_result(None)
                self._left -= 1
        self._scheduled = False
        if self._left < self._at_a_time:
            self._schedule()
