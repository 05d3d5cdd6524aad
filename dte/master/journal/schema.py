"""The file of a journal: its schema, its migrations, and how it is opened."""

from __future__ import annotations

import logging
import sqlite3
import sys
from collections.abc import Iterable
from contextlib import closing, suppress
from enum import Enum
from pathlib import Path

from dte.master.journal import catalogue, generation
from dte.master.journal.generation import Cut, find_cut
from dte.master.journal.permissions import (
    close_to_others,
    create_private,
    written_by_all,
    written_by_others,
)
from dte.master.journal.wal import log_of, unread_frames

log = logging.getLogger("dte.master")

APPLICATION_ID = 0x64746531
"""The mark of a journal among SQLite files: "dte1"."""
SCHEMA_VERSION = 5
CALLS_SCHEMA = """
CREATE TABLE plan (  -- of jobs that are more than formulas, waiting and ended
    number INTEGER PRIMARY KEY,
    text TEXT NOT NULL
);
CREATE TABLE call (  -- of jobs waiting and ended: calls that were handed out, or have ended
    job INTEGER NOT NULL,
    name TEXT NOT NULL,
    state TEXT,                 -- how it ended; NULL if it has not
    attempts INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    lease INTEGER NOT NULL,     -- of the worker that has it; 0 for none
    lease_s REAL NOT NULL,
    worker TEXT NOT NULL,
    started_at REAL,
    ended_at REAL,
    resumes_at REAL,
    value TEXT,                 -- JSON; a BLOB if it is not UTF-8
    error TEXT,
    PRIMARY KEY (job, name)
) WITHOUT ROWID;
CREATE TABLE notice (  -- webhooks of ended jobs that nobody has taken yet
    number INTEGER PRIMARY KEY,
    url TEXT NOT NULL,
    since REAL NOT NULL  -- by ran_s
);
CREATE TRIGGER ended_deleted AFTER DELETE ON ended BEGIN
    DELETE FROM plan WHERE number = OLD.number;
    DELETE FROM call WHERE job = OLD.number;
    DELETE FROM notice WHERE number = OLD.number;
END;
"""
SCHEMA = f"""  -- of version 2; a new file has the later migrations too
CREATE TABLE master (
    boot INTEGER NOT NULL,     -- the number of the last start with this file
    last_job INTEGER NOT NULL  -- the highest number of a job that has been deleted
);
INSERT INTO master VALUES (0, 0);
CREATE TABLE waiting (
    number INTEGER PRIMARY KEY,
    submitted_at REAL NOT NULL,  -- this and the other times: seconds since 1970
    operations INTEGER NOT NULL,
    task TEXT NOT NULL,
    formula TEXT,                -- the whole formula, where task is only its beginning
    cancelled_at REAL            -- when its cancelling began
);
CREATE TABLE ended (
    sequence INTEGER PRIMARY KEY,  -- in the order of the ends
    number INTEGER NOT NULL UNIQUE,
    submitted_at REAL NOT NULL,
    started_at REAL,
    ended_at REAL NOT NULL,
    operations INTEGER NOT NULL,
    operations_done INTEGER NOT NULL,
    answer TEXT,                   -- as Python writes it: integers may be of any size
    error TEXT,
    task TEXT NOT NULL,
    state TEXT,                    -- NULL for arithmetic that succeeded or failed
    answer_json TEXT               -- an answer of calls; a BLOB if it is not UTF-8
);
CREATE TABLE worker (  -- that do not announce themselves again
    address TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    slots INTEGER NOT NULL,
    batch_max INTEGER NOT NULL,
    announced_at REAL NOT NULL,  -- by ran_s
    said TEXT  -- the announcement as JSON; NULL before version 2
);
CREATE TABLE submission (
    sequence INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    digest TEXT NOT NULL,
    first INTEGER NOT NULL,  -- its jobs are numbered from this
    count INTEGER NOT NULL,
    submitted_at REAL NOT NULL
);
{CALLS_SCHEMA}"""
MIGRATIONS = {
    1: f"""
ALTER TABLE waiting ADD COLUMN cancelled_at REAL;
ALTER TABLE ended ADD COLUMN state TEXT;
ALTER TABLE ended ADD COLUMN answer_json TEXT;
ALTER TABLE worker ADD COLUMN said TEXT;
{CALLS_SCHEMA}""",
    2: f"""
ALTER TABLE call ADD COLUMN dialect TEXT;  -- of its worker; NULL before version 3
ALTER TABLE call ADD COLUMN trace TEXT;    -- the stack trace of its error
ALTER TABLE ended ADD COLUMN trace TEXT;
-- Rows age by the time for which masters have run, as the wall clock may be set.
ALTER TABLE master ADD COLUMN ran_s REAL NOT NULL DEFAULT 0;
ALTER TABLE ended ADD COLUMN recorded_s REAL;       -- by ran_s; NULL before version 3
ALTER TABLE submission ADD COLUMN recorded_s REAL;  -- by ran_s; NULL before version 3
CREATE TABLE retry (  -- of jobs that repeat the failed part of another
    number INTEGER PRIMARY KEY,
    retry_of INTEGER NOT NULL
);
INSERT INTO retry
SELECT number, json_extract(text, '$.retry_of') FROM plan
WHERE CASE WHEN instr(text, '"retry_of":') AND json_valid(text)
           THEN json_type(text, '$.retry_of') = 'integer' END;
CREATE TRIGGER retry_deleted AFTER DELETE ON ended BEGIN
    DELETE FROM retry WHERE number = OLD.number;
END;
CREATE TABLE replaced (  -- built-in handlers that workers have replaced by their own
    handler TEXT PRIMARY KEY,
    policy TEXT NOT NULL  -- of the built-in one, as JSON
);
UPDATE notice SET since = 0;
UPDATE worker SET announced_at = 0;
{generation.SCHEMA}""",
    3: """
ALTER TABLE waiting ADD COLUMN owner TEXT;     -- NULL for the machine's own user
ALTER TABLE ended ADD COLUMN owner TEXT;       -- as in waiting
ALTER TABLE submission ADD COLUMN owner TEXT;  -- as in waiting
""",
    4: """
ALTER TABLE call ADD COLUMN session TEXT;  -- the SHA-256 of its worker's; NULL for none
""",
}
"""Statements that bring a journal of an older version, by that version, to the next one."""
WAL_BYTES_KEPT = 16_000_000
"""A longer write-ahead log is cut back to this size."""
IN_MEMORY = ":memory:"
MARKS = (generation.PREFIX, b"CREATE TABLE waiting (")
MARKS_WITHIN = 4_000_000
"""A journal has its marks among so many of its first bytes."""
OF_ROW = ("SQLITE_TOOBIG", "SQLITE_MISMATCH", "SQLITE_CONSTRAINT", "SQLITE_RANGE")
"""Errors that belong to a row, and not to the file."""
COPIES = "`dte backup` copies the journal of a running master whole"
OLDER_OR_NEWER = "use the dte that wrote it"
"""The advice for a journal of an unknown version."""
BUSY_TIMEOUT_S = 2.0
"""Longest wait for another process that has the file: perhaps a master that is ending."""


