"""After a restart: the unfinished jobs are read from the journal and resumed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from dte.core.errors import DteError, NotFound, Unavailable
from dte.core.graph.work import Work
from dte.core.jobs.job import Job
from dte.core.jobs.table import NewJob
from dte.core.scheduler import Scheduler
from dte.master.archive import Archive
from dte.master.clock import Clock
from dte.master.expected import ExpectedTasks
from dte.master.journal.journal import Unfinished
from dte.master.journal.memory import AnyRecorder
from dte.master.long_plans import reading_plan
from dte.master.parsing import parse_again
from dte.master.plans import RESUMED_LIMITS, Plan, build, new_job
from dte.master.slices import Slices
from dte.wire.codec import Malformed

log = logging.getLogger("dte.master")

T = TypeVar("T")

READ_AGAIN_S = 1.0


@dataclass
class Restart:
    """Resumes the journal's unfinished jobs, in slices, while the master serves already.

    Attributes:
        handlers: the handlers of calls of dte's own clients that go on.
    """

    core: Scheduler
    recorder: AnyRecorder
    archive: Archive
    expected: ExpectedTasks
    slices: Slices
    clock: Clock
    wake: Callable[[], None]
    handlers: set[str] = field(default_factory=set)

    async def run(self) -> None:
        """Resume all jobs."""
        started_at, count, last = self.clock.now(), 0, 0
        while unfinished := await self._patiently(partial(self.recorder.unfinished, last)):
            formulas = {job.number: job for job in unfinished if job.plan is None}
            texts = [(job.number, job.text) for job in formulas.values()]
            await self.slices.run(parse_again(texts, partial(self._resume_formula, formulas)))
            for job in unfinished:
                if job.plan is not None:
                    self._resume(job, await self._build(job, job.plan))
            count += len(unfinished)
            last = unfinished[-1].number
        log.info("jobs resumed: %d, after %.1f s", count, self.clock.now() - started_at)

    async def _patiently(self, read: Callable[[], Awaitable[T]]) -> T:
        """Read from the journal, again and again until it can be read."""
        while True:
            try:
                return await read()
            except Unavailable as error:
                log.error("%s; jobs from before the restart wait", error)
                await asyncio.sleep(READ_AGAIN_S)

    async def _build(self, unfinished: Unfinished, text: str) -> NewJob:
        """The job of a plan; a job that fails if the plan cannot be read any more."""
        plan = Plan()
        try:
            plan = await self.slices.run(reading_plan(text))
            now, begun_at = self.clock.now(), plan.accepted_at
            accepted_at = now if begun_at is None else self.clock.moment_of(begun_at)
            work = await self.slices.run(build(plan, RESUMED_LIMITS, accepted_at))
            if work.calls is not None:
                await self.slices.run(work.calls.restoring(unfinished.records))
            awaited = await self._jobs_before(plan)
            return new_job(plan, unfinished.text, text, work, awaited)
        except (DteError, Malformed) as error:
            work = Work.failed(f"it cannot be read any more: {error}")
        return new_job(plan, unfinished.text, text, work, [])

    async def _jobs_before(self, plan: Plan) -> list[Job]:
        """The jobs that must end before a plan begins.

        A job that is deleted by now succeeded; otherwise the plan's job would have ended with it.
        """
        numbers = list(dict.fromkeys(plan.after))
        if not numbers:
            return []
        try:
            return await self._patiently(partial(self.archive.find, numbers))
        except NotFound:
            known = await self._patiently(partial(self.archive.known, numbers))
            return [known[number] for number in numbers if number in known]

    def _resume_formula(self, unfinished: dict[int, Unfinished], number: int, work: Work) -> None:
        if work.calls is not None:
            work.calls.restore(unfinished[number].records)
        self._resume(unfinished[number], NewJob(unfinished[number].text, work))

    def _resume(self, unfinished: Unfinished, new: NewJob) -> None:
        job = self.core.jobs.job(unfinished.number)
        self.core.resume(self.clock.now(), job, new)
        self.expected.add(job)
        self.handlers.update(
            call.handler for call in job.each_call() if not (call.origin or call.is_terminal)
        )
        self.wake()
