"""The turns of a master's loop: the longest one, and a warning for each that is too long.

A turn is an iteration of the loop: all that is done between two looks for input. Whoever connects
meanwhile waits until it ends, whether one callback took the time or many together did. Work that
may take long is noted as it begins, so that the log names what took most of a long turn.

A paused process is no long turn: only time in which the process used a CPU counts. That is the time
of all its threads, because a thread that holds Python's lock stops the loop too.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextvars import ContextVar

from dte.logs import LimitedLog

log = logging.getLogger("dte.master")

LONG_S = 0.1
"""Longer turns are logged."""
SAMPLED_S = 0.02
"""The CPU time is read this often: a read takes as long as ten of the clock. A turn may be taken to
be longer by this, if it was paused."""

What = tuple[str, ...]
"""The words that name some work: a method and the pattern of a route, or another name."""

OTHER: What = ("no request or task that is known",)
what_for: ContextVar[What] = ContextVar("what_for", default=OTHER)
"""The request for which a task works, if there is one."""


class Turns:
    """Measures the turns of a loop, which calls `begin` and `end`.

    Args:
        clock, cpu: give the moment and the CPU time of the process, in seconds.

    Attributes:
        longest_s: the longest turn so far.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = time.process_time,
    ) -> None:
        self._clock = clock
        self._cpu = cpu
        self._log = LimitedLog(log)
        self._began_at = self._since = self._sampled_at = clock()
        self._sample_s = cpu()
        self._what = self._longest_what = OTHER
        self._longest_part_s = 0.0
        self.longest_s = 0.0

    @property
    def so_far_s(self) -> float:
        """The time since the turn began."""
        return self._clock() - self._began_at

    def begin(self) -> None:
        """A turn begins."""
        now = self._began_at = self._since = self._clock()
        self._what, self._longest_part_s = OTHER, 0.0
        if now - self._sampled_at > SAMPLED_S:
            self._sampled_at, self._sample_s = now, self._cpu()

    def note(self, what: What = OTHER) -> None:
        """Note that some work begins, and that what was noted before has ended."""
        now = self._clock()
        part_s = now - self._since
        if part_s > self._longest_part_s:
            self._longest_part_s, self._longest_what = part_s, self._what
        self._since, self._what = now, what

    def end(self) -> None:
        """The turn ends."""
        took_s = self._clock() - self._began_at
        if took_s <= self.longest_s and took_s <= LONG_S:
            return
        took_s = min(took_s, self._cpu() - self._sample_s)
        self.longest_s = max(self.longest_s, took_s)
        if took_s > LONG_S:
            self.note()
            self._warn(took_s)

    def _warn(self, took_s: float) -> None:
        what = " ".join(self._longest_what)
        part_s = min(took_s, self._longest_part_s)
        self._log.add(
            "turns of the loop that were long",
            logging.WARNING,
            "a turn of the loop took %.3f s, %.3f s of it for %s; nobody was served meanwhile",
            took_s,
            part_s,
            what,
            turn_s=round(took_s, 3),
            part_s=round(part_s, 3),
            what=what,
        )


def turns_of(loop: asyncio.AbstractEventLoop) -> Turns:
    """The turns of a loop; of another loop than a `MasterLoop`, some that never end."""
    turns = getattr(loop, "turns", None)
    return turns if isinstance(turns, Turns) else Turns()
