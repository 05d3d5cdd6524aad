"""The file of a journal: who may open it, what is left of it, how long it gets."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from harness.wording import has

from dte.core.jobs.facts import Facts
from dte.core.jobs.job import JobState
from dte.core.workers.worker import Announcement
from dte.master.journal import schema as file_module
from dte.master.journal.journal import Journal
from dte.master.journal.retention import Retention
from dte.master.journal.schema import (
    APPLICATION_ID,
    WAL_BYTES_KEPT,
    JournalFailed,
    JournalRefused,
    Sync,
)

from .book import Book

NOBODY = 65534
HOLD = """
import sys
from dte.master.journal.journal import Journal
journal = Journal(sys.argv[1])
print("open", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a journal may be; who has to wait for one does not wait long."""
    monkeypatch.setattr(file_module, "BUSY_TIMEOUT_S", 0.1)
    return tmp_path / "dte.db"


def content_of(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def refusal(path: Path | str) -> str:
    """Why a journal is refused."""
    with pytest.raises(JournalRefused) as refused:
        Journal(str(path))
    return str(refused.value)


# What is no journal is refused, and left as it is


def make_foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE theirs (x)")
        db.commit()


def make_foreign_with_log(path: Path) -> None:
    """Another program's, which ended without closing it: beside it is a write-ahead log."""
    original = path.with_name("original")
    with closing(sqlite3.connect(original)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE theirs (x)")
        db.execute("PRAGMA wal_checkpoint")
        db.execute("INSERT INTO theirs VALUES (1)")
        db.commit()
        shutil.copyfile(original, path)
        shutil.copyfile(f"{original}-wal", f"{path}-wal")
    assert Path(f"{path}-wal").stat().st_size
    original.unlink()


def make_foreign_marked(path: Path) -> None:
    """Another program's, with nothing in it yet but its mark."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA application_id = 7")


def make_other_version(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("PRAGMA user_version = 99")
        db.execute("CREATE TABLE later (x)")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path.write_text("to do: buy milk\n"), "nor any SQLite database"),
        (lambda path: path.write_bytes(bytes(10_000)), "nor any SQLite database"),
        (make_foreign, "another SQLite database"),
        (make_foreign_with_log, "another SQLite database"),
        (make_foreign_marked, "another SQLite database"),
        (make_other_version, "version 99"),
        (lambda path: path.mkdir(), "cannot be opened"),
    ],
    ids=["text", "zeros", "foreign", "with a log", "marked", "other version", "folder"],
)
def test_what_is_no_journal_is_refused_and_left_as_it_is(
    path: Path, make: Callable[[Path], object], reason: str
) -> None:
    make(path)
    folder = path if path.is_dir() else path.parent
    before = content_of(folder)
    said = refusal(path)
    assert reason in said
    assert str(path) in said
    assert content_of(folder) == before


def test_a_folder_that_is_missing_is_not_made(path: Path) -> None:
    assert "its folder must exist" in refusal(path.parent / "none" / "dte.db")
    assert not (path.parent / "none").exists()


def test_a_file_without_a_name_is_refused() -> None:
    """SQLite would take it for a file that is deleted when it is closed."""
    assert "no name" in refusal("")


@contextmanager
def unprivileged() -> Iterator[Path]:
    """A folder for a user whom permissions bind, who the process is meanwhile."""
    with tempfile.TemporaryDirectory() as name:
        is_root = os.geteuid() == 0
        if is_root:
            os.chown(name, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield Path(name)
        finally:
            Path(name).chmod(0o700)
            if is_root:
                os.seteuid(0)


def test_a_journal_that_may_not_be_written_is_refused_and_left_as_it_is() -> None:
    with unprivileged() as folder:
        path = folder / "dte.db"
        Journal(str(path)).close()
        path.chmod(0o400)
        before = content_of(folder)
        assert "cannot be used" in refusal(path)
        assert content_of(folder) == before


def test_a_folder_that_may_not_be_written_is_refused() -> None:
    with unprivileged() as folder:
        folder.chmod(0o500)
        assert "this user must be able to write there" in refusal(folder / "dte.db")


def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    path.touch()
    journal = Journal(str(path))
    assert journal.boot == 1
    journal.close()
    Journal(str(path)).close()


@pytest.mark.parametrize("name", ["with space.db", "50%.db", "what?.db", "#1.db", "ä.db"])
def test_any_name_does(path: Path, name: str) -> None:
    for boot in (1, 2):
        journal = Journal(str(path.with_name(name)))
        assert journal.boot == boot
        journal.close()
    assert os.listdir(path.parent) == [name]


def test_a_damaged_journal_is_refused(path: Path) -> None:
    book = Book(path)
    book.ended(*range(1_000))
    book.close()
    damaged = bytearray(path.read_bytes())
    for page in range(4096, len(damaged), 4096):
        damaged[page : page + 100] = b"\xff" * 100
    path.write_bytes(damaged)
    with (
        pytest.raises(JournalRefused, match=r"cannot be used: .*\(SQLITE_CORRUPT"),
        closing(Journal(str(path))) as journal,
    ):
        journal.load(10, 10**6, 0.0)


def test_a_journal_that_cannot_be_read_to_its_end_is_refused(path: Path) -> None:
    book = Book(path)
    book.ended(*range(1_000))
    root = book.journal._db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ended'")
    start = (root.fetchone()[0] - 1) * 4096
    book.close()
    damaged = bytearray(path.read_bytes())
    damaged[start + 12 : start + 4096] = os.urandom(4084)
    path.write_bytes(damaged)
    with (
        pytest.raises(JournalRefused, match=r"cannot be used: .*\(SQLITE_CORRUPT"),
        closing(Journal(str(path))) as journal,
    ):
        journal.load(1_000_000, 10**9, 0.0)


# One master to a file


def test_a_second_master_is_refused_in_the_same_process(path: Path) -> None:
    journal = Journal(str(path))
    assert "another master has it open" in refusal(path)
    journal.close()
    Journal(str(path)).close()


def test_a_second_master_is_refused_until_the_first_ends_however_that_is(path: Path) -> None:
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"open\n"
        before = content_of(path.parent)
        assert "another master has it open" in refusal(path)
        assert content_of(path.parent) == before
        first.send_signal(signal.SIGKILL)
        first.wait()
    journal = Journal(str(path))
    assert journal.boot == 2
    journal.close()


def test_who_is_refused_takes_no_lock_from_the_first(path: Path) -> None:
    """Closing a file gives up all locks of a process on it, unless somebody sees to that."""
    journal = Journal(str(path))
    refusal(path)
    other = subprocess.run(
        [sys.executable, "-c", HOLD, path], stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert "another master has it open" in other.stderr
    journal.close()


def test_who_must_wait_for_a_master_that_is_just_ending_waits(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_module, "BUSY_TIMEOUT_S", 20.0)
    first = Journal(str(path))
    closing_soon = threading.Timer(0.3, first.close)
    closing_soon.start()
    Journal(str(path)).close()
    closing_soon.join()


def test_of_two_masters_that_make_the_same_file_at_most_one_gets_it(path: Path) -> None:
    opened: list[Journal] = []
    refused: list[str] = []

    def open_it() -> None:
        try:
            opened.append(Journal(str(path)))
        except JournalRefused as error:
            refused.append(str(error))

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) <= 1
    assert all("another master has it open" in reason for reason in refused)
    for journal in opened:
        journal.close()
    Journal(str(path)).close()


# Journals of older versions


SCHEMA_1 = """
CREATE TABLE master (boot INTEGER NOT NULL, last_job INTEGER NOT NULL);
INSERT INTO master VALUES (3, 0);
CREATE TABLE waiting (
    number INTEGER PRIMARY KEY,
    submitted_at REAL NOT NULL,
    operations INTEGER NOT NULL,
    task TEXT NOT NULL,
    formula TEXT
);
CREATE TABLE ended (
    sequence INTEGER PRIMARY KEY,
    number INTEGER NOT NULL UNIQUE,
    submitted_at REAL NOT NULL,
    started_at REAL,
    ended_at REAL NOT NULL,
    operations INTEGER NOT NULL,
    operations_done INTEGER NOT NULL,
    answer TEXT,
    error TEXT,
    task TEXT NOT NULL
);
CREATE TABLE worker (
    address TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    slots INTEGER NOT NULL,
    batch_max INTEGER NOT NULL,
    announced_at REAL NOT NULL
);
CREATE TABLE submission (
    sequence INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL,
    first INTEGER NOT NULL,
    count INTEGER NOT NULL,
    submitted_at REAL NOT NULL
);
"""
ROWS_1 = """
INSERT INTO waiting VALUES (4, 1.7e9, 2, '1+2*3', NULL), (5, 1.7e9, 1, '1+…', '1+          2');
INSERT INTO ended VALUES
    (1, 2, 1.7e9, 1.7e9, 1.7e9, 1, 1, '2.5', NULL, '5/2'),
    (2, 1, 1.7e9, NULL, 1.7e9, 1, 0, NULL, 'division by zero', '5/0');
INSERT INTO worker VALUES ('10.0.0.1:6000', 'w', 2, 3, 1.7e9);
INSERT INTO submission VALUES (1, 'k', 'd', 4, 2, 1.7e9);
"""


def make_version_1(path: Path, rows: str = ROWS_1) -> None:
    """A journal as the first version made it, closed or not."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(
            f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1; "
            f"{SCHEMA_1} COMMIT; {rows}"
        )


def schema_of(path: Path) -> dict[str, object]:
    """What tables have, whatever the comments and spaces are in which that was said."""
    with closing(sqlite3.connect(path)) as db:
        found: dict[str, object] = {"version": db.execute("PRAGMA user_version").fetchone()}
        for kind, name, text in db.execute("SELECT type, name, sql FROM sqlite_master").fetchall():
            columns = db.execute(f"PRAGMA table_xinfo({name})").fetchall()
            found[f"{kind} {name}"] = columns if kind == "table" else text
        return found


def test_a_journal_of_the_first_version_goes_on_as_one_of_this(path: Path) -> None:
    make_version_1(path)
    book = Book(path)
    assert book.journal.boot == 4
    assert [(job.number, job.task, job.cancelled) for job in book.loaded.waiting] == [
        (4, "1+2*3", False),
        (5, "1+…", False),
    ]
    assert [job.text for job in book.journal.unfinished(0)] == ["1+2*3", "1+          2"]
    first, second = book.loaded.ended
    assert (first.number, first.answer, first.state) == (2, 2.5, JobState.SUCCEEDED)
    assert (second.error, second.state) == ("division by zero", JobState.FAILED)
    assert book.loaded.workers == [Announcement("w", "10.0.0.1:6000", slots=2, batch_max=3)]
    assert book.journal.submission("k") is not None
    book.end(book.jobs.job(4), 7)
    job = book.accept_plan("a")
    book.write()
    book.end(job, b"{}")
    book.write()
    book.close()
    book = Book(path)
    assert [(job.number, job.answer) for job in book.loaded.ended[2:]] == [(4, 7), (6, b"{}")]
    book.close()


def test_what_becomes_of_the_first_version_is_as_if_it_had_been_new(path: Path) -> None:
    make_version_1(path)
    Journal(str(path)).close()
    new = path.with_name("new.db")
    Journal(str(new)).close()
    assert schema_of(path) == schema_of(new)


def test_a_journal_becomes_one_of_this_version_in_one_piece_or_not_at_all(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_version_1(path)
    before = schema_of(path)
    whole = file_module.MIGRATIONS[1]
    monkeypatch.setitem(file_module.MIGRATIONS, 1, whole + "INSERT INTO nowhere VALUES (1);")
    assert has(refusal(path), "cannot be used: […]nowhere[…](SQLITE_ERROR)")
    assert schema_of(path) == before
    monkeypatch.undo()
    book = Book(path)
    assert len(book.loaded.waiting) == 2
    book.close()


def test_old_jobs_of_the_first_version_are_deleted_like_others(path: Path) -> None:
    make_version_1(path)
    book = Book(path, retention=Retention(jobs_max=1))
    book.journal.write(Facts([], []), book.now)
    assert list(book.journal.ended([1, 2])) == [1]
    book.close()


# What is left after a crash, and how long it gets


def test_a_copy_at_any_time_is_a_journal_with_all_that_was_written(path: Path) -> None:
    book = Book(path)
    copy = path.with_name("copy.db")
    for number in range(1, 31):
        book.accept("1+1", "2+2")
        book.write()
        book.end(book.jobs.job(number), number)
        book.write()
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
        with closing(sqlite3.connect(copy)) as db:
            assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        copied = Book(copy)
        assert [job.number for job in copied.loaded.ended] == list(range(1, number + 1))
        assert len(copied.loaded.waiting) == number
        copied.close()
        copy.unlink()
    book.close()


def test_the_file_stays_as_long_as_it_was_over_many_generations_of_jobs(path: Path) -> None:
    book = Book(path, sync=Sync.NORMAL, retention=Retention(jobs_max=500))
    log = Path(f"{path}-wal")
    sizes = []
    for generation in range(50):
        for _ in range(5):
            book.now += 2
            for number in range(20):
                book.accept(*["1+1"] * 5, key=f"{generation} {book.now} {number}")
            book.write()
            for job in book.jobs.newest(100):
                book.end(job, 10**200)
            book.write()
        sizes.append(path.stat().st_size)
        assert log.stat().st_size < 5_000_000
    assert book.count("ended") <= 600
    assert book.count("submission") <= 600
    assert 0 < max(sizes) < 300_000
    book.close()


def test_the_log_beside_the_file_is_cut_back_after_it_was_long(path: Path) -> None:
    book = Book(path, sync=Sync.NORMAL)
    log = Path(f"{path}-wal")
    book.accept("1+" + " " * 15_900_000 + "1", "1+" + " " * 4_000_000 + "1")
    book.write()
    assert log.stat().st_size > WAL_BYTES_KEPT
    for _ in range(3):
        book.ended(1)
    assert log.stat().st_size <= WAL_BYTES_KEPT
    book.close()
    assert not log.exists()


def test_what_is_deleted_or_exchanged_is_written_no_more(tmp_path: Path) -> None:
    """Nobody would find it; when the file is back, so is the journal."""
    path, aside = tmp_path / "dte.db", tmp_path / "aside.db"
    with closing(Journal(str(path))) as journal:
        path.rename(aside)
        for exchanged in (False, True):
            if exchanged:
                path.write_bytes(b"")
            with pytest.raises(JournalFailed, match="was deleted or replaced"):
                journal.write(Facts([], []), 0.0)
            with pytest.raises(JournalFailed):
                journal.probe()
        aside.replace(path)
        journal.write(Facts([], []), 0.0)
        journal.probe()


def test_a_probe_that_was_cut_short_is_no_hindrance_for_the_next(tmp_path: Path) -> None:
    with closing(Journal(str(tmp_path / "dte.db"))) as journal:
        journal._db.execute("CREATE TABLE probe (rest)")
        journal.probe()
        journal.probe()


def test_a_worker_that_leaves_is_not_announced_after_a_restart(tmp_path: Path) -> None:
    path = str(tmp_path / "dte.db")
    staying, leaving = (Announcement("w", f"10.0.0.1:{port}") for port in (1, 2))
    with closing(Journal(path)) as journal:
        for said in (staying, leaving, replace(leaving, draining=True)):
            journal.remember(said, 0.0)
    with closing(Journal(path)) as journal:
        assert journal.load(1, 1, 0.0).workers == [staying]
