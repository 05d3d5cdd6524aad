from __future__ import annotations

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.checked import LIMITS, SEED_WORKER, WORKER, Core, operations
from core.evaluate import is_as_python_says
from dte.core.arithmetic import scheduler as module
from dte.core.arithmetic.lease import BatchLease
from dte.core.arithmetic.scheduler import LEASES_IN_TICK
from dte.core.jobs import table
from dte.core.jobs.facts import Facts
from dte.core.jobs.job import Job, JobState
from dte.core.scheduler import LEASES_OF_A_BOOT
from dte.core.workers.availability import FAILURES_MAX, PROBE_GONE_S
from dte.core.workers.worker import Failure

# The course of a job


def test_a_job_s_answer_is_the_formula_s_value() -> None:
    core = Core(WORKER)
    (job,) = core.add("1+(2*3)/4-5", now=1.0)
    assert (job.number, job.state, job.is_terminal) == (1, JobState.WAITING, False)
    assert core.run(2.0) == [job]
    assert (job.answer, job.error, job.state) == (-2.5, None, JobState.SUCCEEDED)
    assert (job.submitted_at, job.started_at, job.ended_at) == (1.0, 2.0, 2.0)
    assert (job.progress, job.operations) == (4, 4)
    jobs = core.jobs
    assert (jobs.waiting, jobs.operations_waiting, jobs.operations_done) == (0, 0, 4)


def test_a_lone_number_ends_without_a_worker() -> None:
    core = Core()
    (job,) = core.add("42")
    assert (job.answer, job.is_terminal, job.operations) == (42, True, 0)
    assert core.tick(0.0).ended == [job]
    assert core.tick(0.0).ended == []


def test_nothing_is_handed_over_of_a_job_that_is_not_recorded() -> None:
    core = Core(WORKER, records_at_once=False)
    core.add("1+2")
    assert core.tick(0.0).batches == []
    core.record()
    assert len(core.tick(0.0).batches) == 1


def test_a_job_has_ended_when_its_end_is_recorded() -> None:
    core = Core(WORKER, records_at_once=False)
    (job,) = core.add("1+2")
    core.record()
    (lease,) = core.tick(0.0).batches
    assert core.answer(1.0, lease)
    assert core.tick(1.0).ended == []
    assert (job.state, job.is_terminal, job.answer) == (JobState.ENDING, False, None)
    core.record()
    assert core.tick(2.0).ended == [job]
    assert (job.answer, job.ended_at) == (3, 1.0)


def test_only_operations_with_known_operands_are_handed_over() -> None:
    core = Core(WORKER)
    core.add("(1+2)*(3+4)")
    leases = core.tick(0.0).batches
    assert sorted(symbol for lease in leases for symbol in lease.columns()[0]) == ["+", "+"]
    core.answer(0.0, leases[0])
    (last,) = [lease for lease in core.tick(0.0).batches if lease not in leases] or leases[1:]
    if last in leases:
        core.answer(0.0, last)
        (last,) = core.tick(0.0).batches
    assert last.columns() == ("*", [3], [7])


def test_jobs_wait_while_there_is_no_worker() -> None:
    core = Core()
    (job,) = core.add("1+2")
    assert core.tick(1000.0).batches == []
    assert core.next_tick() is None
    core.announce(1001.0, WORKER)
    assert core.run(1001.0) == [job]


def test_a_failed_operation_ends_the_job_and_names_itself() -> None:
    core = Core(WORKER)
    (job,) = core.add("1+5/(3-3)")
    core.run()
    assert (job.state, job.answer) == (JobState.FAILED, None)
    assert job.error == "division by zero: 5 / 0"
    assert (core.jobs.waiting, core.jobs.operations_waiting) == (0, 0)


def test_a_long_reason_is_cut() -> None:
    core = Core(WORKER)
    (job,) = core.add("1/0")
    (lease,) = core.tick(0.0).batches
    core.arithmetic.complete(0.0, lease.number, [0], {0: "x" * 10_000})
    core.record()
    assert job.error == "x" * 500 + "…: 1 / 0"


