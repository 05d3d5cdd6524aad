from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.evaluate import FUNCTIONS, evaluate
from dte.core import scheduler as scheduler_module
from dte.core.availability import FAILURES_MAX, Announcement
from dte.core.errors import Busy, NotFound
from dte.core.formula import FormulaLimits, parse
from dte.core.job import Job, JobState
from dte.core.lease import Lease
from dte.core.scheduler import Scheduler, SchedulerLimits, Turn

LIMITS = SchedulerLimits(lease_s=10.0)
WORKER = Announcement("w", "10.0.0.1:6000", slots=2, batch_max=64, incarnation="a")
SEED_WORKER = Announcement("worker-1700000000", "10.0.0.2:6000")


class Core(Scheduler):
    """The scheduler, checked after each step."""

    def __init__(self, *workers: Announcement, limits: SchedulerLimits = LIMITS) -> None:
        super().__init__(limits)
        for said in workers:
            self.announce(0.0, said)

    def add(self, *tasks: str, now: float = 0.0) -> list[Job]:
        jobs = self.submit(now, [(task, parse(task, FormulaLimits())) for task in tasks])
        self.check()
        return jobs

    def turn(self, now: float) -> Turn:
        turn = super().turn(now)
        self.check()
        return turn

    def answer(self, now: float, lease: Lease) -> bool:
        """What a good worker gives back."""
        results, errors = [], {}
        for place, (symbol, a, b) in enumerate(zip(*lease.columns(), strict=True)):
            try:
                results.append(FUNCTIONS[symbol](a, b))
            except ZeroDivisionError:
                results.append(0)
                errors[place] = "division by zero"
        changed = self.complete(now, lease.number, results, errors)
        self.check()
        return changed

    def run(self, now: float = 0.0) -> list[Job]:
        """Hand over and answer until nothing is left; the jobs that ended, in order."""
        ended: list[Job] = []
        while True:
            turn = self.turn(now)
            ended += turn.ended
            if not turn.leases:
                return ended
            for lease in turn.leases:
                self.answer(now, lease)


def operations(lease: Lease) -> list[tuple[int, int]]:
    """Which operations of which jobs a lease has."""
    return [(job.number, node) for job, nodes in lease.parts for node in nodes]


# The course of a job


def test_a_job_s_answer_is_the_formula_s_value() -> None:
    core = Core(WORKER)
    (job,) = core.add("1+(2*3)/4-5", now=1.0)
    assert (job.number, job.state, job.finished) == (1, JobState.WAITING, False)
    assert core.run(2.0) == [job]
    assert (job.answer, job.error, job.state) == (-2.5, None, JobState.SUCCEEDED)
    assert (job.submitted_at, job.started_at, job.ended_at) == (1.0, 2.0, 2.0)
    assert (job.progress, job.operations) == (4, 4)
    assert (core.jobs_waiting, core.operations_waiting, core.operations_done) == (0, 0, 4)


def test_numbers_of_jobs_go_up_from_one() -> None:
    core = Core()
    assert [job.number for job in core.add("1+1", "2", "3+3")] == [1, 2, 3]


def test_a_lone_number_ends_without_a_worker() -> None:
    core = Core()
    (job,) = core.add("42")
    assert (job.answer, job.finished, job.operations) == (42, True, 0)
    assert core.turn(0.0).ended == [job]
    assert core.turn(0.0).ended == []


def test_a_formula_with_an_infinite_number_fails_without_a_worker() -> None:
    core = Core()
    (job,) = core.add("1e999+1")
    assert job.state is JobState.FAILED
    assert "too large" in (job.error or "")


def test_only_operations_with_known_operands_are_handed_over() -> None:
    core = Core(WORKER)
    core.add("(1+2)*(3+4)")
    leases = core.turn(0.0).leases
    assert sorted(symbol for lease in leases for symbol in lease.columns()[0]) == ["+", "+"]
    core.answer(0.0, leases[0])
    (last,) = [lease for lease in core.turn(0.0).leases if lease not in leases] or leases[1:]
    if last in leases:
        core.answer(0.0, last)
        (last,) = core.turn(0.0).leases
    assert last.columns() == ("*", [3], [7])


