"""Resumes the unfinished jobs of the last start."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from dte.core.errors import DteError, NotFound, Unavailable
from dte.core.graph.work import Work
from dte.core.jobs.job import Job
from dte.core.jobs.table import JobTable
from dte.master.journal.journal import Unfinished
from dte.master.journal.memory import AnyRecorder
from dte.master.parsing import parse_again
from dte.master.plans import NO_PLAN_LIMITS, Plan, build, read_plan, with_awaited
from dte.master.slices import Slices
from dte.wire.codec import Malformed

log = logging.getLogger("dte.master")

T = TypeVar("T")

READ_AGAIN_S = 1.0


class Restart:
    """Resumes the journal's unfinished jobs, in slices, while the master serves already.

    Args:
        jobs: has them, without their graphs.
        wall_offset_s: turns moments of the core's clock into seconds since 1970.
        now: the moment on the core's clock.
        wake: called when a job is resumed.
        find: see `Master.find`.
    """

    def __init__(
        self,
        jobs: JobTable,
        recorder: AnyRecorder,
        slices: Slices,
        *,
        wall_offset_s: float,
        now: Callable[[], float],
        wake: Callable[[], None],
        find: Callable[[Sequence[int]], Awaitable[list[Job]]],
    ) -> None:
        self._jobs = jobs
        self._recorder = recorder
        self._slices = slices
        self._wall_offset_s = wall_offset_s
        self._now = now
        self._wake = wake
        self._find = find

    async def run(self) -> None:
        """Return when all jobs are resumed."""
        started_at, count, last = self._now(), 0, 0
        while unfinished := await self._patiently(partial(self._recorder.unfinished, last)):
            formulas = {each.number: each for each in unfinished if each.plan is None}
            texts = [(each.number, each.text) for each in formulas.values()]
            await self._slices.run(parse_again(texts, partial(self._resume_one_of, formulas)))
            for each in unfinished:
                if each.plan is not None:
                    self._resume(each, await self._build(each, each.plan))
            count += len(unfinished)
            last = unfinished[-1].number
        log.info("resumed %d jobs in %.1f s", count, self._now() - started_at)

    async def _awaited(self, plan: Plan) -> list[Job]:
        """The jobs that a plan waits for.

        A job that is deleted by now has succeeded, or the plan's job would have ended with it.
        """
        awaited = []
        for number in dict.fromkeys(plan.after):
            with suppress(NotFound):
                awaited += await self._patiently(partial(self._find, [number]))
        return awaited

    async def _patiently(self, read: Callable[[], Awaitable[T]]) -> T:
        """Read from the journal; try again while it cannot be read."""
        while True:
            try:
                return await read()
            except Unavailable as error:
                log.error("%s; jobs from before the start wait", error)
                await asyncio.sleep(READ_AGAIN_S)

    async def _build(self, unfinished: Unfinished, text: str) -> Work:
        """The work of a plan; it fails if the plan cannot be read any more."""
        job = self._jobs.job(unfinished.number)
        try:
            plan = read_plan(text)
            job.plan, job.priority, job.notify = text, plan.priority, plan.notify
            building = build(plan, NO_PLAN_LIMITS, self._wall_offset_s)
            work = await self._slices.run(building)
            return with_awaited(work, await self._awaited(plan))
        except (DteError, Malformed) as error:
            return Work.failed(f"it cannot be read any more: {error}")

    def _resume_one_of(self, unfinished: dict[int, Unfinished], number: int, work: Work) -> None:
        self._resume(unfinished[number], work)

    def _resume(self, unfinished: Unfinished, work: Work) -> None:
        job = self._jobs.job(unfinished.number)
        job.records = unfinished.records or None
        self._jobs.resume(self._now(), job, work)
        self._wake()
