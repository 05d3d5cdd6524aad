"""Reads the jobs of before a restart again, and goes on with them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from dte.core.errors import DteError, NotFound, Unavailable
from dte.core.graph.work import Work
from dte.core.jobs.job import Job
from dte.core.jobs.table import NewJob
from dte.master.journal.journal import Journal, Unfinished
from dte.master.journal.recorder import Recorder
from dte.master.parsing import NO_LIMITS, parse_again
from dte.master.plans import NO_PLAN_LIMITS, Plan, build, read_plan
from dte.master.workers import check_awaited, new_job
from dte.wire.codec import Malformed

if TYPE_CHECKING:
    from dte.master.master import Master

log = logging.getLogger("dte.master")

T = TypeVar("T")

READ_AGAIN_S = 1.0


class Restart:
    """Goes through the journal's unfinished jobs, in slices, while the master serves already."""

    def __init__(self, master: Master, journal: Journal, recorder: Recorder) -> None:
        self._master = master
        self._journal = journal
        self._recorder = recorder

    async def run(self) -> None:
        """Return when all go on."""
        started_at, count, last = time.monotonic(), 0, 0
        while unfinished := await self._read(last):
            formulas = {job.number: job for job in unfinished if job.plan is None}
            texts = [(job.number, job.text) for job in formulas.values()]
            await self._master.slices.run(
                parse_again(texts, partial(self._resume_one_of, formulas))
            )
            for job in unfinished:
                if job.plan is not None:
                    self._resume(job, await self._build(job, job.plan))
            count += len(unfinished)
            last = unfinished[-1].number
        log.info("%d jobs go on, after %.1f s", count, time.monotonic() - started_at)

    async def _read(self, after: int) -> list[Unfinished]:
        """The next jobs in the journal."""
        return await self._patiently(lambda: self._recorder.read(self._journal.unfinished, after))

    async def _awaited(self, plan: Plan) -> list[Job]:
        """The jobs that a plan waits for.

        One that is deleted by now had ended, and well, or the plan's job would have ended with it.
        """
        awaited = []
        for number in dict.fromkeys(plan.after):
            with suppress(NotFound):
                awaited += await self._patiently(partial(self._master.find, [number]))
        return awaited

    async def _patiently(self, read: Callable[[], Awaitable[T]]) -> T:
        """What is read from the journal, as soon as it can be."""
        while True:
            try:
                return await read()
            except Unavailable as error:
                log.error("%s; jobs from before the start wait", error)
                await asyncio.sleep(READ_AGAIN_S)

    async def _build(self, unfinished: Unfinished, text: str) -> NewJob:
        """The job of a plan; one that cannot be read any more fails."""
        master, plan = self._master, Plan()
        awaited: list[Job] = []
        try:
            plan = read_plan(text)
            work = await master.slices.run(
                build(plan, NO_PLAN_LIMITS, NO_LIMITS, master.wall_offset_s)
            )
            awaited = await self._awaited(plan)
            check_awaited(work, awaited)
        except (DteError, Malformed) as error:
            work = Work.failed(f"it cannot be read any more: {error}")
        return new_job(plan, unfinished.text, text, work, awaited)

    def _resume_one_of(self, unfinished: dict[int, Unfinished], number: int, work: Work) -> None:
        self._resume(unfinished[number], NewJob(unfinished[number].text, work))

    def _resume(self, unfinished: Unfinished, new: NewJob) -> None:
        core, calls = self._master.core, new.work.calls
        if calls is not None:
            calls.restore(unfinished.records)
        core.resume(time.monotonic(), core.jobs.job(unfinished.number), new)
        self._master.wake()