class JournalRefused(Exception):
    """The file cannot be used as a journal; the text says why, and what would be right."""

    def __init__(self, reason: str, advice: str = "give another --journal") -> None:
        super().__init__(f"{reason}; {advice}")


class JournalFailed(Exception):
    """The journal could not be written or read now; nothing was written.

    Attributes:
        full: the disk is full.
        damaged: a page or a row of the file is damaged.
        of_row: the file is well, but what was to be written cannot be.
    """

    def __init__(
        self, reason: str, full: bool, *, damaged: bool = False, of_row: bool = False
    ) -> None:
        super().__init__(reason)
        self.full, self.damaged, self.of_row = full, damaged, of_row


class Sync(Enum):
    """The durability of a commit: `FULL` survives a loss of power, `NORMAL` a killed process."""

    FULL = "full"
    NORMAL = "normal"


def open_journal(path: str, sync: Sync, *, without_wal: bool = False) -> sqlite3.Connection:
    """Open a journal for this process alone, and migrate it if it has an older version.

    Args:
        without_wal: open it although the log that belongs to it is missing.

    Raises:
        JournalRefused: the file has another format or a newer version, or was cut from its log.
        sqlite3.Error: the file cannot be opened.
    """
    if not path:
        raise JournalRefused("the journal's file has no name")
    for reason, advice in written_by_others(path):
        raise JournalRefused(reason, advice)
    cut = _look_at(path, sync)
    # A master that is just ending changes both files; another look sees them at rest.
    if cut is not None and cut is _look_at(path, sync):
        _refuse_cut(path, cut, sync, without_wal)
    if path != IN_MEMORY:
        create_private(path)
    db = sqlite3.connect(
        path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
    )
    try:
        # One process has the file from open to close, without memory shared with others.
        db.execute("PRAGMA locking_mode = EXCLUSIVE")
        # No part of the file is trusted to be what dte has written.
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA cell_size_check = ON")
        if sys.version_info >= (3, 12):
            db.setconfig(sqlite3.SQLITE_DBCONFIG_DEFENSIVE, True)
        version = _version(db, path)
        _refuse_strangers(db, path, version)
        close_to_others(path)
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(f"PRAGMA synchronous = {sync.value.upper()}")
        db.execute(f"PRAGMA fullfsync = {int(sync is Sync.FULL)}")
        db.execute(f"PRAGMA journal_size_limit = {WAL_BYTES_KEPT}")
        db.execute("PRAGMA temp_store = MEMORY")
        # Some systems overwrite deleted rows, which takes as long as writing them.
        db.execute("PRAGMA secure_delete = OFF")
        if version != SCHEMA_VERSION:
            db.executescript(
                f"BEGIN; PRAGMA application_id = {APPLICATION_ID}; "
                f"PRAGMA user_version = {SCHEMA_VERSION}; {statements(version)} COMMIT"
            )
    except BaseException:
        db.close()
        raise
    return db


