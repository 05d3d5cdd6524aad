"""That the simulation finds what it is for: dte is broken on purpose, in one way at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from torture.simulation import master as master_host
from torture.simulation.simulation import simulate

from dte.core.arithmetic.lease import BatchLease
from dte.core.arithmetic.quarantine import Quarantine
from dte.core.arithmetic.scheduler import ArithmeticScheduler
from dte.core.calls.attempts import Attempts, Outcome
from dte.core.calls.jobs import CallJobs
from dte.core.calls.policies import Policies
from dte.core.calls.ready import _Lane
from dte.core.calls.scheduler import CallScheduler
from dte.core.graph.call import Call, CallRecord, CallState
from dte.core.graph.calls import CallGraph
from dte.core.graph.numbers import Number
from dte.core.jobs.facts import End, Facts, Submission
from dte.core.jobs.job import Job, JobState
from dte.core.jobs.table import JobTable, NewJob
from dte.core.scheduler import Scheduler
from dte.core.workers.availability import AvailabilityQueue
from dte.core.workers.worker import Announcement, Worker
from dte.master import clock as clocks
from dte.master.clock import Clock
from dte.master.journal import journal
from dte.master.journal.jobs import JobTables
from dte.master.journal.keys import KeyTable
from dte.master.journal.retention import Ages
from dte.master.presence import Presence

SEEDS_MAX = 600
"""Within so many seeds each is found; most are within the first few."""
FIRST_SEEDS = {
    "accepts_stale_reports": 313,
    "accepts_what_could_not_be_recorded": 9,
    "begins_calls_with_their_first_operand": 25,
    "charges_nobody_for_lost_workers": 8,
    "does_not_look_again_at_workers_that_cannot_be_called": 161,
    "forgets_cancelling_on_restart": 514,
    "forgets_ends_of_calls_on_restart": 213,
    "forgets_ends_that_could_not_be_recorded": 31,
    "forgets_leases_on_restart": 28,
    "gives_calls_to_workers_that_cannot_be_called": 48,
    "gives_calls_to_workers_that_fail": 60,
    "gives_operations_to_workers_that_cannot_be_called": 27,
    "lets_delays_end_by_the_clock_on_the_wall": 406,
    "lets_jobs_succeed_while_their_cancel_is_recorded": 250,
    "lets_rows_age_by_the_clock_on_the_wall": 23,
    "looks_at_the_clock_only_at_its_start": 73,
    "runs_calls_under_what_another_worker_announced": 338,
    "takes_a_pause_of_the_master_for_silence_of_workers": 35,
    "takes_calls_for_lost_whose_worker_cannot_be_called": 596,
    "takes_what_failing_workers_give_back_for_failures": 124,
    "tries_calls_again_for_ever": 28,
}
"""Where the search begins for what few worlds meet; found elsewhere, it only takes longer."""

Patch = pytest.MonkeyPatch


def accepts_stale_results(patch: Patch) -> None:
    make, complete = ArithmeticScheduler._lease, ArithmeticScheduler.complete
    known: dict[tuple[int, int], BatchLease] = {}

    def remembering(core: ArithmeticScheduler, *arguments: Any) -> BatchLease:
        lease = make(core, *arguments)
        known[id(core), lease.number] = lease
        return lease

    def forgiving(
        core: ArithmeticScheduler, now: float, number: int, results: Sequence[Number], *more: Any
    ) -> bool:
        lease = known.get((id(core), number))
        if number not in core.leases and lease is not None:
            core.leases[number] = lease
        return complete(core, now, number, results, *more)

    patch.setattr(ArithmeticScheduler, "_lease", remembering)
    patch.setattr(ArithmeticScheduler, "complete", forgiving)


def hands_over_what_is_not_recorded(patch: Patch) -> None:
    accept, admit = JobTable.accept, JobTable.admit

    def hasty(book: JobTable, *arguments: Any) -> Submission:
        submission = accept(book, *arguments)
        for job in submission.jobs:
            if job.graph is not None and job.graph.ready:
                job.enter(JobState.WAITING)
                book.ready.add(job, len(job.graph.ready))
        return submission

    def late(book: JobTable, submission: Submission) -> None:
        for job in submission.jobs:
            if job.state is not JobState.ACCEPTING and job.graph is not None:
                job.state = JobState.ACCEPTING
                book.ready.drop(job)
        admit(book, submission)

    patch.setattr(JobTable, "accept", hasty)
    patch.setattr(JobTable, "admit", late)


def forgets_lost_operations(patch: Patch) -> None:
    def forgetful(
        core: ArithmeticScheduler, now: float, lease: BatchLease, reason: str, received: bool
    ) -> None:
        core._release(lease)
        core._workers.offer(lease.worker)
        core._lost.append(lease)

    patch.setattr(ArithmeticScheduler, "_lose", forgetful)


def keeps_the_slot_of_a_lost_lease(patch: Patch) -> None:
    def forgetful(core: ArithmeticScheduler, lease: BatchLease) -> None:
        del core.leases[lease.number]

    patch.setattr(ArithmeticScheduler, "_release", forgetful)


def shows_ends_that_are_not_recorded(patch: Patch) -> None:
    end, close = JobTable.end, JobTable.close

    def hasty(book: JobTable, now: float, job: Job, **how: Any) -> End:
        fact = end(book, now, job, **how)
        close(book, fact)
        return fact

    def once(book: JobTable, fact: End) -> None:
        if not fact.job.is_terminal:
            close(book, fact)

    patch.setattr(JobTable, "end", hasty)
    patch.setattr(JobTable, "close", once)


def forgets_ends_that_could_not_be_recorded(patch: Patch) -> None:
    unrecorded = JobTable.unrecorded

    def forgetful(book: JobTable, facts: Facts) -> None:
        unrecorded(book, Facts(facts.submissions, []))

    patch.setattr(JobTable, "unrecorded", forgetful)


def accepts_what_could_not_be_recorded(patch: Patch) -> None:
    def hopeful(core: Scheduler, now: float, facts: Facts) -> None:
        core.recorded(now, facts)

    patch.setattr(Scheduler, "unrecorded", hopeful)


def numbers_leases_alike_after_each_start(patch: Patch) -> None:
    begin = Scheduler.__init__

    def without_boot(core: Scheduler, limits: Any, boot: int = 0, seed: int = 0) -> None:
        begin(core, limits, 0, seed)

    patch.setattr(Scheduler, "__init__", without_boot)


def takes_repeats_for_new(patch: Patch) -> None:
    insert = KeyTable.insert

    def forgetful(
        keys: KeyTable, submissions: Sequence[Submission], ran_s: float
    ) -> Mapping[Any, Any]:
        insert(keys, submissions, ran_s)
        return {}

    patch.setattr(KeyTable, "insert", forgetful)


def does_not_go_on_after_a_restart(patch: Patch) -> None:
    def lazy(core: Scheduler, now: float, job: Job, new: NewJob) -> None:
        pass

    patch.setattr(Scheduler, "resume", lazy)


def numbers_jobs_anew_after_a_restart(patch: Patch) -> None:
    patch.setattr(journal, "LAST_JOBS", ("SELECT max(number) FROM waiting",))


def leaves_workers_idle_after_a_pause(patch: Patch) -> None:
    resume = AvailabilityQueue.resume

    def idle(queue: AvailabilityQueue, now: float) -> None:
        vars(queue)["offer"] = lambda worker: None
        resume(queue, now)
        del vars(queue)["offer"]

    patch.setattr(AvailabilityQueue, "resume", idle)


def hands_out_suspects_together(patch: Patch) -> None:
    take = Quarantine.take

    def greedy(suspects: Quarantine, worker: Worker) -> list[Any]:
        parts: list[Any] = []
        while part := take(suspects, worker):
            parts += part
        return parts

    patch.setattr(Quarantine, "take", greedy)


def charges_nobody_for_lost_workers(patch: Patch) -> None:
    def lenient(core: ArithmeticScheduler, now: float, worker: Worker) -> None:
        worker.suspects.clear()

    patch.setattr(ArithmeticScheduler, "convict", lenient)


def sends_calls_before_that_is_recorded(patch: Patch) -> None:
    hand_over = CallScheduler._hand_over

    def hasty(calls: CallScheduler, now: float, worker: Worker, call: Call) -> None:
        hand_over(calls, now, worker, call)
        lease = calls.leases.get(call.record.lease)
        if lease is not None and lease not in calls._to_send:
            calls._to_send.append(lease)

    patch.setattr(CallScheduler, "_hand_over", hasty)


def forgets_leases_on_restart(patch: Patch) -> None:
    restore = CallGraph.restore

    def forgetful(graph: CallGraph, records: Iterable[CallRecord]) -> None:
        restore(graph, [replace(record, lease=0) for record in records])

    patch.setattr(CallGraph, "restore", forgetful)


def accepts_stale_reports(patch: Patch) -> None:
    hand_over, report = CallScheduler._hand_over, CallScheduler.report
    calls_by_lease: dict[tuple[int, int], Call] = {}

    def remembering(calls: CallScheduler, now: float, worker: Worker, call: Call) -> None:
        hand_over(calls, now, worker, call)
        if call.record.lease:
            calls_by_lease[id(calls), call.record.lease] = call

    def forgiving(
        calls: CallScheduler, now: float, number: int, outcome: Outcome, *reporter: str
    ) -> Any:
        call = calls_by_lease.get((id(calls), number))
        if call is not None and call.record.lease and calls.leases.get(number) is None:
            return report(calls, now, call.record.lease, outcome)
        return report(calls, now, number, outcome, *reporter)

    patch.setattr(CallScheduler, "_hand_over", remembering)
    patch.setattr(CallScheduler, "report", forgiving)


def begins_calls_with_their_first_operand(patch: Patch) -> None:
    ended = CallGraph.ended

    def hasty(graph: CallGraph, call: Call) -> Any:
        for reader in call.readers:
            if reader.state is CallState.WAITING:
                reader.missing = min(reader.missing, 1)
        return ended(graph, call)

    patch.setattr(CallGraph, "ended", hasty)
    patch.setattr(CallGraph, "check", lambda graph: None)


def tries_calls_again_for_ever(patch: Patch) -> None:
    settle = Attempts.settle

    def stubborn(course: Attempts, now: float, call: Call, outcome: Outcome) -> Any:
        if outcome.retry and call.terms.retries is None:
            call.terms = replace(call.terms, retries=1_000)
        return settle(course, now, call, outcome)

    patch.setattr(Attempts, "settle", stubborn)


def does_not_try_calls_again(patch: Patch) -> None:
    settle = Attempts.settle

    def faint(course: Attempts, now: float, call: Call, outcome: Outcome) -> Any:
        return settle(course, now, call, replace(outcome, retry=False))

    patch.setattr(Attempts, "settle", faint)


def forgets_cancelling_on_restart(patch: Patch) -> None:
    waiting = JobTables.waiting

    def forgetful(tables: JobTables) -> list[Job]:
        jobs = waiting(tables)
        for job in jobs:
            job.cancelled = False
        return jobs

    patch.setattr(JobTables, "waiting", forgetful)


def lets_jobs_succeed_while_their_cancel_is_recorded(patch: Patch) -> None:
    end = JobTable.end

    def hesitant(book: JobTable, now: float, job: Job, **how: Any) -> End:
        accepted, job.cancel_accepted = job.cancel_accepted, job.cancelled
        fact = end(book, now, job, **how)
        job.cancel_accepted = accepted
        return fact

    patch.setattr(JobTable, "end", hesitant)


def forgets_ends_of_calls_on_restart(patch: Patch) -> None:
    restore = CallGraph.restore

    def forgetful(graph: CallGraph, records: Iterable[CallRecord]) -> None:
        restore(graph, [record for record in records if record.state is None])

    patch.setattr(CallGraph, "restore", forgetful)


def hands_calls_out_whatever_their_priority(patch: Patch) -> None:
    add = _Lane.add

    def levelling(lane: _Lane, call: Call) -> None:
        priority, call.priority = call.priority, 0
        add(lane, call)
        call.priority = priority

    patch.setattr(_Lane, "add", levelling)


def looks_at_the_clock_only_at_its_start(patch: Patch) -> None:
    patch.setattr(Clock, "look", lambda clock: clock.offset_s)


def lets_rows_age_by_the_clock_on_the_wall(patch: Patch) -> None:
    patch.setattr(Ages, "ran_s", lambda ages, now: clocks.time.time())


def lets_delays_end_by_the_clock_on_the_wall(patch: Patch) -> None:
    begin = CallJobs.begin_call

    def dated(calls: CallJobs, now: float, job: Job, call: Call) -> None:
        until = call.terms.delayed_until
        if until is not None:
            wall_s = until + calls._table.wall_offset_s
            call.terms = replace(call.terms, delayed_until=None, not_before=wall_s)
        begin(calls, now, job, call)

    patch.setattr(CallJobs, "begin_call", dated)


def takes_a_pause_of_the_master_for_silence_of_workers(patch: Patch) -> None:
    """Its loop is one whose time goes on."""
    patch.setattr(master_host, "TURN_S", None)


def gives_calls_to_workers_that_fail(patch: Patch) -> None:
    def as_if_well(worker: Worker) -> Worker:
        return replace(worker, announcement=replace(worker.announcement, failing=None))

    _count_free(patch, "free_call_slots", as_if_well)


def gives_calls_to_workers_that_cannot_be_called(patch: Patch) -> None:
    _count_free(patch, "free_call_slots", lambda worker: replace(worker, unreachable=None))


def gives_operations_to_workers_that_cannot_be_called(patch: Patch) -> None:
    _count_free(patch, "free_slots", lambda worker: replace(worker, unreachable=None))


def _count_free(patch: Patch, slots: str, taken_for: Callable[[Worker], Worker]) -> None:
    """Count the free slots of a worker as if it were another one."""
    free = getattr(Worker, slots)
    patch.setattr(Worker, slots, property(lambda worker: free.fget(taken_for(worker))))


def does_not_notice_that_workers_can_begin_calls_again(patch: Patch) -> None:
    announce = AvailabilityQueue.announce

    def stubborn(queue: AvailabilityQueue, now: float, said: Announcement) -> Any:
        known = queue.get(said.identity)
        if known is not None and said.failing is None:
            said = replace(said, failing=known.announcement.failing)
        return announce(queue, now, said)

    patch.setattr(AvailabilityQueue, "announce", stubborn)


def does_not_look_again_at_workers_that_cannot_be_called(patch: Patch) -> None:
    check = Presence.check

    def once(presence: Presence, worker: Worker) -> None:
        if worker.unreachable is None:
            check(presence, worker)

    patch.setattr(Presence, "check", once)


def takes_what_failing_workers_give_back_for_failures(patch: Patch) -> None:
    settle = Attempts.settle

    def strict(course: Attempts, now: float, call: Call, outcome: Outcome) -> Any:
        if outcome.state is None and outcome.error and not outcome.lost:
            outcome = replace(outcome, state=CallState.FAILED)
        return settle(course, now, call, outcome)

    patch.setattr(Attempts, "settle", strict)


def takes_calls_for_lost_whose_worker_cannot_be_called(patch: Patch) -> None:
    reached = Scheduler.reached

    def hasty(
        core: Scheduler, now: float, worker: Worker, problem: str | None, refused: bool = False
    ) -> None:
        reached(core, now, worker, problem, refused)
        if problem is not None:
            core.calls.lose_worker(now, worker, problem)

    patch.setattr(Scheduler, "reached", hasty)


def runs_calls_under_what_another_worker_announced(patch: Patch) -> None:
    begin = Policies.begin
    first: dict[str, float | None] = {}

    def stubborn(policies: Policies, call: Call, announcement: Announcement) -> float | None:
        timeout_s = begin(policies, call, announcement)
        own_s = call.terms.timeout_s
        return first.setdefault(call.handler, timeout_s) if own_s is None else own_s

    patch.setattr(Policies, "begin", stubborn)


MUTATIONS: list[Callable[[Patch], None]] = [
    accepts_stale_results,
    hands_over_what_is_not_recorded,
    forgets_lost_operations,
    keeps_the_slot_of_a_lost_lease,
    shows_ends_that_are_not_recorded,
    forgets_ends_that_could_not_be_recorded,
    accepts_what_could_not_be_recorded,
    numbers_leases_alike_after_each_start,
    takes_repeats_for_new,
    does_not_go_on_after_a_restart,
    numbers_jobs_anew_after_a_restart,
    leaves_workers_idle_after_a_pause,
    hands_out_suspects_together,
    charges_nobody_for_lost_workers,
    sends_calls_before_that_is_recorded,
    forgets_leases_on_restart,
    accepts_stale_reports,
    begins_calls_with_their_first_operand,
    tries_calls_again_for_ever,
    does_not_try_calls_again,
    forgets_cancelling_on_restart,
    lets_jobs_succeed_while_their_cancel_is_recorded,
    forgets_ends_of_calls_on_restart,
    hands_calls_out_whatever_their_priority,
    looks_at_the_clock_only_at_its_start,
    lets_rows_age_by_the_clock_on_the_wall,
    lets_delays_end_by_the_clock_on_the_wall,
    takes_a_pause_of_the_master_for_silence_of_workers,
    gives_calls_to_workers_that_fail,
    gives_calls_to_workers_that_cannot_be_called,
    gives_operations_to_workers_that_cannot_be_called,
    does_not_notice_that_workers_can_begin_calls_again,
    does_not_look_again_at_workers_that_cannot_be_called,
    takes_what_failing_workers_give_back_for_failures,
    takes_calls_for_lost_whose_worker_cannot_be_called,
    runs_calls_under_what_another_worker_announced,
]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_core_that_is_wrong_is_found(
    mutation: Callable[[Patch], None], monkeypatch: Patch
) -> None:
    mutation(monkeypatch)
    first = FIRST_SEEDS.get(mutation.__name__, 0)
    seeds = (*range(first, SEEDS_MAX), *range(first))
    assert any(simulate(seed).failure is not None for seed in seeds)