def test_jobs_wait_while_there_is_no_worker() -> None:
    core = Core()
    (job,) = core.add("1+2")
    assert core.turn(1000.0).leases == []
    assert core.next_turn() is None
    core.announce(1001.0, WORKER)
    assert core.run(1001.0) == [job]


def test_a_failed_operation_ends_the_job_and_names_itself() -> None:
    core = Core(WORKER)
    (job,) = core.add("1+5/(3-3)")
    core.run()
    assert (job.state, job.answer) == (JobState.FAILED, None)
    assert job.error == "division by zero: 5 / 0"
    assert (core.jobs_waiting, core.operations_waiting) == (0, 0)


def test_what_is_left_of_a_failed_job_is_dropped() -> None:
    core = Core(SEED_WORKER)
    core.add("(1/0)+(2*3)+(4*5)")
    lease = core.turn(0.0).leases[0]
    while lease.columns()[0] != "/":
        core.answer(0.0, lease)
        lease = core.turn(0.0).leases[0]
    core.answer(0.0, lease)
    turn = core.turn(0.0)
    assert [job.number for job in turn.ended] == [1]
    assert turn.leases == []


def test_results_for_a_job_that_has_failed_meanwhile_change_nothing() -> None:
    core = Core(WORKER, replace(WORKER, address="10.0.0.3:6000"))
    (job,) = core.add("(1/0)+(2*3)")
    first, second = core.turn(0.0).leases
    failing = first if "/" in first.columns()[0] else second
    other = second if failing is first else first
    columns = other.columns()
    core.answer(0.0, failing)
    assert job.state is JobState.FAILED
    assert core.complete(0.0, other.number, [6] * len(columns[0]), {})
    core.check()
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


def test_an_answer_with_too_many_digits_fails_the_job() -> None:
    core = Core(WORKER, limits=replace(LIMITS, digits_max=3))
    short, exact, negative, long = core.add("900+99", "0-999", "0-999-1", "999+1")
    core.run()
    assert (short.answer, exact.answer) == (999, -999)
    assert negative.error == long.error == "the answer has more than 3 digits (digits_max)"


# Jobs in memory


def test_an_unknown_job_is_not_found() -> None:
    with pytest.raises(NotFound, match="Job not found"):
        Core().job(1)


def test_the_newest_jobs_come_first() -> None:
    core = Core()
    core.add("1", "2+2", "3")
    assert [job.number for job in core.newest_jobs(2)] == [3, 2]
    assert core.job(2).task == "2+2"


def test_too_many_waiting_jobs_are_refused_as_a_whole() -> None:
    core = Core(limits=replace(LIMITS, jobs_waiting_max=2))
    core.add("1+1")
    with pytest.raises(Busy, match="jobs_waiting_max"):
        core.add("2+2", "3+3")
    assert core.jobs_waiting == 1
    core.add("2+2")
    with pytest.raises(Busy, match="jobs_waiting_max"):
        core.ensure_room(1)
    assert core.add("7")[0].answer == 7, "a lone number does not wait"


def test_too_many_waiting_operations_are_refused_as_a_whole() -> None:
    core = Core(limits=replace(LIMITS, operations_waiting_max=3))
    core.add("1+1")
    with pytest.raises(Busy, match="operations_waiting_max"):
        core.add("2+2", "3+3+3")
    assert core.operations_waiting == 1


# Sharing


