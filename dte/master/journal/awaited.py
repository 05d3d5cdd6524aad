"""Who waits until facts are recorded: clients that cancel, and workers that report."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable

from dte.core.errors import Unavailable
from dte.core.jobs.facts import Cancel, End, Facts, Step

Recordable = Step | End | Cancel


class FactsWait:
    """Someone waits for so many facts."""

    def __init__(self, count: int) -> None:
        self._left = count
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def recorded_one(self) -> None:
        self._left -= 1
        if not self._left and not self._done.done():
            self._done.set_result(None)

    async def until_recorded(self, timeout_s: float) -> None:
        """Return when all are recorded.

        Raises:
            Unavailable: they are not in that time; they will be as soon as they can.
        """
        try:
            async with asyncio.timeout(timeout_s):
                await self._done
        except TimeoutError:
            raise Unavailable("the journal cannot be written for the time being", 5) from None


class AwaitedFacts:
    """The facts that someone waits for, and under which leases they were reported."""

    def __init__(self) -> None:
        self._waits: dict[Recordable, list[FactsWait]] = {}
        self._reported: dict[int, Recordable] = {}
        self._lease_of: dict[Recordable, int] = {}

    @property
    def reported(self) -> Collection[int]:
        """The leases of which a report is being recorded."""
        return self._reported.keys()

    def note(self, lease: int, fact: Recordable) -> None:
        """Note that a fact is what was reported under a lease."""
        self._reported[lease], self._lease_of[fact] = fact, lease

    def of(self, lease: int) -> Recordable | None:
        """The fact that was reported under a lease, if it is being recorded."""
        return self._reported.get(lease)

    def recorded(self, facts: Facts) -> None:
        """Facts are in the journal: whoever waits for them goes on."""
        if not self._waits:
            return
        for recorded in (facts.steps, facts.ends, facts.cancels):
            self._recorded(recorded)

    def _recorded(self, facts: Iterable[Recordable]) -> None:
        waits, lease_of = self._waits, self._lease_of
        for fact in facts:
            for wait in waits.pop(fact, ()):
                wait.recorded_one()
            if fact in lease_of:
                del self._reported[lease_of.pop(fact)]

    def expect(self, facts: Collection[Recordable]) -> FactsWait:
        """Note that someone waits for facts, of which there are some."""
        wait = FactsWait(len(facts))
        for fact in facts:
            self._waits.setdefault(fact, []).append(wait)
        return wait
