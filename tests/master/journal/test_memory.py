from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from dte.core.formula.formula import FormulaLimits, parse
from dte.core.jobs.facts import Facts, KnownSubmission, Submission
from dte.core.jobs.job import Job, JobState
from dte.core.jobs.table import NewJob
from dte.core.limits import SchedulerLimits
from dte.core.scheduler import Scheduler
from dte.master.journal import memory
from dte.master.journal.memory import KeyMemory, MemoryRecorder


class Desk:
    """A table of jobs whose facts are recorded in memory.

    Attributes:
        repeats: the submissions among the recorded facts that repeat earlier ones.
    """

    def __init__(self, keys_max: int = 10) -> None:
        self.core = Scheduler(SchedulerLimits())
        self.jobs = self.core.jobs
        self.repeats: list[Submission] = []
        self.recorder = MemoryRecorder(7, keys_max)
        self.recorder.start(self.jobs, self.recorded, self.unrecorded)

    def recorded(self, facts: Facts, repeats: Mapping[Submission, KnownSubmission]) -> None:
        self.core.recorded(0.0, facts, repeats)
        self.repeats += repeats

    def unrecorded(self, facts: Facts, error: Exception) -> None:
        raise AssertionError(error)

    def submit(self, key: str = "") -> Submission:
        submission = self.jobs.accept(0.0, [NewJob("1+1", parse("1+1", FormulaLimits()))], key)
        self.recorder.wake()
        return submission


async def test_facts_are_recorded_at_once_without_a_journal() -> None:
    desk = Desk()
    (job,) = desk.submit().jobs
    assert job.state is JobState.WAITING
    desk.jobs.end(1.0, job, answer=2)
    assert job.state is JobState.ENDING
    await desk.recorder.flush()
    assert job.state is JobState.SUCCEEDED
    assert (desk.recorder.failure, desk.recorder.commits) == (None, 0)
    desk.jobs.check()


async def test_many_facts_take_effect_in_turns_without_a_journal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "FACTS_IN_TURN", 2)
    desk = Desk()
    jobs = [job for _ in range(5) for job in desk.submit().jobs]
    await desk.recorder.flush()
    for job in jobs:
        desk.jobs.end(1.0, job, answer=2)
    desk.recorder.wake()
    desk.recorder.wake()
    assert [job.is_terminal for job in jobs] == [True, True, False, False, False]
    await asyncio.sleep(0)
    assert [job.is_terminal for job in jobs] == [True, True, True, True, False]
    await desk.recorder.flush()
    assert all(job.is_terminal for job in jobs)
    desk.jobs.check()


async def test_a_repeated_key_is_found_without_a_journal() -> None:
    desk = Desk()
    desk.submit("k")
    again = desk.submit("k")
    assert desk.repeats == [again]
    assert await desk.recorder.submission("k") == KnownSubmission("", 1, 1)
    assert await desk.recorder.submission("l") is None


async def test_nothing_is_known_from_before_without_a_journal() -> None:
    recorder = Desk().recorder
    loaded = recorder.load(100, 100)
    assert (loaded.last, loaded.waiting, loaded.ended, loaded.workers) == (0, [], [], [])
    assert await recorder.unfinished(0) == []
    assert await recorder.ended([1]) == {}
    assert await recorder.plans([1]) == {1: (None, [])}
    assert recorder.boot == 7


def submission(first: int, key: str, digest: str = "d", jobs: int = 1) -> Submission:
    numbers = range(first, first + jobs)
    return Submission([Job(n, "1", 0.0, 0, None) for n in numbers], [], [], key, digest)


def test_a_key_that_is_new_is_remembered_and_no_repeat() -> None:
    memory = KeyMemory(10)
    assert memory.get("k") is None
    assert memory.remember([submission(5, "k", "d", jobs=3)]) == {}
    assert memory.get("k") == KnownSubmission("d", 5, 3)


def test_a_key_that_is_known_is_a_repeat_of_what_came_first() -> None:
    memory = KeyMemory(10)
    memory.remember([submission(5, "k", "first")])
    again = submission(8, "k", "other")
    assert memory.remember([submission(7, "l"), again]) == {again: KnownSubmission("first", 5, 1)}
    assert memory.get("k") == KnownSubmission("first", 5, 1)


def test_of_two_in_one_group_the_second_is_a_repeat() -> None:
    first, second = submission(1, "k"), submission(2, "k")
    assert KeyMemory(10).remember([first, second]) == {second: KnownSubmission("d", 1, 1)}


def test_submissions_without_a_key_are_never_repeats() -> None:
    memory = KeyMemory(10)
    for number in (1, 2):
        assert memory.remember([submission(number, "")]) == {}
    assert memory.get("") is None


def test_the_oldest_keys_are_forgotten_when_there_are_too_many() -> None:
    memory = KeyMemory(2)
    memory.remember([submission(number, str(number)) for number in (1, 2, 3)])
    assert memory.get("1") is None
    assert memory.remember([submission(4, "1"), submission(5, "3")]).keys()
    assert [memory.get(key) is not None for key in "123"] == [True, False, True]
