"""A book of jobs and its journal, without a loop."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dte.core.facts import KnownSubmission, Submission
from dte.core.formula import FormulaLimits, parse
from dte.core.job import Job
from dte.core.jobs import JobBook
from dte.core.limits import SchedulerLimits
from dte.core.operations import Number
from dte.master.journal import Journal, Loaded

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
        self.journal = Journal(str(path), OFFSET_S, **options)
        self.jobs = JobBook(SchedulerLimits())
        self.now = 1.0
        self.loaded: Loaded = self.journal.load(1_000_000, 10**9, self.wall_s)
        self.jobs.restore(self.loaded.last, self.loaded.waiting, self.loaded.ended)
        last = 0
        while formulas := self.journal.formulas(last):
            for last, text in formulas:
                job = self.jobs.job(last)
                self.jobs.resume(self.now, job, parse(text, FormulaLimits()))

    @property
    def wall_s(self) -> float:
        return self.now + OFFSET_S

    def accept(self, *tasks: str, key: str = "", digest: str = "") -> list[Job]:
        """Accept formulas as one submission; nothing is written yet."""
        formulas = [(task, parse(task, FormulaLimits())) for task in tasks]
        return self.jobs.submit(self.now, formulas, key, digest).jobs

    def end(self, job: Job, answer: Number | None = None, error: str | None = None) -> None:
        """End a job that was accepted; nothing is written yet."""
        self.jobs.end(self.now, job, answer=answer, error=error)

    def write(self) -> Mapping[Submission, KnownSubmission]:
        """Write what is to be written, as one group; the repeats."""
        facts = self.jobs.facts()
        assert facts is not None
        repeats = self.journal.write(facts, self.wall_s)
        self.jobs.recorded(facts, repeats)
        return repeats

    def ended(self, *answers: Number) -> list[Job]:
        """Jobs that have been accepted, have ended, and are written."""
        jobs = self.accept(*["1+1"] * len(answers))
        self.write()
        for job, answer in zip(jobs, answers, strict=True):
            self.end(job, answer)
        self.write()
        return jobs

    def close(self) -> None:
        self.journal.close()
