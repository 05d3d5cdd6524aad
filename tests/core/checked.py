"""A scheduler that is checked after each step, with the workers and the journal of a test."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import replace

from core.disk import Disk
from core.evaluate import do
from core.plans import Node, Plan
from dte.core.arithmetic.lease import BatchLease
from dte.core.calls.attempts import Outcome
from dte.core.calls.lease import CallLease
from dte.core.calls.ready import Route
from dte.core.formula.formula import FormulaLimits, parse
from dte.core.graph.call import CallRecord, CallState
from dte.core.graph.handlers import HandlerPolicy
from dte.core.graph.numbers import Number
from dte.core.jobs.facts import Cancel, End, Event, Facts, Step
from dte.core.jobs.job import Job, JobState
from dte.core.jobs.table import NewJob
from dte.core.limits import SchedulerLimits
from dte.core.scheduler import Scheduler, Tick
from dte.core.workers.worker import Announcement, Claim, Delivery, Failure, Worker

LIMITS = SchedulerLimits(lease_s=10.0)
WORKER = Announcement("w", "10.0.0.1:6000", slots=2, batch_max=64, incarnation="a")
SEED_WORKER = Announcement("worker-1700000000", "10.0.0.2:6000")
HANDLERS = {name: HandlerPolicy() for name in ("f", "g", "h")} | {"p": HandlerPolicy(pure=True)}
"""What the workers of the tests can call; what p does is pure."""
CALLER = Announcement(
    "c",
    "10.0.1.1:6000",
    incarnation="a",
    handlers=HANDLERS,
    handler_slots=2,
    arithmetic=False,
)
"""A worker for calls alone."""
LONG = Route("", is_long=True)
PULLER = replace(CALLER, name="puller", address="", delivery=Delivery.PULL)
LOOKER = replace(
    CALLER, name="looker", address="", incarnation="", delivery=Delivery.MAILBOX, can_stop=False
)
AT_WORK = (CallState.RUNNING, CallState.CANCELLING)
UNDER_WAY = (*AT_WORK, CallState.READY, CallState.PAUSED, CallState.ENDING)
TICKS_MAX = 20
"""After so many ticks at one moment there must be nothing left to do."""


class Core(Scheduler):
    """The scheduler, checked after each step.

    What happens is recorded at once, as by a disk that takes no time, unless `records_at_once` is
    set to False: then the test records.
    """

    def __init__(
        self,
        *workers: Announcement,
        limits: SchedulerLimits = LIMITS,
        boot: int = 0,
        seed: int = 0,
        records_at_once: bool = True,
        disk: Disk | None = None,
    ) -> None:
        super().__init__(limits, boot, seed)
        self.boot = boot
        self.records_at_once = records_at_once
        self.disk = disk or Disk()
        self.now = 0.0
        """The moment of the last step, at which facts are recorded."""
        self.events: list[Event] = []
        self.out: list[CallLease] = []
        """The calls that workers have been handed, as far as the leases have not ended."""
        self.told: list[CallLease] = []
        """The leases that workers have been told to stop."""
        for announcement in workers:
            self.announce(0.0, announcement)

    def add(self, *tasks: str, now: float = 0.0) -> list[Job]:
        jobs = self.jobs.accept(now, parsed(*tasks)).jobs
        self._step(now)
        return jobs

    def plan(self, plan: Plan, now: float = 0.0, records: Sequence[CallRecord] = ()) -> Job:
        """Accept a job of calls."""
        new = plan.new_job(self, self.disk.text_of(plan))
        if records:
            assert new.work.calls is not None
            new.work.calls.restore(records)
        submission = self.jobs.accept(now, [new])
        self._step(now)
        return submission.jobs[0]

    def graph(self, now: float = 0.0, *, answer: str | None = None, **nodes: Node) -> Job:
        """Accept a graph of calls."""
        return self.plan(Plan(nodes, answer=answer), now)

    def formula(self, text: str, now: float = 0.0) -> Job:
        """Accept a formula with calls."""
        return self.plan(Plan({}, text), now)

    def record(self) -> bool:
        """Record all that is to be recorded; False if that is nothing."""
        found = False
        while (facts := self.jobs.facts()) is not None:
            self.write(facts)
            found = True
        return found

    def record_once(self) -> None:
        """Record what is to be recorded now, and nothing that follows from it."""
        facts = self.jobs.facts()
        assert facts is not None
        self.write(facts)

    def write(self, facts: Facts) -> None:
        """Record what has been taken out to be recorded."""
        self.disk.write(facts)
        self.recorded(self.now, facts)
        self.check()

    def refuse(self) -> None:
        """Let the recording of all that is to be recorded fail."""
        facts = self.jobs.facts()
        assert facts is not None
        self.unrecorded(self.now, facts)
        self.check()

    def restarted(self, *workers: Announcement, now: float = 0.0, reads: bool = True) -> Core:
        """The core after a crash, which knows what is recorded.

        Args:
            reads: read the jobs that have not ended again.
        """
        core = Core(
            limits=self._limits,
            boot=self.boot + 1,
            records_at_once=self.records_at_once,
            disk=self.disk,
        )
        core.now = now
        core.jobs.wall_offset_s = self.jobs.wall_offset_s
        waiting, ended = self.disk.load()
        core.jobs.restore(self.disk.last, waiting, ended)
        for announcement in workers:
            core.announce(now, announcement)
        for job in waiting if reads else ():
            core.read_again(now, job)
        return core

    def read_again(self, now: float, job: Job) -> None:
        """Go on with a job of before a restart."""
        self.disk.read(self, now, job)
        self._step(now)

    def tick(self, now: float) -> Tick:
        self._step(now)
        tick = super().tick(now)
        self.check()
        self._check_calls(tick)
        arithmetic = self.arithmetic
        if arithmetic.handing_over and self.jobs.ready.count and not arithmetic._more_to_match:
            # Who vanished is asked before it gets more; who is reserved gets a suspect first.
            free = [worker for worker in self.workers() if worker.free_slots]
            assert all(worker.suspects and worker.batch_leases for worker in free), "work waits"
            quarantine = arithmetic.quarantine
            assert len(quarantine._reserved) <= quarantine.count, "work waits for no suspect"
        return tick

    def hand_out(self, now: float = 0.0) -> dict[str, CallLease]:
        """Tick, and give the calls that workers are handed, by the names of the calls."""
        handed = self.settle(now)
        return {lease.call.name: lease for tick in handed for lease in tick.calls}

    def end_call(self, now: float, lease: CallLease, outcome: Outcome) -> Step | End | bool | None:
        """A worker reports."""
        fact = self.calls.report(now, lease.number, outcome)
        self._step(now)
        return fact

    def succeed(
        self, now: float, lease: CallLease, value: bytes = b"null"
    ) -> Step | End | bool | None:
        return self.end_call(now, lease, Outcome(CallState.SUCCEEDED, value))

    def fail_at(
        self, now: float, lease: CallLease, error: str = "no", *, retry: bool = True
    ) -> Step | End | bool | None:
        return self.end_call(now, lease, Outcome(CallState.FAILED, None, error, retry))

    def cancel(self, now: float, job: Job) -> Cancel | End | None:
        fact = self.calls.jobs.cancel(now, job)
        self._step(now)
        return fact

    def ask(self, now: float, announcement: Announcement = PULLER, slots: int = 2) -> Claim:
        """A worker asks for work."""
        claim = self.claim(now, announcement, slots)
        self._step(now)
        return claim

    def got(self, claim: Claim) -> list[CallLease]:
        """The calls that a claim got, as far as their leases have not ended."""
        leases = map(self.calls.leases.get, claim.call_leases)
        return [lease for lease in leases if lease is not None]

    def batch_of(self, claim: Claim) -> BatchLease:
        """The arithmetic that a claim got."""
        return self.arithmetic.leases[claim.batch_lease]

    def hang_up(self, now: float, claim: Claim) -> None:
        self.cancel_claim(now, claim)
        self._step(now)

    def answer(self, now: float, lease: BatchLease) -> bool:
        """What a good worker gives back."""
        return self.give(now, lease, *do(lease.columns()))

    def give(
        self, now: float, lease: BatchLease, results: Sequence[Number], errors: Mapping[int, str]
    ) -> bool:
        """What a worker gives back."""
        changed = self.arithmetic.complete(now, lease.number, results, errors)
        self._step(now)
        return changed

    def lose(self, now: float, lease: BatchLease, failure: Failure, reason: str = "reset") -> None:
        """A lease comes to nothing."""
        self.arithmetic.fail(now, lease.number, reason, failure)
        self._step(now)

    def announce(self, now: float, announcement: Announcement) -> Worker:
        worker = super().announce(now, announcement)
        self._step(now)
        return worker

    def run(self, now: float = 0.0) -> list[Job]:
        """Hand over and answer until nothing is left; the jobs that ended, in order."""
        ended: list[Job] = []
        while True:
            tick = self.tick(now)
            ended += tick.ended
            if not tick.batches:
                return ended
            for lease in tick.batches:
                self.answer(now, lease)

    def settle(self, now: float) -> list[Tick]:
        """Tick until the next tick need not be now: nothing may keep the loop busy for ever."""
        ticks = [self.tick(now)]
        while (self.records_at_once and self.record()) or self._is_due(now):
            ticks.append(self.tick(now))
            assert len(ticks) < TICKS_MAX, "the core wants to be called again and again"
        return ticks

    def _is_due(self, now: float) -> bool:
        moment = self.next_tick()
        return moment is not None and moment <= now

    def following(self, now: float) -> float:
        """When the loop ticks next if nothing happens before."""
        moment = self.next_tick()
        assert moment is not None
        return max(now, moment)

    def _check_calls(self, tick: Tick) -> None:
        """Check what must hold after a tick."""
        self.events += tick.events
        self.told += tick.stops
        handed = tick.calls + [lease for claim in tick.claims for lease in self.got(claim)]
        for lease in handed:
            assert self.calls.leases.is_on(lease), "a call is handed over that has ended"
            assert lease.sent
            assert not lease.stop, "what is to be stopped is handed over"
            job = self.jobs.job(lease.call.job)
            assert job.state is JobState.RUNNING
            assert set(lease.call.refs) <= lease.call.operands.keys(), "operands are not known"
            not_before = lease.call.terms.not_before
            if lease.call.record.attempts == 1 and not_before is not None:
                assert lease.call.record.started_at is not None
                assert lease.call.record.started_at >= not_before, "a call begins too early"
            if not lease.call.pure:
                assert (job.number, lease.call.name, lease.number) in self.disk.handed_out, (
                    "a call is handed over before that is recorded"
                )
        on = [lease for lease in self.out if self.calls.leases.is_on(lease)]
        self.out = on + handed
        if self.arithmetic.handing_over and self.calls.next_moment() != float("-inf"):
            ready = self.calls.jobs.ready
            for worker in self.workers():
                announcement = worker.announcement
                quick = (
                    announcement.delivery is Delivery.PUSH
                    and len(worker.call_leases) >= announcement.handler_slots
                )
                outgoing = self.calls.leases.outgoing
                if worker.free_call_slots and outgoing.has_room(worker) and not quick:
                    waiting = set(ready.handlers())
                    if outgoing.has_room(worker, is_long=True):
                        waiting.update(ready.handlers(LONG))
                    assert not waiting & worker.announcement.handlers.keys(), (
                        "a call waits for nothing"
                    )

    def check(self) -> None:
        """Assert every invariant, those of calls too that cost too much to be in the core."""
        super().check()
        pending = {lease.call for lease in self.calls.leases}
        assert len(pending) == len(self.calls.leases), "a call has two leases"
        leased = ready = 0
        for job in self.jobs.newest(10**6):
            calls = list(job.each_call())
            ready += sum(call.state is CallState.READY for call in calls)
            leased += sum(bool(call.record.lease) for call in calls)
            for call in calls:
                assert call.job == job.number
                assert bool(call.record.lease) == (call in pending)
                if call.state is not CallState.READY and call.record.lease:
                    assert call.state in AT_WORK
                if call.state is CallState.PAUSED:
                    moment = self.calls.next_moment()
                    until = call.resumes_at
                    if until is None:
                        assert call.terms.not_before is not None
                        until = call.terms.not_before - self.jobs.wall_offset_s
                    assert moment is not None
                    assert moment <= until, "nothing resumes a call"
                if call.state in (CallState.READY, CallState.PAUSED) and job.graph is not None:
                    assert not call.missing, "a call is begun before its operands are known"
                    assert set(call.refs) <= call.operands.keys()
                if call.is_terminal and job.graph is not None:
                    assert call.record.ended_at is not None, f"{call.name} ended at no moment"
            if job.is_terminal:
                assert all(call.is_terminal for call in calls), "a job ends with its calls"
            going_on = job.graph is not None and job.state is not JobState.ACCEPTING
            if going_on and calls:
                assert (
                    any(call.state in UNDER_WAY for call in calls)
                    or any(not other.is_terminal for other in job.awaited)
                    or (job.graph is not None and job.graph.remaining)
                    or self.calls.jobs.chores
                ), f"job {job.number} waits for nothing"
        assert self.calls.jobs.ready.count == ready
        assert leased == len(pending), "a lease of a call that is forgotten"

    def _step(self, now: float) -> None:
        self.now = now
        if self.records_at_once:
            self.record()
        else:
            self.check()


def parsed(*tasks: str) -> list[NewJob]:
    """Formulas as they are submitted."""
    return [NewJob(task, parse(task, FormulaLimits())) for task in tasks]


def at(port: int, **changes: object) -> Announcement:
    """A worker of its own."""
    return replace(WORKER, address=f"10.0.0.1:{port}", **changes)


def only(leases: list[BatchLease]) -> BatchLease:
    (lease,) = leases
    return lease


def operations(lease: BatchLease) -> list[tuple[int, int]]:
    """Which operations of which jobs a lease has."""
    return [(job.number, node) for job, nodes in lease.parts for node in nodes]


def nodes(*numbers: int) -> array[int]:
    """Operations of a job by their numbers."""
    return array("i", numbers)
