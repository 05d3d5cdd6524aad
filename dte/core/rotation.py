"""Rotation: those who wait take turns, the highest priority first."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

Member = TypeVar("Member")


class Rotation(Generic[Member]):
    """A line of members for each priority.

    Whoever takes a member from a line puts it back at the end, if it still waits for something.

    Attributes:
        lines: by priority; some may be empty.
    """

    def __init__(self) -> None:
        self.lines: dict[int, deque[Member]] = {}
        self._priorities: list[int] = []

    def line(self, priority: int) -> deque[Member]:
        """The line of a priority, to add to."""
        line = self.lines.get(priority)
        if line is None:
            line = self.lines[priority] = deque()
            insort(self._priorities, priority)
        return line

    def highest(self) -> deque[Member] | None:
        """The line of the highest priority that has one; None if nobody waits."""
        while self._priorities:
            line = self.lines[self._priorities[-1]]
            if line:
                return line
            del self.lines[self._priorities.pop()]
        return None

    @property
    def priority(self) -> int:
        """The priority of the `highest` line, of which there is one."""
        return self._priorities[-1]

    def clear(self) -> None:
        self.lines.clear()
        self._priorities.clear()

    def __iter__(self) -> Iterator[deque[Member]]:
        """The lines, that of the highest priority first."""
        return (self.lines[priority] for priority in reversed(self._priorities))
