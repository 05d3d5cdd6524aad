"""A look from outside at the event loop of a child process, which a call may block."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from dte.worker.processes.tasks import BEAT

WATCH_S = 1.0
STILL_MAX = 5
"""An event loop whose counter stands still at this many checks in a row is blocked."""


class Watchdog:
    """Checks that an event loop iterates, by the counter in shared memory.

    Args:
        shared: memory that is shared with the child, see `dte.worker.processes.tasks`.
        on_blocked: called when the loop has been blocked for too long.
    """

    def __init__(self, shared: Sequence[int], on_blocked: Callable[[], None]) -> None:
        self._shared = shared
        self._on_blocked = on_blocked
        self._timer: asyncio.TimerHandle | None = None
        self._still = 0
        self._beat = 0

    def start(self) -> None:
        """Check from now on, until `stop` or the loop is blocked."""
        if self._timer is None:
            self._still = 0
            self._again()

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(WATCH_S, self._check)

    def _check(self) -> None:
        iterates = self._shared[BEAT] != self._beat
        self._still = 0 if iterates else self._still + 1
        self._beat = self._shared[BEAT]
        if self._still < STILL_MAX:
            self._again()
        else:
            self._on_blocked()
