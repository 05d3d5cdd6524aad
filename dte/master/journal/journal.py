"""The journal: facts in a SQLite file, for the next start.

A job is in one of two tables: with its whole formula in `waiting` until its end is recorded, then
in `ended` (`JobTables`). Operations are not recorded: they can be computed again. Plans and the
records of calls have their own tables (`CallTables`).

All methods block. Call them from one thread at a time. If the file cannot be read or written, they
raise `JournalFailed`, and nothing was written. A group of facts is written by a few
statements that take all rows as one JSON text: SQLite works without Python's lock, so the loop
goes on meanwhile.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import BinaryIO

import msgspec

from dte.core.graph.call import CallRecord
from dte.core.graph.handlers import HandlerPolicy
from dte.core.jobs.facts import Facts, KnownSubmission, Submission
from dte.core.jobs.job import Job
from dte.core.jobs.refusals import together
from dte.core.workers.worker import Announcement
from dte.master.journal.bounds import check_rows
from dte.master.journal.calls import CallTables
from dte.master.journal.copying import copy_journal, remove_copy
from dte.master.journal.generation import Checkpoints
from dte.master.journal.jobs import JobTables, is_more
from dte.master.journal.keys import KeyTable
from dte.master.journal.retention import Ages, Pruning, Retention
from dte.master.journal.schema import (
    JournalFailed,
    Sync,
    close_as_it_is,
    damaged,
    failure,
    open_journal,
    refusal,
    unreadable,
)
from dte.master.journal.workers import WorkerTable

COUNT_START = "UPDATE master SET boot = CASE boot WHEN 0 THEN ? ELSE boot + 1 END"
LAST_JOBS = (
    "SELECT last_job FROM master",
    "SELECT max(number) FROM waiting",
    "SELECT max(number) FROM ended",
)
UNREADABLE = (ValueError, TypeError, msgspec.MsgspecError)
"""Raised for rows of a damaged page that SQLite does not notice."""
ROW_ERRORS = (OverflowError, UnicodeError, MemoryError)
"""Raised for a value that is too long, or that SQLite has no type for."""
PROBE_BYTES = 262_144
TEXTS_CHARS = 1_000_000
"""Characters of formulas that are read at a time, approximately."""


StoredWebhook = tuple[int, str, float, str]
"""A webhook: its job, its URL, the moment from which its age counts, and the job's owner."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The content of a journal that a master needs at its start.

    Attributes:
        last: the highest number of a job so far.
        waiting: the unfinished jobs, without graphs.
        ended: the jobs that ended last, in the order of their ends.
        workers: workers that do not announce themselves again.
        deliveries: as `Journal.deliveries`.
        replaced: the policies of built-in handlers that workers had replaced.
    """

    last: int
    waiting: list[Job]
    ended: list[Job]
    workers: list[Announcement]
    deliveries: list[StoredWebhook]
    replaced: dict[str, HandlerPolicy]


@dataclass(frozen=True, slots=True)
class Unfinished:
    """An unfinished job, with all that is needed to resume it.

    Attributes:
        text: the whole formula; if there is a plan, a description for people.
        plan: the text of the plan; None for a bare formula.
        records: the records of its calls.
    """

    number: int
    text: str
    plan: str | None
    records: list[CallRecord]


class Journal:
    """An open journal. A file has one master at a time.

    Args:
        path: the file, which is created if it does not exist; ``:memory:`` for no file.
        now: the moment at which it is opened, on the core's clock.
        first_boot: the number of the first start with a new file.
        without_wal: see `open_journal`.

    Attributes:
        boot: the number of this start, one more than that of the last start.
        damage: the damage that a write met, after which nothing more is written: SQLite would
            write over what could still be saved. None if no write has met any.

    Raises:
        JournalRefused: the file is in use, has another format or version, or cannot be opened.
    """

    def __init__(
        self,
        path: str,
        now: float = 0.0,
        sync: Sync = Sync.FULL,
        retention: Retention | None = None,
        first_boot: int = 1,
        without_wal: bool = False,
    ) -> None:
        self.path = path
        try:
            self._db = open_journal(path, sync, without_wal=without_wal)
        except sqlite3.Error as error:
            raise refusal(path, error) from None
        self._checkpoints = Checkpoints(self._db, path)
        try:
            check_rows(self._db)
            self._checkpoints.begin()
            self._db.execute(COUNT_START, (first_boot,))
            self.boot: int = self._db.execute("SELECT boot FROM master").fetchone()[0]
            self._last_job = self._last_before = max(
                self._db.execute(query).fetchone()[0] or 0 for query in LAST_JOBS
            )
            self._ages = Ages(self._db, now)
        except (sqlite3.Error, *UNREADABLE) as error:
            self._checkpoints.close()
            self._db.close()
            if isinstance(error, sqlite3.Error):
                raise refusal(path, error) from None
            raise damaged(path, str(error)) from None
        self._jobs = JobTables(self._db)
        self._calls = CallTables(self._db)
        self._workers = WorkerTable(self._db)
        retention = retention or Retention()
        self._keys = KeyTable(self._db, retention.jobs_max)
        self._pruning = Pruning(self._db, retention, self._ages)
        self._identity = _identity(path)
        self._failures = 0
        self.damage: JournalFailed | None = None
        with suppress(OSError):
            remove_copy(path)

    def close(self) -> None:
        """Close the file. Facts are safe whether this is called or not."""
        if self.damage is None:
            self._checkpoints.end()
            self._db.close()
        else:
            self._checkpoints.close()
            close_as_it_is(self._db)

    # Writing

    def write(self, facts: Facts, now: float) -> dict[Submission, KnownSubmission]:
        """Write facts, all of them or none, and delete some of the old ones.

        Args:
            now: the moment, on the core's clock.

        Returns:
            The submissions that repeat the key of an earlier one, with that one. They are not
            written.
        """
        self._ensure_there()
        ran_s = self._ages.ran_s(now)
        with self._writing():
            self._db.execute("BEGIN IMMEDIATE")
            known, new, added = self._insert(facts, ran_s)
            last_job = max([self._last_job, *(submission.jobs[-1].number for submission in new)])
            self._pruning.prune(added, now, last_job)
            self._checkpoints.change()
            self._db.execute("COMMIT")
            self._checkpoints.committed()
        self._last_job = last_job
        return known

    def _insert(
        self, facts: Facts, ran_s: float
    ) -> tuple[dict[Submission, KnownSubmission], list[Submission], int]:
        """Insert the rows of facts.

        Returns:
            The submissions that repeat an earlier one, with that one; the others; and the number of
            rows of ended jobs and of their calls.
        """
        known = self._keys.insert(facts.submissions, ran_s)
        new = [submission for submission in facts.submissions if submission not in known]
        ends = [end for submission in new for end in submission.ends] + facts.ends
        plans = self._jobs.accept(new)
        more = [end for end in ends if is_more(end)]
        if plans or facts.steps or facts.cancels or more:
            self._calls.write(plans, facts.steps, facts.cancels, more, ran_s)
        self._jobs.end(ends, ran_s, arithmetic=not more)
        self._pruning.ended(ends)
        return known, new, len(ends) + len(new) + sum(end.job.operations for end in more)

    def refused(self, facts: Facts, now: float) -> Facts:
        """The facts that SQLite refuses even alone, because of what is in them.

        Args:
            now: the moment, on the core's clock.
        """
        ran_s = self._ages.ran_s(now)
        return together([one for one in facts.parts(1) if not self._takes(one, ran_s)])

    def _takes(self, facts: Facts, ran_s: float) -> bool:
        """True if facts can be written; nothing is."""
        try:
            with self._writing():
                self._db.execute("BEGIN IMMEDIATE")
                self._insert(facts, ran_s)
                self._db.execute("ROLLBACK")
                self._keys.rolled_back()
                self._pruning.rolled_back()
        except JournalFailed as error:
            if not error.of_row:
                raise
            return False
        return True

    def probe(self) -> None:
        """Try to write."""
        self._ensure_there()
        with self._writing():
            # As large as a small submission: less might fit where that does not.
            self._db.execute("DROP TABLE IF EXISTS probe")
            self._db.execute(f"CREATE TABLE probe AS SELECT zeroblob({PROBE_BYTES})")
            self._db.execute("DROP TABLE probe")

    def remember(self, announcement: Announcement, now: float) -> None:
        """Write the announcement of a worker, or delete it if the worker leaves."""
        with self._writing():
            self._workers.remember(announcement, self._ages.ran_s(now))

    def remember_replaced(self, policies: Mapping[str, HandlerPolicy]) -> None:
        """Write which built-in handlers workers have replaced, with the policies of these."""
        with self._writing():
            self._workers.remember_replaced(policies)

    def delivered(self, numbers: Sequence[int]) -> None:
        """Forget the webhooks of jobs that were taken or given up."""
        with self._writing():
            self._calls.delivered(numbers)

    def _ensure_there(self) -> None:
        """Check that the file has not been deleted or replaced, or facts would be lost."""
        if _identity(self.path) != self._identity:
            reason = f"{self.path} was deleted or replaced; put the original file back"
            raise JournalFailed(reason, full=False)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Roll back after any error, and turn errors of SQLite into `JournalFailed`."""
        if self.damage is not None:
            raise self.damage.with_traceback(None)
        try:
            yield
        except BaseException as error:
            self._failures += 1
            if self._db.in_transaction:
                with suppress(sqlite3.Error):  # SQLite may have done that already.
                    self._db.execute("ROLLBACK")
            self._pruning.rolled_back()
            self._keys.rolled_back()
            if isinstance(error, sqlite3.Error):
                failed = failure(self.path, error)
                if failed.damaged:
                    self.damage = failed
                raise failed from None
            if isinstance(error, ROW_ERRORS):
                raise JournalFailed(repr(error), full=False, of_row=True) from None
            raise

    # Reading

    def copy(self, between: Callable[[], None]) -> BinaryIO:
        """Copy the journal, see `copy_journal`. What is called between may write.

        Raises:
            StorageFull: there is too little room for the copy.
        """
        self._ensure_there()
        failures = self._failures

        def check() -> None:
            between()
            if self._failures > failures:  # SQLite would begin again, perhaps for ever.
                raise JournalFailed("it could not be written while it was copied", full=False)

        try:
            return copy_journal(self._db, self.path, check)
        except sqlite3.Error as error:
            failed = failure(self.path, error)
            reason = f"it could not be copied: {failed}"
            raise JournalFailed(reason, failed.full, damaged=failed.damaged) from None
        except OSError as error:
            reason = f"it could not be copied: {error.strerror}"
            raise JournalFailed(reason, error.errno == errno.ENOSPC) from None

    def load(self, jobs_kept: int, bytes_kept: int, now: float) -> Loaded:
        """Read what a master needs at its start.

        Args:
            jobs_kept: the most ended jobs to read.
            bytes_kept: the most bytes of their texts and answers, approximately.
            now: the moment, on the core's clock.

        Raises:
            JournalRefused: the file cannot be read or written.
        """
        try:
            workers = self._workers.load(self._pruning.oldest(now))
            ended = self._jobs.last_ended(jobs_kept, bytes_kept)
            waiting, deliveries = self._jobs.waiting(), self._deliveries(now)
            replaced = self._workers.replaced()
        except sqlite3.Error as error:
            raise refusal(self.path, error) from None
        except UNREADABLE as error:
            raise damaged(self.path, f"a row cannot be read: {error}") from None
        return Loaded(self._last_job, waiting, ended, workers, deliveries, replaced)

    def unfinished(self, after: int) -> list[Unfinished]:
        """Some of the unfinished jobs from before this start, in the order of their numbers.

        Args:
            after: their numbers are higher.
        """
        with _reading(self.path):
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
        """The plans and the records of jobs, by number; of formulas without calls once they ended.

        Returns:
            The text of the plan, None for a formula with calls, and the records of the calls.
        """
        with _reading(self.path):
            return self._calls.plans(numbers)

    def deliveries(self, now: float) -> list[StoredWebhook]:
        """The webhooks of ended jobs that have not been taken.

        Args:
            now: the moment, on the core's clock.

        Returns:
            The oldest first. The time between two masters does not count.
        """
        with _reading(self.path):
            return self._deliveries(now)

    def _deliveries(self, now: float) -> list[StoredWebhook]:
        ran_s = self._ages.ran_s(now)
        found = self._calls.deliveries()
        return [(number, url, now - (ran_s - since), owner) for number, url, since, owner in found]

    def submission(self, key: str) -> KnownSubmission | None:
        """The submission with a key, if there was one."""
        with _reading(self.path):
            return self._keys.known(key)

    def ended(self, numbers: Sequence[int]) -> dict[int, Job]:
        """The jobs of these numbers that have ended, by number."""
        with _reading(self.path):
            return self._jobs.ended(numbers)


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Turn errors of SQLite into `JournalFailed`."""
    try:
        yield
    except sqlite3.Error as error:
        raise failure(path, error) from None
    except UNREADABLE as error:
        raise unreadable(path, f"a row cannot be read: {error}") from None


def _identity(path: str) -> tuple[int, int] | None:
    """The device and the inode of a file; None if it does not exist."""
    with suppress(OSError):
        found = os.stat(path)
        return found.st_dev, found.st_ino
    return None
