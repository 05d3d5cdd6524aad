"""Prefetch: a worker gets more calls of quick handlers than it has slots.

Such a call waits at its worker for a slot, instead of for a round trip. The number of calls for a
slot follows from the time that calls have taken, as the size of a batch of arithmetic does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from dte.core.workers.worker import PREFETCH_MAX, Delivery, Worker

QUICK_S = 0.03
"""A call that took less, waiting included, raises the number for its handler."""
SLOW_S = 0.1
"""A call that took longer lowers it."""
HANDLERS_MAX = 10_000


@dataclass(slots=True)
class _Depth:
    """The number of calls of a handler that a slot gets, and the moment of its last change."""

    calls: int
    since: float


FIRST = _Depth(1, float("-inf"))


class Prefetch:
    """The number of calls that a slot gets, by handler; 1 until calls have been quick."""

    def __init__(self) -> None:
        self._depths: dict[str, _Depth] = {}

    def took(self, now: float, handler: str, leased_at: float) -> None:
        """Note the report of a call that was handed over at a moment."""
        depth = self._depths.get(handler, FIRST)
        if leased_at < depth.since:
            return  # It says nothing about the last change, which came later.
        took_s = now - leased_at
        if took_s > SLOW_S and depth.calls > 1:
            self._depths[handler] = _Depth(depth.calls // 2, now)
        elif took_s < QUICK_S and depth.calls < PREFETCH_MAX:
            if len(self._depths) >= HANDLERS_MAX:
                self._depths.clear()
            more = min(PREFETCH_MAX, depth.calls + (depth.calls + 1) // 2)
            self._depths[handler] = _Depth(more, now)

    def is_long(self, handler: str) -> bool:
        """True unless a handler is known to be quick."""
        return self._depths.get(handler, FIRST).calls == 1

    def allowed(self, worker: Worker, waiting: Iterable[str]) -> Collection[str]:
        """The handlers of which a worker may get another call.

        Args:
            waiting: the handlers whose calls wait.
        """
        announcement, taken = worker.announcement, len(worker.call_leases)
        if taken < announcement.handler_slots or announcement.delivery is not Delivery.PUSH:
            return announcement.handlers
        return [
            handler
            for handler in waiting
            if handler in announcement.handlers
            and taken < announcement.handler_slots * self._depths.get(handler, FIRST).calls
        ]
