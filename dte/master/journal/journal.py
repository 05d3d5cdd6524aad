"""The journal: facts in a SQLite file, so that a restart knows them.

A job is in one of two tables: in `waiting` with its whole formula until its end is recorded, then
in `ended` (`journal_jobs`). Its operations are not recorded: arithmetic gives the same again. Its
plan, if it has one, and what became of its calls are in tables of their own (`journal_calls`).

Everything here blocks, and is made to be called from one thread at a time. A group of facts is
written by a few statements that take all rows as one JSON text: SQLite does its work without
holding Python's lock, so a loop beside it goes on.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from dte.core.graph.call import CallRecord
from dte.core.jobs.facts import Facts, KnownSubmission, Submission
from dte.core.jobs.job import Job
from dte.core.workers.worker import Announcement
from dte.master.journal.calls import CallTables
from dte.master.journal.jobs import JobTables, is_more
from dte.master.journal.schema import JournalFailed, Sync, failure, open_journal, refusal
from dte.master.journal.workers import read_announcement, write_announcement

DELETE_ENDED = """
DELETE FROM ended WHERE sequence IN (
    SELECT sequence FROM (SELECT sequence, ended_at FROM ended ORDER BY sequence LIMIT :rows)
    WHERE sequence <= :sequence OR ended_at < :moment)
"""
DELETE_ENDED_WITH_CALLS = """
DELETE FROM ended WHERE sequence IN (
    SELECT sequence FROM (
        SELECT sequence, ended_at, sum(rows) OVER (ORDER BY sequence) - rows AS before FROM (
            SELECT sequence, ended_at, iif(state IS NULL, 1, 1 + operations) AS rows
            FROM ended ORDER BY sequence LIMIT :rows))
    WHERE before < :rows AND (sequence <= :sequence OR ended_at < :moment))
"""
DELETE_SUBMISSIONS = """
DELETE FROM submission WHERE sequence IN (
    SELECT sequence FROM (SELECT * FROM submission ORDER BY sequence LIMIT :rows)
    WHERE (sequence <= :sequence OR submitted_at < :moment) AND NOT EXISTS (
        SELECT 1 FROM waiting WHERE number BETWEEN first AND first + count - 1))
