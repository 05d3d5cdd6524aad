from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from core.checked import CALLER, LIMITS, Core, parsed
from core.evaluate import FUNCTIONS, is_as_python_says
from core.plans import Plan, call
from dte.core.arithmetic.quarantine import Suspicion
from dte.core.errors import Busy, NotFound, TooLarge
from dte.core.jobs import outbox as outbox_module
from dte.core.jobs import table as jobs_module
from dte.core.jobs.facts import Facts, Submission
from dte.core.jobs.job import Job, JobState
from dte.core.limits import SchedulerLimits
from dte.core.scheduler import Scheduler


class Book:
    """A table of jobs whose operations are done here, checked after each step."""

    def __init__(self, limits: SchedulerLimits) -> None:
        self.core = Scheduler(limits)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.core.jobs, name)

    def accept(self, *tasks: str, now: float = 0.0) -> Submission:
        submission = self.core.jobs.accept(now, parsed(*tasks))
        self.check()
        return submission

    def recorded(self, facts: Facts, void: Collection[Submission] = ()) -> None:
        self.core.recorded(0.0, facts, void)

    def unrecorded(self, facts: Facts) -> None:
        self.core.unrecorded(0.0, facts)

    def resume(self, now: float, job: Job, task: str) -> None:
        """Read a restored job again."""
        (new,) = parsed(task)
        self.core.resume(now, job, new)

    def note(self) -> Facts:
        """What is to be recorded."""
        facts = self.core.jobs.facts()
        assert facts is not None
        self.check()
        return facts

    def record(self) -> Facts:
        """Record what is to be recorded."""
        facts = self.note()
        self.recorded(facts)
        self.check()
        return facts

    def add(self, *tasks: str) -> list[Job]:
        """Jobs that are accepted and recorded."""
        submission = self.accept(*tasks)
        self.record()
        return submission.jobs

    def work(self, now: float = 0.0) -> None:
        """Do all that is ready, until nothing is."""
        while parts := self.ready.take(1):
            ((job, nodes),) = parts
            assert job.graph is not None
            if job.state is JobState.WAITING:
                job.enter(JobState.RUNNING)
            symbols, (left,), (right,) = job.graph.columns(nodes)
            try:
                self.core.arithmetic._finish(now, parts, [FUNCTIONS[symbols](left, right)])
            except ZeroDivisionError:
                self.end(now, job, error=f"division by zero: {left} / {right}")
            self.check()


def numbers(book: Book, count: int = 100) -> list[int]:
    return [job.number for job in book.newest(count)]


# Accepting


def test_numbers_of_jobs_go_up_from_one() -> None:
    book = Book(LIMITS)
    assert [job.number for job in book.accept("1+1", "2", "3+3").jobs] == [1, 2, 3]
    assert [job.number for job in book.accept("4+4").jobs] == [4]


def test_a_submission_says_what_is_to_be_recorded_of_it() -> None:
    book = Book(LIMITS)
    long = "+".join(["1"] * 20_000)
    submission = book.core.jobs.accept(1.0, parsed(long, "7", "1e999+1"), "a key", "a digest")
    assert (submission.key, submission.digest) == ("a key", "a digest")
    assert submission.texts == [long, "7", "1e999+1"], "the whole texts"
    assert len(submission.jobs[0].task) < len(long)
    ends = [(end.job.number, end.at, end.answer) for end in submission.ends]
    assert ends == [(2, 1.0, 7), (3, 1.0, None)]
    assert submission.ends[1].error == "a number in the formula is too large for a float"


def test_too_many_waiting_jobs_are_refused_as_a_whole() -> None:
    book = Book(replace(LIMITS, jobs_waiting_max=2))
    book.accept("1+1")
    with pytest.raises(Busy, match="jobs_waiting_max"):
        book.accept("2+2", "3+3")
    assert (book.waiting, book.operations_waiting) == (1, 1)
    book.add("2+2")
    with pytest.raises(Busy, match="jobs_waiting_max"):
        book.ensure_room(1)
    assert book.add("7")[0].answer == 7, "a lone number does not wait"


def test_too_many_waiting_operations_are_refused_as_a_whole() -> None:
    book = Book(replace(LIMITS, operations_waiting_max=3))
    book.accept("1+1")
    with pytest.raises(Busy, match="operations_waiting_max"):
        book.accept("2+2", "3+3+3")
    assert book.operations_waiting == 1
    with pytest.raises(TooLarge, match="too many operations: 4 > 3"):
        book.ensure_room(1, 4)


def test_a_job_counts_as_waiting_until_its_end_is_recorded() -> None:
    """Else a disk that does not keep up would have no bound."""
    book = Book(replace(LIMITS, jobs_waiting_max=1))
    book.add("1+1")
    book.work()
    assert (book.waiting, book.operations_waiting) == (1, 0)
    with pytest.raises(Busy):
        book.accept("2+2")
    book.record()
    assert book.waiting == 0
    book.accept("2+2")


