"""The event loop of a master, whose time stands still while the loop does.

A master may be paused, by SIGSTOP, ``docker pause`` or the migration of its machine, or be busy
with one thing for long. Deadlines pass meanwhile, and the messages that would move them wait
unread. So a loop that goes on must not find a worker silent, a connection slow or a reply late
before it has read what is there. It does not, because its time passes only as it turns: at most
`TURN_S` while it waits for input, and as much while it does what came. Every deadline moves by the
rest.

A machine that sleeps stops the monotonic clock by itself, and this time with it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from selectors import DefaultSelector, SelectorKey

from dte.master.turns import Turns

TURN_S = 0.25
"""Most time that passes in a wait, or in what follows it. A lease ends over many turns then. Where
each turn takes a second, a worker that has ended is noticed four times as late."""
WAIT_S = 0.2
"""Longest wait for input, so that a wait with nothing to do takes no longer than `TURN_S`."""
OVERSLEPT_S = 0.02
"""A wait that was so much longer than it was to be was a pause, or a wait for the processor."""


class LoopTime:
    """The monotonic clock, less the time for which the loop stood still."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._still_s = 0.0
        self._latest = clock() + TURN_S

    def now(self) -> float:
        """The current moment."""
        now = self._clock() - self._still_s
        return now if now < self._latest else self._latest

    def turn(self) -> float:
        """Note that the loop begins or ends to wait; return how long ago it did so last."""
        now = self._clock() - self._still_s
        late_s = now - self._latest
        if late_s > 0:
            self._still_s += late_s
            now = self._latest
        self._latest = now + TURN_S
        return late_s + TURN_S


class _Selector(DefaultSelector):
    """Waits for input, and looks once more after a pause; what is done between is a turn."""

    def __init__(self, loop_time: LoopTime, turns: Turns) -> None:
        super().__init__()
        self._time = loop_time
        self._turns = turns

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        self._turns.end()
        wait_s = WAIT_S if timeout is None or timeout > WAIT_S else timeout
        self._time.turn()
        events = super().select(wait_s)
        # The end of a pause ends the wait too, without the input that came meanwhile.
        if self._time.turn() > wait_s + OVERSLEPT_S and not events:
            events = super().select(0)
        self._turns.begin()
        return events


class MasterLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is a `LoopTime`.

    Attributes:
        turns: its turns, measured.
    """

    def __init__(self) -> None:
        self._loop_time = LoopTime(time.monotonic)
        self.turns = Turns()
        super().__init__(_Selector(self._loop_time, self.turns))

    def time(self) -> float:
        return self._loop_time.now()