def test_jobs_take_turns() -> None:
    core = Core(replace(SEED_WORKER, batch_max=4))
    core.add("+".join(f"{n}*{n + 1}" for n in range(100)))
    core.add("1+(2*3)/4-5")
    ended: list[int] = []
    for _ in range(12):
        turn = core.turn(0.0)
        ended += [job.number for job in turn.ended]
        for lease in turn.leases:
            core.answer(0.0, lease)
    assert 2 in ended, "the small job does not wait for the large one"
    assert 1 not in ended


def test_ready_operations_are_shared_among_free_workers() -> None:
    core = Core(*(replace(WORKER, address=f"10.0.0.{n}:6000", slots=1) for n in range(4)))
    core.add("+".join(f"{n}*{n + 1}" for n in range(40)))
    assert [lease.count for lease in core.turn(0.0).leases] == [10, 10, 10, 10]


def test_a_few_quick_operations_are_not_torn_apart() -> None:
    core = Core(*(replace(WORKER, address=f"10.0.0.{n}:6000", slots=1) for n in range(4)))
    for worker in core.workers():
        worker.batch = 64
    core.add("(1+2)*(3+4)")
    assert [lease.count for lease in core.turn(0.0).leases] == [2]


def test_a_worker_of_single_operations_gets_one_at_a_time() -> None:
    core = Core(SEED_WORKER)
    core.add("(1+2)*(3+4)")
    leases = core.turn(0.0).leases
    assert [lease.count for lease in leases] == [1]
    assert core.turn(0.0).leases == []


# Leases


def test_no_two_leases_share_a_number() -> None:
    core = Core(WORKER)
    core.add(*(f"{n}+1" for n in range(50)))
    numbers = []
    while leases := core.turn(0.0).leases:
        numbers += [lease.number for lease in leases]
        for lease in leases:
            core.answer(0.0, lease)
    assert len(set(numbers)) == len(numbers)


def test_a_lease_that_failed_makes_its_operations_ready_again() -> None:
    core = Core(WORKER)
    (job,) = core.add("1+2")
    (lease,) = core.turn(0.0).leases
    core.fail(0.0, lease.number, "connection refused")
    core.check()
    turn = core.turn(0.0)
    assert (turn.leases, turn.lost) == ([], [lease])
    assert lease.lost_because == "connection refused"
    resumes_at = core.next_turn()
    assert resumes_at is not None
    (again,) = core.turn(resumes_at).leases
    assert operations(again) == operations(lease)
    core.answer(resumes_at, again)
    assert job.answer == 3


def test_a_result_under_a_lease_that_has_ended_changes_nothing() -> None:
    core = Core(WORKER)
    (job,) = core.add("1+2")
    (lease,) = core.turn(0.0).leases
    core.fail(0.0, lease.number, "reset")
    assert not core.complete(0.0, lease.number, [999], {})
    core.fail(0.0, lease.number, "reset again")
    assert lease.lost_because == "reset"
    assert core.stale_results == 1
    assert not job.finished
    core.run(1.0)
    assert job.answer == 3


def test_silence_past_the_lease_gives_the_operations_to_another() -> None:
    other = replace(WORKER, address="10.0.0.3:6000")
    core = Core(WORKER)
    (job,) = core.add("1+2")
    (lease,) = core.turn(0.0).leases
    core.announce(1.0, other)
    assert core.turn(9.999).lost == []
    assert core.next_turn() == 10.0
    turn = core.turn(10.0)
    assert turn.lost == [lease]
    (again,) = turn.leases
    assert again.worker.said == other
    assert not core.complete(11.0, lease.number, [999], {})
    core.answer(11.0, again)
    assert job.answer == 3
    assert lease.worker.last_failure == "silent for 10 s"


@pytest.mark.parametrize(
    ("results", "errors"), [([], {}), ([1, 2], {}), ([1], {7: "no"}), ([1], {-1: "no"})]
)
def test_a_reply_that_does_not_fit_is_a_failure_of_the_worker(results, errors) -> None:
    core = Core(WORKER)
    (job,) = core.add("1+2")
    (lease,) = core.turn(0.0).leases
    assert not core.complete(0.0, lease.number, results, errors)
    core.check()
    assert lease.worker.failures == 1
    assert not job.finished
    core.run(1.0)
    assert job.answer == 3