def test_what_is_left_of_a_failed_job_is_dropped() -> None:
    core = Core(SEED_WORKER)
    core.add("(1/0)+(2*3)+(4*5)")
    lease = core.tick(0.0).batches[0]
    while lease.columns()[0] != "/":
        core.answer(0.0, lease)
        lease = core.tick(0.0).batches[0]
    core.answer(0.0, lease)
    tick = core.tick(0.0)
    assert [job.number for job in tick.ended] == [1]
    assert tick.batches == []


def test_results_for_a_job_that_has_failed_meanwhile_change_nothing() -> None:
    core = Core(WORKER, replace(WORKER, address="10.0.0.3:6000"))
    (job,) = core.add("(1/0)+(2*3)")
    first, second = core.tick(0.0).batches
    failing = first if "/" in first.columns()[0] else second
    other = second if failing is first else first
    columns = other.columns()
    core.answer(0.0, failing)
    assert job.state is JobState.FAILED
    assert core.arithmetic.complete(0.0, other.number, [6] * len(columns[0]), {})
    core.record()
    assert (job.state, job.answer) == (JobState.FAILED, None)


def test_failures_and_results_in_one_lease_each_reach_their_job() -> None:
    core = Core(WORKER)
    tasks = [f"{n}/{n % 3}" for n in range(1, 13)]
    jobs = core.add(*tasks)
    core.run()
    for job, n in zip(jobs, range(1, 13), strict=True):
        if n % 3:
            assert job.answer == n / (n % 3)
        else:
            assert job.error == f"division by zero: {n} / 0"


# Sharing


def test_jobs_take_turns() -> None:
    core = Core(replace(SEED_WORKER, batch_max=4))
    core.add("+".join(f"{n}*{n + 1}" for n in range(100)))
    core.add("1+(2*3)/4-5")
    ended: list[int] = []
    for _ in range(12):
        tick = core.tick(0.0)
        ended += [job.number for job in tick.ended]
        for lease in tick.batches:
            core.answer(0.0, lease)
    assert 2 in ended, "the small job does not wait for the large one"
    assert 1 not in ended


def test_ready_operations_are_shared_among_free_workers() -> None:
    core = Core(*(replace(WORKER, address=f"10.0.0.{n}:6000", slots=1) for n in range(4)))
    core.add("+".join(f"{n}*{n + 1}" for n in range(40)))
    assert [lease.count for lease in core.tick(0.0).batches] == [10, 10, 10, 10]


def test_a_few_quick_operations_are_not_torn_apart() -> None:
    core = Core(*(replace(WORKER, address=f"10.0.0.{n}:6000", slots=1) for n in range(4)))
    for worker in core.workers():
        worker.batch = 64
    core.add("(1+2)*(3+4)")
    assert [lease.count for lease in core.tick(0.0).batches] == [2]


def test_a_worker_of_single_operations_gets_one_at_a_time() -> None:
    core = Core(SEED_WORKER)
    core.add("(1+2)*(3+4)")
    leases = core.tick(0.0).batches
    assert [lease.count for lease in leases] == [1]
    assert core.tick(0.0).batches == []


def test_a_lease_has_few_operations_of_long_integers() -> None:
    core = Core(WORKER)
    for worker in core.workers():
        worker.batch = 64
    long = "9" * 4000
    core.add("+".join(f"({long}-{n})" for n in range(50)))
    assert [lease.count for lease in core.tick(0.0).batches] == [1, 1]


def test_leases_of_a_tick_are_bounded_and_the_next_tick_comes_at_once() -> None:
    workers = [replace(WORKER, address=f"10.0.1.{n}:6000", batch_max=1) for n in range(80)]
    core = Core(*workers)
    core.add(*(f"{n}+1" for n in range(200)))
    assert len(core.tick(0.0).batches) == LEASES_IN_TICK
    assert core.next_tick() == float("-inf")
    assert len(core.tick(0.0).batches) == 60
    assert core.next_tick() != float("-inf")


def test_what_is_to_be_freed_is_freed_in_the_next_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "SWEEP_OPERATIONS", 2)
    core = Core(WORKER)
    core.add("1/0+" + "+".join(f"{n}*{n + 1}" for n in range(4)))
    core.run()
    assert core.next_tick() == float("-inf")
    while core.jobs.sweeping:
        core.tick(0.0)
    assert core.next_tick() != float("-inf")


