"""A journal's files can be opened by their owner alone."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from dte.master.journal.journal import Journal
from dte.master.journal.schema import JournalRefused

from .book import Book


@pytest.fixture(autouse=True)
def careless() -> Iterator[None]:
    """New files may be opened by everybody, unless a program says otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


def mode_of(path: Path | str) -> int:
    return os.stat(path).st_mode & 0o777


def test_new_files_are_their_owners_alone(tmp_path: Path) -> None:
    book = Book(tmp_path / "dte.db")
    book.ended(2)
    assert {each.name: mode_of(each) for each in tmp_path.iterdir()} == {
        "dte.db": 0o600,
        "dte.db-wal": 0o600,
    }
    with book.journal.copy(lambda: None) as copy:
        assert os.fstat(copy.fileno()).st_mode & 0o777 == 0o600
    book.close()


@pytest.mark.parametrize("mode", [0o640, 0o644, 0o660, 0o604])
def test_files_that_others_could_open_are_closed_to_them_and_the_log_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: int
) -> None:
    caplog.set_level(logging.WARNING, "dte.master")
    path = tmp_path / "dte.db"
    Journal(str(path)).close()
    path.chmod(mode)
    for _ in range(2):
        Journal(str(path)).close()
        assert mode_of(path) == 0o600
    assert [f"{mode:04o}" in each for each in caplog.messages] == [True]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody")
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
def test_a_file_of_somebody_else_is_refused_with_the_way_out(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "dte.db"
    Journal(str(path)).close()
    file = Path(f"{path}{suffix}")
    before = file.read_bytes() if file.exists() else None
    file.touch(0o600)
    os.chown(file, 12_345, 12_345)
    with pytest.raises(JournalRefused, match=f"belongs to the user 12345.*chown 0 {file}"):
        Journal(str(path))
    if before is None:
        file.unlink()
    else:
        os.chown(file, 0, 0)
        assert file.read_bytes() == before, "it is as it was"
    Journal(str(path)).close()


@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal"])
def test_files_beside_a_journal_are_refused_if_everybody_may_write_them(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / "dte.db"
    Journal(str(path)).close()
    Path(f"{path}{suffix}").touch()
    os.chmod(f"{path}{suffix}", 0o666)
    with pytest.raises(JournalRefused, match=f"chmod 600 {path}{suffix}"):
        Journal(str(path))


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_file_that_everybody_may_write_is_refused_with_the_way_out(
    tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / "dte.db"
    book = Book(path)
    book.ended(2)
    for each in ("", "-wal"):
        Path(f"{path}-copy{each}").write_bytes(Path(f"{path}{each}").read_bytes())
        os.chmod(f"{path}-copy{each}", 0o600)
    book.close()
    file = f"{path}-copy{suffix}"
    os.chmod(file, 0o666)
    with pytest.raises(JournalRefused, match=f"chmod 600 {file}"):
        Journal(f"{path}-copy")
    os.chmod(file, 0o600)
    Journal(f"{path}-copy").close()
