"""How much a journal keeps: the newest, and of what is old less with every commit."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dte.core.jobs.facts import Facts
from dte.master.journal import retention
from dte.master.journal.retention import SAVE_S, Retention
from dte.master.journal.schema import JournalFailed

from .book import Book

DAY_S = 86_400.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dte.db"


def test_ends_are_deleted_when_there_are_too_many_the_oldest_first(path: Path) -> None:
    book = Book(path, retention=Retention(jobs_max=3))
    for answer in range(10):
        book.now += 2
        book.ended(answer)
    book.now += 2
    book.journal.write(Facts([], []), book.now)
    assert [job.answer for job in book.journal.load(100, 10**6, 0.0).ended] == [7, 8, 9]
    book.close()


def test_what_is_old_is_deleted_some_at_a_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "PRUNED_AT_LEAST", 10)
    book = Book(path, retention=Retention(age_max_s=DAY_S))
    for number in range(25):
        book.accept("7", key=f"old {number}")
    book.write()
    book.now += DAY_S - 1
    book.accept("8", key="young")
    book.write()
    left = []
    for _ in range(3):
        book.now += 2
        book.journal.write(Facts([], []), book.now)
        left.append((book.count("ended"), book.count("submission")))
    assert left == [(16, 16), (6, 6), (1, 1)]
    assert book.journal.submission("young") is not None
    book.close()


def test_rows_age_only_while_a_master_runs(path: Path) -> None:
    """Whatever happened to the clock meanwhile, nothing is old at once."""
    days = Retention(age_max_s=3 * DAY_S)
    left = []
    for start in range(5):
        book = Book(path, retention=days)
        book.jobs.wall_offset_s *= 1 + start
        if start == 0:
            book.accept("7", key="k")
            book.write()
        left.append((book.count("ended"), book.count("submission")))
        book.now += DAY_S
        book.ended(1)
        book.close()
    book = Book(path, retention=days)
    assert left == [(1, 1), (2, 1), (3, 1), (4, 1), (4, 0)]
    book.close()


def test_an_idle_master_notes_now_and_then_for_how_long_it_has_run(path: Path) -> None:
    book = Book(path)
    book.ended(1)
    for _ in range(100):
        book.now += 30
        book.journal.write(Facts([], []), book.now)
    book.close()
    book = Book(path)
    assert 3000 - SAVE_S <= book.journal._ages.ran_s(book.now) <= 3000
    book.close()


def test_rows_from_before_version_3_are_as_old_as_that(path: Path) -> None:
    book = Book(path)
    book.accept("7", key="k")
    book.write()
    for table in ("ended", "submission"):
        book.journal._db.execute(f"UPDATE {table} SET recorded_s = NULL")
    book.close()
    book = Book(path, retention=Retention(age_max_s=DAY_S))
    book.now += DAY_S - 1
    book.journal.write(Facts([], []), book.now)
    assert (book.count("ended"), book.count("submission")) == (1, 1)
    book.now += 2
    book.journal.write(Facts([], []), book.now)
    assert (book.count("ended"), book.count("submission")) == (0, 0)
    book.close()


def test_nothing_is_looked_for_again_within_a_second_unless_many_are_added(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PRUNED_AT_LEAST", 10)
    book = Book(path, retention=Retention(jobs_max=1))
    book.ended(1)
    left = []
    for _ in range(5):
        book.ended(2)
        left.append(book.count("ended"))
    assert left == [2, 3, 4, 5, 2]
    book.ended(3)
    book.now += 1
    book.journal.write(Facts([], []), book.now)
    assert book.count("ended") == 1
    book.close()


def test_a_key_is_kept_as_long_as_one_of_its_jobs_waits(path: Path) -> None:
    book = Book(path, retention=Retention(jobs_max=1, age_max_s=DAY_S))
    (waits,) = book.accept("1+1", key="waits")
    book.accept("7", key="ended")
    book.write()
    book.now += 2 * DAY_S
    book.journal.write(Facts([], []), book.now)
    assert book.journal.submission("waits") is not None
    assert book.journal.submission("ended") is None
    book.end(waits, 2)
    book.now += 2
    book.write()
    assert book.journal.submission("waits") is None
    book.close()


def test_what_could_not_be_deleted_is_deleted_by_the_next_commit(path: Path) -> None:
    book = Book(path, retention=Retention(jobs_max=1))
    book.ended(1, 2)
    book.now += 2
    book.journal._db.execute("PRAGMA query_only = 1")
    with pytest.raises(JournalFailed):
        book.journal.write(Facts([], []), book.now)
    book.journal._db.execute("PRAGMA query_only = 0")
    assert book.count("ended") == 2
    book.journal.write(Facts([], []), book.now)
    assert book.count("ended") == 1
    book.close()


def test_the_log_says_from_time_to_time_what_was_deleted(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dte.master")
    book = Book(path, retention=Retention(jobs_max=3))
    for answer in range(100):
        book.now += 2
        book.ended(answer)
    said = [each for each in caplog.messages if "deleted" in each]
    assert 2 <= len(said) <= 5
    assert "the last 3 jobs" in said[0]
    book.close()