def test_operations_of_a_tick_are_bounded_and_the_next_tick_comes_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "OPERATIONS_IN_TICK", 3)
    core = Core(*(replace(WORKER, address=f"10.0.1.{n}:6000", batch_max=2) for n in range(4)))
    for worker in core.workers():
        worker.batch = 2
    core.add(*(f"{n}+1" for n in range(7)))
    assert [lease.count for lease in core.tick(0.0).batches] == [2, 2]
    assert core.next_tick() == float("-inf")
    assert sum(lease.count for lease in core.tick(0.0).batches) == 3
    assert core.next_tick() != float("-inf")


# Leases


def test_a_core_that_hands_over_no_more_takes_in_what_is_under_way() -> None:
    core = Core(WORKER, SEED_WORKER)
    (job, other) = core.add("1+2", "3+4")
    leases = core.tick(0.0).batches
    assert (len(core.arithmetic.leases), len(leases)) == (2, 2)
    core.hand_over_no_more()
    core.answer(0.0, leases[0])
    core.lose(0.0, leases[1], Failure.NOT_SENT)
    core.announce(0.0, replace(WORKER, address="10.0.0.3:6000"))
    for now in range(100):
        assert core.settle(float(now))[0].batches == [], "neither operations nor questions"
    assert len(core.arithmetic.leases) == 0
    assert job.is_terminal != other.is_terminal


def test_no_two_leases_share_a_number() -> None:
    core = Core(WORKER)
    core.add(*(f"{n}+1" for n in range(50)))
    numbers = []
    while leases := core.tick(0.0).batches:
        numbers += [lease.number for lease in leases]
        for lease in leases:
            core.answer(0.0, lease)
    assert len(set(numbers)) == len(numbers)


def test_lease_numbers_begin_with_the_number_of_the_start() -> None:
    """So a result that was meant for the master before a restart is not taken for another."""
    numbers = []
    for boot in (0, 3):
        core = Core(WORKER, boot=boot)
        core.add("1+2")
        numbers += [lease.number for lease in core.tick(0.0).batches]
    assert numbers == [1, 3 * LEASES_OF_A_BOOT + 1]
    assert not core.arithmetic.complete(0.0, numbers[0], [999], {})
    assert core.stale_results == 1


def test_a_lease_that_failed_makes_its_operations_ready_again() -> None:
    core = Core(WORKER)
    (job,) = core.add("1+2")
    (lease,) = core.tick(0.0).batches
    core.lose(0.0, lease, Failure.REFUSED, "connection refused")
    tick = core.tick(0.0)
    assert (tick.batches, tick.lost) == ([], [lease])
    assert lease.lost_because == "connection refused"
    resumes_at = core.following(0.0)
    (again,) = core.tick(resumes_at).batches
    assert operations(again) == operations(lease)
    core.answer(resumes_at, again)
    assert job.answer == 3


@pytest.mark.parametrize("failure", Failure)
def test_a_result_under_a_lease_that_has_ended_changes_nothing(failure) -> None:
    core = Core(WORKER)
    (job,) = core.add("1+2")
    (lease,) = core.tick(0.0).batches
    core.lose(0.0, lease, failure, "reset")
    assert not core.arithmetic.complete(0.0, lease.number, [999], {})
    core.lose(0.0, lease, failure, "reset again")
    assert lease.lost_because == "reset"
    assert core.stale_results == 1
    assert not lease.may_come_late
    assert not job.is_terminal
    core.run(1.0)
    assert job.answer == 3


def test_silence_past_the_lease_gives_the_operations_to_another() -> None:
    other = replace(WORKER, address="10.0.0.3:6000")
    core = Core(WORKER)
    (job,) = core.add("1+2")
    (lease,) = core.tick(0.0).batches
    core.announce(1.0, other)
    assert core.tick(9.999).lost == []
    assert core.next_tick() == 10.0
    tick = core.tick(10.0)
    assert tick.lost == [lease]
    assert lease.may_come_late
    (again,) = tick.batches
    assert again.worker.announcement == other
    assert not core.arithmetic.complete(11.0, lease.number, [999], {})
    assert core.stale_results == 1
    core.answer(11.0, again)
    assert job.answer == 3
    assert lease.worker.last_failure == "silent for 10 s"


