"""Requests that wait until facts are recorded: cancels of clients, and reports of workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable

from dte.core.errors import Unavailable
from dte.core.jobs.facts import Cancel, End, Facts, Step

RECORD_TIMEOUT_S = 20.0
"""How long a request waits for a journal that cannot be written."""

Recordable = Step | End | Cancel


class AwaitedFacts:
    """The facts that requests wait for, and the leases under which they were reported.

    Args:
        wake: has the core and the recorder continue.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        self._waits: dict[Recordable, list[_Wait]] = {}
        self._reported: dict[int, Recordable] = {}
        self._lease_of: dict[Recordable, int] = {}

    async def until_recorded(self, facts: Collection[Recordable]) -> None:
        """Return when facts are recorded.

        Raises:
            Unavailable: they are not after `RECORD_TIMEOUT_S`; they will be as soon as possible.
        """
        if not facts:
            self._wake()
            return
        wait = _Wait(len(facts))
        for fact in facts:
            self._waits.setdefault(fact, []).append(wait)
        self._wake()
        try:
            async with asyncio.timeout(RECORD_TIMEOUT_S):
                await wait.done
        except TimeoutError:
            raise Unavailable("the journal cannot be written for the time being", 5) from None
        await asyncio.sleep(0)  # The core's tick comes first.

    @property
    def reported(self) -> Collection[int]:
        """The leases whose reports are being recorded."""
        return self._reported.keys()

    def note(self, lease: int, fact: Recordable) -> None:
        """Note that a fact was reported under a lease."""
        self._reported[lease], self._lease_of[fact] = fact, lease

    def of(self, lease: int) -> Recordable | None:
        """The fact that was reported under a lease; None if it is recorded or there is none."""
        return self._reported.get(lease)

    def recorded(self, facts: Facts) -> None:
        """Continue the requests that wait for facts which are in the journal now."""
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


class _Wait:
    """A request that waits for a number of facts."""

    def __init__(self, count: int) -> None:
        self._left = count
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def recorded_one(self) -> None:
        self._left -= 1
        if not self._left and not self.done.done():
            self.done.set_result(None)
