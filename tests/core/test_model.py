"""The core against a model of it, in random histories that a restart may cut at any moment.

A long run, until so many steps have passed without a violation:

    DTE_MODEL_STEPS=50000 pytest tests/core/test_model.py
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from core.checked import SEED_WORKER, WORKER, Core, parsed
from core.disk import all_ends
from core.evaluate import do, is_as_python_says
from dte.core.arithmetic.lease import BatchLease
from dte.core.arithmetic.quarantine import MALFORMED_MAX
from dte.core.errors import Busy, NotFound
from dte.core.graph.numbers import Number
from dte.core.jobs.facts import End, Facts
from dte.core.jobs.job import Job, JobState
from dte.core.limits import SchedulerLimits
from dte.core.scheduler import LEASES_OF_A_BOOT, Tick
from dte.core.workers.worker import Announcement, Failure

STEPS = int(os.environ.get("DTE_MODEL_STEPS", "4000"))
STEPS_OF_A_HISTORY = 50
LIMITS = SchedulerLimits(jobs_waiting_max=12, jobs_kept=6, lease_s=10.0)
TEXTS = [
    *["1+(2*3)/4-5", "7", "1/0", "(1+2)*(3+4)-(1+2)", "0.1+0.2+0.3", "1*2+3*4+5*6+7*8"],
    *["2*3*4*5*6*7", "1-1/(2-2)", "1e999+1", "-(1+1)", "1*1+2/0+3*3"],
]
WORKERS = [
    *[replace(WORKER, address=f"10.0.0.1:{port}", slots=port) for port in (1, 2, 3)],
    SEED_WORKER,
    replace(SEED_WORKER, address="10.0.0.3:6000", slots=2, batch_max=4),
]
PAUSES_S = [0.0, 0.04, 0.4, 3.0, 20.0]
PLACES = st.integers(0, 1000)


@dataclass
class Known:
    """What the model knows of a job: its text, whether that is recorded, and its recorded end.

    Attributes:
        blows: how many leases that had operations of it came to nothing since the last start.
    """

    text: str
    operations: int
    recorded: bool = False
    end: End | None = None
    blows: int = 0


class Model:
    """Jobs by number, as they are on the disk, and those that are accepted and not there yet."""

    def __init__(self) -> None:
        self.jobs: dict[int, Known] = {}
        self.ended: list[int] = []
        self.last = 0
        self.to_tell: list[int] = []

    def accept(self, numbers: list[int], known: list[Known]) -> None:
        assert numbers == list(range(self.last + 1, self.last + 1 + len(known)))
        self.last += len(known)
        self.jobs.update(zip(numbers, known, strict=True))

    def record(self, facts: Facts, void: list[int]) -> None:
        for made in facts.submissions:
            for number in (job.number for job in made.jobs):
                assert not self.jobs[number].recorded
                if number in void:
                    del self.jobs[number]
                else:
                    self.jobs[number].recorded = True
        for end in all_ends(facts):
            number = end.job.number
            if number not in void:
                known = self.jobs[number]
                assert known.recorded
                assert known.end is None, "a job ends once"
                known.end = end
                self.ended.append(number)
                self.to_tell.append(number)

    def refuse(self, facts: Facts) -> None:
        for made in facts.submissions:
            for job in made.jobs:
                del self.jobs[job.number]

    def restart(self) -> None:
        self.jobs = {number: known for number, known in self.jobs.items() if known.recorded}
        self.last = max(self.jobs, default=0)
        self.to_tell = []
        for known in self.jobs.values():
            known.blows = 0

    def open(self) -> list[int]:
        """Those that count against the bound."""
        return [number for number, known in self.jobs.items() if known.end is None]

    def seen(self) -> list[int]:
        """Those that a client can ask for."""
        kept = set(self.ended[-LIMITS.jobs_kept :])
        return [
            number
            for number, known in self.jobs.items()
            if known.recorded and (known.end is None or number in kept)
        ]


class Histories(RuleBasedStateMachine):
    """Whatever happens, the core is as the model."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.boot = 1
        self.core = Core(limits=LIMITS, boot=1, records_at_once=False)
        self.now = 0.0
        self.starts = 0
        self.steps = 0
        self.announcement: dict[str, Announcement] = {}
        self.held: Facts | None = None
        self.out: list[BatchLease] = []
        self.answers: dict[int, tuple[list[Number], dict[int, str]]] = {}
        self.over: list[BatchLease] = []
        self.unread: list[Job] = []

    # What clients do

    @rule(texts=st.lists(st.sampled_from(TEXTS), min_size=1, max_size=4), at_once=st.booleans())
    def submit(self, texts, at_once) -> None:
        formulas = parsed(*texts)
        wanted = sum(new.work.value is None for new in formulas)
        known = [Known(new.task, new.work.graph.remaining) for new in formulas]
        if len(self.model.open()) + wanted > LIMITS.jobs_waiting_max:
            with pytest.raises(Busy, match="jobs_waiting_max"):
                self.core.jobs.accept(self.now, formulas)
        else:
            submission = self.core.jobs.accept(self.now, formulas)
            self.model.accept([job.number for job in submission.jobs], known)
        if at_once:
            self.record(set())

    # What the journal does

    @precondition(lambda self: self.held is None)
    @rule()
    def hold(self) -> None:
        self.held = self.core.jobs.facts()

    @rule(chosen=st.sets(st.integers(0, 3), max_size=1))
    def record(self, chosen) -> None:
        facts, self.held = self.held or self.core.jobs.facts(), None
        if facts is not None:
            void = [made for place, made in enumerate(facts.submissions) if place in chosen]
            self.core.recorded(self.now, facts, void)
            self.model.record(facts, [job.number for made in void for job in made.jobs])

    @precondition(lambda self: self.held is not None)
    @rule()
    def refuse(self) -> None:
        assert self.held is not None
        self.core.unrecorded(self.now, self.held)
        self.model.refuse(self.held)
        self.held = None

    # What workers do

    @rule(
        announcement=st.sampled_from(WORKERS), draining=st.sampled_from([False, False, False, True])
    )
    def announce(self, announcement, draining) -> None:
        self.core.announce(
            self.now,
            replace(self.announcement.get(announcement.address, announcement), draining=draining),
        )

    @rule(announcement=st.sampled_from(WORKERS), breaks=st.booleans())
    def start_anew(self, announcement, breaks) -> None:
        for lease in list(self.out) if breaks else ():
            if lease.worker.announcement.address == announcement.address:
                self.core.lose(self.now, lease, Failure.BROKEN)
        self.starts += 1
        change = {"incarnation" if announcement.incarnation else "name": f"start {self.starts}"}
        self.announcement[announcement.address] = replace(announcement, **change)
        self.core.announce(self.now, self.announcement[announcement.address])

    @precondition(lambda self: self.out)
    @rule(places=st.lists(PLACES, min_size=1, max_size=5))
    def answer(self, places) -> None:
        for place in places[: len(self.out)]:
            lease = self.out[place % len(self.out)]
            assert self.core.give(self.now, lease, *self.answers[lease.number])
            self._is_over(lease)

    @precondition(lambda self: self.out)
    @rule(place=PLACES, failure=st.sampled_from(Failure))
    def fail(self, place, failure) -> None:
        self.core.lose(self.now, self.out[place % len(self.out)], failure)

    @precondition(lambda self: self.over)
    @rule(place=PLACES)
    def answer_late(self, place) -> None:
        lease, stale = self.over[place % len(self.over)], self.core.stale_results
        assert not self.core.arithmetic.complete(self.now, lease.number, [999] * lease.count, {})
        assert self.core.stale_results == stale + 1
        self.core.lose(self.now, lease, Failure.BROKEN)

    # What time does

    @rule(pause_s=st.sampled_from(PAUSES_S))
    def wait(self, pause_s) -> None:
        self.now += pause_s

    @precondition(lambda self: self.steps > 20)
    @rule()
    def restart(self) -> None:
        """Only what is recorded is known; whom a lease was given does not know of the restart."""
        self.model.restart()
        self.boot += 1
        self.core = Core(limits=LIMITS, boot=self.boot, seed=self.boot, records_at_once=False)
        self.over, self.out, self.held = self.over + self.out, [], None
        self.unread, ended = [], []
        for number, known in self.model.jobs.items():
            if known.end is None:
                waiting = Job(number, known.text, 0.0, known.operations, None, JobState.WAITING)
                self.unread.append(waiting)
        for number in self.model.ended[-LIMITS.jobs_kept :]:
            end = self.model.jobs[number].end
            assert end is not None
            state = JobState.SUCCEEDED if end.error is None else JobState.FAILED
            job = Job(number, self.model.jobs[number].text, 0.0, 1, None, state)
            job.answer, job.error, job.ended_at = end.answer, end.error, end.at
            ended.append(job)
        self.core.jobs.restore(self.model.last, self.unread, ended)
        self.steps = 0

    @precondition(lambda self: self.unread)
    @rule()
    def read_again(self) -> None:
        job = self.unread.pop(0)
        self.core.resume(self.now, job, parsed(job.task)[0])

    # What must be so

    @invariant()
    def all_is_as_the_model_says(self) -> None:
        self.steps += 1
        for tick in self.core.settle(self.now):
            self._check_tick(tick)
        seen = self.model.seen()
        assert [job.number for job in self.core.jobs.newest(10**6)] == sorted(seen, reverse=True)
        assert self.core.jobs.waiting == len(self.model.open())
        for number in range(1, self.model.last + 2):
            if number in seen:
                self._check_job(self.core.jobs.job(number), self.model.jobs[number].end)
            else:
                with pytest.raises(NotFound):
                    self.core.jobs.job(number)

    def _check_job(self, job: Job, end: End | None) -> None:
        assert job.is_terminal == (end is not None)
        if end is None:
            assert (job.answer, job.error, job.ended_at) == (None, None, None)
            return
        assert (job.answer, job.error, job.ended_at) == (end.answer, end.error, end.at)
        blows = self.model.jobs[job.number].blows
        if "workers_lost_max" in str(job.error):
            assert blows >= LIMITS.workers_lost_max or self.boot > 1
        elif "gave up after" in str(job.error):
            assert blows >= MALFORMED_MAX or self.boot > 1
        else:
            assert is_as_python_says(job)

    def _check_tick(self, tick: Tick) -> None:
        for lease in tick.batches:
            assert lease.number // LEASES_OF_A_BOOT == self.boot
            assert lease.number not in self.answers
            assert lease.worker.state != "draining"
            self.answers[lease.number] = do(lease.columns())  # Fails if operands are not known.
            for job, _ in lease.parts:
                assert lease.worker.state == "busy"
                assert self.model.jobs[job.number].recorded
                assert self.model.jobs[job.number].end is None
        self.out += tick.batches
        for lease in tick.lost:
            self._is_over(lease)
            for job, _ in lease.parts:
                self.model.jobs[job.number].blows += 1
        told = [job.number for job in tick.ended]
        assert told == self.model.to_tell[: len(told)]
        del self.model.to_tell[: len(told)]

    def _is_over(self, lease: BatchLease) -> None:
        self.out.remove(lease)
        self.over.append(lease)

    def teardown(self) -> None:
        """From now on all is well, and every job ends."""
        while self.unread:
            self.read_again()
        for _ in range(100):
            self.record(set())
            self.start_anew(WORKERS[0], breaks=False)
            self.start_anew(SEED_WORKER, breaks=False)
            self.all_is_as_the_model_says()
            while self.out:
                self.answer([0])
            self.now += 10.0
            if not self.model.open():
                return
        raise AssertionError(f"these jobs do not end: {self.model.open()}")


Histories.TestCase.settings = settings(
    max_examples=max(1, STEPS // STEPS_OF_A_HISTORY),
    stateful_step_count=STEPS_OF_A_HISTORY,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestHistories = Histories.TestCase
