"""A journal and the log beside it: what was cut off or mixed up is noticed, a crash never is."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from dte.master.journal import generation
from dte.master.journal.journal import Journal
from dte.master.journal.schema import JournalFailed, JournalRefused, Sync
from dte.master.journal.wal import (
    FRAME_HEADER,
    HEADER,
    LogHeader,
    checksums,
    frames,
    read_header,
)

from .book import Book


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dte.db"


@pytest.fixture
def short_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a checkpoint after every few commits."""
    monkeypatch.setattr(generation, "LOG_PAGES", 20)


def log_of(path: Path) -> Path:
    return Path(f"{path}-wal")


def copy(path: Path, to: str, *, log: bool = True) -> Path:
    """Copy a journal's files, as `cp` does."""
    place = path.with_name(to)
    shutil.copyfile(path, place)
    if log:
        shutil.copyfile(log_of(path), log_of(place))
    return place


def refusal(path: Path) -> str:
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(JournalRefused) as refused:
        Journal(str(path))
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before
    return str(refused.value)


def waiting(path: Path, **options: bool) -> int:
    """The number of unfinished jobs that a master finds there; the journal is closed again."""
    book = Book(path, **options)
    book.close()
    return len(book.loaded.waiting)


def test_a_copy_without_its_log_is_refused_with_what_would_be_right(path: Path) -> None:
    book = Book(path)
    for _ in range(10):
        book.accept("1+1")
        book.write()
    cut = copy(path, "cut.db", log=False)
    book.close()
    text = refusal(cut)
    for part in (f"{cut}-wal", "dte backup", "--journal-without-wal"):
        assert part in text
    assert waiting(path) == 10


def test_a_copy_without_its_log_can_be_used_on_request_and_is_whole_from_then_on(
    path: Path,
) -> None:
    book = Book(path)
    book.accept("1+1")
    book.write()
    book.close()
    book = Book(path)
    book.accept("2+2")
    book.write()
    cut = copy(path, "cut.db", log=False)
    book.close()
    assert waiting(cut, without_wal=True) == 1
    assert waiting(cut) == 1


def test_a_log_that_was_emptied_counts_as_missing(path: Path) -> None:
    book = Book(path)
    book.accept("1+1")
    book.write()
    cut = copy(path, "cut.db")
    book.close()
    log_of(cut).write_bytes(b"")
    assert f"{cut}-wal" in refusal(cut)


@pytest.mark.usefixtures("short_logs")
def test_a_copy_without_its_log_is_noticed_at_every_commit_of_many_generations(path: Path) -> None:
    book = Book(path)
    for _ in range(40):
        book.accept("1+1")
        book.write()
        assert "was cut from" in refusal(copy(path, "cut.db", log=False))
    book.close()


@pytest.mark.usefixtures("short_logs")
def test_both_files_as_a_crash_leaves_them_are_a_journal_at_every_commit(path: Path) -> None:
    book = Book(path)
    for number in range(1, 41):
        book.accept("1+1")
        book.write()
        assert waiting(copy(path, "crashed.db")) == number
    book.close()
    assert os.listdir(path.parent).count("dte.db-wal") == 0


@pytest.mark.usefixtures("short_logs")
def test_a_log_that_another_program_moved_into_the_file_is_not_missing(path: Path) -> None:
    """Like `sqlite3`, with which somebody looks into what a crash has left."""
    book = Book(path)
    for number in range(1, 21):
        book.accept("1+1")
        book.write()
        crashed = copy(path, "crashed.db")
        with closing(sqlite3.connect(crashed)) as db:
            db.execute("SELECT count(*) FROM waiting").fetchone()
        if not log_of(crashed).exists() and not is_incomplete(crashed):
            assert waiting(crashed) == number
    book.close()