"""
SUBMISSION = "SELECT digest, first, count FROM submission WHERE key = ?"
PRUNE_S = 1.0
"""How often old rows are looked for, unless many are added."""
PRUNED_AT_LEAST = 1_000
"""How many old rows may be deleted in a commit, besides two for each that was added."""
PROBE_BYTES = 262_144


TEXTS_CHARS = 1_000_000
"""About how many characters of formulas are read at a time."""


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
        notices: see `Journal.notices`.
    """

    last: int
    waiting: list[Job]
    ended: list[Job]
    workers: list[Announcement]
    notices: list[tuple[int, str, float]]


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A job that has not ended, with all that it takes to begin it again.

    Attributes:
        text: its whole formula; of a job that has a plan what it is, for people.
        plan: its whole text where it is more than a formula.
        records: what is known of its calls.
    """

    number: int
    text: str
    plan: str | None
    records: list[CallRecord]


class Journal:
    """An open journal; there is one master to a file.

    Args:
        path: of the file, which is made if there is none; ``:memory:`` for none at all.
        wall_offset_s: what turns moments of the core's clock into seconds since 1970.
        first_boot: the number of the first start with a new file.

    Attributes:
        boot: the number of this start; each is one more than the last.

    Raises:
        JournalRefused: the file is in use, or is no journal of this version, or cannot be opened.
    """

    def __init__(
        self,
        path: str,
        wall_offset_s: float = 0.0,
        sync: Sync = Sync.FULL,
        retention: Retention | None = None,
        first_boot: int = 1,
    ) -> None:
        self._path = path
        self._offset_s = wall_offset_s
        self._retention = retention or Retention()
        try:
            self._db = open_journal(path, sync)
        except sqlite3.Error as error:
            raise refusal(path, error) from None
        try:
            self.boot = self._begin(first_boot)
            self._last_job = self._last_before = self._find_last_job()
        except sqlite3.Error as error:
            self._db.close()
            raise refusal(path, error) from None
        self._jobs = JobTables(self._db, wall_offset_s)
        self._calls = CallTables(self._db, wall_offset_s)
        self._identity = _identity(path)
        self._added = 0
        self._pruned_s = float("-inf")

    def _begin(self, first_boot: int) -> int:
        """Count this start."""
        self._db.execute(
            "UPDATE master SET boot = CASE boot WHEN 0 THEN ? ELSE boot + 1 END", (first_boot,)
        )
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
        self._ensure_there()
        try:
            self._db.execute("BEGIN IMMEDIATE")
            known = self._insert_keys(facts.submissions)
            new = [submission for submission in facts.submissions if submission not in known]
            ends = [end for submission in new for end in submission.ends] + facts.ends
            plans = self._jobs.accept(new)
            more = [end for end in ends if is_more(end)]
            if plans or facts.steps or facts.cancels or more:
                self._calls.write(plans, facts.steps, facts.cancels, more)
            self._jobs.end(ends, arithmetic=not more)
            last_job = max([self._last_job, *(submission.jobs[-1].number for submission in new)])
            added = self._added + len(ends) + len(new) + sum(end.job.operations for end in more)
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

    def remember(self, announcement: Announcement, wall_s: float) -> None:
        """Note a worker that will not announce itself again, or forget it if it leaves.

        Raises:
            JournalFailed: that could not be written.
        """
        text = write_announcement(announcement)
        values = (
            announcement.identity,
            announcement.name,
            announcement.slots,
            announcement.batch_max,
            wall_s,
            text,
        )
        try:
            if announcement.draining:
                self._db.execute("DELETE FROM worker WHERE address = ?", (announcement.identity,))
            else:
                self._db.execute("INSERT OR REPLACE INTO worker VALUES (?, ?, ?, ?, ?, ?)", values)
        except sqlite3.Error as error:
            self._roll_back()
            raise failure(error) from None

    def noticed(self, number: int) -> None:
        """Note that who was to be told of a job's end has been told, or never will be.

        Raises:
            JournalFailed: that could not be written.
        """
        try:
            self._calls.noticed(number)
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
            row = self._db.execute(SUBMISSION, (submission.key,)).fetchone()
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

    def _prune(self, wall_s: float, rows: int, last_job: int) -> None:
        """Delete up to so many of the jobs, and of the keys, that are too many or too old.

        A call counts as a job does, as it is deleted with its job; one job is deleted in any case.
        """
        moment = wall_s - self._retention.age_max_s
        (calls,) = self._db.execute("SELECT EXISTS (SELECT 1 FROM call)").fetchone()
        for table, column, statement in (
            ("ended", "ended_at", DELETE_ENDED_WITH_CALLS if calls else DELETE_ENDED),
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
        oldest = wall_s - self._retention.age_max_s
        self._db.execute("DELETE FROM worker WHERE announced_at < ?", (oldest,))
        workers = [
            read_announcement(text) if text else Announcement(name, address, slots, batch_max)
            for address, name, slots, batch_max, _, text in self._db.execute(
                "SELECT * FROM worker ORDER BY announced_at DESC"
            )
        ]
        ended = self._jobs.last_ended(jobs_kept, bytes_kept)
        waiting, notices = self._jobs.waiting(), self._calls.notices()
        return Loaded(self._last_job, waiting, ended, workers, notices)

    def unfinished(self, after: int) -> list[Unfinished]:
        """Some of the jobs from before this start that have not ended.

        Args:
            after: they have higher numbers than this, and come in their order.

        Raises:
            JournalFailed: it cannot be read.
        """
        with _reading():
            found: list[Unfinished] = []
            size = 0
            for number, text, plan, has_calls in self._jobs.unfinished(after, self._last_before):
                records = self._calls.records(number) if has_calls else []
                found.append(Unfinished(number, text, plan, records))
                size += len(text) + len(plan or "")
                size += sum(len(record.value or b"") for record in records)
                if size > TEXTS_CHARS:
                    break
            return found

    def plans(self, numbers: Iterable[int]) -> dict[int, tuple[str | None, list[CallRecord]]]:
        """What there is of jobs that are more than arithmetic, by number.

        Returns:
            The whole texts of plans, None for formulas with calls; and what is known of calls.

        Raises:
            JournalFailed: it cannot be read.
        """
        with _reading():
            return self._calls.plans(numbers)

    def notices(self) -> list[tuple[int, str, float]]:
        """Who is still to be told that jobs have ended.

        Returns:
            The number, the URL, and when it ended, on the core's clock; the oldest first.

        Raises:
            JournalFailed: it cannot be read.
        """
        with _reading():
            return self._calls.notices()

    def submission(self, key: str) -> KnownSubmission | None:
        """What is known of a submission by its key.

        Raises:
            JournalFailed: it cannot be read.
        """
        with _reading():
            row = self._db.execute(SUBMISSION, (key,)).fetchone()
        return KnownSubmission(*row) if row is not None else None

    def ended(self, numbers: Sequence[int]) -> dict[int, Job]:
        """Those of the jobs that have ended, by number.

        Raises:
            JournalFailed: it cannot be read.
        """
        with _reading():
            return self._jobs.ended(numbers)


@contextmanager
def _reading() -> Iterator[None]:
    """Turns what SQLite raises into what is raised here."""
    try:
        yield
    except sqlite3.Error as error:
        raise failure(error) from None


def _identity(path: str) -> tuple[int, int] | None:
    """What tells a file from others; None if there is none."""
    with suppress(OSError):
        found = os.stat(path)
        return found.st_dev, found.st_ino
    return None
