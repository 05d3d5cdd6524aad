"""How quick handlers are: of quick ones a worker is given more calls than it has slots.

A call then waits at its worker for a slot, and not for the way there and back. How many may do so
follows from how long calls have taken, as the size of a batch of arithmetic does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from dte.core.workers.worker import PREFETCH_MAX, Delivery, Worker

QUICK_S = 0.03
"""A call that took no longer, waiting included, lets more of its handler go out at a time."""
SLOW_S = 0.1
"""One that took longer lets fewer go out."""
HANDLERS_MAX = 10_000


@dataclass(slots=True)
class _Depth:
    """How many calls of a handler a slot gets at a time, and since when."""

    calls: int
    since: float


FIRST = _Depth(1, float("-inf"))


class Prefetch:
    """For each handler how many calls a slot gets at a time; 1 until calls have been quick."""

    def __init__(self) -> None:
        self._depths: dict[str, _Depth] = {}

    def took(self, now: float, handler: str, leased_at: float) -> None:
        """Note that a call has been reported that was handed over at a moment."""
        depth = self._depths.get(handler, FIRST)
        if leased_at < depth.since:
            return  # What has come of the last change is not known yet.
        took_s = now - leased_at
        if took_s > SLOW_S and depth.calls > 1:
            self._depths[handler] = _Depth(depth.calls // 2, now)
        elif took_s < QUICK_S and depth.calls < PREFETCH_MAX:
            if len(self._depths) >= HANDLERS_MAX:
                self._depths.clear()
            more = min(PREFETCH_MAX, depth.calls + (depth.calls + 1) // 2)
            self._depths[handler] = _Depth(more, now)

    def is_long(self, handler: str) -> bool:
        """Whether a handler is not known to be quick."""
        return self._depths.get(handler, FIRST).calls == 1

    def allowed(self, worker: Worker, waiting: Iterable[str]) -> Collection[str]:
        """Of which handlers a worker may get another call.

        Args:
            waiting: the handlers of which calls wait.
        """
        announcement, held = worker.announcement, len(worker.call_leases)
        if held < announcement.handler_slots or announcement.delivery is not Delivery.PUSH:
            return announcement.handlers
        return [
            handler
            for handler in waiting
            if handler in announcement.handlers
            and held < announcement.handler_slots * self._depths.get(handler, FIRST).calls
        ]
