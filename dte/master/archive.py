"""Jobs and their calls by number, from memory or from the journal."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from dte.core.errors import NotFound
from dte.core.graph.call import Call, CallRecord, CallState
from dte.core.graph.calls import CallGraph
from dte.core.jobs.job import TASK_CHARS_KEPT, Job
from dte.core.jobs.table import JobTable
from dte.master.access.caller import OWN_USERS, Caller
from dte.master.clock import Clock
from dte.master.journal.memory import AnyRecorder
from dte.master.long_plans import reading_plan
from dte.master.plans import LOST_PLAN, NO_PLAN_LIMITS, Plan, build
from dte.master.slices import Slices, collected

FOUND_IN_TURN = 5_000
"""Jobs that are looked up in one turn of the loop."""
READ_AT_A_TIME = 500
"""Jobs that are read from the journal in one go."""
NAMED_MAX = 10
"""Unknown jobs that an error names; more are counted."""
UNKNOWN = "?"
"""Stands for a handler that nobody knows, as the plan is lost."""


@dataclass
class Archive:
    """Finds jobs, in memory or in the journal."""

    jobs: JobTable
    recorder: AnyRecorder
    slices: Slices
    clock: Clock

    def in_memory(self, number: int, caller: Caller = OWN_USERS) -> Job | None:
        """The job of this number, if it is not in the journal alone.

        Raises:
            NotFound: there has never been such a job, or the caller does not see it.
        """
        try:
            job = self.jobs.job(number)
            if not caller.sees(job.owner):
                raise NotFound("Job not found")
            return job
        except NotFound:
            if not self.jobs.is_past(number):
                raise
        return None

    async def find(self, numbers: Sequence[int], caller: Caller = OWN_USERS) -> list[Job]:
        """The jobs of these numbers, in their order.

        Args:
            caller: jobs that it does not see are not there.

        Raises:
            NotFound: there is no such job, or it ended so long ago that it is deleted.
            Unavailable: the journal cannot be read.
        """
        jobs = self._in_memory(numbers)
        missing = [number for number in numbers if number not in jobs]
        unknown = [each for each in dict.fromkeys(missing) if not self.jobs.is_past(each)]
        if missing and not unknown:  # Otherwise at once: the journal may be busy for a while.
            jobs |= await self._ended(missing)
            unknown = [each for each in dict.fromkeys(missing) if each not in jobs]
        if not caller.sees_all:
            hidden = {number for number, job in jobs.items() if not caller.sees(job.owner)}
            unknown = [each for each in dict.fromkeys(numbers) if each in {*unknown, *hidden}]
        if unknown:
            raise NotFound("Job not found" + (_named(unknown) if len(numbers) > 1 else ""))
        return [jobs[number] for number in numbers]

    async def known(self, numbers: Collection[int]) -> dict[int, Job]:
        """The jobs of these numbers by number, without those that are not known.

        Raises:
            Unavailable: the journal cannot be read.
        """
        jobs: dict[int, Job] = {}
        left = iter(numbers)
        while some := list(islice(left, FOUND_IN_TURN)):
            jobs |= self._in_memory(some)
            await asyncio.sleep(0)
        past = [each for each in numbers if each not in jobs and self.jobs.is_past(each)]
        return jobs | await self._ended(past)

    async def _ended(self, numbers: Sequence[int]) -> dict[int, Job]:
        """Read jobs of the journal, few at a time: others ask it and write meanwhile."""
        jobs: dict[int, Job] = {}
        for first in range(0, len(numbers), READ_AT_A_TIME):
            jobs |= await self.recorder.ended(numbers[first : first + READ_AT_A_TIME])
        return jobs

    def _in_memory(self, numbers: Iterable[int]) -> dict[int, Job]:
        jobs: dict[int, Job] = {}
        for number in numbers:
            with suppress(NotFound):
                jobs[number] = self.jobs.job(number)
        return jobs

    async def plan_of(self, job: Job) -> tuple[str | None, Sequence[CallRecord]]:
        """The text of a job's plan, None for a plain formula, and the records of its calls."""
        return (await self.plans_of([job]))[0]

    async def plan_to_repeat(self, job: Job) -> tuple[str | None, Sequence[CallRecord]]:
        """What `plan_of` returns of a job that a retry repeats.

        Raises:
            NotFound: the job is deleted, so nobody knows which of its calls succeeded.
        """
        if not _is_past(job):
            return await self.plan_of(job)
        kept = await self.recorder.plans([job.number])
        if job.number not in kept:
            raise NotFound(f"job {job.number} has been deleted since it ended; submit it again")
        text, records = kept[job.number]
        if text is None or text == LOST_PLAN:
            return text, records
        plan = await self.slices.run(reading_plan(text))
        if not plan.merged:
            return text, records
        copies = await self.slices.run(collected(record.copy() for record in records))
        calls = await self.slices.run(_calls(plan, copies))
        recorded = {record.name for record in records}
        return text, [*records, *(each.record for each in calls if each.name not in recorded)]

    async def plans_of(self, jobs: Sequence[Job]) -> list[tuple[str | None, Sequence[CallRecord]]]:
        """For each job what `plan_of` returns."""
        past = [job.number for job in jobs if _is_past(job)]
        kept: dict[int, tuple[str | None, list[CallRecord]]] = {}
        if past:
            kept = await self.recorder.plans(past)
        plans: list[tuple[str | None, Sequence[CallRecord]]] = []
        for job in jobs:
            if job.calls is None:
                plans.append(kept.get(job.number, (job.plan, [])))
            else:
                copies = (call.record.copy() for call in job.calls.named())
                plans.append((job.plan, await self.slices.run(collected(copies))))
        return plans

    async def calls_of(self, job: Job) -> Sequence[Call]:
        """The calls of a job, as they stand or ended."""
        if job.calls is not None:
            return await self.slices.run(collected(job.calls.named()))
        text, records = await self.plan_of(job)
        if text is None and not records:
            return []
        if text == LOST_PLAN or (text is None and len(job.task) > TASK_CHARS_KEPT):
            # Only the beginning of a long formula is kept once it has ended.
            names = [record.name for record in records]
            graph = CallGraph()
            graph.calls = {name: Call(name, _handler_in(name), []) for name in names}
            return await self.slices.run(_restored(graph, records))
        plan = Plan(formula=job.task)
        if text is not None:
            plan = await self.slices.run(reading_plan(text))
        return await self.slices.run(_calls(plan, records))