def test_an_unknown_job_is_not_found() -> None:
    with pytest.raises(NotFound, match="Job not found"):
        Book(LIMITS).job(1)


def test_a_job_that_was_forgotten_is_told_from_one_that_never_was() -> None:
    book = Book(replace(LIMITS, jobs_kept=1))
    book.add("1", "2", "3+3")
    assert [book.is_past(number) for number in (-1, 0, 1, 2, 3, 4)] == (
        [False, False, True, False, False, False]
    )


def test_the_newest_jobs_come_first() -> None:
    book = Book(LIMITS)
    book.add("1", "2+2", "3")
    assert numbers(book, 2) == [3, 2]
    assert book.job(2).task == "2+2"


# Recording


def test_nobody_sees_a_job_before_it_is_recorded() -> None:
    book = Book(LIMITS)

    def nothing_is_seen() -> None:
        for number in (1, 2):
            with pytest.raises(NotFound):
                book.job(number)
        assert numbers(book) == []
        assert book.take_ended() == []
        assert book.ready.count == 0, "and nothing is done for it"

    book.accept("1+2", "7")
    nothing_is_seen()
    facts = book.note()
    nothing_is_seen()
    book.recorded(facts)
    assert [book.job(number).state for number in (1, 2)] == [JobState.WAITING, JobState.SUCCEEDED]
    assert numbers(book) == [2, 1]
    assert book.ready.count == 1


def test_jobs_that_are_not_recorded_do_not_hide_others() -> None:
    book = Book(LIMITS)
    book.add("1+1", "2+2", "3+3")
    book.accept("4+4", "5+5")
    assert numbers(book, 2) == [3, 2]


def test_nobody_sees_how_a_job_ended_before_that_is_recorded() -> None:
    book = Book(LIMITS)
    good, bad = book.add("1+2", "1/0")

    def nothing_is_seen() -> None:
        for job in (good, bad):
            assert (job.state, job.is_terminal) == (JobState.ENDING, False)
            assert (job.answer, job.error, job.ended_at) == (None, None, None)
        assert book.take_ended() == []

    book.work(now=5.0)
    nothing_is_seen()
    facts = book.note()
    nothing_is_seen()
    book.recorded(facts)
    assert (good.is_terminal, good.answer, good.ended_at) == (True, 3, 5.0)
    assert (bad.is_terminal, bad.error, bad.answer) == (True, "division by zero: 1 / 0", None)
    assert {job.number for job in book.take_ended()} == {1, 2}
    assert book.take_ended() == [], "it is said once"


@pytest.mark.parametrize("task", ["7", "1e999+1"])
def test_a_job_without_anything_to_do_is_accepted_and_ended_in_one(task) -> None:
    book = Book(LIMITS)
    (job,) = book.accept(task, now=1.0).jobs
    facts = book.record()
    assert [end.job for made in facts.submissions for end in made.ends] == [job]
    assert facts.ends == []
    assert (job.is_terminal, job.ended_at, job.graph) == (True, 1.0, None)
    assert is_as_python_says(job)
    assert (book.waiting, book.operations_waiting, book.ready.count) == (0, 0, 0)
    assert book.take_ended() == [job]
    assert book.facts() is None


def test_jobs_without_anything_to_do_leave_no_turns_behind() -> None:
    """They would add up while there is no worker to go through the turns."""
    book = Book(LIMITS)
    book.add("1+1")
    book.add(*["1e999+1"] * 100)
    assert sum(map(len, book.ready._rotation)) == 1


def test_there_is_nothing_to_record_when_nothing_has_happened() -> None:
    book = Book(LIMITS)
    assert book.facts() is None
    book.accept("1+1")
    assert len(book.note().submissions) == 1
    assert book.facts() is None, "facts are given once"


def test_submissions_that_could_not_be_recorded_vanish_without_a_trace() -> None:
    book = Book(LIMITS)
    (first,) = book.add("1+1")
    book.accept("1+2", "7", "1e999+1")
    book.accept("3+4")
    book.unrecorded(book.note())
    book.check()
    assert (book.waiting, book.operations_waiting, book.ready.count) == (1, 1, 1)
    assert numbers(book) == [first.number]
    assert book.facts() is None
    assert [job.number for job in book.add("5+6")] == [6], "their numbers are not used again"
    book.work()
    book.record()
    assert [job.number for job in book.take_ended()] == [1, 6]