@pytest.mark.parametrize(
    ("results", "errors"), [([], {}), ([1, 2], {}), ([1], {7: "no"}), ([1], {-1: "no"})]
)
def test_a_reply_that_does_not_fit_is_a_failure_of_the_worker(results, errors) -> None:
    core = Core(WORKER)
    (job,) = core.add("1+2")
    (lease,) = core.tick(0.0).batches
    assert not core.arithmetic.complete(0.0, lease.number, results, errors)
    core.check()
    assert lease.worker.failures == 1
    assert not job.is_terminal
    core.run(1.0)
    assert job.answer == 3


@pytest.mark.parametrize(("failure", "in_vain"), [(Failure.MALFORMED, 5), (Failure.BROKEN, 20)])
def test_an_operation_that_no_worker_can_do_fails_its_job(failure, in_vain) -> None:
    """It neither goes round for ever nor takes one worker after the other out."""
    other = replace(WORKER, address="10.0.0.3:6000")
    core = Core(WORKER, other)
    (poison,) = core.add("1+2")
    ended: list[Job] = []
    attempts, now = 0, 0.0
    while not ended:
        tick = core.tick(now)
        ended += tick.ended
        for lease in tick.batches:
            core.lose(now, lease, failure, "status 500 without an error")
            attempts += 1
        now += 1.0
        core.announce(now, WORKER)
        core.announce(now, other)
    assert ended == [poison]
    assert attempts == in_vain
    what = "unusable replies" if failure is Failure.MALFORMED else "broken connections"
    assert poison.error == (
        f"gave up after {in_vain} {what}; the last: status 500 without an error: 1 + 2"
    )
    assert all(worker.state != "gone" for worker in core.workers())


def test_broken_connections_make_no_nonsense_of_the_last_reply() -> None:
    """An operation that the network failed is not given up at the first nonsense that follows."""
    core = Core(WORKER)
    (job,) = core.add("1+2")
    now = 0.0
    for failure in [*[Failure.BROKEN] * 8, Failure.MALFORMED]:
        while not (leases := [lease for lease in core.tick(now).batches if lease.count]):
            now += 1.0
            core.announce(now, WORKER)
        core.lose(now, leases[0], failure)
    core.announce(now, WORKER)
    core.run(now + 10.0)
    assert job.answer == 3


@pytest.mark.parametrize("failure", [Failure.NOT_SENT, Failure.REFUSED])
def test_what_no_worker_has_taken_is_never_given_up(failure) -> None:
    core = Core(WORKER)
    (job,) = core.add("1+2")
    now = 0.0
    for _ in range(3 * FAILURES_MAX):
        (lease,) = core.tick(now).batches
        core.announce(now, WORKER)
        core.lose(now, lease, failure)
        core.announce(now, WORKER)
        now = lease.worker.resumes_at or now
    assert not job.is_terminal
    assert not core.arithmetic.quarantine


def test_operations_that_were_given_back_do_not_keep_others_waiting() -> None:
    core = Core(SEED_WORKER)
    core.add("1/0+2*3")
    (first,) = core.tick(0.0).batches
    core.lose(0.0, first, Failure.NOT_SENT)
    (second,) = core.tick(1.0).batches
    assert operations(second) != operations(first)


# Workers


def test_a_new_incarnation_ends_the_leases_of_the_old_one() -> None:
    core = Core(WORKER)
    (job,) = core.add("1+2")
    (lease,) = core.tick(0.0).batches
    core.announce(1.0, replace(WORKER, incarnation="b"))
    tick = core.tick(1.0)
    assert tick.lost == [lease]
    assert not core.arithmetic.complete(1.0, lease.number, [999], {})
    (again,) = core.tick(core.following(1.0)).batches
    core.answer(1.5, again)
    assert job.answer == 3
    assert again.worker.failures == 0


def test_a_heartbeat_leaves_leases_alone() -> None:
    core = Core(WORKER)
    core.add("1+2")
    (lease,) = core.tick(0.0).batches
    core.announce(1.0, WORKER)
    assert core.tick(1.0).lost == []
    assert core.answer(1.0, lease)


def test_a_worker_that_says_nothing_for_long_loses_its_leases() -> None:
    core = Core(WORKER, limits=replace(LIMITS, lease_s=1000.0))
    (job,) = core.add("1+2")
    (lease,) = core.tick(0.0).batches
    now = 0.0
    while not (lost := core.tick(now).lost):
        now = core.following(now)
    assert (lost, now) == ([lease], 16.0)
    assert lease.lost_because == "silent for 16 s"
    assert not lease.may_come_late
    core.announce(20.0, WORKER)
    core.run(20.0)
    assert job.answer == 3