def _handler_in(name: str) -> str:
    """The handler in the name of a call of a formula; in graphs, names say nothing of handlers."""
    handler, is_of_formula, _ = name.partition("@")
    return handler if is_of_formula else UNKNOWN


def _is_past(job: Job) -> bool:
    """True if only the journal has the calls of a job."""
    return job.is_terminal and job.calls is None


def _calls(plan: Plan, records: Sequence[CallRecord]) -> Generator[None, None, list[Call]]:
    """The calls of an ended job of a plan, under all of their names.

    Of equal calls of pure handlers one has a record, unless they ran one by one after a restart.
    """
    recorded = {record.name for record in records}
    pure = () if plan.graph.keys() <= recorded else plan.merged
    work = yield from build(plan, NO_PLAN_LIMITS, pure=pure)
    if work.calls is None:
        return []
    return (yield from _restored(work.calls, records))


def _restored(graph: CallGraph, records: Sequence[CallRecord]) -> Generator[None, None, list[Call]]:
    """The calls of an ended job, as they were recorded.

    In a formula, calls that equal others did not run and have no records.
    """
    for record in records:
        record.state = record.state or CallState.CANCELLED  # The job ended without the call.
    yield from graph.restoring(records)
    named = yield from collected(graph.named())
    return [call for call in named if call.recorded]


def _named(unknown: Sequence[int]) -> str:
    """The first of the jobs that are not known, for an error."""
    more = f" and {len(unknown) - NAMED_MAX} more" if len(unknown) > NAMED_MAX else ""
    return f": {', '.join(map(str, unknown[:NAMED_MAX]))}{more}"
