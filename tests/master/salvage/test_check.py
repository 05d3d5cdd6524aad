"""A look into a journal: what it has, and each kind of damage."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from dte.master.journal.schema import SCHEMA_VERSION, open_to_all
from dte.master.journal.wal import HEADER
from dte.master.salvage.check import NoJournal, check
from dte.master.salvage.pages import InUse
from master.journal.book import Book

from .damage import fill, fill_with_extremes, free_pages, garble, pages_of, pages_of_kind, salvaged


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    book = Book(tmp_path_factory.mktemp("check") / "dte.db")
    fill(book, 300)
    fill_with_extremes(book)
    book.close()
    return Path(book.journal.path)


@pytest.fixture
def path(journal: Path, tmp_path: Path) -> Path:
    shutil.copyfile(journal, tmp_path / "dte.db")
    os.chmod(tmp_path / "dte.db", 0o600)
    return tmp_path / "dte.db"


def test_what_a_journal_has_is_counted(path: Path) -> None:
    before = path.read_bytes()
    found = check(str(path))
    assert (found.faults, found.remarks) == ([], [])
    assert (found.schema, found.mode) == (SCHEMA_VERSION, "0600")
    assert (found.jobs_waiting, found.jobs_ended) == (32, 273)
    assert (found.keys, found.plans, found.last_job) == (3, 62, 305)
    assert found.webhooks == 1
    assert found.newest_end is not None
    assert found.newest_end > 1.7e9
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["dte.db"]


def test_every_damaged_page_is_noticed(path: Path) -> None:
    raw, free = path.read_bytes(), free_pages(path)
    for number in range(1, pages_of(path) + 1):
        if number in free:
            continue  # It has nothing.
        path.write_bytes(raw)
        garble(path, [number], seed=number)
        assert check(str(path)).faults, f"page {number}"


def test_damaged_pages_of_an_index_are_named(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_submission_1'"
        (root,) = db.execute(query).fetchone()
    garble(path, [root], seed=1)
    found = check(str(path))
    assert found.damaged_pages == [root]
    assert f"index of idempotency keys: page {root} is damaged" in found.faults


def test_what_is_in_the_log_counts(tmp_path: Path) -> None:
    book = Book(tmp_path / "dte.db")
    book.ended(1, 2, 3)
    for suffix in ("", "-wal"):
        shutil.copyfile(tmp_path / f"dte.db{suffix}", tmp_path / f"copy.db{suffix}")
    book.close()
    found = check(str(tmp_path / "copy.db"))
    assert found.faults == []
    assert (found.jobs_ended, found.last_job) == (3, 3)
    assert found.pages_in_log > 0


def test_a_damaged_frame_before_whole_transactions_in_the_log_is_named(tmp_path: Path) -> None:
    book = Book(tmp_path / "dte.db")
    book.ended(1, 2, 3)
    book.ended(4)
    for suffix in ("", "-wal"):
        shutil.copyfile(tmp_path / f"dte.db{suffix}", tmp_path / f"copy.db{suffix}")
    book.close()
    log = tmp_path / "copy.db-wal"
    content = bytearray(log.read_bytes())
    content[100:150] = bytes(byte ^ 0xFF for byte in content[100:150])
    log.write_bytes(content)
    found = check(str(tmp_path / "copy.db"))
    assert any("frame 1 is damaged" in each and str(log) in each for each in found.faults)
    assert (found.jobs_ended, found.last_job) == (4, 4)


def test_a_missing_log_and_one_of_another_state_are_noticed(tmp_path: Path) -> None:
    for name in ("one.db", "other.db"):
        book = Book(tmp_path / name)
        book.accept("1+1")
        book.write()
        for suffix in ("", "-wal"):
            shutil.copyfile(tmp_path / f"{name}{suffix}", tmp_path / f"copy-{name}{suffix}")
        book.close()
    other = tmp_path / "copy-other.db-wal"
    other.replace(tmp_path / "copy-one.db-wal")
    assert any("is missing" in each for each in check(str(tmp_path / "copy-other.db")).faults)
    assert any("another state" in each for each in check(str(tmp_path / "copy-one.db")).refused)


def test_what_no_dte_made_is_named(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TRIGGER planted AFTER INSERT ON ended BEGIN SELECT 1; END")
        db.execute("CREATE VIEW seen AS SELECT 1")
        db.commit()
    found = check(str(path))
    assert found.faults == []
    (refused,) = found.refused
    assert "trigger planted on ended" in refused
    assert "view seen" in refused
    assert "drop it with sqlite3" in refused


def test_what_only_sqlite_notices_is_damage(path: Path) -> None:
    """A row without its entry in an index, for example."""
    with closing(sqlite3.connect(path)) as db:
        (root,) = db.execute(
            "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_submission_1'"
        ).fetchone()
    raw = bytearray(path.read_bytes())
    at = raw.index(b"key 100", (root - 1) * 4_096)
    raw[at : at + 7] = b"key 199"
    path.write_bytes(raw)
    assert any("SQLite" in each for each in check(str(path)).faults)


@pytest.mark.parametrize("mode", [0o640, 0o644, 0o666])
def test_a_file_that_others_may_open_is_remarked(path: Path, mode: int) -> None:
    path.chmod(mode)
    found = check(str(path))
    assert found.faults == []
    if mode & 0o002:
        assert found.refused == [str(open_to_all(str(path)))], "as a master does"
    else:
        assert any(f"{mode:04o}" in each for each in found.remarks)


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE notes (text)")
        db.commit()


MADE: list[Callable[[Path], object]] = [
    foreign,
    lambda path: path.write_text("Jobs of the week\n" * 1_000),
    lambda path: path.write_bytes(b""),
    lambda path: path.write_bytes(os.urandom(40_960)),
    lambda path: path.mkdir(),
    lambda path: None,
]


@pytest.mark.parametrize("make", MADE)
def test_what_is_no_journal_is_not_taken_for_a_damaged_one(
    tmp_path: Path, make: Callable[[Path], object]
) -> None:
    make(tmp_path / "x")
    with pytest.raises(NoJournal):
        check(str(tmp_path / "x"))


def test_a_journal_with_a_damaged_first_page_is_one_still(path: Path) -> None:
    garble(path, [1, *pages_of_kind(path, 0x05)], seed=1)
    assert check(str(path)).faults


def test_a_journal_that_a_master_has_open_is_left_alone(path: Path) -> None:
    """Locks are those of processes, so the master is another one."""
    code = (
        "import sys; from dte.master.journal.journal import Journal\n"
        "journal = Journal(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        with pytest.raises(InUse):
            check(str(path))
        process.communicate()
    check(str(path))


def test_a_damaged_part_of_the_log_is_no_page_with_an_impossible_number(tmp_path: Path) -> None:
    book = Book(tmp_path / "dte.db")
    book.ended(1, 2, 3)
    for suffix in ("", "-wal"):
        shutil.copyfile(tmp_path / f"dte.db{suffix}", tmp_path / f"copy.db{suffix}")
    book.close()
    with (tmp_path / "copy.db-wal").open("r+b") as log:
        log.seek(HEADER.size)
        log.write(b"\xe6" * 8)  # The number of the page of the first frame.
    found = check(str(tmp_path / "copy.db"))
    assert all(1 <= number <= found.pages for number in found.damaged_pages)
    assert any("nobody knows which page" in each for each in found.faults)
    done = salvaged(tmp_path / "copy.db", tmp_path / "new.db")
    assert (done.damaged_in_log, done.is_whole) == (1, False)


@pytest.mark.parametrize("value", ["1e300", "-1e300", "9e999", "253402300800"])
@pytest.mark.parametrize("column", ["ended.ended_at", "waiting.submitted_at", "call.started_at"])
def test_times_that_are_no_dates_are_named(path: Path, column: str, value: str) -> None:
    table, name = column.split(".")
    key = "job" if table == "call" else "number"
    with closing(sqlite3.connect(path)) as db:
        (number,) = db.execute(f"SELECT max({key}) FROM {table}").fetchone()
        db.execute(f"UPDATE {table} SET {name} = {value} WHERE {key} = {number}")
        db.commit()
    found = check(str(path))
    assert any(fault.startswith(f"{column} of job {number} is ") for fault in found.faults)
    assert any("damaged rows on other pages: " in fault for fault in found.faults)
    assert found.newest_end is not None
    assert found.newest_end < 2e9