def test_ends_that_could_not_be_recorded_come_up_again_in_their_order() -> None:
    book = Book(LIMITS)
    jobs = book.add("1+1", "2+2", "1/0")
    book.work()
    lost = book.note()
    book.add("3+3")
    book.work()
    book.unrecorded(lost)
    book.check()
    assert all(book.job(job.number) is job for job in jobs), "they stay known"
    assert not any(job.is_terminal for job in jobs)
    again = book.record()
    assert again.ends[:3] == lost.ends
    assert [end.job.number for end in again.ends] == [1, 2, 3, 4]
    assert [job.number for job in book.take_ended()] == [1, 2, 3, 4]


def test_a_void_submission_vanishes_and_the_rest_is_recorded() -> None:
    book = Book(LIMITS)
    book.add("1+1")
    book.work()
    void, good = book.accept("1+2", "7"), book.accept("3+4", "8")
    facts = book.note()
    book.recorded(facts, [void])
    book.check()
    assert numbers(book) == [5, 4, 1]
    assert (book.waiting, book.operations_waiting) == (1, 1)
    assert [job.number for job in book.take_ended()] == [5, 1]
    assert good.jobs[0].state is JobState.WAITING
    for job in void.jobs:
        with pytest.raises(NotFound):
            book.job(job.number)


def test_facts_are_cut_but_never_a_submission(monkeypatch) -> None:
    monkeypatch.setattr(outbox_module, "FACTS_MAX", 3)
    book = Book(LIMITS)
    book.add("1+1", "1+2", "1+3", "1+4", "1+5")
    book.work()
    book.accept("2+1", "2+2")
    book.accept("3+1", "3+2", "3+3", "3+4")
    book.accept("4+1")
    sizes = []
    while (facts := book.facts()) is not None:
        sizes.append(([len(made.jobs) for made in facts.submissions], len(facts.ends)))
        book.recorded(facts)
        book.check()
    assert sizes == [([2, 4], 0), ([1], 2), ([], 3)]
    assert len(book.take_ended()) == 5


# The course of a job


def test_an_answer_with_too_many_digits_fails_the_job() -> None:
    book = Book(replace(LIMITS, digits_max=3))
    short, exact, negative, long = book.add("900+99", "0-999", "0-999-1", "999+1")
    book.work()
    book.record()
    assert (short.answer, exact.answer) == (999, -999)
    assert negative.error == long.error == "the answer has more than 3 digits (digits_max)"


def test_a_job_ends_once() -> None:
    book = Book(LIMITS)
    (job,) = book.add("1+1")
    book.end(0.0, job, error="the first")
    with pytest.raises(AssertionError, match="ends once"):
        book.end(0.0, job, error="the second")
    book.record()
    assert job.error == "the first"


def test_what_is_done_counts_no_more_as_waiting() -> None:
    book = Book(LIMITS)
    book.add("(1+2)*(3+4)", "1/0+2*3+4*5")
    assert book.operations_waiting == 8
    book.work()
    assert book.operations_waiting == 0
    assert book.operations_done + book.job(2).operations - book.job(2).operations_done == 8


def test_results_clear_operations_of_suspicion() -> None:
    book = Book(LIMITS)
    (job,) = book.add("1*2+3*4")
    parts = book.ready.take(2)
    job.enter(JobState.RUNNING)
    suspicions = {node: Suspicion(job, workers_lost=1) for node in [*parts[0][1], 99]}
    book.core.arithmetic.quarantine._suspicions[job.number] = suspicions
    book.core.arithmetic._finish(0.0, parts, [12, 2])
    assert list(suspicions) == [99]


def test_jobs_that_have_ended_are_forgotten_in_the_order_of_their_ends() -> None:
    book = Book(replace(LIMITS, jobs_kept=2))
    jobs = book.add("1+1", "2+2", "3+3")
    for job in (jobs[2], jobs[0], jobs[1]):
        book.end(0.0, job, error="no more")
    assert len(numbers(book)) == 3, "not before their ends are recorded"
    book.record()
    assert numbers(book) == [2, 1]
    assert [job.number for job in book.take_ended()] == [3, 1, 2], "all ends are said"


# Freeing


def test_a_large_graph_is_freed_in_slices(monkeypatch) -> None:
    monkeypatch.setattr(jobs_module, "SWEEP_OPERATIONS", 10)
    book = Book(LIMITS)
    book.add("1/0+" + "+".join(f"{n}*{n + 1}" for n in range(20)))
    assert not book.sweeping
    book.work()
    slices = 0
    while book.sweeping:
        book.sweep()
        slices += 1
    assert slices == 5, "41 operations, ten at a time"
    book.sweep()


def test_a_large_graph_that_could_not_be_recorded_is_freed_in_slices_too(monkeypatch) -> None:
    monkeypatch.setattr(jobs_module, "SWEEP_OPERATIONS", 10)
    book = Book(LIMITS)
    book.accept("+".join(f"{n}*{n + 1}" for n in range(20)), "1+1")
    book.unrecorded(book.note())
    assert book.sweeping


