"""The journal: facts in a SQLite file, so that a restart knows them.

A job is in one of two tables: in `waiting` with its whole formula until its end is recorded, then
in `ended`. Its operations are not recorded: arithmetic gives the same again.

Everything here blocks, and is made to be called from one thread at a time. A group of facts is
written by a few statements that take all rows as one JSON text: SQLite does its work without
holding Python's lock, so a loop beside it goes on.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from dte.core.availability import Announcement
from dte.core.facts import End, Facts, KnownSubmission, Submission
from dte.core.job import TASK_CHARS_KEPT, Job, JobState
from dte.core.operations import Number
from dte.master.journal_file import JournalFailed, Sync, failure, open_journal, refusal
from dte.wire.codec import encode

ENDED = (
    "number, submitted_at, started_at, ended_at, operations, operations_done, answer, error, task"
)
INSERT_WAITING = """
INSERT INTO waiting (number, submitted_at, operations, task)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
       json_extract(value, '$[3]')
FROM json_each(?)
"""
MOVE_ENDED = f"""
INSERT INTO ended ({ENDED})
SELECT waiting.number, waiting.submitted_at, json_extract(value, '$[1]'),
       json_extract(value, '$[2]'), json_extract(value, '$[3]'), json_extract(value, '$[4]'),
       json_extract(value, '$[5]'), json_extract(value, '$[6]'), waiting.task
FROM json_each(?) CROSS JOIN waiting ON waiting.number = json_extract(value, '$[0]')
"""
DELETE_WAITING = """
DELETE FROM waiting WHERE number IN (SELECT json_extract(value, '$[0]') FROM json_each(?))
"""
NUL = "\0"
REPLACE_ERROR = "UPDATE ended SET error = ? WHERE number = ?"
DELETE_ENDED = """
DELETE FROM ended WHERE sequence IN (
    SELECT sequence FROM (SELECT sequence, ended_at FROM ended ORDER BY sequence LIMIT :rows)
    WHERE sequence <= :sequence OR ended_at < :moment)
"""
DELETE_SUBMISSIONS = """
DELETE FROM submission WHERE sequence IN (
    SELECT sequence FROM (SELECT * FROM submission ORDER BY sequence LIMIT :rows)
    WHERE (sequence <= :sequence OR submitted_at < :moment) AND NOT EXISTS (
        SELECT 1 FROM waiting WHERE number BETWEEN first AND first + count - 1))
