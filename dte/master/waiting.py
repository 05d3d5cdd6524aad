"""Requests that wait until jobs have ended (long polling)."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from dte.core.jobs.job import Job

NOTED_MAX = 1_000
"""Jobs that are noted of the wait of one call."""
ENDED_AT_A_TIME = 16
"""Waits that end in an iteration of the loop."""


class Waiters:
    """The waits for jobs."""

    def __init__(self) -> None:
        self._by_job: dict[int, list[Wait]] = {}
        self._over: deque[Wait] = deque()
        self._ended = 0
        self._of_calls: dict[int, Counter[int]] = {}

    def __len__(self) -> int:
        """The number of jobs with waits."""
        return len(self._by_job)

    @property
    def of_calls(self) -> Mapping[int, Collection[int]]:
        """The jobs for which calls wait, by the lease of the call."""
        return self._of_calls

    @contextmanager
    def noted(self, lease: int, numbers: Sequence[int]) -> Iterator[None]:
        """Note meanwhile that the call of a lease waits for jobs; 0 for no call."""
        if not lease:
            yield
            return
        numbers = numbers[:NOTED_MAX]
        waits = self._of_calls.setdefault(lease, Counter())
        waits.update(numbers)
        try:
            yield
        finally:
            waits.subtract(numbers)
            for number in numbers:
                if not waits[number]:
                    del waits[number]
            if not waits and self._of_calls.get(lease) is waits:
                del self._of_calls[lease]

    async def wait(
        self,
        jobs: Iterable[Job],
        wait_s: float,
        gone: asyncio.Future[None] | None = None,
        lease: int = 0,
    ) -> None:
        """Return when all jobs have ended, or `gone` is done, or after `wait_s` seconds.

        Args:
            lease: the lease of the call that waits; 0 for none.
        """
        numbers = [job.number for job in jobs if not job.is_terminal]
        if not numbers or wait_s <= 0:
            return
        with self.noted(lease, numbers):
            await self._wait(numbers, wait_s, gone)

    async def _wait(
        self, numbers: Sequence[int], wait_s: float, gone: asyncio.Future[None] | None
    ) -> None:
        wait = Wait(len(numbers))
        for number in numbers:
            self._by_job.setdefault(number, []).append(wait)
        timer = asyncio.get_running_loop().call_later(wait_s, wait.end)
        if gone is not None:
            gone.add_done_callback(wait.end)
        try:
            await wait.over
        finally:
            timer.cancel()
            if gone is not None:
                gone.remove_done_callback(wait.end)
            if wait.left:
                for number in numbers:
                    self._forget(number, wait)

    def _forget(self, number: int, wait: Wait) -> None:
        others = self._by_job.get(number, [])
        if wait in others:  # Not since `give_up`, after which others may have come.
            others.remove(wait)
            if not others:
                del self._by_job[number]

    def ended(self, job: Job) -> None:
        """A job has ended: end the waits for it, in the next iterations of the loop."""
        for wait in self._by_job.pop(job.number, ()):
            wait.left -= 1
            if not wait.left:
                if self._ended == 0:
                    asyncio.get_running_loop().call_soon(self._end_some)
                # Thousands that return in one iteration would block the loop.
                if self._ended < ENDED_AT_A_TIME:
                    self._ended += 1
                    wait.end()
                else:
                    self._over.append(wait)

    def _end_some(self) -> None:
        self._ended = min(ENDED_AT_A_TIME, len(self._over))
        for _ in range(self._ended):
            self._over.popleft().end()
        if self._ended:
            asyncio.get_running_loop().call_soon(self._end_some)

    def give_up(self) -> None:
        """End all waits now, although jobs are unfinished."""
        for waits in self._by_job.values():
            for wait in waits:
                wait.end()
        self._by_job.clear()
        for wait in self._over:
            wait.end()


class Wait:
    """A request that waits for jobs or facts.

    Attributes:
        left: the number that it still waits for.
        over: done when the request goes on.
    """

    def __init__(self, count: int) -> None:
        self.left = count
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(self, gone: object = None) -> None:
        if not self.over.done():
            self.over.set_result(None)