def test_a_worker_that_always_fails_is_taken_out_and_the_job_waits() -> None:
    core = Core(WORKER)
    (job,) = core.add("1+2")
    now = 0.0
    for _ in range(FAILURES_MAX):
        (lease,) = core.tick(now).batches
        core.announce(now, WORKER)
        core.lose(now, lease, Failure.NOT_SENT, "no route")
        now = lease.worker.resumes_at or now
    assert core.workers()[0].state == "gone"
    assert core.tick(now + 100.0).batches == []
    core.announce(now + 200.0, WORKER)
    core.run(now + 200.0)
    assert job.answer == 3


# Asking workers that do not announce themselves again


def ask(core: Core, start: float, end: float) -> list[BatchLease]:
    """What is asked between two moments, the loop being called when the core wants it."""
    now, asked = start, []
    while now <= end:
        tick = core.tick(now)
        assert all(lease.parts == [] for lease in tick.batches)
        asked += tick.batches
        now = core.following(now)
    return asked


def test_a_silent_seed_worker_is_asked_with_a_lease_without_operations() -> None:
    core = Core(SEED_WORKER)
    (question,) = ask(core, 0.0, 6.0)
    assert (question.count, question.columns()) == (0, ("", [], []))
    assert question.leased_at == LIMITS.heartbeat_s + 1.0, "at the first look after its silence"
    assert core.arithmetic.complete(6.5, question.number, [], {})
    assert (question.worker.state, question.worker.last_seen_at) == ("free", 6.5)
    (again,) = ask(core, 6.5, 13.0)
    assert again.leased_at == 12.0


def test_a_worker_that_announces_itself_is_not_asked() -> None:
    core = Core(WORKER)
    for now in range(100):
        if now % 5 == 0:
            core.announce(float(now), WORKER)
        assert core.tick(float(now)).batches == []


def test_a_seed_worker_that_does_not_answer_is_gone_and_asked_again_now_and_then() -> None:
    core = Core(SEED_WORKER)
    (worker,) = core.workers()
    asked = ask(core, 0.0, 300.0)
    assert worker.state == "gone"
    assert worker.last_failure == "silent for 10 s"
    asked_at = [question.leased_at for question in asked]
    assert asked_at[0] == 6.0
    later = [moment for moment in asked_at if moment > LIMITS.dead_after_s + LIMITS.lease_s]
    for moment, following in pairwise(later):
        assert PROBE_GONE_S < following - moment <= PROBE_GONE_S + 1.0
    assert len(later) >= 8


def test_a_seed_worker_is_gone_after_some_seconds_without_an_answer() -> None:
    core = Core(SEED_WORKER)
    (worker,) = core.workers()
    (question,) = ask(core, 0.0, 6.0)
    core.lose(6.0, question, Failure.REFUSED)
    now = 6.0
    while worker.state != "gone":
        now = core.following(now)
        for lease in core.tick(now).batches:
            core.lose(now, lease, Failure.REFUSED)
    assert LIMITS.dead_after_s < now <= LIMITS.dead_after_s + 1.0


def test_a_seed_worker_that_was_gone_comes_back_by_answering() -> None:
    core = Core(SEED_WORKER)
    (worker,) = core.workers()
    now, question = 0.0, None
    while worker.state != "gone" or question is None:
        now = core.following(now)
        tick = core.tick(now)
        question = tick.batches[0] if tick.batches else None
    core.arithmetic.complete(now + 1.0, question.number, [], {})
    core.check()
    assert (worker.state, worker.failures, worker.joined_at) == ("free", 0, now + 1.0)
    (job,) = core.add("1+2", now=now + 1.0)
    core.run(now + 1.0)
    assert job.answer == 3


def test_asking_does_not_disturb_leases() -> None:
    core = Core(replace(SEED_WORKER, slots=3), limits=replace(LIMITS, lease_s=100.0))
    core.add("1+2")
    (lease,) = core.tick(0.0).batches
    for now in range(1, 60):
        tick = core.tick(float(now))
        assert (tick.batches, tick.lost) == ([], []), "who does something is not asked"
    assert core.answer(60.0, lease)
    (question,) = ask(core, 60.0, 67.0)
    assert question.parts == []


