"""Chores: what is done with all calls of a long job, or with many jobs, a slice in each tick.

A slice may find anything changed since the one before: calls and the job itself may have ended.
Chores are done in the order in which they came, so those of a job do not overtake each other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from typing import TypeVar

from dte.core.slices import at_once

T = TypeVar("T")


class Chores:
    """Work in slices.

    Attributes:
        now: the moment of the present slice.
    """

    def __init__(self) -> None:
        self._line: deque[Generator[None, None, object]] = deque()
        self.now = 0.0

    def __bool__(self) -> bool:
        """True if something is left to do."""
        return bool(self._line)

    def run(self, now: float, work: Generator[None, None, T], *, is_long: bool) -> T | None:
        """Do work at once, and return what it returns; long work later, and return None."""
        if is_long:
            self._line.append(work)
            return None
        self.now = now
        return at_once(work)

    def advance(self, now: float) -> None:
        """Do a slice of the first work."""
        if self._line:
            self.now = now
            try:
                next(self._line[0])
            except StopIteration:
                self._line.popleft()
