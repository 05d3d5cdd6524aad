"""Protects: a journal that says of itself what no master writes is refused, and can be saved."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from dte.master.journal.bounds import is_possible
from dte.master.journal.journal import Journal
from dte.master.journal.schema import JournalRefused
from master.salvage.damage import salvaged

from .book import Book

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


@pytest.mark.parametrize("statement", WRONG)
def test_what_no_master_writes_is_refused_with_what_would_be_right(
    path: Path, statement: str
) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
        db.commit()
    with pytest.raises(JournalRefused) as refused:
        Journal(str(path))
    assert WRONG[statement] in str(refused.value)
    assert f"dte journal salvage {path}" in str(refused.value)


@pytest.mark.parametrize("statement", WRONG)
def test_what_was_refused_can_be_saved_and_used(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute(statement)
        db.commit()
    new = path.with_name("new.db")
    salvaged(path, new)
    book = Book(new)
    book.accept("2+2")
    book.write()
    book.close()
    assert book.loaded.last in (1, 2)


@pytest.mark.parametrize(("column", "most"), [("boot", 800_000), ("last_job", 10**15)])
def test_what_masters_write_is_possible(column: str, most: int) -> None:
    assert is_possible(column, 0)
    assert is_possible(column, most)