"""
PRUNE_S = 1.0
"""How often old rows are looked for, unless many are added."""
PRUNED_AT_LEAST = 1_000
"""How many old rows may be deleted in a commit, besides two for each that was added."""
PROBE_BYTES = 262_144
TEXTS_CHARS = 1_000_000
"""About how many characters of formulas are read at a time."""
ROWS_BYTES = 500_000
"""About how long a JSON text of rows is: making a longer one would stop the loop for too long."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How many ended jobs are kept, and how long."""

    jobs_max: int = 1_000_000
    age_max_s: float = 7 * 86_400.0


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a journal knows at the start.

    Attributes:
        last: the highest number that a job has had.
        waiting: the jobs that have not ended, without graphs.
        ended: the last that have ended, in that order.
        workers: those that do not announce themselves again.
    """

    last: int
    waiting: list[Job]
    ended: list[Job]
    workers: list[Announcement]


class Journal:
    """An open journal; there is one master to a file.

    Args:
        path: of the file, which is made if there is none; ``:memory:`` for none at all.
        wall_offset_s: what turns moments of the core's clock into seconds since 1970.

    Attributes:
        boot: how often a master has been started with this file, this time included.

    Raises:
        JournalRefused: the file is in use, or is no journal of this version, or cannot be opened.
    """

    def __init__(
        self,
        path: str,
        wall_offset_s: float = 0.0,
        sync: Sync = Sync.FULL,
        retention: Retention | None = None,
    ) -> None:
        self._path = path
        self._offset_s = wall_offset_s
        self._retention = retention or Retention()
        try:
            self._db = open_journal(path, sync)
        except sqlite3.Error as error:
            raise refusal(path, error) from None
        try:
            self.boot = self._begin()
            self._last_job = self._last_before = self._find_last_job()
        except sqlite3.Error as error:
            self._db.close()
            raise refusal(path, error) from None
        self._identity = _identity(path)
        self._added = 0
        self._pruned_s = float("-inf")

    def _begin(self) -> int:
        """Count this start."""
        self._db.execute("UPDATE master SET boot = boot + 1")
        (boot,) = self._db.execute("SELECT boot FROM master").fetchone()
        return int(boot)

    def _find_last_job(self) -> int:
        queries = (
            "SELECT last_job FROM master",
            "SELECT max(number) FROM waiting",
            "SELECT max(number) FROM ended",
        )
        return max(self._db.execute(query).fetchone()[0] or 0 for query in queries)

    def close(self) -> None:
        """Close the file. What has been written stays, whether this is called or not."""
        self._db.close()

    # Writing

    def write(self, facts: Facts, wall_s: float) -> dict[Submission, KnownSubmission]:
        """Write facts, all of them or none, and delete some of what is too old.

        Args:
            wall_s: now, in seconds since 1970.

        Returns:
            Those of the submissions whose keys are known from before, with what is known of them;
            they are not written.

        Raises:
            JournalFailed: nothing has been written.
        """
        ends = facts.all_ends()
        self._ensure_there()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            known = self._insert_keys(facts.submissions)
            new = [submission for submission in facts.submissions if submission not in known]
            self._insert_waiting(new)
            self._move_ended(ends)
            last_job = max([self._last_job, *(submission.jobs[-1].number for submission in new)])
            added = self._added + len(ends) + len(new)
            # Not each time: a look costs as much as what it is added to.
            due = added >= PRUNED_AT_LEAST or abs(wall_s - self._pruned_s) >= PRUNE_S
            if due:
                self._prune(wall_s, PRUNED_AT_LEAST + 2 * added, last_job)
            self._db.execute("COMMIT")
        except BaseException as error:
            self._roll_back()
            if isinstance(error, sqlite3.Error):
                raise failure(error) from None
            raise
        self._added, self._pruned_s = (0, wall_s) if due else (added, self._pruned_s)
        self._last_job = last_job
        return known

    def probe(self) -> None:
        """Write something, to see whether that works.

        Raises:
            JournalFailed: it does not.
        """
        self._ensure_there()
        try:
            # As much as a small submission may take: less might fit where that does not.
            self._db.execute("DROP TABLE IF EXISTS probe")
            self._db.execute(f"CREATE TABLE probe AS SELECT zeroblob({PROBE_BYTES})")
            self._db.execute("DROP TABLE probe")
        except sqlite3.Error as error:
            self._roll_back()
            raise failure(error) from None

    def remember(self, said: Announcement, wall_s: float) -> None:
        """Note a worker that will not announce itself again, or forget it if it leaves.

        Raises:
            JournalFailed: that could not be written.
        """
        values = (said.address, said.name, said.slots, said.batch_max, wall_s)
        try:
            if said.draining:
                self._db.execute("DELETE FROM worker WHERE address = ?", (said.address,))
            else:
                self._db.execute("INSERT OR REPLACE INTO worker VALUES (?, ?, ?, ?, ?)", values)
        except sqlite3.Error as error:
            self._roll_back()
            raise failure(error) from None

    def _ensure_there(self) -> None:
        """Check that the file has not been deleted or exchanged: nobody would find what is written.

        Raises:
            JournalFailed: it has been.
        """
        if _identity(self._path) != self._identity:
            reason = f"{self._path} is not the file any more that was opened; put that back"
            raise JournalFailed(reason, full=False)

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            with suppress(sqlite3.Error):  # SQLite may have done so by itself.
                self._db.execute("ROLLBACK")

    def _insert_keys(self, submissions: Iterable[Submission]) -> dict[Submission, KnownSubmission]:
        known = {}
        for submission in submissions:
            if not submission.key:
                continue
            row = self._db.execute(
                "SELECT digest, first, count FROM submission WHERE key = ?", (submission.key,)
            ).fetchone()
            if row is not None:
                known[submission] = KnownSubmission(*row)
                continue
            jobs = submission.jobs
            values = (submission.key, submission.digest, jobs[0].number, len(jobs))
            self._db.execute(
                "INSERT INTO submission (key, digest, first, count, submitted_at) "
                "VALUES (?, ?, ?, ?, ?)",
                (*values, jobs[0].submitted_at + self._offset_s),
            )
        return known

    def _insert_waiting(self, submissions: Iterable[Submission]) -> None:
        rows = []
        for submission in submissions:
            for job, text in zip(submission.jobs, submission.texts, strict=True):
                row = (job.number, job.submitted_at + self._offset_s, job.operations, job.task)
                if len(text) > TASK_CHARS_KEPT:
                    self._db.execute("INSERT INTO waiting VALUES (?, ?, ?, ?, ?)", (*row, text))
                else:
                    rows.append(row)
        for text in _as_json(rows):
            self._db.execute(INSERT_WAITING, (text,))

    def _move_ended(self, ends: Iterable[End]) -> None:
        for text in _as_json(map(self._end_row, ends)):
            self._db.execute(MOVE_ENDED, (text,))
            self._db.execute(DELETE_WAITING, (text,))
        for end in ends:
            if end.error is not None and NUL in end.error:  # Older SQLites read JSON up to there.
                self._db.execute(REPLACE_ERROR, (_writable(end.error), end.job.number))

    def _end_row(self, end: End) -> tuple[Any, ...]:
        job, offset_s = end.job, self._offset_s
        return (
            job.number,
            None if job.started_at is None else job.started_at + offset_s,
            end.at + offset_s,
            job.operations,
            job.operations_done,
            None if end.answer is None else repr(end.answer),
            None if end.error is None else _writable(end.error),
        )

    def _prune(self, wall_s: float, rows: int, last_job: int) -> None:
        """Delete up to so many of the jobs, and of the keys, that are too many or too old."""
        moment = wall_s - self._retention.age_max_s
        for table, column, statement in (
            ("ended", "ended_at", DELETE_ENDED),
            ("submission", "submitted_at", DELETE_SUBMISSIONS),
        ):
            first = self._db.execute(
                f"SELECT sequence, {column} FROM {table} ORDER BY sequence LIMIT 1"
            ).fetchone()
            if first is None:
                continue
            (last,) = self._db.execute(f"SELECT max(sequence) FROM {table}").fetchone()
            sequence = last - self._retention.jobs_max
            if first[0] <= sequence or first[1] < moment:
                self._db.execute(statement, {"rows": rows, "sequence": sequence, "moment": moment})
                self._db.execute("UPDATE master SET last_job = ?", (last_job,))

    # Reading

    def load(self, jobs_kept: int, bytes_kept: int, wall_s: float) -> Loaded:
        """What is to be known from the start.

        Args:
            jobs_kept: how many of the ended jobs to give.
            bytes_kept: about how many bytes of texts and answers they may have.
            wall_s: now, in seconds since 1970.

        Raises:
            JournalRefused: it cannot be read, or the worker table not be written.
        """
        try:
            return self._load(jobs_kept, bytes_kept, wall_s)
        except sqlite3.Error as error:
            raise refusal(self._path, error) from None

    def _load(self, jobs_kept: int, bytes_kept: int, wall_s: float) -> Loaded:
        waiting = [
            Job(number, task, at - self._offset_s, operations, None, JobState.WAITING)
            for number, at, operations, task in self._db.execute(
                "SELECT number, submitted_at, operations, task FROM waiting ORDER BY number"
            )
        ]
        ended: list[Job] = []
        for row in self._db.execute(
            f"SELECT {ENDED} FROM ended ORDER BY sequence DESC LIMIT ?", (jobs_kept,)
        ):
            bytes_kept -= len(row[-1]) + len(row[-3] or "") // 2
            if bytes_kept < 0:
                break
            ended.append(self._ended_job(row))
        ended.reverse()
        oldest = wall_s - self._retention.age_max_s
        self._db.execute("DELETE FROM worker WHERE announced_at < ?", (oldest,))
        workers = [
            Announcement(name, address, slots, batch_max)
            for address, name, slots, batch_max, _ in self._db.execute(
                "SELECT * FROM worker ORDER BY announced_at DESC"
            )
        ]
        return Loaded(self._last_job, waiting, ended, workers)

    def formulas(self, after: int) -> list[tuple[int, str]]:
        """Some of the jobs from before this start that have not ended, with their whole formulas.

        Args:
            after: they have higher numbers than this, and come in their order.

        Raises:
            JournalFailed: it cannot be read.
        """
        found: list[tuple[int, str]] = []
        chars = 0
        for number, task, formula in self._read(
            "SELECT number, task, formula FROM waiting WHERE number > ? AND number <= ? "
            "ORDER BY number",
            (after, self._last_before),
        ):
            found.append((number, task if formula is None else formula))
            chars += len(found[-1][1])
            if chars > TEXTS_CHARS:
                break
        return found

    def submission(self, key: str) -> KnownSubmission | None:
        """What is known of a submission by its key.

        Raises:
            JournalFailed: it cannot be read.
        """
        query = "SELECT digest, first, count FROM submission WHERE key = ?"
        rows = list(self._read(query, (key,)))
        return KnownSubmission(*rows[0]) if rows else None

    def ended(self, numbers: Sequence[int]) -> dict[int, Job]:
        """Those of the jobs that have ended, by number.

        Raises:
            JournalFailed: it cannot be read.
        """
        query = f"SELECT {ENDED} FROM ended WHERE number IN (SELECT value FROM json_each(?))"
        rows = self._read(query, (encode(numbers).decode(),))
        return {row[0]: self._ended_job(row) for row in rows}

    def _read(self, query: str, values: tuple[Any, ...]) -> Iterator[Any]:
        try:
            yield from self._db.execute(query, values)
        except sqlite3.Error as error:
            raise failure(error) from None

    def _ended_job(self, row: tuple[Any, ...]) -> Job:
        number, submitted_at, started_at, ended_at, operations, done, answer, error, task = row
        offset_s = self._offset_s
        return Job(
            number,
            task,
            submitted_at - offset_s,
            operations,
            None,
            JobState.SUCCEEDED if error is None else JobState.FAILED,
            None if started_at is None else started_at - offset_s,
            ended_at - offset_s,
            None if answer is None else _number(answer),
            error,
            done,
        )


def _as_json(rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
    """Rows as texts of some length."""
    parts: list[bytes] = []
    size = 0
    for row in rows:
        parts.append(encode(row))
        size += len(parts[-1])
        if size > ROWS_BYTES:
            yield f"[{b','.join(parts).decode()}]"
            parts.clear()
            size = 0
    if parts:
        yield f"[{b','.join(parts).decode()}]"


def _writable(text: str) -> str:
    """The text, with question marks for what is no character and can be written nowhere."""
    return text.encode(errors="replace").decode()


def _identity(path: str) -> tuple[int, int] | None:
    """What tells a file from others; None if there is none."""
    with suppress(OSError):
        found = os.stat(path)
        return found.st_dev, found.st_ino
    return None


def _number(text: str) -> Number:
    return int(text) if text.lstrip("-").isdigit() else float(text)
