"""Timers: items that wait for a moment."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Timers(Generic[Item]):
    """Items by their moments.

    An item may be added again with another moment; the old entry is then stale. Stale entries are
    dropped unseen.

    Args:
        is_pending: whether an item still waits for a moment.
    """

    def __init__(self, is_pending: Callable[[Item, float], bool]) -> None:
        self._is_pending = is_pending
        # Most moments come in order; a heap has the others.
        self._line: deque[tuple[float, Item]] = deque()
        self._heap: list[tuple[float, int, Item]] = []
        self._count = 0

    def add(self, moment: float, item: Item) -> None:
        if not self._line or self._line[-1][0] <= moment:
            self._line.append((moment, item))
        else:
            self._count += 1
            heappush(self._heap, (moment, self._count, item))

    def due(self, now: float) -> Iterable[Item]:
        """The items whose moment has come; each leaves the timers as it is given."""
        if not self._line and not self._heap:
            return ()
        return self._due(now)

    def _due(self, now: float) -> Iterator[Item]:
        while (moment := self.next_moment()) is not None and moment <= now:
            if self._line and self._line[0][0] == moment:
                yield self._line.popleft()[1]
            else:
                yield heappop(self._heap)[2]

    def next_moment(self) -> float | None:
        """The first moment for which an item waits."""
        line, heap = self._line, self._heap
        while line and not self._is_pending(line[0][1], line[0][0]):
            line.popleft()
        while heap and not self._is_pending(heap[0][2], heap[0][0]):
            heappop(heap)
        if line and heap:
            return min(line[0][0], heap[0][0])
        if line:
            return line[0][0]
        return heap[0][0] if heap else None

    def items(self) -> list[Item]:
        """The items that wait, in no order; for tests."""
        entries = [*self._line, *((moment, item) for moment, _, item in self._heap)]
        return [item for moment, item in entries if self._is_pending(item, moment)]
