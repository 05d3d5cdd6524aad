from __future__ import annotations

from dte.core.jobs.facts import KnownSubmission, Submission
from dte.core.jobs.job import Job
from dte.master.journal.memory import KeyMemory


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
