"""Jobs and their calls by number, from memory or from the journal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress

from dte.core.errors import NotFound
from dte.core.graph.call import Call, CallState
from dte.core.graph.calls import CallGraph
from dte.core.jobs.facts import CallRecord, end_record
from dte.core.jobs.job import TASK_CHARS_KEPT, Job
from dte.core.jobs.table import JobTable
from dte.master.clock import Clock
from dte.master.journal.memory import AnyRecorder
from dte.master.plans import NO_PLAN_LIMITS, Plan, build, read_plan
from dte.master.slices import Slices


class Archive:
    """Finds jobs, wherever they are.

    Args:
        jobs: the jobs in memory.
        recorder: reads the jobs that only the journal has.
    """

    def __init__(self, jobs: JobTable, recorder: AnyRecorder, slices: Slices, clock: Clock) -> None:
        self._jobs = jobs
        self._recorder = recorder
        self._slices = slices
        self._clock = clock

    async def find(self, numbers: Sequence[int]) -> list[Job]:
        """The jobs of these numbers, in their order.

        Raises:
            NotFound: there is no such job, or it ended so long ago that it is deleted.
            Unavailable: the journal cannot be read.
        """
        jobs: dict[int, Job] = {}
        for number in numbers:
            with suppress(NotFound):
                jobs[number] = self._jobs.job(number)
        missing = [number for number in numbers if number not in jobs]
        if not all(map(self._jobs.is_past, missing)):
            raise NotFound("Job not found")  # At once: the journal may be busy for a while.
        if missing:
            jobs |= await self._recorder.ended(missing)
        if any(number not in jobs for number in missing):
            raise NotFound("Job not found")
        return [jobs[number] for number in numbers]

    async def plan_of(self, job: Job) -> tuple[str | None, Sequence[CallRecord]]:
        """The text of a job's plan, None for a plain formula, and the records of its calls."""
        return (await self.plans_of([job]))[0]

    async def plans_of(self, jobs: Sequence[Job]) -> list[tuple[str | None, Sequence[CallRecord]]]:
        """For each job what `plan_of` returns."""
        past = [job.number for job in jobs if job.finished and job.calls is None]
        kept: dict[int, tuple[str | None, list[CallRecord]]] = {}
        if past:
            kept = await self._recorder.plans(past)
        found: list[tuple[str | None, Sequence[CallRecord]]] = []
        for job in jobs:
            if job.calls is not None:
                found.append((job.plan, [end_record(call) for call in job.calls.named()]))
            else:
                found.append(kept.get(job.number, (job.plan, [])))
        return found

    async def calls_of(self, job: Job) -> Sequence[Call]:
        """The calls of a job, as they stand or ended."""
        if job.calls is not None:
            return list(job.calls.named())
        text, records = await self.plan_of(job)
        if text is None and not records:
            return []
        if text is None and len(job.task) > TASK_CHARS_KEPT:
            # Only the beginning of a long formula is kept once it has ended.
            names = [record.name for record in records]
            graph = CallGraph()
            graph.calls = {name: Call(name, name.partition("@")[0], []) for name in names}
            return list(restored(graph, records).calls.values())
        plan = read_plan(text) if text is not None else Plan(formula=job.task)
        work = await self._slices.run(build(plan, NO_PLAN_LIMITS, self._clock.offset_s))
        calls = work.calls
        return list(restored(calls, records).calls.values()) if calls is not None else []


def restored(graph: CallGraph, records: Iterable[CallRecord]) -> CallGraph:
    """A graph whose calls stand as they were recorded, to be looked at only."""
    for record in records:
        call = graph.calls.get(record.name)
        if call is None:
            continue
        call.attempts, call.failures, call.lost = record.attempts, record.failures, record.lost
        call.value, call.error, call.worker = record.value, record.error, record.worker
        call.started_at, call.ended_at = record.started_at, record.ended_at
        call.state, call.recorded = record.state or CallState.CANCELLED, True
    # In a formula, calls that were equal to others have not been done, and are not recorded.
    graph.calls = {name: call for name, call in graph.calls.items() if call.recorded}
    return graph
