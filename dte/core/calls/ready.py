"""Calls that wait for a worker: by handler, the highest priority first, jobs in turns.

A worker gets the best call that it can run: of the highest priority, among equals of the handler
that was served longest ago, of the job whose turn it is. Each take costs O(handlers), however many
calls wait.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator
from itertools import zip_longest

from dte.core.graph.call import Call, CallState
from dte.core.rotation import Rotation


class ReadyCalls:
    """The calls in state ready. An entry whose call has left that state is stale, and skipped."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}
        self._served: dict[str, int] = {}
        self._turn = 0
        self._tickets = 0
        self.count = 0
        """The number of ready calls."""

    def add(self, call: Call) -> None:
        """Put a ready call in line."""
        self._tickets += 1
        call.ticket = self._tickets
        lane = self._lanes.get(call.handler)
        if lane is None:
            lane = self._lanes[call.handler] = _Lane()
        lane.add(call)
        self.count += 1

    def drop(self, call: Call) -> None:
        """Stop counting a call that leaves the line without being taken."""
        self.count -= 1
        lane = self._lanes[call.handler]
        lane.count -= 1
        if not lane.count:
            del self._lanes[call.handler]

    def take(self, handlers: Collection[str]) -> Call | None:
        """Take the best call of these handlers out of the line; None if none waits."""
        best: _Lane | None = None
        rank = (0, 0)
        for name in handlers if len(handlers) < len(self._lanes) else list(self._lanes):
            lane = self._lanes.get(name) if name in handlers else None
            if lane is None:
                continue
            # A handler's last turn counts even if no call of it has waited since.
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
        """The handlers whose calls wait."""
        return iter(self._lanes)

    def position(self, call: Call) -> int:
        """The number of calls of its handler that are ahead of a call."""
        return self._lanes[call.handler].position(call)

    def check(self) -> None:
        """Assert every invariant; for tests."""
        assert self.count == sum(lane.count for lane in self._lanes.values())
        for lane in self._lanes.values():
            assert lane.count == sum(1 for _ in lane.calls()) > 0


class _Lane:
    """The calls of one handler; the jobs of a priority take turns."""

    def __init__(self) -> None:
        self._rotation: Rotation[deque[tuple[Call, int]]] = Rotation()
        self._by_job: dict[tuple[int, int], deque[tuple[Call, int]]] = {}
        self.count = 0

    def add(self, call: Call) -> None:
        key = call.priority, call.job
        calls = self._by_job.get(key)
        if calls is None:
            calls = self._by_job[key] = deque()
            self._rotation.line(call.priority).append(calls)
        calls.append((call, call.ticket))
        self.count += 1

    @property
    def priority(self) -> int:
        """The highest at which a call waits."""
        self._first()
        return self._rotation.priority

    def take(self) -> Call:
        self.count -= 1
        line, calls = self._first()
        line.popleft()
        call, _ = calls.popleft()
        if calls:
            line.append(calls)
        else:
            del self._by_job[call.priority, call.job]
        return call

    def _first(self) -> tuple[deque[deque[tuple[Call, int]]], deque[tuple[Call, int]]]:
        """The line, and the calls of the job in it, whose turn it is; stale entries are dropped."""
        while (line := self._rotation.highest()) is not None:
            calls = line[0]
            while calls and not _waits(*calls[0]):
                call, _ = calls.popleft()
            if calls:
                break
            line.popleft()
            del self._by_job[call.priority, call.job]
        assert line is not None, "a lane has calls that wait"
        return line, calls

    def calls(self) -> Iterator[Call]:
        """The calls that wait, in the order in which they are taken."""
        for line in self._rotation:
            waiting = [[call for call, ticket in calls if _waits(call, ticket)] for calls in line]
            for turn in zip_longest(*waiting):
                yield from (call for call in turn if call is not None)

    def position(self, call: Call) -> int:
        return next(index for index, other in enumerate(self.calls()) if other is call)


def _waits(call: Call, ticket: int) -> bool:
    return call.ticket == ticket and call.state is CallState.READY