def test_an_operation_that_no_worker_can_do_fails_its_job() -> None:
    """It neither goes round for ever nor takes one worker after the other out."""
    core = Core(SEED_WORKER, replace(SEED_WORKER, address="10.0.0.3:6000"))
    (poison,) = core.add("1+2")
    ended: list[Job] = []
    now = 0.0
    while not ended:
        turn = core.turn(now)
        ended += turn.ended
        for lease in turn.leases:
            core.fail(now, lease.number, "status 500 without an error", answered=True)
            core.check()
        now += 1.0
    assert ended == [poison]
    assert poison.error == (
        "no worker could do it, the last time: status 500 without an error: 1 + 2"
    )
    assert all(worker.state != "gone" for worker in core.workers())


def test_what_no_worker_has_taken_is_never_given_up() -> None:
    core = Core(WORKER)
    (job,) = core.add("1+2")
    now = 0.0
    for _ in range(FAILURES_MAX):
        (lease,) = core.turn(now).leases
        core.announce(now, WORKER)
        core.fail(now, lease.number, "connection refused")
        now = lease.worker.resumes_at or now
    assert not job.finished


def test_operations_that_were_given_back_do_not_keep_others_waiting() -> None:
    core = Core(SEED_WORKER)
    core.add("1/0+2*3")
    (first,) = core.turn(0.0).leases
    core.fail(0.0, first.number, "garbled", answered=True)
    (second,) = core.turn(1.0).leases
    assert operations(second) != operations(first)


def test_leases_of_a_turn_are_bounded_and_the_next_turn_comes_at_once() -> None:
    workers = [replace(WORKER, address=f"10.0.1.{n}:6000", batch_max=1) for n in range(80)]
    core = Core(*workers)
    core.add(*(f"{n}+1" for n in range(200)))
    assert len(core.turn(0.0).leases) == scheduler_module.LEASES_IN_TURN
    assert core.next_turn() == float("-inf")
    assert len(core.turn(0.0).leases) == 60
    assert core.next_turn() != float("-inf")


def test_jobs_that_end_when_they_are_submitted_leave_nothing() -> None:
    core = Core(WORKER)
    core.add(*["1e999+1"] * 100)
    assert len(core._ready._turns) == 0
    job, other = core.add("1/0+2*3", "1/0+2*3")
    core.run()
    assert job.finished
    assert other.finished
    assert len(core._ready._turns) == 0


def test_a_lease_has_few_operations_of_long_integers() -> None:
    core = Core(WORKER)
    for worker in core.workers():
        worker.batch = 64
    long = "9" * 4000
    core.add("+".join(f"({long}-{n})" for n in range(50)))
    assert [lease.count for lease in core.turn(0.0).leases] == [1, 1]


def test_a_new_incarnation_ends_the_leases_of_the_old_one() -> None:
    core = Core(WORKER)
    (job,) = core.add("1+2")
    (lease,) = core.turn(0.0).leases
    core.announce(1.0, replace(WORKER, incarnation="b"))
    turn = core.turn(1.0)
    assert turn.lost == [lease]
    assert not core.complete(1.0, lease.number, [999], {})
    (again,) = turn.leases
    core.answer(1.0, again)
    assert job.answer == 3
    assert again.worker.failures == 0


def test_a_heartbeat_leaves_leases_alone() -> None:
    core = Core(WORKER)
    core.add("1+2")
    (lease,) = core.turn(0.0).leases
    core.announce(1.0, WORKER)
    assert core.turn(1.0).lost == []
    assert core.answer(1.0, lease)


