"""Waiting until facts are recorded: clients that cancel, and workers that report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable

from dte.core.errors import Unavailable
from dte.core.jobs.facts import Cancel, End, Facts, Step
from dte.master.journal.memory import AnyRecorder

Recordable = Step | End | Cancel

RECORD_TIMEOUT_S = 20.0
"""Longest wait of a worker or client for a disk that cannot be written."""


class AwaitedFacts:
    """The facts that requests wait for, and the leases under which they were reported.

    Args:
        recorder: writes the facts.
        wake: has the core take its turn.
    """

    def __init__(self, recorder: AnyRecorder, wake: Callable[[], None]) -> None:
        self._recorder = recorder
        self._wake = wake
        self._waits: dict[Recordable, list[_Wait]] = {}
        self._reported: dict[int, Recordable] = {}
        self._lease_of: dict[Recordable, int] = {}

    @property
    def reported(self) -> Collection[int]:
        """The leases whose reports are being recorded."""
        return self._reported.keys()

    def note(self, lease: int, fact: Recordable) -> None:
        """Note the fact that was reported under a lease."""
        self._reported[lease], self._lease_of[fact] = fact, lease

    def of(self, lease: int) -> Recordable | None:
        """The fact that was reported under a lease, while it is being recorded."""
        return self._reported.get(lease)

    async def until_recorded(self, facts: Collection[Recordable]) -> None:
        """Have facts recorded, and return when all of them are.

        Raises:
            Unavailable: that took longer than `RECORD_TIMEOUT_S`; they are recorded later.
        """
        wait = _Wait(len(facts))
        for fact in facts:
            self._waits.setdefault(fact, []).append(wait)
        self._wake()
        self._recorder.wake()
        if not facts:
            return
        try:
            async with asyncio.timeout(RECORD_TIMEOUT_S):
                await wait.done
        except TimeoutError:
            raise not_recorded() from None
        await asyncio.sleep(0)  # The core takes its turn first.

    def recorded(self, facts: Facts) -> None:
        """Facts are in the journal: end the waits for them."""
        if not self._waits:
            return
        for recorded in (facts.steps, facts.ends, facts.cancels):
            self._end_waits(recorded)

    def _end_waits(self, facts: Iterable[Recordable]) -> None:
        waits, lease_of = self._waits, self._lease_of
        for fact in facts:
            for wait in waits.pop(fact, ()):
                wait.end_one()
            if fact in lease_of:
                del self._reported[lease_of.pop(fact)]


class _Wait:
    """A wait for a number of facts."""

    def __init__(self, count: int) -> None:
        self._left = count
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end_one(self) -> None:
        self._left -= 1
        if not self._left and not self.done.done():
            self.done.set_result(None)


def not_recorded() -> Unavailable:
    """The error for a request that waited too long."""
    return Unavailable("the journal cannot be written at the moment", 5)