def is_incomplete(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as db:
        return bool(db.execute("SELECT incomplete FROM generation").fetchone()[0])


def generations(book: Book, count: int) -> None:
    """Go on until the log has been moved so many times."""
    mark, seen = b"", 0
    while seen <= count:
        book.accept("1+1")
        book.write()
        (now,) = book.journal._db.execute("SELECT marks FROM generation").fetchone()
        if now[-generation.SIZE :] != mark:
            mark, seen = now[-generation.SIZE :], seen + 1


@pytest.mark.usefixtures("short_logs")
@pytest.mark.parametrize("first", ["file", "log"])
def test_two_files_that_were_copied_at_different_times_are_refused(path: Path, first: str) -> None:
    book = Book(path)
    generations(book, 1)
    mixed = path.with_name("mixed.db")
    pairs = [(path, mixed), (log_of(path), log_of(mixed))]
    if first == "log":
        pairs.reverse()
    shutil.copyfile(*pairs[0])
    generations(book, 3)
    shutil.copyfile(*pairs[1])
    book.close()
    assert "another state" in refusal(mixed)


def test_a_restored_copy_beside_the_log_of_a_crash_is_refused_and_left_as_it_is(path: Path) -> None:
    book = Book(path)
    book.accept("1+1")
    book.write()
    with book.journal.copy(lambda: None) as backup:
        content = backup.read()
    book.accept("2+2")
    book.write()
    crashed = copy(path, "crashed.db")
    book.close()
    crashed.write_bytes(content)
    text = refusal(crashed)
    assert f"move {crashed}-wal away" in text
    log_of(crashed).unlink()
    assert waiting(crashed) == 1


def test_a_checkpoint_that_fails_loses_nothing_and_is_done_later(
    path: Path, monkeypatch: pytest.MonkeyPatch, short_logs: None
) -> None:
    book = Book(path)
    checkpoints = book.journal._checkpoints

    def fail() -> bool:
        raise sqlite3.OperationalError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_move", fail)
        for _ in range(30):
            book.accept("1+1")
            book.write()
        assert waiting(copy(path, "crashed.db")) == 30
    long = log_of(path).stat().st_size
    for number in range(31, 61):
        book.accept("1+1")
        book.write()
        assert waiting(copy(path, "crashed.db")) == number
    assert log_of(path).stat().st_size <= long + 10 * 4_120
    book.close()
    assert waiting(path) == 60


class FailingCommits:
    """A connection whose commits fail as on a broken disk, while that is wanted."""

    failing = False

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if self.failing and statement == "COMMIT":
            raise sqlite3.OperationalError("disk I/O error")
        return self._db.execute(statement, *values)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


@pytest.mark.usefixtures("short_logs")
def test_a_failed_commit_leaves_the_mark_as_it_was(path: Path) -> None:
    """The next mark must not follow from one that no file has."""
    book = Book(path)
    db = FailingCommits(book.journal._db)
    book.journal._db = db  # type: ignore[assignment]
    for number in range(1, 61):
        book.accept("1+1")
        facts = book.jobs.facts()
        assert facts is not None
        db.failing = True
        with pytest.raises(JournalFailed):
            book.journal.write(facts, book.now)
        db.failing = False
        book.core.recorded(book.now, facts, book.journal.write(facts, book.now))
        assert waiting(copy(path, "crashed.db")) == number
    book.close()


# A log that has lost its content

FRAME_BYTES = FRAME_HEADER.size + 4_096
LOSSES = {
    "only its header": lambda log: log[: HEADER.size],
    "half of the first frame": lambda log: log[: HEADER.size + FRAME_BYTES // 2],
    "zeros": lambda log: bytes(len(log)),
    "another header": lambda log: os.urandom(HEADER.size) + log[HEADER.size :],
    "another salt": lambda log: log[:16] + os.urandom(8) + log[24:],
    "another page size": lambda log: log[:8] + b"\xff\xff\xff\xff" + log[12:],
    "another first frame": lambda log: log[:100] + os.urandom(50) + log[150:],
}


def crash_after_ten(path: Path, sync: Sync = Sync.FULL) -> Path:
    """A journal of ten commits as a crash leaves it."""
    book = Book(path, sync=sync)
    for _ in range(10):
        book.accept("1+1")
        book.write()
    crashed = copy(path, "crashed.db")
    book.close()
    return crashed


@pytest.mark.parametrize("loss", LOSSES)
def test_a_log_that_has_lost_its_content_is_refused(path: Path, loss: str) -> None:
    lost = crash_after_ten(path)
    log_of(lost).write_bytes(LOSSES[loss](log_of(lost).read_bytes()))
    text = refusal(lost)
    for part in (f"{lost}-wal", "dte backup", "dte journal salvage", "--journal-without-wal"):
        assert part in text
    assert waiting(lost, without_wal=True) == 0


def begun_anew(log: bytes, header: LogHeader) -> bytes:
    """A log with the header that SQLite writes before the first frame of a generation."""
    salt = (int.from_bytes(header.salt[:4], "big") + 1).to_bytes(4, "big") + os.urandom(4)
    new = header._replace(checkpoints=header.checkpoints + 1, salt=salt)
    content = HEADER.pack(*new)[: HEADER.size - 8]
    first, second = checksums(content, [0, 0], header.order)
    return HEADER.pack(*new._replace(first_sum=first, second_sum=second)) + log[HEADER.size :]


@pytest.mark.usefixtures("short_logs")
@pytest.mark.parametrize("sync", Sync)
def test_a_power_loss_as_the_log_begins_anew_is_no_loss(path: Path, sync: Sync) -> None:
    """The new header is on the disk, and nothing or half of the first frame."""
    book = Book(path, sync=sync)
    number = seen = 0
    while seen < 3:
        book.accept("1+1")
        book.write()
        number += 1
        if book.journal._checkpoints._stage is not generation.Stage.MOVED:
            continue
        crashed = copy(path, "crashed.db")
        log = log_of(crashed).read_bytes()
        with log_of(crashed).open("rb") as file:
            header = read_header(file)
        assert header is not None
        log_of(crashed).write_bytes(begun_anew(log, header))
        assert waiting(crashed, sync=sync) == number
        copy(path, "crashed.db")
        torn = bytearray(begun_anew(log, header))
        torn[HEADER.size + 16 : 512] = os.urandom(512 - HEADER.size - 16)
        torn[HEADER.size + 8 : HEADER.size + 16] = torn[16:24]
        log_of(crashed).write_bytes(torn)
        assert waiting(crashed, sync=sync) == number
        seen += 1
    book.close()


def test_changes_that_were_not_synced_may_be_lost_with_the_power(path: Path) -> None:
    crashed = crash_after_ten(path, Sync.NORMAL)
    log = log_of(crashed).read_bytes()
    log_of(crashed).write_bytes(LOSSES["another first frame"](log))
    assert waiting(crashed, sync=Sync.NORMAL) == 0


# A log that is damaged before transactions that are whole


def crash(path: Path) -> tuple[Path, bytes, list[bool]]:
    """A journal of ten commits as a crash leaves it, its log, and the frames that end commits."""
    crashed = crash_after_ten(path)
    with log_of(crashed).open("rb") as file:
        header = read_header(file)
        assert header is not None
        ends = [each.pages > 0 for each in frames(file, header) if each.salt == header.salt]
    return crashed, log_of(crashed).read_bytes(), ends


def frame_at(number: int) -> int:
    return HEADER.size + (number - 1) * FRAME_BYTES


def changed(log: bytes, at: int, count: int) -> bytes:
    return log[:at] + bytes(byte ^ 0xFF for byte in log[at : at + count]) + log[at + count :]


def test_damage_to_any_frame_before_the_last_commit_is_refused_and_loses_nothing(
    path: Path,
) -> None:
    crashed, log, ends = crash(path)
    main = crashed.read_bytes()
    last = max(number for number, is_end in enumerate(ends[:-1], 1) if is_end)
    for number in range(1, len(ends) + 1):
        crashed.write_bytes(main)
        log_of(crashed).write_bytes(changed(log, frame_at(number) + 1_000, 50))
        if number > last:  # As after a loss of power in the midst of the last commit.
            assert waiting(crashed) == 9
            continue
        text = refusal(crashed)
        for part in (f"{crashed}-wal", "dte journal salvage", "--journal-without-wal"):
            assert part in text
        if number > 1:
            assert f"frame {number} of" in text


def test_damage_to_the_head_of_any_frame_before_the_last_two_commits_is_refused(path: Path) -> None:
    crashed, log, ends = crash(path)
    before_last_two = [number for number, is_end in enumerate(ends, 1) if is_end][-3]
    for number in range(1, before_last_two + 1):
        log_of(crashed).write_bytes(changed(log, frame_at(number), 16))
        assert "dte journal salvage" in refusal(crashed)


def test_a_log_that_is_damaged_can_be_used_on_request_up_to_the_damage(path: Path) -> None:
    crashed, log, ends = crash(path)
    second_last = max(number for number, is_end in enumerate(ends[:-1], 1) if is_end)
    log_of(crashed).write_bytes(changed(log, frame_at(second_last) + 1_000, 50))
    assert waiting(crashed, without_wal=True) == 8
    assert waiting(crashed) == 8


def test_without_syncs_a_loss_of_power_may_leave_later_commits_and_they_are_named(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    crashed, log, ends = crash(path)
    second_last = max(number for number, is_end in enumerate(ends[:-1], 1) if is_end)
    log_of(crashed).write_bytes(changed(log, frame_at(second_last) + 1_000, 50))
    book = Book(crashed, sync=Sync.NORMAL)
    book.close()
    assert len(book.loaded.waiting) == 8
    assert f"to {len(ends)} are lost" in caplog.text