def test_a_worker_that_says_nothing_for_long_loses_its_leases() -> None:
    core = Core(WORKER, limits=replace(LIMITS, lease_s=1000.0))
    (job,) = core.add("1+2")
    (lease,) = core.turn(0.0).leases
    while not (lost := core.turn(now := core.next_turn() or 0.0).lost):
        pass
    assert (lost, now) == ([lease], 16.0)
    assert lease.lost_because == "not heard of for 16 s"
    core.announce(20.0, WORKER)
    core.run(20.0)
    assert job.answer == 3


def test_a_worker_that_always_fails_is_taken_out_and_the_job_waits() -> None:
    core = Core(WORKER)
    (job,) = core.add("1+2")
    now = 0.0
    for _ in range(FAILURES_MAX):
        (lease,) = core.turn(now).leases
        core.announce(now, WORKER)
        core.fail(now, lease.number, "garbled")
        now = lease.worker.resumes_at or now
    assert core.workers()[0].state == "gone"
    assert core.turn(now + 100.0).leases == []
    core.announce(now + 200.0, WORKER)
    core.run(now + 200.0)
    assert job.answer == 3


# Freeing


def test_a_large_graph_is_freed_in_slices(monkeypatch) -> None:
    monkeypatch.setattr(scheduler_module, "SWEEP_OPERATIONS", 10)
    core = Core(WORKER)
    core.add("1/0+" + "+".join(f"{n}*{n + 1}" for n in range(20)))
    turns = 0
    while core.jobs_waiting:
        for lease in core.turn(0.0).leases:
            core.answer(0.0, lease)
    while core.next_turn() == float("-inf"):
        core.turn(0.0)
        turns += 1
    assert turns == 5, "41 operations, ten at a time"


# All together

TASKS = ["1+(2*3)/4-5", "7", "1/0", "(1+2)*(3+4)-(1+2)", "0.1+0.2+0.3", "2*3*4*5*6*7", "1-1/(2-2)"]
STEPS = st.lists(
    st.sampled_from(["submit", "answer", "fail", "late", "restart", "time", "announce"]),
    max_size=60,
)


@settings(max_examples=500)
@given(STEPS, st.integers(0, 2**32))
def test_whatever_workers_do_every_job_ends_once_with_python_s_answer(steps, seed) -> None:
    """Random orders of submits, answers, failures, late results, restarts and time going by."""
    randoms = random.Random(seed)
    core, now = Core(WORKER, SEED_WORKER), 0.0
    out: list[Lease] = []
    old: list[Lease] = []
    ended: list[Job] = []
    jobs: list[Job] = []
    for step in steps:
        lease = out.pop(randoms.randrange(len(out))) if out else None
        if step == "submit":
            jobs += core.add(*randoms.choices(TASKS, k=randoms.randint(1, 4)), now=now)
        elif step == "announce":
            core.announce(now, WORKER)
        elif step == "restart":
            core.announce(now, replace(WORKER, incarnation=str(randoms.random())))
        elif step == "time":
            now += randoms.choice([0.05, 1.0, 30.0])
        elif step == "late" and old:
            late = randoms.choice(old)
            assert not core.complete(now, late.number, [999] * late.count, {})
        elif lease is not None and step == "answer":
            core.answer(now, lease)
            old.append(lease)
            lease = None
        elif lease is not None and step == "fail":
            core.fail(now, lease.number, "reset")
        if lease is not None:
            out.append(lease)
        turn = core.turn(now)
        ended += turn.ended
        out = [lease for lease in out if lease not in turn.lost] + turn.leases
        old += turn.lost
    core.announce(now, WORKER)
    core.announce(now, SEED_WORKER)
    for lease in out:
        core.fail(now, lease.number, "the end")
    for _ in range(len(jobs) + 10):
        now += 40.0
        ended += core.run(now)
    assert sorted(job.number for job in ended) == [job.number for job in jobs]
    for job in jobs:
        try:
            assert repr(job.answer) == repr(evaluate(job.task))
        except ZeroDivisionError:
            assert job.error is not None
            assert job.error.startswith("division by zero")
