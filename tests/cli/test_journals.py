"""Which files `dte master` and `dte run` take for a journal, and what they say of others."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from harness.machine import free_port
from harness.processes import Processes, until

import dte as package
from dte.master.journal.journal import Journal
from dte.master.journal.schema import APPLICATION_ID, SCHEMA_VERSION

from .conftest import Dte, DteProcess, check_refused

WHERE = ("--host", "127.0.0.1", "--port", "0")


def database(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


def of_another_version(path: Path) -> None:
    Journal(str(path)).close()
    database(path, f"PRAGMA user_version = {SCHEMA_VERSION + 1}")


def of_an_older_version(path: Path) -> None:
    database(path, f"PRAGMA application_id = {APPLICATION_ID}", "CREATE TABLE job (id INTEGER)")


def foreign(path: Path) -> None:
    database(path, "CREATE TABLE waiting (number INTEGER)", "INSERT INTO waiting VALUES (7)")


def foreign_with_a_log(path: Path) -> None:
    database(path, "PRAGMA journal_mode = WAL", "CREATE TABLE notes (text TEXT)")


def text(path: Path) -> None:
    path.write_text("Jobs of the week\n\n- 1+(2*3)/4-5\n" * 100)


def one_line(path: Path) -> None:
    path.write_text("1+2\n")


def no_words(path: Path) -> None:
    path.write_bytes(os.urandom(5_000))


def cut_short(path: Path) -> None:
    Journal(str(path)).close()
    path.write_bytes(path.read_bytes()[:1_000])


FILES: list[tuple[Callable[[Path], None], str]] = [
    (of_another_version, f"is a journal of version {SCHEMA_VERSION + 1}; this dte knows version"),
    (of_an_older_version, "is a journal of version 0; this dte knows version"),
    (foreign, "is not a journal of dte but another SQLite database"),
    (foreign_with_a_log, "is not a journal of dte but another SQLite database"),
    (text, "is not a journal of dte, nor any SQLite database"),
    (one_line, "is not a journal of dte, nor any SQLite database"),
    (no_words, "is not a journal of dte, nor any SQLite database"),
    (cut_short, ""),
]


@pytest.mark.parametrize(("make", "words"), FILES, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_no_journal_is_refused_in_clear_words_and_left_as_it_is(
    dte: Dte, tmp_path: Path, make: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "journal.db"
    make(path)
    before = path.read_bytes()
    result = dte("master", *WHERE, "--journal", str(path))
    check_refused(result, 3, words, lines=1)
    assert result.stderr.startswith(f"dte: {path} ")
    assert result.stderr.endswith("; give another --journal\n")
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["journal.db"], "nothing is left beside it"


@pytest.mark.parametrize(
    "path", ["{folder}/none/such/journal.db", "{folder}", "/proc/journal.db", "/dev/null/x"]
)
def test_a_place_where_no_file_can_be_is_refused_in_clear_words(
    dte: Dte, tmp_path: Path, path: str
) -> None:
    path = path.format(folder=tmp_path)
    result = dte("master", *WHERE, "--journal", path)
    check_refused(result, 3)
    assert result.stderr == (
        f"dte: {path} cannot be opened; its folder must exist, "
        "and this user must be able to write there; "
        "give another --journal\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_second_master_is_refused_and_harms_nothing(dte: Dte, processes: Processes) -> None:
    port, journal = free_port(), processes.folder / "journal.db"
    first = processes.start_master(port, DTE_JOURNAL=str(journal))
    with package.Client(f"http://127.0.0.1:{port}") as client:
        job = client.submit("1+2")
        for command in (("master", *WHERE), ("run", "1+1", "--workers", "1")):
            result = dte(*command, "--journal", str(journal))
            check_refused(result, 3)
            advice = ". To run without a journal: --journal none" if command[0] == "run" else ""
            assert result.stderr == (
                f"dte: {journal} is in use: another master has it open; give another "
                f"--journal{advice}\n"
            )
        assert client.submit("3+4").id == job.id + 1
        first.end()
        processes.start_master(port, DTE_JOURNAL=str(journal))
        assert [each.task for each in client.jobs()] == ["3+4", "1+2"]


def test_a_master_has_a_journal_in_the_current_folder_unless_it_is_told_otherwise(
    dte_process: DteProcess, processes: Processes, tmp_path: Path
) -> None:
    started = processes.start("master", *WHERE, DTE_JOURNAL="")
    until(lambda: "master listens" in started.output, "it serves")
    assert (tmp_path / "dte.db").exists()
    assert "journal dte.db: unfinished jobs to resume: 0" in started.output


def test_a_master_without_a_journal_leaves_no_file(processes: Processes, tmp_path: Path) -> None:
    master = processes.start("master", *WHERE, "--journal", "none")
    until(lambda: "master listens" in master.output, "it serves")
    assert not list(tmp_path.glob("dte.db*"))
    assert "journal" not in master.output


def test_run_has_no_journal_unless_it_is_given_one(dte_process: DteProcess, tmp_path: Path) -> None:
    journal = tmp_path / "mine.db"
    shown = dte_process("run", "1+2", "--workers", "1", DTE_JOURNAL="")
    assert shown.stdout == "1+2 = 3\n"
    assert not list(tmp_path.iterdir())
    for _ in range(2):
        shown = dte_process("run", "1+2", "--workers", "1", "--journal", str(journal))
        assert shown.stdout == "1+2 = 3\n"
    with closing(sqlite3.connect(journal)) as db:
        assert db.execute("SELECT count(*) FROM ended").fetchone() == (2,)
        assert db.execute("SELECT count(*) FROM waiting").fetchone() == (0,)


def test_the_journal_of_a_master_that_has_ended_is_one_file(processes: Processes) -> None:
    """So it can be copied, or moved, as one."""
    port, journal = free_port(), processes.folder / "journal.db"
    master = processes.start_master(port, DTE_JOURNAL=str(journal))
    with package.Client(f"http://127.0.0.1:{port}") as client:
        client.submit("1+2")
    assert master.end() == 0
    assert [each.name for each in processes.folder.glob("journal.db*")] == ["journal.db"]
