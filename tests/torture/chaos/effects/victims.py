"""Kills processes of handlers, each in the midst of a call that leaves marks."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from random import Random

from harness.machine import children
from torture.chaos.effects.marks import Mark, What, read_marks


class Victims:
    """Chooses among the calls that have begun and not ended, by their marks.

    Only processes that run one call at a time are killed: others would be blamed for it.

    Args:
        folder: where the marks are.
        randoms: decides which.

    Attributes:
        jobs: the names of the jobs of these calls.
    """

    def __init__(self, folder: Path, randoms: Random) -> None:
        self._folder = folder
        self._randoms = randoms
        self.jobs: set[str] = set()

    def kill_one(self, workers: Iterable[int]) -> int | None:
        """Kill a process of one of these workers, and give its pid; None if none is in a call."""
        alive = {child for worker in workers for child in children(worker)}
        busy = [mark for pid, mark in self._busy().items() if pid in alive]
        if not busy:
            return None
        mark = self._randoms.choice(busy)
        with suppress(ProcessLookupError):
            os.kill(mark.pid, signal.SIGSTOP)
            if self._busy().get(mark.pid) == mark:  # Now it cannot end its call any more.
                self.jobs.add(mark.call.partition("/")[0])
                os.kill(mark.pid, signal.SIGKILL)
                return mark.pid
            os.kill(mark.pid, signal.SIGCONT)
        return None

    def _busy(self) -> dict[int, Mark]:
        """The beginnings of calls that have not ended, by the process."""
        last = {mark.pid: mark for mark in read_marks(self._folder)}
        return {
            pid: mark for pid, mark in last.items() if mark.what is What.BEGUN and not mark.shares
        }
