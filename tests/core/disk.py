"""What a journal would know: the facts that have been recorded, and a core's way back from them."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from core.plans import Plan
from dte.core.formula.formula import FormulaLimits, parse
from dte.core.jobs.facts import CallRecord, End, Facts, Submission, end_record
from dte.core.jobs.job import Job, JobState

if TYPE_CHECKING:
    from dte.core.scheduler import Scheduler


class Disk:
    """Facts that outlive the core.

    Attributes:
        records: what is known of calls, by their job's number and their names.
        ends: how jobs ended, in the order in which they did.
        handed_out: the leases that have been recorded: number of the job, name, number.
    """

    def __init__(self) -> None:
        self.last = 0
        self.texts: dict[int, str] = {}
        self.records: dict[int, dict[str, CallRecord]] = {}
        self.ends: dict[int, End] = {}
        self.cancelled: set[int] = set()
        self.handed_out: set[tuple[int, str, int]] = set()
        self._plans: dict[str, Plan] = {}

    def text_of(self, plan: Plan) -> str:
        """A text from which a plan can be read again."""
        text = f"plan {len(self._plans)}"
        self._plans[text] = plan
        return text

    def plan(self, number: int) -> Plan | None:
        return self._plans.get(self.texts[number])

    def write(self, facts: Facts, void: Collection[Submission] = ()) -> None:
        for submission in facts.submissions:
            if submission in void:
                continue
            for job, text in zip(submission.jobs, submission.texts, strict=True):
                assert job.number not in self.texts
                self.texts[job.number] = text
                self.last = max(self.last, job.number)
                self.records[job.number] = {record.name: record for record in job.records or ()}
        for step in facts.steps:
            job = step.call.job
            assert job is not None
            known = self.records[job.number]
            old = known.get(step.call.name)
            assert old is None or old.state is None, "a recorded end is changed"
            known[step.call.name] = step.record
            if step.lease is not None:
                self.handed_out.add((job.number, step.call.name, step.lease.number))
        ends = [end for made in facts.submissions if made not in void for end in made.ends]
        for end in ends + facts.ends:
            assert end.job.number not in self.ends, "a job ends once"
            self.ends[end.job.number] = end
            if end.job.calls is not None:
                known = self.records[end.job.number]
                for call in end.job.calls.calls.values():
                    if not call.recorded:
                        known[call.name] = end_record(call)
        self.cancelled |= {cancel.job.number for cancel in facts.cancels}

    def load(self) -> tuple[list[Job], list[Job]]:
        """The jobs that have not ended, and those that have."""
        waiting = []
        for number, text in self.texts.items():
            if number not in self.ends:
                task = self._plans[text].task if text in self._plans else text
                job = Job(number, task, 0.0, 0, None, JobState.WAITING)
                job.cancelled = number in self.cancelled
                waiting.append(job)
        ended = []
        for number, end in self.ends.items():
            job = Job(number, end.job.task, 0.0, 0, None, end.state)
            job.answer, job.error, job.ended_at = end.answer, end.error, end.at
            ended.append(job)
        return waiting, ended

    def read(self, core: Scheduler, now: float, job: Job) -> None:
        """Go on with a job that has not ended."""
        text = self.texts[job.number]
        plan = self._plans.get(text)
        if plan is None:
            core.jobs.resume(now, job, parse(text, FormulaLimits()))
            return
        job.plan, job.priority = text, plan.priority
        job.records = list(self.records[job.number].values()) or None
        core.jobs.resume(now, job, plan.formula_for(core))
