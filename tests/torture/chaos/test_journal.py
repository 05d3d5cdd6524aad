"""The faults of a journal's file are found."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from torture.chaos.journal import read_journal

from dte.core.graph.arithmetic import Graph
from dte.core.jobs.facts import End, Facts, Submission
from dte.core.jobs.job import Job
from dte.master.journal.journal import Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal with a job that waits and one that has ended."""
    path = tmp_path / "chaos.db"
    jobs = [Job(number, text, 1.0, 1, Graph()) for number, text in ((1, "1+2"), (2, "3+4"))]
    journal = Journal(str(path))
    submission = Submission(jobs, [job.task for job in jobs])
    journal.write(Facts([submission], [End(jobs[1], 2.0, answer=7)]), 2.0)
    journal.close()
    return path


def test_jobs_that_wait_and_that_have_ended_are_read(path: Path) -> None:
    journal = read_journal(path)
    assert journal.texts == {1: "1+2", 2: "3+4"}
    assert journal.problems == []


def test_a_job_that_waits_and_has_ended_is_a_problem(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        columns = "number, submitted_at, operations, task"
        db.execute(f"INSERT INTO waiting ({columns}) SELECT {columns} FROM ended")
        db.commit()
    assert read_journal(path).problems == ["job 2 is in the journal twice"]


def test_what_is_left_of_a_job_that_is_not_there_is_a_problem(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("INSERT INTO plan VALUES (2, '{}'), (3, '{}')")
        db.commit()
    assert read_journal(path).problems == ["job 3 is only in the table plan"]


def test_a_damaged_file_is_a_problem(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 : 2 * 4096] = b"\xff" * 4096
    path.write_bytes(content)
    assert read_journal(path).problems


def test_a_missing_file_is_a_problem(tmp_path: Path) -> None:
    assert "cannot be read" in read_journal(tmp_path / "none.db").problems[0]