def test_a_draining_seed_worker_is_not_asked() -> None:
    core = Core(replace(SEED_WORKER, draining=True))
    assert ask(core, 0.0, 5.0) == []
    core.tick(6.0)
    assert (core.workers(), core.next_tick()) == ([], None), "it has left, and is forgotten"


# All together

TASKS = [
    *["1+(2*3)/4-5", "7", "1/0", "(1+2)*(3+4)-(1+2)", "0.1+0.2+0.3"],
    *["2*3*4*5*6*7", "1-1/(2-2)", "1e999+1"],
]
STEPS = st.lists(
    st.sampled_from(
        [
            *["submit", "hold", "record", "forget", "answer", "fail"],
            *["late", "restart", "time", "announce", "drain"],
        ]
    ),
    max_size=60,
)


class History:
    """What happened to a core in a random order of steps, and what must be so in the end."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.core = Core(WORKER, SEED_WORKER, seed=seed, records_at_once=False)
        self.now = 0.0
        self.out: list[BatchLease] = []
        self.over: list[BatchLease] = []
        self.jobs: list[Job] = []
        self.held: Facts | None = None
        self.ended: list[Job] = []

    def step(self, step: str) -> None:
        core, now, choose = self.core, self.now, self.random.choice
        lease = choose(self.out) if self.out else None
        match step:
            case "submit":
                self.jobs += core.add(*self.random.choices(TASKS, k=choose([1, 2, 4])), now=now)
            case "announce" | "drain":
                core.announce(now, replace(WORKER, draining=step == "drain"))
            case "restart":
                core.announce(now, replace(WORKER, incarnation=str(self.random.random())))
            case "time":
                self.now += choose([0.05, 1.0, 30.0])
            case "late" if self.over:
                late = choose(self.over)
                assert not core.arithmetic.complete(now, late.number, [999] * late.count, {})
            case "answer" if lease is not None:
                assert core.answer(now, lease)
                self._has_ended(lease)
            case "fail" if lease is not None:
                core.lose(now, lease, choose(list(Failure)))
            case "hold" if self.held is None:
                self.held = core.jobs.facts()
            case "record":
                self.record()
            case "forget" if self.held is not None:
                core.unrecorded(now, self.held)
                void = {job for made in self.held.submissions for job in made.jobs}
                self.jobs = [job for job in self.jobs if job not in void]
                self.held = None
        self.tick()

    def record(self) -> None:
        facts, self.held = self.held or self.core.jobs.facts(), None
        if facts is not None:
            self.core.recorded(self.now, facts)

    def tick(self) -> None:
        for tick in self.core.settle(self.now):
            for job in tick.ended:
                assert job.is_terminal
            self.ended += tick.ended
            for lease in tick.lost:
                self._has_ended(lease)
            self.out += tick.batches

    def _has_ended(self, lease: BatchLease) -> None:
        self.out.remove(lease)
        self.over.append(lease)

    def finish(self) -> None:
        """From now on all is well."""
        self.core.announce(self.now, replace(WORKER, incarnation="the last"))
        self.core.announce(self.now, replace(SEED_WORKER, name="the last"))
        for lease in self.out:
            self.core.lose(self.now, lease, Failure.NOT_SENT)
        self.record()
        self.core.records_at_once = True
        for _ in range(len(self.jobs) + 10):
            self.now += 40.0
            self.core.announce(self.now, replace(WORKER, incarnation="the last"))
            self.ended += self.core.run(self.now)


@settings(max_examples=300, deadline=None)
@given(STEPS, st.integers(0, 2**32))
def test_whatever_workers_do_every_job_ends_once_with_python_s_answer(steps, seed) -> None:
    """Random orders of submits, records, answers, failures, late results and restarts."""
    history = History(seed)
    for step in steps:
        history.step(step)
    history.finish()
    assert sorted(job.number for job in history.ended) == [job.number for job in history.jobs]
    for job in history.jobs:
        if job.error is not None and "worker" in job.error:
            assert "workers_lost_max" in job.error or "gave up after" in job.error
        else:
            assert is_as_python_says(job)
