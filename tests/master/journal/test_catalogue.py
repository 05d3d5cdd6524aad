"""A master uses no journal with triggers, views, tables or indexes that dte has not made."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from compatibility.landed import LANDED
from compatibility.stored import FOLDER, restore_journal

from dte.master.journal.catalogue import READ
from dte.master.journal.journal import Journal
from dte.master.journal.schema import JournalRefused, strangers_in

from .book import Book

PLANTED = {
    "CREATE TRIGGER seen AFTER UPDATE ON master BEGIN SELECT 1; END": "trigger seen on master",
    "CREATE TABLE notes (text TEXT)": "table notes",
    "CREATE VIEW seen AS SELECT answer FROM ended": "view seen",
    "CREATE INDEX by_task ON ended (task)": "index by_task on ended",
    "CREATE VIRTUAL TABLE found USING fts5(text)": "table found",
}
REPLACED = """
DROP TRIGGER ended_deleted;
CREATE TRIGGER ended_deleted AFTER INSERT ON ended BEGIN
    UPDATE ended SET answer = '666' WHERE number = NEW.number;
END;
"""
CHANGED = """
DROP TABLE notice;
CREATE TABLE notice (number INTEGER PRIMARY KEY, url TEXT NOT NULL, since REAL NOT NULL,
    CHECK (number < 10));
"""


def run(path: Path, script: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.executescript(script)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    book = Book(tmp_path / "dte.db")
    book.ended(2)
    book.close()
    return tmp_path / "dte.db"


@pytest.mark.parametrize("statement", PLANTED)
def test_what_was_planted_is_refused_by_name_and_the_file_left_as_it_is(
    path: Path, statement: str
) -> None:
    run(path, statement)
    before = path.read_bytes()
    with pytest.raises(JournalRefused) as refused:
        Journal(str(path))
    for part in (PLANTED[statement], f"dte journal salvage {path}"):
        assert part in str(refused.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize("script", [REPLACED, CHANGED])
def test_a_name_of_dte_does_not_hide_another_text(path: Path, script: str) -> None:
    run(path, script)
    with pytest.raises(JournalRefused, match="not that of dte"):
        Journal(str(path))


def test_a_trigger_that_is_in_the_log_only_is_refused(path: Path) -> None:
    """As another program leaves it that was killed."""
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_autocheckpoint = 0")
        db.execute("CREATE TRIGGER planted AFTER INSERT ON ended BEGIN SELECT 1; END")
        db.commit()
        copy = path.with_name("copy.db")
        for suffix in ("", "-wal"):
            Path(f"{copy}{suffix}").write_bytes(Path(f"{path}{suffix}").read_bytes())
    with pytest.raises(JournalRefused, match="planted"):
        Journal(str(copy))


def test_what_sqlite_itself_adds_is_not_refused(path: Path) -> None:
    run(path, "ANALYZE")
    Journal(str(path)).close()


def test_a_table_of_a_probe_that_was_interrupted_is_not_refused(path: Path) -> None:
    run(path, "CREATE TABLE probe AS SELECT zeroblob(262144)")
    journal = Journal(str(path))
    journal.probe()
    journal.close()


@pytest.mark.parametrize("commit", LANDED)
def test_journals_of_landed_commits_have_nothing_strange_before_and_after_they_are_opened(
    tmp_path: Path, commit: str
) -> None:
    path = tmp_path / "dte.db"
    text = (FOLDER / f"{commit}.sql").read_text()
    restore_journal(text, path, "127.0.0.1:1", "127.0.0.1:2")
    for _ in range(2):
        Journal(str(path)).close()


def test_tables_of_the_first_version_had_fewer_columns() -> None:
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE waiting (number INTEGER PRIMARY KEY, task TEXT NOT NULL)")
        entries = db.execute(READ).fetchall()
    assert strangers_in(entries, 1) == []
    assert strangers_in(entries, 2) != []
