"""Protects: a journal that says of itself what no master writes is refused, and can be saved."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dte.master.journal.bounds import RANGES
from dte.master.journal.journal import Journal
from dte.master.journal.retention import Retention
from dte.master.journal.schema import JournalRefused
from master.salvage.damage import salvaged

from .book import Book

CALL = (
    "INSERT INTO call (job, name, attempts, failures, lost, lease, lease_s, worker, resumes_at) "
    "VALUES (2, 'a',"
)
WRONG = {
    "DELETE FROM master": "the table master has 0 rows",
    "INSERT INTO master SELECT * FROM master": "the table master has 2 rows",
    "DELETE FROM generation": "the table generation has 0 rows",
    "UPDATE generation SET marks = X'00'": "the row of generation is",
    "UPDATE generation SET marks = 1": "the row of generation is",
    "UPDATE generation SET incomplete = 'x'": "the row of generation is ('x', ",
    "UPDATE master SET boot = 9223372036854775807": "master.boot is 9223372036854775807",
    "UPDATE master SET boot = -1": "master.boot is -1",
    "UPDATE master SET boot = 'x'": "master.boot is 'x'",
    "UPDATE master SET last_job = 9223372036854775807": "master.last_job is 9223372036854775807",
    "UPDATE master SET last_job = -1": "master.last_job is -1",
    "UPDATE master SET last_job = 1.5": "master.last_job is 1.5",
    "UPDATE master SET ran_s = 9e999": "master.ran_s is inf",
    "UPDATE master SET ran_s = -1": "master.ran_s is -1",
    "UPDATE master SET ran_s = 'x'": "master.ran_s is 'x'",
    "UPDATE waiting SET number = 9223372036854775807": "waiting.number is 9223372036854775807",
    "UPDATE ended SET number = 9007199254740992": "ended.number is 9007199254740992",
    "UPDATE ended SET number = 'x'": "ended.number is 'x'",
    "UPDATE waiting SET submitted_at = 9e999": "waiting.submitted_at of job 2 is inf",
    "UPDATE waiting SET submitted_at = 1e300": "waiting.submitted_at of job 2 is 1e+300",
    "UPDATE waiting SET submitted_at = 'x'": "waiting.submitted_at of job 2 is 'x'",
    "UPDATE waiting SET submitted_at = X'00'": "waiting.submitted_at of job 2 is b'",
    "UPDATE waiting SET operations = 'x'": "waiting.operations of job 2 is 'x'",
    "UPDATE waiting SET operations = -1": "waiting.operations of job 2 is -1",
    "UPDATE waiting SET operations = 1.5": "waiting.operations of job 2 is 1.5",
    "UPDATE waiting SET cancelled_at = 253402300800": "waiting.cancelled_at of job 2 is 2534",
    "UPDATE waiting SET number = 1": "job 1 is in the tables waiting and ended",
    f"{CALL} 'x', 0, 0, 0, 1.0, 'w', 1.0)": "call.attempts of job 2 is 'x'",
    f"{CALL} 1, -1, 0, 0, 1.0, 'w', 1.0)": "call.failures of job 2 is -1",
    f"{CALL} 1, 0, 0, 0, 9e999, 'w', 1.0)": "call.lease_s of job 2 is inf",
    f"{CALL} 1, 0, 0, 0, 1.0, 'w', 1e300)": "call.resumes_at of job 2 is 1e+300",
    "INSERT INTO notice VALUES (1, 'u', 9e999)": "notice.since of job 1 is inf",
    "INSERT INTO worker VALUES ('a:1', 'w', 'x', 1, 1.0, NULL)": "worker.slots of worker a:1 is",
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with one job that waits, and one that has ended."""
    path = tmp_path / "dte.db"
    book = Book(path)
    book.ended(1)
    book.accept("1+1")
    book.write()
    book.close()
    return path


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
        db.commit()


@pytest.mark.parametrize("statement", WRONG)
def test_what_no_master_writes_is_refused_with_what_would_be_right(
    path: Path, statement: str
) -> None:
    change(path, statement)
    with pytest.raises(JournalRefused) as refused:
        Journal(str(path))
    assert WRONG[statement] in str(refused.value)
    assert f"dte journal salvage {path}" in str(refused.value)


@pytest.mark.parametrize("statement", WRONG)
def test_what_was_refused_can_be_saved_and_used(path: Path, statement: str) -> None:
    change(path, statement)
    new = path.with_name("new.db")
    salvaged(path, new)
    book = Book(new)
    book.accept("2+2")
    book.write()
    book.close()
    assert book.loaded.last in (1, 2)


ODD_TIMES = ("1e300", "-1e300", "9e999", "-9e999", "1e15", "253402300800")


@pytest.mark.parametrize("column", ["submitted_at", "started_at", "ended_at"])
@pytest.mark.parametrize("value", ODD_TIMES)
def test_a_time_of_an_ended_job_that_is_no_date_is_not_known(
    path: Path, column: str, value: str
) -> None:
    change(path, f"UPDATE ended SET {column} = {value}")
    with closing(Journal(str(path))) as journal:
        (loaded,) = journal.load(10, 10**6, 1.0).ended
        for job in (loaded, journal.ended([1])[1]):
            assert getattr(job, column) is None
            assert job.answer == 1


@pytest.mark.parametrize("value", ["'x'", "X'00'"])
@pytest.mark.parametrize("column", ["ended_at", "operations", "operations_done"])
def test_a_start_is_refused_if_a_time_or_a_count_of_an_ended_job_is_no_number(
    path: Path, column: str, value: str
) -> None:
    with closing(Journal(str(path))) as journal:
        journal.load(10, 10**6, 1.0)
        journal._db.execute(f"UPDATE ended SET {column} = {value}")
        assert getattr(journal.ended([1])[1], column) is None, "later reads give the rest"
        with pytest.raises(JournalRefused, match=f"ended.{column} of job 1 is .*journal salvage"):
            journal.load(10, 10**6, 1.0)


def test_times_and_counts_of_an_ended_call_that_no_master_writes_are_not_known(path: Path) -> None:
    change(
        path,
        "INSERT INTO call (job, name, attempts, failures, lost, lease, lease_s, worker, "
        "started_at, ended_at) VALUES (1, 'a', 'x', 0, 0, 0, 1.0, 'w', 1e300, 'x')",
    )
    with closing(Journal(str(path))) as journal:
        (record,) = journal.plans([1])[1][1]
    assert (record.attempts, record.started_at, record.ended_at) == (None, None, None)
    assert (record.failures, record.worker) == (0, "w")


@pytest.mark.parametrize("value", ["'x'", "X'00'", "9e999", "-9e999"])
def test_an_odd_age_of_a_row_stops_no_commit(path: Path, value: str) -> None:
    change(path, f"UPDATE ended SET recorded_s = {value}, operations = {2**62}")
    book = Book(path, retention=Retention(jobs_max=5, age_max_s=10.0))
    book.now += 1000.0
    for _ in range(3):
        book.now += 5.0
        book.ended(1, 2)
    assert book.count("ended") <= 7
    book.close()


@pytest.mark.parametrize(("column", "most"), [("boot", 800_000), ("last_job", 10**15)])
def test_what_masters_write_is_possible(column: str, most: int) -> None:
    assert RANGES["master"][column].has(0)
    assert RANGES["master"][column].has(most)
