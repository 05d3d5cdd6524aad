"""Calls that pause: for a delay, before they are tried again, or until a time of the wall clock."""

from __future__ import annotations

from collections.abc import Iterator

from dte.core.graph.call import Call, CallState
from dte.core.jobs.table import JobTable
from dte.core.timers import Timers


class Pauses:
    """The calls that pause, by the moments at which they go on."""

    def __init__(self, table: JobTable) -> None:
        self._table = table
        self._pauses: Timers[Call] = Timers(
            lambda call, moment: call.state is CallState.PAUSED and call.resumes_at == moment
        )
        # By the wall clock, so that it may be set: these are never turned into other moments.
        self._dated: Timers[Call] = Timers(
            lambda call, _: call.state is CallState.PAUSED and call.resumes_at is None
        )

    def add(self, moment: float, call: Call) -> None:
        """Pause a call until a moment, which it has noted."""
        _pause(call)
        self._pauses.add(moment, call)

    def hold_back(self, now: float, call: Call) -> bool:
        """Pause a call whose first moment has not come by the wall clock; False if it has.

        It is asked again when a worker is to get the call: the clock may have been set back. An
        attempt that follows another does not wait once more.
        """
        not_before = call.terms.not_before
        if not_before is None or call.record.attempts:
            return False
        if not_before <= now + self._table.wall_offset_s:
            return False
        _pause(call)
        self._dated.add(not_before, call)
        return True

    def due(self, now: float) -> Iterator[Call]:
        """Yield the calls whose pause is over; each leaves the pauses as it is given."""
        yield from self._pauses.due(now)
        yield from self._dated.due(now + self._table.wall_offset_s)

    def next_moment(self) -> float | None:
        """When the next pause is over, if the wall clock is not set before."""
        paused, dated = self._pauses.next_moment(), self._dated.next_moment()
        if dated is None:
            return paused
        dated -= self._table.wall_offset_s
        return dated if paused is None else min(paused, dated)


def _pause(call: Call) -> None:
    if call.state is not CallState.PAUSED:
        call.enter(CallState.PAUSED)
