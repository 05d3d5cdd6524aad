"""Lives of a master without sockets: a real core, a real journal, and workers that never fail.

A life goes on until everything is done, or until its process ends. What a client would have been
told is written down beside the journal, in the order in which it was told.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core.disk import all_ends
from core.evaluate import FUNCTIONS
from torture.disk.faulty import JOURNAL

from dte.core.arithmetic.lease import BatchLease
from dte.core.calls.attempts import Outcome
from dte.core.formula.formula import FormulaLimits, parse
from dte.core.graph.call import Call, CallState
from dte.core.graph.handlers import HandlerPolicy
from dte.core.graph.work import Work
from dte.core.jobs.facts import Facts
from dte.core.jobs.job import Job
from dte.core.jobs.table import NewJob
from dte.core.limits import SchedulerLimits
from dte.core.scheduler import Scheduler
from dte.core.workers.worker import Announcement
from dte.master.journal.journal import Journal, Unfinished
from dte.master.journal.schema import JournalFailed
from dte.master.messages import arguments
from dte.master.plans import NO_PLAN_LIMITS, build, read_plan

TOLD = "told.jsonl"
WORKER = Announcement(
    "worker",
    "10.0.0.1:6000",
    slots=2,
    batch_max=3,
    incarnation="a",
    handlers={"double": HandlerPolicy(), "fail": HandlerPolicy()},
    handler_slots=2,
)
ROUNDS_MAX = 1_000
POISON = 666
POISONED = 'it said "\0" and \N{GRINNING FACE}'
"""What the worker says of any operation with that operand: its error has a NUL."""
TOO_LONG_TO_KEEP = "3+4" + " " * 17_000 + "*5"
LONG_INTEGER = f"{10**4299 - 1}*9"

SENT: dict[str, list[str]] = {
    "first": ["1+2*3", "7", "0.1+0.2"],
    "long": [TOO_LONG_TO_KEEP],
    "failing": ["5/0", "2*(3+4)", f"1+{POISON}"],
    "digits": [LONG_INTEGER, f"-{LONG_INTEGER}"],
    "floats": ["5e-324*1", "-0.0*1", "1e308*1", "1/3"],
    "constant": ["-8"],
    "many": [f"({n}+{n}*2)*({n}-1)/{n}" for n in range(1, 9)],
    "last": ["1-2-3-4-5"],
}
"""What clients submit, by the keys under which they repeat it until they know it is accepted."""
URL = "http://10.0.0.9/ended"
PLAN_TASK = "calls"
PLANS = {
    "chain": (
        '{"graph":{"a":{"handler":"double","args":["\\u0000"]},'
        '"b":{"handler":"double","args":[{"ref":"a"}]}}}'
    ),
    "broken": (
        '{"graph":{"a":{"handler":"fail"},"b":{"handler":"double","args":[1],"after":["a"]},'
        '"c":{"handler":"double","args":[2]}},"notify":"' + URL + '"}'
    ),
}
"""Plans that clients submit, by their keys."""
VALUES: dict[str, dict[str, str | None]] = {
    "chain": {"a": '"\\u0000\\u0000"', "b": '"\\u0000\\u0000\\u0000\\u0000"'},
    "broken": {"a": None, "b": None, "c": "4"},
}
"""What their calls give."""


def expected(task: str) -> tuple[str | None, str | None]:
    """The answer to a formula as Python writes it, or to a plan, and the beginning of its error."""
    if task == PLANS["chain"]:
        return VALUES["chain"]["b"], None
    if task == PLANS["broken"]:
        return None, f"node 'a': {POISONED}"
    if str(POISON) in task:
        return None, POISONED
    try:
        return repr(eval(task)), None
    except ZeroDivisionError:
        return None, "division by zero"


@dataclass
class Stand:
    """The jobs of a journal."""

    waiting: set[int] = field(default_factory=set)
    ended: set[int] = field(default_factory=set)

    def after(self, facts: Facts) -> Stand:
        """With these facts."""
        accepted = {job.number for each in facts.submissions for job in each.jobs}
        ended = self.ended | {end.job.number for end in all_ends(facts)}
        return Stand((self.waiting | accepted) - ended, ended)


class Life:
    """A master's life with a journal in a folder, from its start.

    Raises:
        JournalRefused: as `Journal` does.
    """

    def __init__(self, folder: Path) -> None:
        self._told = folder / TOLD
        self.journal = Journal(str(folder / JOURNAL))
        loaded = self.journal.load(1_000, 10**9, 0.0)
        self._core = Scheduler(SchedulerLimits(), self.journal.boot)
        jobs = self._core.jobs
        jobs.restore(loaded.last, loaded.waiting, loaded.ended)
        self._stand = Stand(
            {job.number for job in loaded.waiting}, {job.number for job in loaded.ended}
        )
        last = 0
        self._calls: list[int] = []
        while unfinished := self.journal.unfinished(last):
            for found in unfinished:
                last = found.number
                self._resume(found)
        self._core.announce(0.0, WORKER)
        self._leases: list[BatchLease] = []
        self.failures = 0

    def _resume(self, found: Unfinished) -> None:
        """Go on with a job; the worker still has what it was given of it."""
        notify = ""
        if found.plan is None:
            work = parse(found.text, FormulaLimits())
        else:
            work = built(found.plan)
            notify = read_plan(found.plan).notify
        if work.calls is not None:
            work.calls.restore(found.records)
        self._calls += [record.lease for record in found.records if record.lease]
        new = NewJob(found.text, work, found.plan, notify=notify)
        self._core.resume(0.0, self._core.jobs.job(found.number), new)

    def go_on(self) -> None:
        """Submit what clients do not know to be accepted, and do it all."""
        known = {line["key"] for line in read_told(self._told) if line["what"] == "accepted"}
        to_send = [key for key in [*PLANS, *SENT] if key not in known]
        for number in range(ROUNDS_MAX):
            now = 1.0 + number
            if to_send:
                self._submit(now, to_send.pop(0))
            to_send += self._record(now)
            tick = self._core.tick(now)
            self._leases += tick.batches
            self._calls += [lease.number for lease in tick.calls]
            for number_given in self._calls[:1]:
                self._report(now, number_given)
            del self._calls[:1]
            for lease in self._leases[:2]:
                self._answer(now, lease)
            del self._leases[:2]
            to_send += self._record(now)
            self._core.check()
            if not to_send and not self._core.jobs.waiting:
                self.journal.close()
                return
        raise AssertionError(f"not done after {ROUNDS_MAX} rounds")

    def _submit(self, now: float, key: str) -> None:
        if key in PLANS:
            text, notify = PLANS[key], read_plan(PLANS[key]).notify
            new = NewJob(PLAN_TASK, built(text), text, notify=notify)
            self._core.jobs.accept(now, [new], key, f"digest of {key}")
            return
        new = [NewJob(task, parse(task, FormulaLimits())) for task in SENT[key]]
        self._core.jobs.accept(now, new, key, f"digest of {key}")

    def _record(self, now: float) -> list[str]:
        """Record what there is to record, and give the keys to send again."""
        while (facts := self._core.jobs.facts()) is not None:
            stand = self._stand.after(facts)
            self._tell("attempt", waiting=sorted(stand.waiting), ended=sorted(stand.ended))
            try:
                repeats = self.journal.write(facts, now)
            except JournalFailed:
                self.failures += 1
                self._core.unrecorded(now, facts)
                return [submission.key for submission in facts.submissions]
            self._core.recorded(now, facts, repeats)
            if not repeats:
                self._stand = stand
            self._tell("done")
            for submission in facts.submissions:
                first = submission.jobs[0].number
                known = repeats.get(submission)
                self._tell(
                    "accepted",
                    key=submission.key,
                    first=known.first if known is not None else first,
                )
            for step in facts.steps:
                if step.record.state is not None:
                    self._tell("reported", number=step.call.job, name=step.call.name)
            for end in all_ends(facts):
                if end.job.is_terminal:
                    self._tell_end(end.job)
        return []

    def _tell_end(self, job: Job) -> None:
        answer = None if job.answer is None else repr(job.answer)
        if isinstance(job.answer, bytes):
            answer = job.answer.decode()
        self._tell("ended", number=job.number, answer=answer, error=job.error)

    def _tell(self, what: str, **more: Any) -> None:
        tell(self._told, what, **more)

    def _report(self, now: float, number: int) -> None:
        """Do a call, and say what came of it."""
        lease = self._core.calls.leases.get(number)
        if lease is not None:
            self._core.calls.report(now, number, outcome(lease.call))

    def _answer(self, now: float, lease: BatchLease) -> None:
        results: list[int | float] = []
        errors: dict[int, str] = {}
        for place, (symbol, a, b) in enumerate(zip(*lease.columns(), strict=True)):
            try:
                results.append(FUNCTIONS[symbol](a, b))
            except ZeroDivisionError:
                results.append(0)
                errors[place] = "division by zero"
            if POISON in (a, b):
                errors[place] = POISONED
        self._core.arithmetic.complete(now, lease.number, results, errors)


def built(plan: str) -> Work:
    """The work of a plan."""
    building = build(read_plan(plan), NO_PLAN_LIMITS)
    while True:
        try:
            next(building)
        except StopIteration as done:
            return done.value  # type: ignore[no-any-return]


def outcome(call: Call) -> Outcome:
    """The outcome of a call."""
    if call.handler == "fail":
        return Outcome(CallState.FAILED, None, POISONED, retry=False)
    (argument,) = arguments(call)
    return Outcome(CallState.SUCCEEDED, json.dumps(argument * 2).encode())


def tell(path: Path, what: str, **more: Any) -> None:
    """Write down what a client is told."""
    line = json.dumps({"what": what} | more).encode() + b"\n"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.pwrite(fd, line, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def read_told(path: Path) -> list[dict[str, Any]]:
    """The lines that have been told so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_bytes().splitlines()]