def test_the_edges_of_an_ended_job_are_freed_in_slices_if_they_are_many() -> None:
    for nodes, are_many in ((50, True), (5, False)):
        core = Core(CALLER)
        names = [f"n{number}" for number in range(nodes)]
        plan = Plan({name: call("f", after=names[:at]) for at, name in enumerate(names)})
        job = core.plan(plan)
        core.fail_at(0.0, core.hand_out()["n0"], retry=False)
        assert job.is_terminal
        assert core.jobs.sweeping == are_many


def test_a_small_graph_is_freed_at_once() -> None:
    book = Book(LIMITS)
    book.add("1+1")
    book.work()
    assert not book.sweeping


# Going on after a restart


def waiting_job(number: int, task: str, operations: int = 1) -> Job:
    """A job that had not ended, as it is read from a record."""
    return Job(number, task, 0.0, operations, None, JobState.WAITING)


def ended_job(number: int, answer: int = 2) -> Job:
    """A job that had ended, as it is read from a record."""
    job = Job(number, "1+1", 0.0, 1, None, JobState.SUCCEEDED, operations_done=1)
    job.answer, job.ended_at = answer, 1.0
    return job


def restored(
    waiting: list[Job], ended: list[Job], last: int = 9, jobs_kept: int = 100, jobs_max: int = 100
) -> Book:
    book = Book(replace(LIMITS, jobs_kept=jobs_kept, jobs_waiting_max=jobs_max))
    book.restore(last, waiting, ended)
    book.check()
    return book


def test_restored_jobs_are_there_as_they_were() -> None:
    book = restored([waiting_job(2, "1+1"), waiting_job(5, "2*3+4", 2)], [ended_job(1, 7)])
    assert numbers(book) == [5, 2, 1]
    assert (book.job(1).answer, book.job(1).is_terminal) == (7, True)
    assert (book.job(2).state, book.job(2).progress) == (JobState.WAITING, 0)
    assert (book.waiting, book.operations_waiting, book.ready.count) == (2, 3, 0)
    assert book.facts() is None, "all of it is recorded"
    assert book.take_ended() == []


def test_numbers_go_on_after_a_restart() -> None:
    book = restored([waiting_job(2, "1+1")], [ended_job(1)], last=41)
    assert [job.number for job in book.accept("1+1").jobs] == [42]


def test_the_order_of_numbers_and_that_of_ends_are_kept_after_a_restart() -> None:
    book = restored(
        [waiting_job(6, "1+1"), waiting_job(2, "1+1")],
        [ended_job(5), ended_job(1), ended_job(4)],
        jobs_kept=3,
    )
    assert numbers(book) == [6, 5, 4, 2, 1]
    book.add("7")
    assert numbers(book) == [10, 6, 4, 2, 1], "5 ended first"
    book.add("7")
    assert numbers(book) == [11, 10, 6, 4, 2], "and 1 after it"


def test_more_ended_jobs_than_are_kept_are_cut_when_they_are_restored() -> None:
    book = restored([], [ended_job(number) for number in (3, 1, 2)], jobs_kept=2)
    assert numbers(book) == [2, 1]


def test_a_restored_job_is_done_when_it_has_been_read_again() -> None:
    job = waiting_job(2, "2*3+4", 2)
    book = restored([job], [])
    book.resume(3.0, job, job.task)
    book.check()
    book.work(4.0)
    book.record()
    assert (job.answer, job.ended_at, job.operations_done) == (10, 4.0, 2)
    assert book.waiting == 0


def test_a_restored_job_may_have_another_count_of_operations_than_was_recorded() -> None:
    """Another version of the parser may share or balance otherwise."""
    job = waiting_job(2, "(1+2)*(1+2)", 3)
    book = restored([job, waiting_job(3, "1+1")], [])
    assert book.operations_waiting == 4
    book.resume(3.0, job, job.task)
    book.check()
    assert (job.operations, book.operations_waiting) == (2, 3)


@pytest.mark.parametrize("task", ["7", "1e999+1", "-0.0"])
def test_a_restored_job_with_nothing_to_do_ends(task) -> None:
    job, other = waiting_job(2, task, 0), waiting_job(3, "1+1")
    book = restored([job, other], [])
    book.resume(3.0, job, task)
    book.check()
    assert not job.is_terminal
    book.resume(3.0, other, other.task)
    book.record()
    assert job.ended_at == 3.0
    assert is_as_python_says(job)
    assert book.take_ended() == [job]
    book.work()
    book.record()
    assert other.answer == 2


def test_restored_jobs_count_against_the_bounds() -> None:
    book = restored([waiting_job(1, "1+1"), waiting_job(2, "1+1")], [], jobs_max=2)
    with pytest.raises(Busy, match="jobs_waiting_max"):
        book.accept("1+1")
