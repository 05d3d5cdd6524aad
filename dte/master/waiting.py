"""Requests that are held until jobs have ended."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from dte.core.jobs.job import Job

TOLD_A_TURN = 16


class Waiters:
    """Who waits for which job."""

    def __init__(self) -> None:
        self._by_job: dict[int, list[_Waiter]] = {}
        self._over: deque[_Waiter] = deque()
        self._told = 0

    def __len__(self) -> int:
        """How many jobs are waited for."""
        return len(self._by_job)

    async def wait(
        self, jobs: Iterable[Job], wait_s: float, gone: asyncio.Future[None] | None = None
    ) -> None:
        """Return when all jobs have ended, or `gone` is done, or after `wait_s` seconds."""
        waiting = [job.number for job in jobs if not job.is_terminal]
        if not waiting or wait_s <= 0:
            return
        waiter = _Waiter(len(waiting))
        for number in waiting:
            self._by_job.setdefault(number, []).append(waiter)
        timer = asyncio.get_running_loop().call_later(wait_s, waiter.give_up)
        if gone is not None:
            gone.add_done_callback(waiter.give_up)
        try:
            await waiter.over
        finally:
            timer.cancel()
            if gone is not None:
                gone.remove_done_callback(waiter.give_up)
            if waiter.left:
                for number in waiting:
                    self._forget(number, waiter)

    def _forget(self, number: int, waiter: _Waiter) -> None:
        others = self._by_job.get(number, [])
        if waiter in others:  # Not since `give_up`, after which others may have come.
            others.remove(waiter)
            if not others:
                del self._by_job[number]

    def ended(self, job: Job) -> None:
        """Say that a job has ended: who waits for it returns in one of the loop's next turns."""
        for waiter in self._by_job.pop(job.number, ()):
            waiter.left -= 1
            if not waiter.left:
                if self._told == 0:
                    asyncio.get_running_loop().call_soon(self._tell)
                # Thousands that return in the same turn would keep the loop from all else.
                if self._told < TOLD_A_TURN:
                    self._told += 1
                    waiter.give_up()
                else:
                    self._over.append(waiter)

    def _tell(self) -> None:
        self._told = min(TOLD_A_TURN, len(self._over))
        for _ in range(self._told):
            self._over.popleft().give_up()
        if self._told:
            asyncio.get_running_loop().call_soon(self._tell)

    def give_up(self) -> None:
        """Let all return now, whatever their jobs do."""
        for waiters in self._by_job.values():
            for waiter in waiters:
                waiter.give_up()
        self._by_job.clear()
        for waiter in self._over:
            waiter.give_up()


class _Waiter:
    """A request that is held until some jobs have ended."""

    def __init__(self, jobs: int) -> None:
        self.left = jobs
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def give_up(self, gone: object = None) -> None:
        if not self.over.done():
            self.over.set_result(None)
