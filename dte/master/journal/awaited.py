"""Waiting until facts are recorded: clients that cancel, and workers that report."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from dte.core.errors import JournalDamaged, Unavailable
from dte.core.jobs.facts import Cancel, End, Facts, Step
from dte.master.journal.memory import AnyRecorder
from dte.master.waiting import Wait

Recordable = Step | End | Cancel

RECORD_TIMEOUT_S = 20.0
"""Longest wait of a worker or client for a disk that is slow, or cannot be written."""


class AwaitedFacts:
    """The facts that requests wait for, and the leases under which they were reported."""

    def __init__(self, recorder: AnyRecorder, wake: Callable[[], None]) -> None:
        self._recorder = recorder
        self._wake = wake
        self._waits: dict[Recordable, list[Wait]] = {}
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
            JournalDamaged: they cannot be.
            Unavailable: that took longer than `RECORD_TIMEOUT_S`; they are recorded later.
        """
        if facts and isinstance(self._recorder.failure, JournalDamaged):
            raise self._recorder.failure
        wait = Wait(len(facts))
        for fact in facts:
            self._waits.setdefault(fact, []).append(wait)
        self._wake()
        self._recorder.wake()
        if not facts:
            return
        try:
            async with asyncio.timeout(RECORD_TIMEOUT_S):
                await wait.over
        except TimeoutError:
            raise not_recorded(self._recorder.failure) from None
        if wait.left:
            raise not_recorded(self._recorder.failure)
        await asyncio.sleep(0)  # The core takes its turn first.

    def recorded(self, facts: Facts) -> None:
        """Facts are in the journal: end the waits for them."""
        if not self._waits:
            return
        recorded: list[Recordable] = [*facts.steps, *facts.ends, *facts.cancels]
        for fact in recorded:
            for wait in self._waits.pop(fact, ()):
                wait.left -= 1
                if not wait.left:
                    wait.end()
            if fact in self._lease_of:
                del self._reported[self._lease_of.pop(fact)]

    def give_up(self) -> None:
        """End all waits: nothing is recorded any more."""
        for waits in self._waits.values():
            for wait in waits:
                wait.end()
        self._waits.clear()


def not_recorded(failure: Unavailable | None) -> Unavailable:
    """The error for a request that waited too long.

    Args:
        failure: why the journal cannot be written; None if it can.
    """
    if isinstance(failure, JournalDamaged):
        return failure
    text = f"not recorded after {RECORD_TIMEOUT_S:g} s"
    if failure is not None:
        return Unavailable(f"{text}: {failure}", 5)
    return Unavailable(f"{text}, as the disk of the master's journal is slow; it will be", 5)
