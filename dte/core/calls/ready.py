"""Calls that wait for a worker: by handler, the highest priority first, jobs in turns.

A worker gets the best call that it can do: of the highest priority, among equals of the handler
that was served longest ago, of the job whose turn it is. Each costs O(handlers), whatever waits.
"""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Collection, Iterator

from dte.core.graph.call import Call, CallState


class ReadyCalls:
    """The calls in state ready. One that leaves that state otherwise is passed over."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}
        self._served: dict[str, int] = {}
        self._turn = 0
        self._tickets = 0
        self.count = 0
        """How many are ready."""

    def add(self, call: Call) -> None:
        """Put a call in line; it is in state ready."""
        self._tickets += 1
        call.ticket = self._tickets
        lane = self._lanes.get(call.handler)
        if lane is None:
            lane = self._lanes[call.handler] = _Lane()
        lane.add(call)
        self.count += 1

    def drop(self, call: Call) -> None:
        """Count a call no more that leaves the line otherwise than by `take`."""
        self.count -= 1
        lane = self._lanes[call.handler]
        lane.count -= 1
        if not lane.count:
            del self._lanes[call.handler]

    def take(self, handlers: Collection[str]) -> Call | None:
        """The best call of one of these handlers, out of the line; None if there is none."""
        best: _Lane | None = None
        rank = (0, 0)
        for name in handlers if len(handlers) < len(self._lanes) else list(self._lanes):
            lane = self._lanes.get(name) if name in handlers else None
            if lane is None:
                continue
            # A handler's last turn counts also when none of its calls has waited since.
            own = (lane.priority, -self._served.get(name, 0))
            if best is None or own > rank:
                best, rank = lane, own
        if best is None:
            return None
        call = best.take()
        self.count -= 1
        self._turn += 1
        self._served[call.handler] = self._turn
        if not best.count:
            del self._lanes[call.handler]
        return call

    def handlers(self) -> Iterator[str]:
        """The handlers for which calls wait."""
        return iter(self._lanes)

    def place(self, call: Call) -> int:
        """How many calls of its handler come before a call, if jobs do not change turns."""
        return self._lanes[call.handler].place(call)

    def check(self) -> None:
        """Assert what must always hold; for tests."""
        assert self.count == sum(lane.count for lane in self._lanes.values())
        for lane in self._lanes.values():
            assert lane.count == sum(1 for _ in lane.calls()) > 0


class _Lane:
    """The calls of one handler."""

    def __init__(self) -> None:
        self._levels: dict[int, _Level] = {}
        self._order: list[int] = []
        self.count = 0

    def add(self, call: Call) -> None:
        level = self._levels.get(call.priority)
        if level is None:
            level = self._levels[call.priority] = _Level()
            insort(self._order, call.priority)
        level.add(call)
        self.count += 1

    @property
    def priority(self) -> int:
        """The highest at which something waits."""
        while self._levels[self._order[-1]].first() is None:
            del self._levels[self._order.pop()]
        return self._order[-1]

    def take(self) -> Call:
        self.count -= 1
        return self._levels[self.priority].take()

    def calls(self) -> Iterator[Call]:
        """Those that wait, the first to be taken first."""
        for priority in reversed(self._order):
            yield from self._levels[priority].calls()

    def place(self, call: Call) -> int:
        return next(place for place, other in enumerate(self.calls()) if other is call)


class _Level:
    """The calls of one handler and priority: jobs take turns."""

    def __init__(self) -> None:
        self._turns: dict[int, deque[tuple[Call, int]]] = {}
        self._line: deque[int] = deque()

    def add(self, call: Call) -> None:
        assert call.job is not None
        number = call.job.number
        calls = self._turns.get(number)
        if calls is None:
            calls = self._turns[number] = deque()
            self._line.append(number)
        calls.append((call, call.ticket))

    def first(self) -> Call | None:
        """The next, after what has left the line has been thrown away."""
        while self._line:
            calls = self._turns[self._line[0]]
            while calls:
                call, ticket = calls[0]
                if _waits(call, ticket):
                    return call
                calls.popleft()
            del self._turns[self._line.popleft()]
        return None

    def take(self) -> Call:
        """The next; `first` has found that there is one."""
        number = self._line.popleft()
        calls = self._turns[number]
        call, _ = calls.popleft()
        if calls:
            self._line.append(number)
        else:
            del self._turns[number]
        return call

    def calls(self) -> Iterator[Call]:
        waiting = [
            [call for call, ticket in self._turns[number] if _waits(call, ticket)]
            for number in self._line
        ]
        for turn in range(max(map(len, waiting), default=0)):
            for calls in waiting:
                if turn < len(calls):
                    yield calls[turn]


def _waits(call: Call, ticket: int) -> bool:
    return call.ticket == ticket and call.state is CallState.READY
