"""A book of jobs and its journal, without a loop."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dte.core.formula.formula import FormulaLimits, parse
from dte.core.graph.arithmetic import Graph
from dte.core.graph.call import Call, CallRecord, CallState
from dte.core.graph.call_builder import CallGraphBuilder
from dte.core.graph.calls import CallGraph
from dte.core.graph.numbers import Number
from dte.core.graph.work import Work
from dte.core.jobs.facts import KnownSubmission, Step, Submission
from dte.core.jobs.job import Job, JobState
from dte.core.jobs.table import NewJob
from dte.core.limits import SchedulerLimits
from dte.core.scheduler import Scheduler
from dte.master.journal.journal import Journal, Loaded, Unfinished
from dte.wire.codec import encode

OFFSET_S = 1_700_000_000.0
"""What the book's clock is behind the wall's."""


class Book:
    """Accepts and ends jobs, and writes that into a journal.

    Args:
        path: of the journal.
        options: of the journal.

    Attributes:
        now: the time, on the book's clock.
        loaded: what the journal knew at the start.
    """

    def __init__(self, path: Path | str = ":memory:", **options: Any) -> None:
        self.journal = Journal(str(path), 1.0, **options)
        self.core = Scheduler(SchedulerLimits())
        self.jobs = self.core.jobs
        self.jobs.wall_offset_s = OFFSET_S
        self.now = 1.0
        self.loaded: Loaded = self.journal.load(1_000_000, 10**9, self.now)
        self.jobs.restore(self.loaded.last, self.loaded.waiting, self.loaded.ended)
        last = 0
        while unfinished := self.journal.unfinished(last):
            for found in unfinished:
                last = found.number
                work = parse(found.text, FormulaLimits()) if found.plan is None else built(found)
                if work.calls is not None:
                    work.calls.restore(found.records)
                new = NewJob(found.text, work, found.plan)
                self.core.resume(self.now, self.jobs.job(last), new)

    def accept(self, *tasks: str, key: str = "", digest: str = "", owner: str = "") -> list[Job]:
        """Accept formulas as one submission; nothing is written yet."""
        new = [NewJob(task, parse(task, FormulaLimits())) for task in tasks]
        return self.jobs.accept(self.now, new, key, digest, owner).jobs

    def accept_plan(
        self,
        *names: str,
        task: str = "calls",
        plan: str = "",
        key: str = "",
        records: Sequence[CallRecord] = (),
        **more: Any,
    ) -> Job:
        """Accept a job with calls of these names, or with any plan; nothing is written yet.

        Args:
            records: of calls whose results another job has.
        """
        work = formula_of(names)
        if records:
            calls_in(work).restore(records)
        planned = NewJob(task, work, plan or encode(names).decode(), **more)
        (job,) = self.jobs.accept(self.now, [planned], key).jobs
        return job

    def step(self, call: Call, ends: CallState | None = None, **known: Any) -> CallRecord:
        """Have something become of a call; nothing is written yet."""
        record = replace(call.record, **({"state": ends} | known))
        self.jobs.step(Step(call, record))
        return record

    def end(
        self,
        job: Job,
        answer: Number | bytes | None = None,
        error: str | None = None,
        state: JobState = JobState.SUCCEEDED,
    ) -> None:
        """End a job that was accepted; nothing is written yet."""
        self.jobs.end(self.now, job, answer=answer, error=error, state=state)
        self.core.calls.jobs.end_calls(self.now, job)

    def write(self) -> Mapping[Submission, KnownSubmission]:
        """Write what is to be written, as one group; the repeats."""
        facts = self.jobs.facts()
        assert facts is not None
        repeats = self.journal.write(facts, self.now)
        self.core.recorded(self.now, facts, repeats)
        return repeats

    def ended(self, *answers: Number, owner: str = "") -> list[Job]:
        """Jobs that have been accepted, have ended, and are written."""
        jobs = self.accept(*["1+1"] * len(answers), owner=owner)
        self.write()
        for job, answer in zip(jobs, answers, strict=True):
            self.end(job, answer)
        self.write()
        return jobs

    def count(self, table: str) -> int:
        """How many rows a table of the journal has."""
        return int(self.journal._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])

    def close(self) -> None:
        self.journal.close()


def formula_of(names: Sequence[str]) -> Work:
    """What is to be done for a job with calls of these names."""
    builder = CallGraphBuilder()
    for name in names:
        builder.add(name, "echo", [1])
    list(builder.finish(None))
    return Work(Graph(), None, builder.graph)


def built(unfinished: Unfinished) -> Work:
    """What is to be done for a job from the journal that has a plan of this book's."""
    assert unfinished.plan is not None
    return formula_of(json.loads(unfinished.plan))


def calls_in(work: Work) -> CallGraph:
    assert work.calls is not None
    return work.calls


def calls_of(job: Job) -> dict[str, Call]:
    """The calls of a job, by name."""
    assert job.calls is not None
    return job.calls.calls
