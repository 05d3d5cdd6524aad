"""A copy of an open journal: whole, one file, made while commits go on."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest

from dte.core.errors import StorageFull
from dte.core.jobs.facts import Facts
from dte.core.jobs.job import JobState
from dte.master.journal import copying
from dte.master.journal.copying import RESERVE_BYTES
from dte.master.journal.journal import Journal
from dte.master.journal.schema import JournalFailed

from .book import Book


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dte.db"


@pytest.fixture(autouse=True)
def many_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "PAGES_A_STEP", 4)


def saved(journal: Journal, place: Path, between: Callable[[], None] = lambda: None) -> Path:
    with journal.copy(between) as copy:
        place.write_bytes(copy.read())
    return place


def long_book(path: Path) -> Book:
    """A book whose journal takes many steps to copy."""
    book = Book(path)
    for _ in range(20):
        book.ended(*range(10**300, 10**300 + 50))
    return book


def test_a_copy_has_all_jobs_and_is_one_whole_file(path: Path, tmp_path: Path) -> None:
    book = long_book(path)
    book.accept("1+1", key="k", digest="d")
    book.accept_plan("a", "b")
    book.write()
    place = saved(book.journal, tmp_path / "copy.db")
    assert sorted(os.listdir(tmp_path)) == ["copy.db", "dte.db", "dte.db-wal"]
    with closing(sqlite3.connect(place)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    copy = Book(place)
    assert [job.number for job in copy.loaded.ended] == list(range(1, 1001))
    assert [job.number for job in copy.loaded.waiting] == [1001, 1002]
    assert copy.journal.submission("k") is not None
    assert copy.loaded.last == 1002
    copy.close()
    book.close()


def test_commits_in_the_midst_of_a_copy_are_in_it(path: Path, tmp_path: Path) -> None:
    """Wherever their pages are: copied already, or not yet."""
    book = long_book(path)
    steps = 0

    def commit() -> None:
        nonlocal steps
        steps += 1
        for job in book.jobs.newest(50):
            if job.state is JobState.WAITING:
                book.end(job, 7)
        book.accept("1+1", key=str(steps))
        book.write()

    place = saved(book.journal, tmp_path / "copy.db", commit)
    with closing(sqlite3.connect(place)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert steps > 5
    copy = Book(place)
    last = 1000 + steps - 1  # What follows the last step is not in the copy.
    assert copy.loaded.last == last
    assert [job.number for job in copy.loaded.waiting] == [last]
    assert len(copy.loaded.ended) == last - 1
    copy.close()
    book.close()


def test_no_start_with_a_copy_has_the_number_of_a_start_of_the_master(
    path: Path, tmp_path: Path
) -> None:
    """Both may go on, and workers may have leases of either."""
    book = Book(path)
    copy = saved(book.journal, tmp_path / "copy.db")
    book.close()
    boots = set()
    for _ in range(3):
        for place in (path, copy):
            journal = Journal(str(place))
            boots.add(journal.boot)
            journal.close()
    assert len(boots) == 6


class Usage(NamedTuple):
    free: int


def test_without_room_beside_the_journal_there_is_no_copy(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = long_book(path)
    size = path.stat().st_size
    monkeypatch.setattr(copying.shutil, "disk_usage", lambda _: Usage(RESERVE_BYTES + size // 2))
    with pytest.raises(StorageFull, match="MB are free"):
        book.journal.copy(lambda: None)
    assert sorted(os.listdir(path.parent)) == ["dte.db", "dte.db-wal"]
    book.accept("1+1")
    book.write()
    book.close()


def test_a_disk_that_fills_up_meanwhile_ends_the_copy_and_leaves_nothing(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = long_book(path)
    room = iter([10**12, 10**12, 10**12])
    monkeypatch.setattr(
        copying.shutil, "disk_usage", lambda _: Usage(next(room, RESERVE_BYTES - 1))
    )
    with pytest.raises(StorageFull):
        book.journal.copy(lambda: None)
    assert sorted(os.listdir(path.parent)) == ["dte.db", "dte.db-wal"]
    book.close()


def test_a_copy_that_is_stopped_leaves_nothing(path: Path) -> None:
    book = long_book(path)
    with pytest.raises(ZeroDivisionError):
        book.journal.copy(lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    assert sorted(os.listdir(path.parent)) == ["dte.db", "dte.db-wal"]
    book.ended(1)
    book.close()


def test_a_commit_that_fails_ends_the_copy_instead_of_beginning_it_again(path: Path) -> None:
    book = long_book(path)
    aside = path.with_name("aside.db")
    calls = 0

    def fail() -> None:
        nonlocal calls
        calls += 1
        assert calls < 3, "the copy goes on"
        path.rename(aside)
        with pytest.raises(JournalFailed):
            book.journal.write(Facts([], []), 0.0)
        aside.rename(path)
        with pytest.raises(ZeroDivisionError), book.journal._writing():
            _ = 1 // 0

    with pytest.raises(JournalFailed):
        book.journal.copy(fail)
    book.close()


def test_what_a_killed_copy_has_left_is_removed_at_the_next_start(path: Path) -> None:
    for suffix in ("", "-wal", "-journal"):
        Path(f"{path}-copying{suffix}").write_bytes(b"half")
    Journal(str(path)).close()
    assert os.listdir(path.parent) == ["dte.db"]
