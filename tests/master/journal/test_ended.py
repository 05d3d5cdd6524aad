"""The ended jobs of a journal: an owner beyond half of them loses its own oldest first."""

from __future__ import annotations

import random
from collections import Counter, deque
from pathlib import Path

import pytest

from dte.core.jobs.facts import Facts
from dte.master.journal import ended
from dte.master.journal.retention import Retention
from dte.master.journal.schema import JournalFailed

from .book import Book

TEN = Retention(jobs_max=10)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dte.db"


def answers(book: Book) -> list[object]:
    return [job.answer for job in book.journal.load(100, 10**6, 0.0).ended]


def settle(book: Book) -> list[object]:
    """The answers that are left when nothing is too much."""
    for _ in range(20):
        book.now += 2
        book.journal.write(Facts([], []), book.now)
    return answers(book)


def test_others_keep_their_jobs_while_one_owner_s_end(path: Path) -> None:
    book = Book(path, retention=TEN)
    book.ended(1)
    book.ended(2, owner="b")
    for answer in range(100, 200):
        book.now += 2
        book.ended(answer, owner="a")
    assert settle(book) == [1, 2, 195, 196, 197, 198, 199]
    book.close()


def test_gaps_push_out_nobody_after_a_restart_either(path: Path) -> None:
    book = Book(path, retention=TEN)
    book.ended(1)
    for answer in range(100, 200):
        book.now += 2
        book.ended(answer, owner="a")
    settle(book)
    book.close()
    book = Book(path, retention=TEN)
    for answer in range(2, 6):
        book.ended(answer)
        settle(book)
    assert settle(book) == [1, 195, 196, 197, 198, 199, 2, 3, 4, 5]
    book.ended(6)
    assert settle(book)[0] == 195, "now they are too many, and the oldest goes"
    book.ended(200, owner="a")
    assert settle(book) == [196, 197, 198, 199, 2, 3, 4, 5, 6, 200]
    book.close()


def test_the_machine_s_own_user_may_fill_all(path: Path) -> None:
    book = Book(path, retention=TEN)
    book.ended(1, owner="a")
    for answer in range(2, 30):
        book.now += 2
        book.ended(answer)
    assert settle(book) == list(range(20, 30))
    book.close()


def test_the_oldest_of_an_owner_are_found_some_at_a_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ended, "SEARCHED", 2)
    book = Book(path, retention=Retention(jobs_max=40))
    book.ended(1, owner="a")
    book.ended(*range(100, 115))
    for answer in range(2, 40):
        book.now += 2
        book.ended(answer, owner="a")
    assert book.count("ended") > 35
    assert settle(book) == [*range(100, 115), *range(20, 40)]
    book.close()


def test_an_owner_s_jobs_of_calls_go_with_their_calls(path: Path) -> None:
    book = Book(path, retention=Retention(jobs_max=4))
    for _ in range(6):
        job = book.accept_plan("x", "y")
        job.owner = "a"
        book.jobs.owned.add(job)
        book.write()
        book.end(job, b"1")
        book.write()
        book.now += 2
    settle(book)
    assert (book.count("ended"), book.count("plan")) == (2, 2)
    book.close()


def test_after_a_failure_they_are_counted_again(path: Path) -> None:
    book = Book(path, retention=TEN)
    for answer in range(20):
        book.now += 2
        book.ended(answer, owner="a")
    book.now += 2
    book.journal._db.execute("PRAGMA query_only = 1")
    with pytest.raises(JournalFailed):
        book.journal.write(Facts([], []), book.now)
    book.journal._db.execute("PRAGMA query_only = 0")
    book.ended(20, owner="a")
    assert settle(book) == [16, 17, 18, 19, 20]
    book.close()


@pytest.mark.parametrize("seed", range(10))
def test_any_history_leaves_what_a_model_keeps(seed: int, path: Path) -> None:
    chance = random.Random(seed)
    book, kept = Book(path, retention=TEN), deque[tuple[int, str]]()
    for answer in range(120):
        owner = chance.choice(["", "a", "a", "a", "b"])
        book.ended(answer, owner=owner)
        settle(book)
        kept.append((answer, owner))
        if owner and Counter(each for _, each in kept)[owner] > 5:
            kept.remove(next(each for each in kept if each[1] == owner))
        if len(kept) > 10:
            kept.popleft()
        assert answers(book) == [each for each, _ in kept]
        if not chance.randrange(20):
            book.close()
            book = Book(path, retention=TEN)
    book.close()
