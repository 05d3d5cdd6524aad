"""How quick handlers are: of quick ones a worker is given more calls than it has slots.

A call then waits at its worker for a slot, and not for the way there and back. How many may do so
follows from how long calls have taken, as the size of a batch of arithmetic does.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from dte.core.availability import CALLS_A_SLOT_MAX, Reach, Worker

QUICK_S = 0.005
"""A call that took no longer, waiting included, lets more of its handler go out at a time."""
SLOW_S = 0.02
"""One that took longer lets fewer go out."""
HANDLERS_MAX = 10_000


class Quickness:
    """For each handler how many calls a slot gets at a time; 1 until calls have been quick."""

    def __init__(self) -> None:
        self._depths: dict[str, int] = {}

    def took(self, handler: str, took_s: float) -> None:
        """Note how long a call took from its hand-over to its report."""
        depth = self._depths.get(handler, 1)
        if took_s > SLOW_S:
            self._depths[handler] = max(1, depth // 2)
        elif took_s < QUICK_S and depth < CALLS_A_SLOT_MAX:
            if len(self._depths) >= HANDLERS_MAX:
                self._depths.clear()
            self._depths[handler] = depth + 1

    def is_long(self, handler: str) -> bool:
        """Whether a handler is not known to be quick."""
        return self._depths.get(handler, 1) == 1

    def allowed(self, worker: Worker, waiting: Iterable[str]) -> Collection[str]:
        """Of which handlers a worker may get another call.

        Args:
            waiting: the handlers of which calls wait.
        """
        said, held = worker.said, len(worker.call_leases)
        if held < said.handler_slots or said.reach is not Reach.PUSH:
            return said.handlers
        return [
            handler
            for handler in waiting
            if handler in said.handlers and held < said.handler_slots * self._depths.get(handler, 1)
        ]
