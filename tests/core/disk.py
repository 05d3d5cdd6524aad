"""What a journal would know: the facts that have been recorded, and a core's way back from them."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from core.plans import Plan
from dte.core.formula.formula import FormulaLimits, parse
from dte.core.graph.call import CallRecord
from dte.core.jobs.facts import End, Facts, Submission
from dte.core.jobs.job import Job, JobState
from dte.core.jobs.table import NewJob

if TYPE_CHECKING:
    from dte.core.scheduler import Scheduler


def all_ends(facts: Facts, void: Collection[Submission] = ()) -> list[End]:
    """The ends in facts, those of jobs that are accepted there included."""
    made = (submission for submission in facts.submissions if submission not in void)
    return [end for submission in made for end in submission.ends] + facts.ends


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
                taken_over = [call.record for call in job.each_call() if call.recorded]
                self.records[job.number] = {record.name: record for record in taken_over}
        for step in facts.steps:
            number = step.call.job
            known = self.records[number]
            old = known.get(step.call.name)
            assert old is None or old.state is None, "a recorded end is changed"
            known[step.call.name] = step.record
            if step.record.lease:
                self.handed_out.add((number, step.call.name, step.record.lease))
        for end in all_ends(facts, void):
            assert end.job.number not in self.ends, "a job ends once"
            self.ends[end.job.number] = end
            for call in end.job.each_call():
                if not call.recorded:
                    assert call.is_terminal, "a job ends with its calls"
                    self.records[end.job.number][call.name] = call.record.copy()
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
            new = NewJob(text, parse(text, FormulaLimits()))
        else:
            new = plan.new_job(core, text)
        if new.work.calls is not None:
            new.work.calls.restore(self.records[job.number].values())
        core.resume(now, job, new)
