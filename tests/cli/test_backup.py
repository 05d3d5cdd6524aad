"""The command `dte backup`: a whole copy under the given name, or nothing there."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result
from harness.machine import free_port
from harness.master_thread import MasterThread
from harness.processes import Processes

import dte as package
from dte.cli import backup as command
from dte.client import backup as receiving
from dte.master.journal.journal import Journal

from .conftest import Dte, check_refused

WHERE = ("--host", "127.0.0.1", "--port", "0")


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[MasterThread]:
    """A master with a journal and one job."""
    with MasterThread(journal=str(tmp_path / "dte.db")) as master:
        with package.Client(master.url) as client:
            client.submit("1+1")
        yield master


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the copies."""
    made = tmp_path / "copies"
    made.mkdir()
    return made


def jobs_in(path: Path) -> int:
    journal = Journal(str(path))
    try:
        return len(journal.load(10, 10**6, 0.0).waiting)
    finally:
        journal.close()


def test_a_copy_is_there_under_its_name_and_says_how_to_restore_it(
    dte: Dte, keeper: MasterThread, folder: Path
) -> None:
    file = folder / "copy.db"
    result = dte("backup", str(file), "--master", keeper.url)
    assert result.exit_code == 0, result.stderr
    assert f"dte master --journal {file}" in result.stdout
    assert not result.stderr
    assert os.listdir(folder) == ["copy.db"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert jobs_in(file) == 1


def test_json_names_the_file_and_its_bytes(dte: Dte, keeper: MasterThread, folder: Path) -> None:
    file = folder / "copy.db"
    result = dte("backup", str(file), "--json", "--master", keeper.url)
    assert json.loads(result.stdout) == {"file": str(file), "bytes": file.stat().st_size}


def test_a_file_that_exists_is_replaced_only_by_force(
    dte: Dte, keeper: MasterThread, folder: Path
) -> None:
    file = folder / "copy.db"
    file.write_text("yesterday's")
    check_refused(dte("backup", str(file), "--master", keeper.url), 2, "copy.db exists", "--force")
    assert file.read_text() == "yesterday's"
    assert dte("backup", str(file), "--force", "--master", keeper.url).exit_code == 0
    assert jobs_in(file) == 1


def test_a_link_stays_a_link(dte: Dte, keeper: MasterThread, folder: Path) -> None:
    file, link = folder / "monday.db", folder / "last.db"
    file.write_text("old")
    link.symlink_to(file)
    assert dte("backup", str(link), "--force", "--master", keeper.url).exit_code == 0
    assert link.is_symlink()
    assert jobs_in(file) == 1


@pytest.mark.parametrize(
    ("name", "words"),
    [("", "is a folder"), ("none/copy.db", "there is no folder"), ("pipe", "not a regular file")],
)
def test_a_place_where_no_copy_can_be_is_refused_before_the_master_is_asked(
    dte: Dte, folder: Path, name: str, words: str
) -> None:
    os.mkfifo(folder / "pipe")
    result = dte("backup", str(folder / name), "--force", "--master", "http://127.0.0.1:1")
    check_refused(result, 2, words, lines=1)
    assert os.listdir(folder) == ["pipe"]


def test_in_a_deleted_folder_the_way_to_the_file_is_asked_for(dte: Dte, tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    before = os.getcwd()
    os.chdir(tmp_path / "gone")
    try:
        (tmp_path / "gone").rmdir()
        result = dte("backup", "copy.db", "--master", "http://127.0.0.1:1")
    finally:
        os.chdir(before)
    check_refused(result, 2, "the current folder has been deleted; give copy.db with", lines=1)


def check_nothing_left(result: Result, folder: Path, code: int, *words: str) -> None:
    check_refused(result, code, *words)
    assert not os.listdir(folder)


def test_a_master_that_is_not_there_or_in_memory_leaves_no_file(dte: Dte, folder: Path) -> None:
    file = str(folder / "copy.db")
    nobody = f"http://127.0.0.1:{free_port()}"
    check_nothing_left(dte("backup", file, "--master", nobody), folder, 3, "no reply from")
    with MasterThread() as master:
        result = dte("backup", file, "--master", master.url)
    check_nothing_left(result, folder, 2, "in memory", "--journal none")


def test_a_copy_that_breaks_off_leaves_no_file(
    dte: Dte, keeper: MasterThread, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = receiving.Backup.pieces

    def some(backup: receiving.Backup) -> Iterator[bytes]:
        yield next(pieces(backup))[:100]
        raise package.Unreachable("the master sent 100 bytes")

    monkeypatch.setattr(receiving.Backup, "pieces", some)
    result = dte("backup", str(folder / "copy.db"), "--master", keeper.url)
    check_nothing_left(result, folder, 3, "100 bytes")


def test_a_disk_that_is_full_leaves_no_file(
    dte: Dte, keeper: MasterThread, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command.os, "fsync", fail)
    result = dte("backup", str(folder / "copy.db"), "--master", keeper.url)
    check_nothing_left(result, folder, 2, "cannot write", "No space left")


def test_a_copy_that_does_not_fit_is_refused_before_the_disk_is_full(
    dte: Dte, keeper: MasterThread, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk may be that of the master's journal."""
    usage = shutil.disk_usage
    full = usage(folder)._replace(free=1_000)
    monkeypatch.setattr(
        command.shutil, "disk_usage", lambda path: full if path == folder else usage(path)
    )
    result = dte("backup", str(folder / "copy.db"), "--master", keeper.url)
    check_nothing_left(result, folder, 2, "0.1 MB", "0.0 MB are free")


def test_progress_is_shown_when_it_takes_long(
    dte: Dte, keeper: MasterThread, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "UNWATCHED_S", 0.0)
    result = dte("backup", str(folder / "copy.db"), "--master", keeper.url)
    assert "received 0.1 of 0.1 MB" in result.stderr
    assert "received" not in result.stdout


def test_a_journal_that_was_cut_from_its_log_is_refused_and_a_copy_is_not(
    dte: Dte, processes: Processes, tmp_path: Path
) -> None:
    port, journal, cut, copy = free_port(), *(tmp_path / f"{n}.db" for n in ("dte", "cut", "copy"))
    master = processes.start_master(port, DTE_JOURNAL=str(journal))
    with package.Client(f"http://127.0.0.1:{port}") as client:
        job = client.submit("1+2")
        shutil.copyfile(journal, cut)
        assert dte("backup", str(copy), "--master", client.master_url).exit_code == 0
    master.kill()
    result = dte("master", *WHERE, "--journal", str(cut))
    check_refused(result, 3, f"{cut}-wal", "`dte backup`", "--journal-without-wal", lines=1)
    for place in (copy, journal):
        restored = processes.start_master(port, DTE_JOURNAL=str(place))
        with package.Client(f"http://127.0.0.1:{port}") as client:
            assert [each.id for each in client.jobs()] == [job.id]
            assert client.submit("3+4").id == job.id + 1
        restored.end()


@pytest.mark.parametrize("name", ["dte.db", "link.db"])
def test_a_journal_that_a_master_uses_is_not_replaced_even_by_force(
    dte: Dte, keeper: MasterThread, tmp_path: Path, name: str
) -> None:
    (tmp_path / "link.db").symlink_to("dte.db")
    before = (tmp_path / "dte.db").stat().st_ino
    refused = dte("backup", str(tmp_path / name), "--force", "--master", keeper.url)
    check_refused(refused, 2, "dte.db-wal exists", "a master uses", "another FILE")
    assert (tmp_path / "dte.db").stat().st_ino == before
    with package.Client(keeper.url) as client:
        assert client.submit("1+2").id == 2


def test_a_copy_is_not_put_beside_the_log_of_another_journal(
    dte: Dte, keeper: MasterThread, folder: Path
) -> None:
    (folder / "copy.db-wal").write_bytes(b"of another")
    refused = dte("backup", str(folder / "copy.db"), "--master", keeper.url)
    check_refused(refused, 2, "copy.db-wal exists", "another FILE")
    assert os.listdir(folder) == ["copy.db-wal"]
