"""Copies an open journal while it is written, for a backup.

The connection that has the journal copies it, some pages at a time. SQLite writes what a commit
changes in between into the copy as well, so the copy is the journal of the moment of its end.
"""

from __future__ import annotations

import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from dte.core.errors import StorageFull
from dte.master.journal.generation import make_complete

PAGES_A_STEP = 64
"""Commits wait for a step, which takes about half a millisecond."""
RESERVE_BYTES = 32_000_000
"""Room that a copy leaves on the journal's disk: without any, the master accepts no job."""
BOOTS_SKIPPED, BOOTS_MORE = 100, 400
"""The next start with a copy has a number that is this much higher, and up to so much more. The
master that was copied may start again too, and no two leases may have the same number."""
COUNT_STARTS = "UPDATE master SET boot = boot + ?"
SUFFIXES = ("", "-wal", "-shm", "-journal")


def copy_journal(db: sqlite3.Connection, path: str, between: Callable[[], None]) -> BinaryIO:
    """Copy a journal, and return the copy, an open file without a name.

    Args:
        db: the connection that has the journal.
        between: called after each step of the copy, which it ends by an exception.

    Raises:
        StorageFull: there is too little room beside the journal.
        sqlite3.Error: the journal cannot be read, or the copy cannot be written.
    """
    place = _place_of(path)

    def step(_status: int, _left: int, _all: int) -> None:
        _ensure_room(place.parent, 0)
        between()

    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (page_bytes,) = db.execute("PRAGMA page_size").fetchone()
    _ensure_room(place.parent, pages * page_bytes)
    remove_copy(path)
    try:
        os.close(os.open(place, os.O_CREAT | os.O_EXCL, 0o600))
        with closing(sqlite3.connect(place, isolation_level=None)) as copy:
            # Nothing of an interrupted copy is used, so it needs neither.
            copy.execute("PRAGMA synchronous = OFF")
            copy.execute("PRAGMA journal_mode = OFF")
            db.backup(copy, pages=PAGES_A_STEP, progress=step, sleep=0)
            # One file, for those who restore it with other tools.
            copy.execute("PRAGMA journal_mode = OFF")
            copy.execute(COUNT_STARTS, (BOOTS_SKIPPED + secrets.randbelow(BOOTS_MORE),))
            make_complete(copy)
        return open(place, "rb", buffering=0)
    finally:
        remove_copy(path)


def remove_copy(path: str) -> None:
    """Remove what a copy of this journal has left, whose process was killed."""
    for suffix in SUFFIXES:
        Path(f"{_place_of(path)}{suffix}").unlink(missing_ok=True)


def _place_of(path: str) -> Path:
    """The file for a copy while it is made, on the same disk as the journal."""
    return Path(f"{path}-copying")


def _ensure_room(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size + RESERVE_BYTES:
        raise StorageFull(
            f"there is no room for a copy beside the journal: {free // 10**6} MB are free there, "
            f"and the copy needs {(size + RESERVE_BYTES) // 10**6} MB for a while",
            60,
        )