def close_as_it_is(db: sqlite3.Connection) -> None:
    """Close a journal, and leave both of its files as they are."""
    if sys.version_info >= (3, 12):
        db.setconfig(sqlite3.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE)
    else:
        db.interrupt()  # It holds until the next statement, and so for the last checkpoint.
    db.close()


def statements(version: int | None, to: int = SCHEMA_VERSION) -> str:
    """The statements that bring a journal of a version to another one; None for an empty file."""
    first = "" if version else SCHEMA
    return first + "".join(MIGRATIONS[each] for each in range(version or 2, to))


def _look_at(path: str, sync: Sync) -> Cut | None:
    """Refuse another program's file before it is opened: opening may change files beside it.

    Returns:
        What is wrong with the log beside it; None if nothing is seen.
    """
    if not Path(path).is_file():
        return None
    as_it_is = f"{Path(path).absolute().as_uri()}?immutable=1"
    with (
        suppress(sqlite3.Error),  # Opening it raises the error again.
        closing(sqlite3.connect(as_it_is, uri=True)) as db,
    ):
        _refuse_strangers(db, path, _version(db, path))
        return find_cut(db, path, is_synced=sync is Sync.FULL)
    return None


def open_to_all(file: str) -> JournalRefused:
    """The error for a file that every user may write."""
    return JournalRefused(*written_by_all(file))


def _refuse_strangers(db: sqlite3.Connection, path: str, version: int | None) -> None:
    """Refuse a journal with triggers, views, tables or indexes that dte has not made."""
    if version is None:
        return
    found = strangers_in(db.execute(catalogue.READ), version)
    if found:
        raise of_strangers(path, found)


def of_strangers(path: str, found: Iterable[str]) -> JournalRefused:
    """The error for a journal with entries that dte has not made."""
    return JournalRefused(
        f"{path} has what no dte has put there: {', '.join(found)}",
        f"if that is yours, drop it with sqlite3; to have all jobs in a new file without it: "
        f"dte journal salvage {path}",
    )


def strangers_in(entries: Iterable[catalogue.Entry], version: int) -> list[str]:
    """Describe what a journal of some version has, and dte does not make."""
    # Tables of the first version had fewer columns.
    return catalogue.strangers(entries, statements(None, max(version, 2)), by_text=version > 1)


def of_foreign_log(path: str) -> JournalRefused:
    """The error for a journal beside the log of another state."""
    log_path = log_of(path)
    return JournalRefused(
        f"{log_path} belongs to another state of {path}, which it would damage",
        f"if {path} is a copy that `dte backup` made, move {log_path} away; if both files were "
        f"copied while a master was running, take another copy: {COPIES}",
    )


