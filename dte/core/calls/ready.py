"""Calls that wait for a worker: by handler, the highest priority first, jobs in turns.

A worker gets the best call that it can run: of the highest priority, among equals of the handler
that was served longest ago, of the job whose turn it is. Each take costs O(handlers), however many
calls wait.

Calls that only some of the workers with their handler take wait apart from the others, by their
`Route`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import NamedTuple

from dte.core.graph.call import Call, CallState
from dte.core.rotation import Rotation


class Route(NamedTuple):
    """The ground on which a call may go to some of the workers with its handler only.

    Attributes:
        origin, refused, mixed: those of the `Call`.
        is_long: its arguments need room on their way to workers.
    """

    origin: str
    refused: bool = False
    mixed: bool = False
    is_long: bool = False


OPEN = Route("")
"""The route of calls that any worker with their handler takes."""
Choose = Callable[[Route, Collection[str]], Collection[str]]
"""Gives the handlers whose calls of a route a worker takes, among those whose calls wait."""


class ReadyCalls:
    """The calls in state ready. An entry whose call has left that state is stale, and skipped."""

    def __init__(self) -> None:
        self._lanes: dict[str, _Lane] = {}
        self._routed: dict[Route, dict[str, _Lane]] = {}
        self._served: dict[str, int] = {}
        self._turn = 0
        self._tickets = 0
        self.count = 0
        """The number of ready calls."""

    def add(self, call: Call) -> None:
        """Put a ready call in line."""
        self._tickets += 1
        call.ticket = self._tickets
        lanes = self._lanes
        if _is_routed(call):
            lanes = self._routed.setdefault(route_of(call), {})
        lane = lanes.get(call.handler)
        if lane is None:
            lane = lanes[call.handler] = _Lane(self._turn)
        lane.add(call)
        self.count += 1

    def drop(self, call: Call) -> None:
        """Stop counting a call that leaves the line without being taken."""
        self.count -= 1
        lane = self._lanes_of(call)[call.handler]
        lane.count -= 1
        if not lane.count:
            self._remove_lane(call)

    def _lanes_of(self, call: Call) -> dict[str, _Lane]:
        return self._routed[route_of(call)] if _is_routed(call) else self._lanes

    def _remove_lane(self, call: Call) -> None:
        lanes = self._lanes_of(call)
        del lanes[call.handler]
        if not lanes and lanes is not self._lanes:
            del self._routed[route_of(call)]

    def take(self, handlers: Collection[str], choose: Choose | None = None) -> Call | None:
        """Take the best call that a worker can run out of the line; None if none waits.

        Args:
            handlers: those whose calls of the open route it takes.
            choose: gives those whose calls of another route it takes; None for none of these.
        """
        best = self._best(self._lanes, handlers, None, (0, 0, 0))
        if choose is not None:
            for route, lanes in self._routed.items():
                lane, rank = best
                best = self._best(lanes, choose(route, lanes.keys()), lane, rank)
        lane, _ = best
        if lane is None:
            return None
        call = lane.take()
        self.count -= 1
        self._turn += 1
        self._served[call.handler] = lane.turn = self._turn
        if not lane.count:
            self._remove_lane(call)
        return call

    def _best(
        self,
        lanes: Mapping[str, _Lane],
        handlers: Collection[str],
        best: _Lane | None,
        rank: tuple[int, int, int],
    ) -> tuple[_Lane | None, tuple[int, int, int]]:
        """The best lane of these handlers, if it is better than another one; and its rank."""
        for name in handlers if len(handlers) < len(lanes) else list(lanes):
            lane = lanes.get(name) if name in handlers else None
            if lane is None:
                continue
            # A handler's last turn counts even if no call of it has waited since.
            own = (lane.priority, -self._served.get(name, 0), -lane.turn)
            if best is None or own > rank:
                best, rank = lane, own
        return best, rank

    @property
    def is_routed(self) -> bool:
        """True if calls of other routes than the open one wait."""
        return bool(self._routed)

    def handlers(self, route: Route = OPEN) -> Iterator[str]:
        """The handlers whose calls of a route wait."""
        return iter(self._lanes if route == OPEN else self._routed.get(route, ()))

    def in_line(self, call: Call) -> Iterator[Call]:
        """The calls of a call's handler and route, in the order in which they are taken."""
        return self._lanes_of(call)[call.handler].calls()

    def check(self) -> None:
        """Assert every invariant; for tests."""
        assert OPEN not in self._routed
        assert all(self._routed.values())
        all_lanes = (self._lanes, *self._routed.values())
        lanes = [lane for lanes in all_lanes for lane in lanes.values()]
        assert self.count == sum(lane.count for lane in lanes)
        for lane in lanes:
            assert lane.count == sum(1 for _ in lane.calls()) > 0


class _Lane:
    """The calls of one handler and route; the jobs of a priority take turns.

    Attributes:
        turn: when it was last served, or else made. The routes of a handler take turns by it.
    """

    def __init__(self, turn: int) -> None:
        self.turn = turn
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
            turn: Iterable[Iterator[Call]] = map(_waiting, line)
            while turn:
                left = []
                for calls in turn:
                    call = next(calls, None)
                    if call is not None:
                        yield call
                        left.append(calls)
                turn = left


def route_of(call: Call) -> Route:
    return Route(call.origin, call.refused, call.mixed, call.is_long)


def _is_routed(call: Call) -> bool:
    return bool(call.origin or call.refused or call.mixed or call.is_long)


def _waiting(calls: Iterable[tuple[Call, int]]) -> Iterator[Call]:
    return (call for call, ticket in calls if _waits(call, ticket))


def _waits(call: Call, ticket: int) -> bool:
    return call.ticket == ticket and call.state is CallState.READY
