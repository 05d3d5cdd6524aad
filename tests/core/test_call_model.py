"""Jobs of calls in random histories that a crash may cut at any moment, against a small model.

A long run, until so many steps have passed without a violation:

    DTE_MODEL_STEPS=50000 pytest tests/core/test_call_model.py
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from core.checked import CALLER, LIMITS, LOOKER, PULLER, WORKER, Core
from core.disk import Disk, all_ends
from core.plans import Plan, call
from dte.core.arithmetic.lease import BatchLease
from dte.core.calls.attempts import Outcome
from dte.core.calls.lease import CallLease
from dte.core.graph.call import CallState, Ref
from dte.core.jobs.facts import Facts
from dte.core.jobs.job import Job, JobState
from dte.core.scheduler import Tick
from dte.core.workers.worker import Claim, Failure

STEPS = int(os.environ.get("DTE_MODEL_STEPS", "3000"))
STEPS_OF_A_HISTORY = 60
A, B, C = Ref("a"), Ref("b"), Ref("c")
GRAPHS = [
    {"a": call("f")},
    {"a": call("p", 1), "b": call("p", 1), "c": call("f", A, B)},
    {"a": call("p"), "b": call("f", A, retries=2), "c": call("g", B), "d": call("h", A, C)},
    {"a": call("f", retries=1), "b": call("g", A), "c": call("g", A, run_on_failure=True)},
    {"a": call("f", priority=3), "b": call("f", not_before=9.0), "c": call("p", A, after=["b"])},
    {"a": call("f", timeout_s=4.0), "b": call("g", timeout_s=4.0, retries=1), "c": call("h", A, B)},
    {f"n{n}": call("fgp"[n % 3], n // 4, *([Ref(f"n{n - 2}")] if n > 1 else [])) for n in range(8)},
]
TEXTS = ["f(1)", "f(1+2)*g(3)", "p(1+1)+p(1+1)", "1+f(g(2*3))", "f(1)+g(1)+1/0", "f(p(2))-p(2)"]
WORKERS = [
    CALLER,
    replace(CALLER, address="10.0.1.2:6000", name="d", handler_slots=4, arithmetic=True, slots=2),
    replace(CALLER, address="10.0.1.3:6000", name="e", can_stop=False, incarnation=""),
    LOOKER,
    WORKER,
]
PULLERS = [PULLER, replace(PULLER, name="puller 2", arithmetic=True, batch_max=8)]
ENDED = [
    Outcome(CallState.FAILED, None, "no"),
    Outcome(CallState.FAILED, None, "never", retry=False),
    Outcome(CallState.TIMED_OUT, None, "slow"),
    Outcome(None),
    Outcome(CallState.CANCELLED, None, "stopped"),
    Outcome(CallState.SUCCEEDED, b"null"),
]
PLACES = st.integers(0, 1000)
PAUSES_S = [0.0, 0.1, 1.0, 3.0, 11.0, 40.0]


@dataclass
class Known:
    """What the model knows of a job.

    Attributes:
        cancelled: a cancel is recorded.
        ends: the calls whose ends are recorded.
        attempts: the leases under which each call has been handed to a worker.
    """

    recorded: bool = False
    ended: bool = False
    cancelled: bool = False
    ends: dict[str, CallState] = field(default_factory=dict)
    attempts: dict[str, list[int]] = field(default_factory=dict)


class Histories(RuleBasedStateMachine):
    """Whatever happens, the laws hold."""

    def __init__(self) -> None:
        super().__init__()
        self.core = Core(limits=LIMITS, boot=1, records_at_once=False)
        self.now = 0.0
        self.starts = 0
        self.known: dict[int, Known] = {}
        self.held: Facts | None = None
        self.unread: list[Job] = []
        self.claims: list[Claim] = []
        self.hands: dict[int, CallLease] = {}
        """What workers have been given, whether the core still wants it or not."""
        self.batches: list[BatchLease] = []

    @property
    def disk(self) -> Disk:
        return self.core.disk

    # What clients do

    @rule(
        work=st.sampled_from([*GRAPHS, *TEXTS]),
        after=st.lists(PLACES, max_size=2),
        run_on_failure=st.booleans(),
        priority=st.integers(-1, 1),
    )
    def submit(self, work, after, run_on_failure, priority) -> None:
        seen = [job.number for job in self.core.jobs.newest(10**6)]
        numbers = sorted({seen[place % len(seen)] for place in after}) if seen else []
        nodes, text = ({}, work) if isinstance(work, str) else (work, None)
        plan = Plan(nodes, text, None, numbers, run_on_failure, priority)
        job = self.core.plan(plan, self.now)
        self.known[job.number] = Known()

    @precondition(lambda self: self.core.jobs.waiting)
    @rule(place=PLACES)
    def cancel(self, place) -> None:
        jobs = [job for job in self.core.jobs.newest(10**6) if not job.is_terminal]
        if jobs:
            self.core.cancel(self.now, jobs[place % len(jobs)])

    # What the journal does

    @precondition(lambda self: self.held is None)
    @rule()
    def hold(self) -> None:
        self.held = self.core.jobs.facts()

    @rule()
    def record(self) -> None:
        facts, self.held = self.held or self.core.jobs.facts(), None
        if facts is not None:
            self._note(facts)
            self.core.write(facts)

    @precondition(lambda self: self.held is not None)
    @rule()
    def refuse(self) -> None:
        assert self.held is not None
        for made in self.held.submissions:
            for job in made.jobs:
                del self.known[job.number]
        self.core.unrecorded(self.now, self.held)
        self.held = None

    def _note(self, facts: Facts) -> None:
        for made in facts.submissions:
            for job in made.jobs:
                self.known[job.number].recorded = True
        for step in facts.steps:
            known = self.known[step.call.job]
            assert step.call.name not in known.ends, "what has ended goes on"
            if step.record.state is not None:
                known.ends[step.call.name] = step.record.state
        for cancel in facts.cancels:
            self.known[cancel.job.number].cancelled = True
        for end in all_ends(facts):
            known = self.known[end.job.number]
            assert not known.ended, "a job ends once"
            assert not known.cancelled or end.state is JobState.CANCELLED
            known.ended = True

    # What workers do

    @rule(
        announcement=st.sampled_from(WORKERS), draining=st.sampled_from([False, False, False, True])
    )
    def announce(self, announcement, draining) -> None:
        self.core.announce(self.now, replace(announcement, draining=draining))

    @rule(announcement=st.sampled_from(WORKERS))
    def start_anew(self, announcement) -> None:
        self.starts += 1
        self.core.announce(self.now, replace(announcement, incarnation=str(self.starts)))

    @precondition(lambda self: self.core.workers())
    @rule(place=PLACES)
    def leave(self, place) -> None:
        workers = self.core.workers()
        self.core.leave(self.now, workers[place % len(workers)])

    @rule(announcement=st.sampled_from(PULLERS), slots=st.integers(1, 3))
    def claim(self, announcement, slots) -> None:
        self.claims.append(self.core.ask(self.now, announcement, slots))

    @precondition(lambda self: self.claims)
    @rule(place=PLACES)
    def hang_up(self, place) -> None:
        claim = self.claims.pop(place % len(self.claims))
        self.core.hang_up(self.now, claim)

    @precondition(lambda self: self.core.workers())
    @rule(place=PLACES, forgets=st.booleans())
    def look(self, place, forgets) -> None:
        workers = self.core.workers()
        worker = workers[place % len(workers)]
        if forgets:
            self.core.calls.asks_again(worker)
        self.core.calls.seen(self.now, worker)
        self._get(self.core.calls.leases.sent_to(worker))

    @precondition(lambda self: self.hands)
    @rule(places=st.lists(PLACES, min_size=1, max_size=4))
    def succeed(self, places) -> None:
        for place in places:
            self._report(place, Outcome(CallState.SUCCEEDED, b"7"))

    @precondition(lambda self: self.hands)
    @rule(place=PLACES, outcome=st.sampled_from(ENDED))
    def end(self, place, outcome) -> None:
        self._report(place, outcome)

    def _report(self, place: int, outcome: Outcome) -> None:
        number = list(self.hands)[place % len(self.hands)]
        on = self.core.calls.leases.get(number) is not None
        stale = self.core.calls.stale_results
        fact = self.core.calls.report(self.now, number, outcome)
        assert (fact is False) == (not on)
        assert self.core.calls.stale_results == stale + (not on)
        self.core.check()

    @precondition(lambda self: self.hands)
    @rule(place=PLACES, failure=st.sampled_from(Failure))
    def fail(self, place, failure) -> None:
        lease = self.core.calls.leases.get(list(self.hands)[place % len(self.hands)])
        if lease is not None:
            self.core.fail_call(self.now, lease, "reset", failure)

    @precondition(lambda self: self.hands)
    @rule(place=PLACES, worker=st.sampled_from(["c", "d", "looker"]))
    def report_unleased(self, place, worker) -> None:
        call = list(self.hands.values())[place % len(self.hands)].call
        if call.job in list(self.core.jobs.newest(10**6)):
            outcome = Outcome(CallState.SUCCEEDED, b"7")
            self.core.calls.report_unleased(self.now, call, worker, outcome)

    @precondition(lambda self: self.hands)
    @rule(places=st.lists(PLACES, min_size=1, max_size=6))
    def extend(self, places) -> None:
        numbers = [list(self.hands)[place % len(self.hands)] for place in places]
        on = {number for number in numbers if self.core.calls.leases.get(number) is not None}
        extended, lost, stop = self.core.calls.extend(self.now, numbers, {numbers[0]: (0.5, "")})
        assert {*extended, *stop} == on
        assert set(lost) == set(numbers) - on

    @precondition(lambda self: self.batches)
    @rule(place=PLACES, failure=st.sampled_from([None, None, None, *Failure]))
    def do_arithmetic(self, place, failure) -> None:
        lease = self.batches.pop(place % len(self.batches))
        is_over = lease.number not in self.core.arithmetic.leases  # Others may have done its work.
        if failure is not None:
            self.core.arithmetic.fail(self.now, lease.number, "reset", failure)
        elif is_over or any(job.graph is None for job, _ in lease.parts):
            self.core.arithmetic.complete(self.now, lease.number, [1] * lease.count, {})
        else:
            self.core.answer(self.now, lease)

    # What time does

    @rule(pause_s=st.sampled_from(PAUSES_S))
    def wait(self, pause_s) -> None:
        self.now += pause_s

    @rule(step_s=st.sampled_from([-1e6, -5.0, 5.0, 1e6]))
    def set_the_clock(self, step_s) -> None:
        """As far as the next step, which puts it right: else a job might wait for days."""
        self.core.jobs.wall_offset_s = 0.0 if self.core.jobs.wall_offset_s else step_s

    @precondition(lambda self: self.starts > 1)
    @rule(reads=st.booleans())
    def crash(self, reads) -> None:
        """Only what is recorded is known; workers do not know of the restart."""
        self.starts = 0
        self.known = {number: known for number, known in self.known.items() if known.recorded}
        self.core = self.core.restarted(now=self.now, reads=False)
        self.held, self.claims, self.batches = None, [], []
        self.unread = [job for job in self.core.jobs.newest(10**6) if not job.is_terminal]
        self.unread.reverse()  # A job is read again after those that it waits for.
        while reads and self.unread:
            self.read_again()

    @precondition(lambda self: self.unread)
    @rule()
    def read_again(self) -> None:
        self.core.read_again(self.now, self.unread.pop(0))

    # What must be so

    @invariant()
    def the_laws_hold(self) -> None:
        for tick in self.core.settle(self.now):
            self._take(tick)
        assert self.core.jobs.waiting == sum(not known.ended for known in self.known.values())
        for job in self.core.jobs.newest(10**6):
            known = self.known[job.number]
            assert known.recorded, "nobody sees what is not recorded"
            assert job.is_terminal == known.ended
            for name, state in known.ends.items():
                if job.calls is not None and name in job.calls.calls:
                    now = job.calls.calls[name]
                    assert now.state in (state, CallState.ENDING)

    def _take(self, tick: Tick) -> None:
        self._get(tick.calls)
        self.batches += tick.batches
        for claim in tick.claims:
            calls, batch = self.core.claimed(claim)
            self._get(calls)
            if batch is not None:  # It may have ended while a call beside it was recorded.
                self.batches.append(batch)
            if claim in self.claims:
                self.claims.remove(claim)
        for event in tick.events:
            if event.node and event.state in ("succeeded", "failed", "timed_out"):
                self._heard(event.job, event.node)

    def _heard(self, number: int, name: str) -> None:
        """Somebody has heard of a call's end: it is recorded, or follows from what is."""
        job = self.core.jobs.job(number)
        assert job.calls is not None
        call = job.calls.calls[name]
        known = self.known[number]
        spread = call.record.error is not None and call.record.error.startswith("skipped")
        assert name in known.ends or known.ended or call.pure or spread

    def _get(self, leases: Iterable[CallLease]) -> None:
        for lease in leases:
            known = self.known[lease.call.job]
            assert known.recorded
            assert lease.call.name not in known.ends, "what has ended is run again"
            assert not known.ended
            if lease.number not in self.hands:
                known.attempts.setdefault(lease.call.name, []).append(lease.number)
            self.hands[lease.number] = lease

    def teardown(self) -> None:
        """From now on all is well, and every job ends."""
        self.core.jobs.wall_offset_s = 0.0
        while self.unread:
            self.read_again()
        for worker in self.core.workers():
            self.core.leave(self.now, worker)
        good = replace(WORKERS[1], incarnation="good")
        for _ in range(300):
            self.record()
            self.core.announce(self.now, good)
            self.the_laws_hold()
            while self.batches:
                self.do_arithmetic(0, None)
            for number in list(self.hands):
                if self.core.calls.leases.get(number) is not None:
                    self.core.calls.report(self.now, number, Outcome(CallState.SUCCEEDED, b"7"))
            self.now += 1.0
            if not self.core.jobs.waiting:
                self._is_over()
                return
        jobs = [job for job in self.core.jobs.newest(10**6) if not job.is_terminal]
        raise AssertionError(f"these jobs do not end: {jobs}")

    def _is_over(self) -> None:
        """Nothing is left of what has ended."""
        self.core.settle(self.now)
        assert (len(self.core.calls.leases), self.core.calls.jobs.ready.count) == (0, 0)
        jobs = self.core.jobs
        assert (jobs.operations_waiting, jobs.bytes_waiting) == (0, 0)
        for job in jobs.newest(10**6):
            assert job.state in (
                JobState.SUCCEEDED,
                JobState.FAILED,
                JobState.TIMED_OUT,
                JobState.CANCELLED,
            )
            for one in job.each_call():
                assert one.is_terminal


Histories.TestCase.settings = settings(
    max_examples=max(1, STEPS // STEPS_OF_A_HISTORY),
    stateful_step_count=STEPS_OF_A_HISTORY,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestHistories = Histories.TestCase
