"""Which files `dte master` and `dte run` take for a journal, what they say of others, and the
commands that look into damaged ones.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from harness.machine import free_port
from harness.processes import Processes, until

import dte as package
from dte.cli.journals import ranges
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
    assert result.stderr.endswith("give another --journal\n")
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


# Check and salvage


@pytest.fixture
def journal(processes: Processes) -> Path:
    """The journal of a master that has ended, with jobs that ended and jobs that wait."""
    port, path = free_port(), processes.folder / "journal.db"
    master = processes.start_master(port, DTE_JOURNAL=str(path))
    with package.Client(f"http://127.0.0.1:{port}") as client:
        for number in range(60):
            client.submit(str(number))
        for number in range(30):
            client.submit(f"{number}+1")
    assert master.end() == 0
    return path


def damage(path: Path, table: str) -> None:
    """Overwrite the first page of a table."""
    with closing(sqlite3.connect(path)) as db:
        query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (page,) = db.execute(query, (table,)).fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * 4_096)
        file.write(os.urandom(4_096))


def test_a_journal_that_is_well_is_said_to_be(dte: Dte, journal: Path) -> None:
    before = journal.read_bytes()
    shown = dte("journal", "check", str(journal))
    assert shown.exit_code == 0
    assert "jobs waiting: 30, ended: 60, highest id: 90" in shown.stdout
    assert shown.stdout.endswith(f"{journal} is intact\n")
    found = json.loads(dte("journal", "check", str(journal), "--json").stdout)
    assert found["state"] == "well"
    assert (found["jobs_waiting"], found["jobs_ended"], found["last_job"]) == (30, 60, 90)
    assert journal.read_bytes() == before


def test_a_damaged_journal_is_refused_checked_and_saved(
    dte: Dte, processes: Processes, journal: Path
) -> None:
    damage(journal, "waiting")
    result = dte("master", *WHERE, "--journal", str(journal))
    check_refused(result, 3, f"dte journal salvage {journal}", lines=1)
    shown = dte("journal", "check", str(journal))
    assert shown.exit_code == 1
    assert "waiting jobs: page " in shown.stdout
    assert "readable: jobs waiting: 0, ended: 60" in shown.stdout
    assert f"dte journal salvage {journal}" in shown.stdout
    found = json.loads(dte("journal", "check", str(journal), "--json").stdout)
    assert (found["state"], len(found["damaged_pages"])) == ("damaged", 1)

    before = journal.read_bytes()
    shown = dte("journal", "salvage", str(journal))
    assert shown.exit_code == 0
    assert "jobs saved: waiting 0, ended 60" in shown.stdout
    new = Path(f"{journal}-salvaged")
    assert f"dte master --journal {new}" in shown.stdout
    assert journal.read_bytes() == before
    assert new.stat().st_mode & 0o777 == 0o600
    port = free_port()
    processes.start_master(port, DTE_JOURNAL=str(new))
    with package.Client(f"http://127.0.0.1:{port}") as client:
        assert client.job(60).answer == 59
        assert client.submit("1").id > 60


def test_what_is_lost_is_named(dte: Dte, journal: Path, tmp_path: Path) -> None:
    damage(journal, "ended")
    new = str(tmp_path / "new.db")
    done = json.loads(dte("journal", "salvage", str(journal), "--to", new, "--json").stdout)
    assert (done["to"], done["last_job"]) == (new, 90)
    shown = dte("journal", "salvage", str(journal), "--to", f"{new}-2").stdout
    if done["lost_jobs"]:
        assert f"with the ids {ranges(done['lost_jobs'])}" in shown
    assert done["rows"]["ended"] + len(done["lost_jobs"]) == 60


def test_a_job_whose_plan_is_lost_fails_and_is_not_retried(
    dte: Dte, processes: Processes, tmp_path: Path
) -> None:
    """Its text is for people: it is no formula that could be run instead."""
    port, path = free_port(), tmp_path / "dte.db"
    master = processes.start_master(port, DTE_JOURNAL=str(path))
    with package.Client(f"http://127.0.0.1:{port}") as client:
        one = client.submit_call("nobody.has", 2)
        graph = package.Graph()
        graph.call("nobody.has", 1)
        graph.call("nor.this", 2)
        several = client.submit_graph(graph)
    assert master.end() == 0
    damage(path, "plan")
    new = f"{path}-salvaged"
    shown = dte("journal", "salvage", str(path))
    assert shown.exit_code == 0
    lost = "the plans of 2 jobs are lost, so these cannot be retried"
    assert f"{lost}: {one.id} to {several.id}" in shown.stdout
    processes.start_master(port, DTE_JOURNAL=new)
    with package.Client(f"http://127.0.0.1:{port}") as client:
        for number in (one.id, several.id):
            job = client.job(number)
            assert (job.state, "its plan was lost" in (job.error or "")) == ("failed", True)
            with pytest.raises(package.DteError, match=f"job {number} cannot be retried: its plan"):
                client.retry(number)
            assert client.nodes(number) == []


def test_a_file_that_was_cut_short_is_said_to_be(dte: Dte, journal: Path) -> None:
    raw = journal.read_bytes()
    journal.write_bytes(raw[:40_000])
    words = f"the file is cut short: 9 of {len(raw) // 4_096} pages"
    assert words in dte("journal", "check", str(journal)).stdout
    shown = dte("journal", "salvage", str(journal)).stdout
    assert words in shown
    assert "nothing is lost" not in shown


def test_what_is_lost_has_names_for_people(dte: Dte, journal: Path) -> None:
    for table in ("submission", "notice", "call"):
        damage(journal, table)
    checked = dte("journal", "check", str(journal)).stdout
    shown = dte("journal", "salvage", str(journal)).stdout
    assert "records of the calls of jobs: some may be lost (page" in shown
    assert "webhooks to be sent: some may be lost (page" in shown
    assert "; they are not sent" in shown
    for text in (checked, shown):
        assert "webhooks to be sent" in text
        assert "records of the calls of jobs" in text
        assert not {"notice:", "submission:", "call:"} & {*text.split()}
    assert "nothing is lost" not in shown


def test_where_only_the_log_is_missing_it_should_be_put_back(
    dte: Dte, processes: Processes, tmp_path: Path
) -> None:
    port, path, copy = free_port(), processes.folder / "journal.db", tmp_path / "copy.db"
    processes.start_master(port, DTE_JOURNAL=str(path))
    with package.Client(f"http://127.0.0.1:{port}") as client:
        client.submit("1+2")
        copy.write_bytes(path.read_bytes())
    copy.chmod(0o600)
    shown = dte("journal", "check", str(copy)).stdout
    assert f"put {copy}-wal of the same copy there" in shown
    assert "journal salvage" not in shown
    result = dte("journal", "salvage", str(copy))
    assert result.exit_code == 0
    assert "nothing is lost" not in result.output
    assert f"put {copy}-wal of the same copy there" in result.stderr


def test_a_file_that_exists_is_not_replaced(dte: Dte, journal: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    for taken in (new, Path(f"{new}-wal")):
        taken.write_text("mine")
        result = dte("journal", "salvage", str(journal), "--to", str(new))
        check_refused(result, 2, f"{taken} exists; choose another name: --to NEW")
        assert taken.read_text() == "mine"
        taken.unlink()


def test_no_half_of_a_new_file_is_left(dte: Dte, journal: Path, tmp_path: Path) -> None:
    result = dte("journal", "salvage", str(journal), "--to", str(tmp_path / "none" / "new.db"))
    check_refused(result, 2, "there is no folder", "--to NEW")
    check_refused(dte("journal", "salvage", str(journal), "--to", ""), 2, "--to NEW")
    check_refused(dte("journal", "check", ""), 2, "FILE is empty")


@pytest.mark.parametrize("command", ["check", "salvage"])
@pytest.mark.parametrize("make", [foreign, text, no_words, of_another_version, None])
def test_what_is_no_journal_is_neither_checked_nor_saved(
    dte: Dte, tmp_path: Path, make: Callable[[Path], None] | None, command: str
) -> None:
    path = tmp_path / "x.db"
    if make is not None:
        make(path)
    result = dte("journal", command, str(path))
    check_refused(result, 2, str(path), lines=1)
    assert not Path(f"{path}-salvaged").exists()


@pytest.mark.parametrize("command", ["check", "salvage"])
def test_a_journal_of_a_newer_version_is_left_to_its_dte(
    dte: Dte, tmp_path: Path, command: str
) -> None:
    path = tmp_path / "x.db"
    Journal(str(path)).close()
    database(path, "PRAGMA user_version = 9")
    path.chmod(0o600)
    refused = dte("master", *WHERE, "--journal", str(path)).stderr.removesuffix(
        ", or give another --journal\n"
    )
    result = dte("journal", command, str(path))
    check_refused(result, 2, "is a journal of version 9; this dte knows version", lines=1)
    assert result.stderr == f"{refused}\n"
    assert [each.name for each in tmp_path.iterdir()] == ["x.db"]


def test_a_journal_behind_a_link_has_its_log_beside_the_file(
    dte: Dte, processes: Processes, tmp_path: Path
) -> None:
    port, link = free_port(), tmp_path / "link.db"
    (tmp_path / "data").mkdir()
    link.symlink_to("data/real.db")
    master = processes.start_master(port, DTE_JOURNAL=str(link))
    with package.Client(f"http://127.0.0.1:{port}") as client:
        job = client.submit("1+2")
        master.kill()
        assert (tmp_path / "data" / "real.db-wal").exists()
        shown = dte("journal", "check", str(link))
        assert f"jobs waiting: 1, ended: 0, highest id: {job.id}" in shown.stdout
        assert shown.exit_code == 0
        assert "nothing is lost" in dte("journal", "salvage", str(link)).stdout
        processes.start_master(port, DTE_JOURNAL=str(link))
        assert client.submit("1+2").id > job.id
        backup = dte("backup", str(tmp_path / "copy.db"), "--master", f"http://127.0.0.1:{port}")
        assert backup.exit_code == 0
    assert sorted(each.name for each in (tmp_path / "data").iterdir())[0] == "real.db"


def test_damage_that_a_running_master_meets_is_in_its_health_and_fails_backups(
    dte: Dte, processes: Processes, tmp_path: Path
) -> None:
    port, path = free_port(), tmp_path / "dte.db"
    url = f"http://127.0.0.1:{port}"
    master = processes.start_master(port, DTE_JOURNAL=str(path))
    with package.Client(url) as client:
        job = client.cancel(client.submit_call("nobody.has", 2))
    assert master.end() == 0
    damage(path, "call")
    processes.start_master(port, DTE_JOURNAL=str(path))
    assert get(f"{url}/health")["error"] is None
    advice = f"dte journal salvage {path}"
    assert advice in get(f"{url}/job/{job.id}/nodes")["error"]
    found = get(f"{url}/health")
    assert found["status"] == "ok", "the journal can be written"
    assert advice in found["error"]
    result = dte("backup", str(tmp_path / "copy.db"), "--master", url)
    assert result.exit_code != 0
    assert advice in result.stderr
    assert not (tmp_path / "copy.db").exists()


def get(url: str) -> dict[str, Any]:
    """The JSON of a reply, also of an error."""
    try:
        with urlopen(url) as reply:
            return json.load(reply)  # type: ignore[no-any-return]
    except HTTPError as error:
        with error:
            return json.load(error)  # type: ignore[no-any-return]


@pytest.mark.parametrize("command", ["check", "salvage"])
def test_a_journal_in_use_is_neither_checked_nor_saved(
    dte: Dte, processes: Processes, command: str
) -> None:
    path = processes.folder / "journal.db"
    processes.start_master(free_port(), DTE_JOURNAL=str(path))
    result = dte("journal", command, str(path))
    check_refused(result, 2, "is in use: a master has it open", lines=1)


def test_numbers_are_shown_as_ranges() -> None:
    assert ranges([]) == ""
    assert ranges([3]) == "3"
    assert ranges([3, 4, 5, 8, 10, 11]) == "3 to 5, 8, 10 to 11"
    assert ranges(range(1, 1_000, 2)).endswith("37, 39, …")
