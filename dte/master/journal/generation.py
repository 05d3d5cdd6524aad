"""Ties a journal's file to the write-ahead log beside it.

While a master runs, its journal is two files: changes are in the log until a checkpoint moves them
into the main file. SQLite opens the main file without its log, or with the log of another state,
and says nothing: the latest jobs are missing, or the file is damaged.

Therefore checkpoints are done here, and not by SQLite itself. Before a checkpoint, the journal gets
a new mark and the note that it is incomplete; after it, the note is taken back, which only the log
knows. So the main file by itself is incomplete while a master runs, and after a crash. It is
complete when the log has been moved into it, by whatever program. A log belongs to a main file if
it has the mark of that file, alone or as the one before. This holds after a crash at any moment.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import BinaryIO

from dte.master.journal.wal import (
    FRAME_HEADER,
    HEADER,
    SALT_AT,
    frames,
    has_transaction,
    log_of,
    read_header,
    unread_frames,
)

LOG_PAGES = 1_000
"""A longer log is moved into the main file."""
PREFIX = b"dte:mark"
"""Begins what is written of marks: the mark before, and the present one."""
SIZE = 8
MARKS_BYTES = len(PREFIX) + 2 * SIZE
NONE = bytes(SIZE)
SCHEMA = f"""
CREATE TABLE generation (  -- ties this file to its -wal, see dte/master/journal/generation.py
    incomplete INTEGER NOT NULL,
    marks BLOB NOT NULL  -- of constant length, or an interrupted write could mix two of them
);
INSERT INTO generation VALUES (0, X'{(PREFIX + NONE + NONE).hex()}');
"""
READ = """
SELECT incomplete, marks, (SELECT rootpage FROM sqlite_master WHERE name = 'generation')
FROM generation
"""
WRITE = "UPDATE generation SET incomplete = ?, marks = ?"
COMPLETE = "UPDATE generation SET incomplete = 0"
CHECKPOINT = "PRAGMA wal_checkpoint"


class Stage(Enum):
    """What the journal's row says, and where it is."""

    COMPLETE = "the log says complete, the main file incomplete"
    INCOMPLETE = "the log says incomplete: a checkpoint is due"
    MOVED = "the main file has all, with its new mark"


class Checkpoints:
    """Moves the log of an open journal into its main file, from time to time."""

    def __init__(self, db: sqlite3.Connection, path: str) -> None:
        self._db = db
        self._log: BinaryIO | None = None
        with suppress(FileNotFoundError):  # A journal in memory has no log.
            self._log = open(log_of(path), "rb", buffering=0)  # noqa: SIM115
        self._stage = self._next = Stage.COMPLETE
        self._mark = self._next_mark = NONE
        self._salt, self._bound = b"", 0

    def begin(self) -> None:
        """Move what an earlier process left in the log, and have the main file say incomplete."""
        db = self._db
        db.execute("PRAGMA wal_autocheckpoint = 0")
        is_moved = self._move()
        incomplete, marks, _ = db.execute(READ).fetchone()
        self._mark = self._next_mark = marks[-SIZE:]
        if not is_moved:
            self._stage = Stage.INCOMPLETE if incomplete else Stage.COMPLETE
            self._look()
            return
        for _ in range(2):
            self._next = self._write(due=True)
            self.committed()

    def change(self) -> None:
        """Write the row in the present transaction, if it has to change."""
        self._next_mark = self._mark
        self._next = self._write(due=self._stage is Stage.COMPLETE and self._is_long())

    def committed(self) -> None:
        """The transaction is in the log; move the log if it is time."""
        if self._stage is Stage.MOVED:  # A generation has begun, with this commit or before.
            self._look()
        self._stage, self._mark = self._next, self._next_mark
        if self._stage is Stage.INCOMPLETE:
            with suppress(sqlite3.Error):  # The next commit tries again.
                if self._move():
                    self._stage = Stage.MOVED

    def end(self) -> None:
        """Have the last checkpoint, when the connection is closed, leave a complete main file."""
        if self._stage is not Stage.COMPLETE:
            with suppress(sqlite3.Error):  # The next start finds all in the log.
                self._db.execute(COMPLETE)
        self.close()

    def close(self) -> None:
        if self._log is not None:
            self._log.close()

    def _write(self, *, due: bool) -> Stage:
        """Write the row of the next stage; the stage after the commit."""
        if self._stage is Stage.MOVED:
            self._db.execute(WRITE, (0, PREFIX + self._mark + self._mark))
            return Stage.COMPLETE
        if self._stage is Stage.COMPLETE and due:
            self._next_mark = os.urandom(SIZE)
            self._db.execute(WRITE, (1, PREFIX + self._mark + self._next_mark))
            return Stage.INCOMPLETE
        return self._stage

    def _move(self) -> bool:
        """Move all changes into the main file; True if that succeeded."""
        busy, pages, moved = self._db.execute(CHECKPOINT).fetchone()
        return not busy and pages == moved

    def _look(self) -> None:
        """Note where the log is long in its present generation, and by which salt that shows."""
        header = read_header(self._log) if self._log is not None else None
        if header is not None:
            self._salt = header.salt
            frame_bytes = FRAME_HEADER.size + header.page_bytes
            self._bound = HEADER.size + LOG_PAGES * frame_bytes + SALT_AT

    def _is_long(self) -> bool:
        """True if the log has a frame of the present generation at the place of the bound."""
        if self._log is None:
            return False
        return os.pread(self._log.fileno(), SIZE, self._bound) == self._salt


