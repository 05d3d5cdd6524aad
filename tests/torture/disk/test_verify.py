"""`verify` finds what is wrong in journals that were tampered with."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from torture.disk.life import JOURNAL, TOLD, Life, read_told
from torture.disk.verify import problems, read


@pytest.fixture
def lived(memory_folder: Path) -> Path:
    """A folder with the journal of a whole life."""
    Life(memory_folder).go_on()
    return memory_folder


def found(folder: Path) -> str:
    return "; ".join(problems(read(folder / JOURNAL), read_told(folder / TOLD), finished=True))


def test_a_good_journal_has_no_problems(lived: Path) -> None:
    assert found(lived) == ""


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        ("DELETE FROM ended WHERE number = 3", "the end of job 3 is lost"),
        ("UPDATE ended SET answer = '8' WHERE number = 3", "the end of job 3 is lost or changed"),
        ("UPDATE ended SET answer = '7.0' WHERE number = 3", "job 3 has a wrong end"),
        ("UPDATE ended SET error = 'it said \"' WHERE number = 9", "job 9 has a wrong end"),
        ("UPDATE ended SET answer_json = '2' WHERE number = 1", "job 1 has a wrong end"),
        ("DELETE FROM plan WHERE number = 1", "plans of jobs [2] instead of [1, 2]"),
        ("UPDATE plan SET text = '{}' WHERE number = 1", "instead of [1, 2], or others"),
        ("INSERT INTO plan VALUES (3, '{}')", "plans of jobs [1, 2, 3] instead of [1, 2]"),
        ("INSERT INTO plan VALUES (99, '{}')", "job 99 is not there, but something of it is"),
        ("INSERT INTO notice VALUES (99, 'u', 0)", "job 99 is not there, but something of it is"),
        ("DELETE FROM notice", "who is told of job 2 is None"),
        ("DELETE FROM call WHERE name = 'c'", "job 2 ended, and ['a', 'b'] are known"),
        ("DELETE FROM call WHERE job = 1", "what came of a of job 1 is lost"),
        ("UPDATE call SET state = NULL WHERE job = 2", "a of job 2 is None with None"),
        ("UPDATE call SET value = '5' WHERE name = 'c'", "c of job 2 is succeeded with '5'"),
        ("DELETE FROM submission WHERE key = 'long'", "long was accepted, and is lost"),
        ("UPDATE submission SET first = 5 WHERE key = 'long'", "job 5 is of two submissions"),
        ("UPDATE submission SET count = 2 WHERE key = 'long'", "long has 2 jobs"),
        ("INSERT INTO waiting VALUES (3, 0, 2, '1+2*3', NULL, NULL, NULL)", "job 3 is twice"),
        ("INSERT INTO waiting VALUES (99, 0, 2, '1+2*3', NULL, NULL, NULL)", "not done: [99]"),
        ("INSERT INTO waiting VALUES (3, 0, 2, '1+2*4', NULL, NULL, NULL)", "with another formula"),
    ],
)
def test_what_is_lost_doubled_changed_or_wrong_is_found(
    lived: Path, statement: str, problem: str
) -> None:
    with closing(sqlite3.connect(lived / JOURNAL)) as db:
        db.execute(statement)
        db.commit()
    assert problem in found(lived)


def test_a_damaged_file_is_found(lived: Path) -> None:
    journal = lived / JOURNAL
    content = bytearray(journal.read_bytes())
    content[4096:4196] = bytes(100)
    journal.write_bytes(content)
    assert found(lived)
    journal.write_bytes(b"no database at all")
    assert "DatabaseError" in found(lived)