def _refuse_cut(path: str, cut: Cut, sync: Sync, without_wal: bool) -> None:
    """Refuse a journal with a log of another state, or without its log unless that is allowed."""
    log_path = log_of(path)
    if cut is Cut.FOREIGN:
        raise of_foreign_log(path)
    if cut is Cut.BROKEN:
        _refuse_broken_log(path, is_allowed=without_wal or sync is not Sync.FULL)
        return
    if without_wal:
        log.warning("%s is used without %s; the changes in that file are lost", path, log_path)
        return
    if cut is Cut.LOST:
        raise JournalRefused(
            f"{log_path} is damaged from its beginning, so the latest changes of {path} are lost",
            f"use another copy: {COPIES}. To save what can be read in a new file: dte journal "
            f"salvage {path}. To go on without those changes: --journal-without-wal",
        )
    raise JournalRefused(
        f"{path} was cut from {log_path}, which has its latest changes",
        f"a journal that a master has not closed is two files, so put {log_path} beside it, or use "
        f"another copy: {COPIES}. To go on without those changes: --journal-without-wal",
    )


def _refuse_broken_log(path: str, *, is_allowed: bool) -> None:
    """Refuse a journal whose log is damaged before whole transactions, unless that is allowed."""
    log_path = log_of(path)
    unread = unread_frames(log_path)
    if unread is None:
        return
    damaged, first, last = unread
    if is_allowed:
        log.warning(
            "frame %s of %s is damaged or was never written; "
            "the changes in frames %s to %s are lost",
            damaged,
            log_path,
            first,
            last,
        )
        return
    raise JournalRefused(
        f"frame {damaged} of {log_path} is damaged, so SQLite would not read the changes in frames "
        f"{first} to {last}",
        f"to save them in a new file: dte journal salvage {path}. To go on without them: "
        f"--journal-without-wal. If the master ran with --journal-sync normal, a loss of power may "
        f"have done this",
    )


def _version(db: sqlite3.Connection, path: str) -> int | None:
    """The version of a journal; None for an empty database."""
    (application,) = db.execute("PRAGMA application_id").fetchone()
    (version,) = db.execute("PRAGMA user_version").fetchone()
    (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if not tables and not application:
        return None
    if application != APPLICATION_ID:
        raise JournalRefused(f"{path} is not a journal of dte but another SQLite database")
    if version != SCHEMA_VERSION and version not in MIGRATIONS:
        advice = f"{OLDER_OR_NEWER}, or give another --journal"
        raise JournalRefused(of_other_version(path, version), advice)
    return int(version)


def of_other_version(path: str, version: int) -> str:
    """The reason why a journal of an unknown version is refused."""
    return f"{path} is a journal of version {version}; this dte knows version {SCHEMA_VERSION}"


def refusal(path: str, error: sqlite3.Error) -> JournalRefused:
    """The error for a file that cannot be opened."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith("SQLITE_BUSY"):
        return JournalRefused(f"{path} is in use: another master has it open")
    if name.startswith("SQLITE_CORRUPT") or (name == "SQLITE_NOTADB" and _was_journal(path)):
        return damaged(path, _reason(error))
    if name == "SQLITE_NOTADB":
        return JournalRefused(f"{path} is not a journal of dte, nor any SQLite database")
    if name.startswith("SQLITE_CANTOPEN"):
        return JournalRefused(
            f"{path} cannot be opened; its folder must exist, "
            "and this user must be able to write there"
        )
    return JournalRefused(f"{path} cannot be used: {_reason(error)}")


def damaged(path: str, reason: str) -> JournalRefused:
    """The error for a journal with damaged pages."""
    save = f"to save what can be read in a new file: dte journal salvage {path}; or give another"
    return JournalRefused(f"{path} cannot be used: it is damaged, {reason}", f"{save} --journal")


def _was_journal(path: str) -> bool:
    """True for a file that has the marks of a journal, although its first page is damaged."""
    with suppress(OSError), open(path, "rb") as file:
        content = file.read(MARKS_WITHIN)
        return any(mark in content for mark in MARKS)
    return False


def failure(path: str, error: sqlite3.Error) -> JournalFailed:
    """The error for an open journal."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return unreadable(path, _reason(error))
    of_row = name.startswith(OF_ROW)
    return JournalFailed(_reason(error), name == "SQLITE_FULL", of_row=of_row)


def unreadable(path: str, reason: str) -> JournalFailed:
    """The error for a damaged page or row of an open journal."""
    advice = f"end the master, and save what can be read: dte journal salvage {path}"
    return JournalFailed(f"it is damaged: {reason}; {advice}", full=False, damaged=True)


def _reason(error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", "")
    return f"{error} ({name})" if name else str(error)