def make_complete(db: sqlite3.Connection) -> None:
    """Note in a copy of a journal that it is complete, and that no log belongs to it."""
    db.execute(WRITE, (0, PREFIX + NONE + os.urandom(SIZE)))


class Cut(Enum):
    """What is wrong with the log of a journal."""

    MISSING = "missing"
    LOST = "without its content"
    FOREIGN = "of another state"
    BROKEN = "damaged before transactions that are whole"


def find_cut(db: sqlite3.Connection, path: str, *, is_synced: bool = False) -> Cut | None:
    """What is wrong with the log of a journal that no master has open; None if nothing is seen.

    Args:
        db: the main file alone, without its log.
        is_synced: each transaction was on the disk before the next one began. If not, a loss of
            power may leave a log that is `BROKEN`.
    """
    log = log_of(path)
    # The log first: a master that is just ending closes the main file before it deletes the log.
    is_empty = not log.exists() or log.stat().st_size < HEADER.size
    try:
        row = db.execute(READ).fetchone()
        (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
    except sqlite3.Error:  # An older version, or a crash in the midst of a checkpoint.
        row = None
    is_incomplete = row is not None and is_readable(*row[:2]) and bool(row[0])
    if is_empty:
        return Cut.MISSING if is_incomplete else None
    try:
        # Opening the journal refuses a row that cannot be read.
        if row is not None and is_readable(*row[:2]):
            cut = _find_cut_by_marks(log, row, page_bytes, is_synced)
            if cut is not None:
                return cut
        return Cut.BROKEN if unread_frames(log) else None
    except FileNotFoundError:  # A master has just ended.
        return Cut.MISSING if is_incomplete else None


def _find_cut_by_marks(
    log: Path, row: tuple[int, bytes, int], page_bytes: int, is_synced: bool
) -> Cut | None:
    """What is wrong with a log by the marks in it and that of the main file."""
    incomplete, marks, page = row
    mark = marks[-SIZE:]
    found = list(_marks_in(log, page))
    if not found and incomplete and _has_lost_content(log, page_bytes, mark, is_synced):
        return Cut.LOST
    if found and not any(mark in (each[-SIZE:], each[-2 * SIZE : -SIZE]) for each in found):
        return Cut.FOREIGN
    return None


def is_readable(incomplete: object, marks: object) -> bool:
    """True for a row as masters write it."""
    if incomplete not in (0, 1):
        return False
    return isinstance(marks, bytes) and len(marks) == MARKS_BYTES and marks.startswith(PREFIX)


def _marks_in(log: Path, page: int) -> Iterator[bytes]:
    """All marks in the present generation of a log; `page` is that of the row.

    Some may be of commits that failed. They have the right mark before.
    """
    with log.open("rb", buffering=0) as file:
        header = read_header(file)
        if header is None or not header.is_whole:
            return
        for frame in frames(file, header):
            if frame.salt != header.salt:
                return
            if frame.page != page:
                continue
            content = os.pread(file.fileno(), header.page_bytes, frame.at)
            if len(content) < header.page_bytes:
                return
            start = content.rfind(PREFIX)
            # The power may have ended in the midst of writing the frame.
            if start >= 0 and frame.is_whole(content, header.order):
                yield content[start : start + MARKS_BYTES]


def _has_lost_content(log: Path, page_bytes: int, mark: bytes, is_synced: bool) -> bool:
    """True if there were changes in a log in which SQLite finds none.

    After a checkpoint, the log begins anew: its header is written and synced, then frames over
    those of before, the last of which has the mark of the main file. So if the power ends before
    the first transaction is on the disk, the mark is still there, and no other transaction is.
    """
    with log.open("rb", buffering=0) as file:
        header = read_header(file)
        if header is None:
            return True
        if has_transaction(file, header):
            return False
        has_mark = ends_transaction = False
        for frame in frames(file, header._replace(page_bytes=page_bytes)):
            content = os.pread(file.fileno(), page_bytes, frame.at)
            if not header.is_whole and PREFIX + mark in content:
                return True  # It was written after the header.
            is_present = frame.salt == header.salt and len(content) == page_bytes
            # Frames of a transaction that failed may follow another one, but not fit to it.
            is_later = is_synced and is_present and ends_transaction
            if is_later and frame.is_whole(content, header.order):
                return True
            ends_transaction = is_present and frame.pages > 0
            has_mark = has_mark or mark in content
        return not has_mark
