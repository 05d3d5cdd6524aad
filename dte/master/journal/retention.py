"""Keeps a journal within its bounds: deletes what has ended and is too much or too old.

Rows age by the time for which masters have run with the file. The wall clock may be set: a wrong
moment of it would delete the history, and the keys by which repeated submissions are recognised.
So nothing is older than the time for which it could have been asked for.
"""

from __future__ import annotations

import logging
import sqlite3
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf

from dte.core.jobs.facts import End
from dte.master.journal.ended import EndedRows

log = logging.getLogger("dte.master")

RECORDED_S = "CAST(coalesce(recorded_s, 0) AS REAL)"
"""A number, whatever a damaged row has."""
OLD = f"""
sequence IN (
    SELECT sequence FROM (SELECT sequence, recorded_s FROM ended ORDER BY sequence LIMIT :rows)
    WHERE sequence <= :sequence OR {RECORDED_S} < :oldest)
"""
OLD_WITH_CALLS = f"""
sequence IN (
    SELECT sequence FROM (
        SELECT sequence, recorded_s, total(rows) OVER (ORDER BY sequence) - rows AS before FROM (
            SELECT sequence, recorded_s, iif(state IS NULL, 1, 1 + operations) AS rows
            FROM ended ORDER BY sequence LIMIT :rows))
    WHERE before < :rows AND (sequence <= :sequence OR {RECORDED_S} < :oldest))
"""
"""Counts a call as it does a job, as it is deleted with its job; one job is deleted in any case."""
DELETE_SUBMISSIONS = f"""
DELETE FROM submission WHERE sequence IN (
    SELECT sequence FROM (SELECT * FROM submission ORDER BY sequence LIMIT :rows)
    WHERE (sequence <= :sequence OR {RECORDED_S} < :oldest) AND NOT EXISTS (
        SELECT 1 FROM waiting WHERE number BETWEEN first AND first + count - 1))
"""
PRUNE_S = 1.0
"""Time between searches for old rows, unless many rows are added."""
PRUNED_AT_LEAST = 1_000
"""Rows that a commit may delete, besides two for each row that was added."""


SAY_S = 60.0
"""Time between log messages of what was deleted."""
SAVE_S = 600.0
"""Time between notes of how long a master has run that writes nothing else."""


@dataclass(frozen=True, slots=True)
class Retention:
    """The bounds of a journal: the number of ended jobs, and their age, while a master runs."""

    jobs_max: int = sys.maxsize
    age_max_s: float = inf


class Ages:
    """The time by which rows age: seconds for which masters have run with the file.

    Args:
        now: the moment from which this master runs, on the core's clock.
    """

    def __init__(self, db: sqlite3.Connection, now: float) -> None:
        self._db = db
        self._began_at = self._saved_at = now
        self._before_s: float = db.execute("SELECT ran_s FROM master").fetchone()[0]

    def ran_s(self, now: float) -> float:
        return self._before_s + now - self._began_at

    def save(self, now: float, wrote: bool) -> None:
        """Note how long masters have run, with other writes or from time to time."""
        if wrote or now - self._saved_at >= SAVE_S:
            self._db.execute("UPDATE master SET ran_s = ?", (self.ran_s(now),))
            self._saved_at = now


class Pruning:
    """Deletes old jobs and keys bit by bit, so that no commit takes long.

    All methods are called by `Journal`, in its transactions, and raise what SQLite raises.
    """

    def __init__(self, db: sqlite3.Connection, retention: Retention, ages: Ages) -> None:
        self._db = db
        self._retention = retention
        self._ages = ages
        self._ended = EndedRows(db, retention.jobs_max)
        self._added = 0
        self._pruned_at = self._said_at = float("-inf")
        self._deleted: Counter[str] = Counter()

    def oldest(self, now: float) -> float:
        """The time before which rows are too old, by that by which they age."""
        return self._ages.ran_s(now) - self._retention.age_max_s

    def ended(self, ends: Sequence[End]) -> None:
        """Note jobs that have been written as ended in this transaction."""
        if ends:
            self._ended.added(ends)

    def prune(self, added: int, now: float, last_job: int) -> None:
        """Delete some of the old rows, if it is time to look for them.

        Args:
            added: rows that are added in this transaction.
            now: the moment, on the core's clock.
            last_job: the highest number of a job, to be kept when that job is deleted.
        """
        self._added += added
        # Not each time: a look costs as much as what it is added to.
        if self._added < PRUNED_AT_LEAST and now - self._pruned_at < PRUNE_S:
            return
        self._ages.save(now, wrote=self._added > 0)
        rows = PRUNED_AT_LEAST + 2 * self._added
        self._added, self._pruned_at = 0, now
        (calls,) = self._db.execute("SELECT EXISTS (SELECT 1 FROM call)").fetchone()
        before = self._deleted.total()
        self._deleted["ended"] += self._ended.delete_beyond_shares(rows)
        self._prune("ended", rows, self.oldest(now), with_calls=bool(calls))
        self._prune("submission", rows, self.oldest(now))
        if self._deleted.total() > before:
            self._db.execute("UPDATE master SET last_job = ?", (last_job,))
        self._say_deleted(now)

    def _prune(self, table: str, rows: int, oldest: float, with_calls: bool = False) -> None:
        first = self._db.execute(
            f"SELECT sequence, {RECORDED_S} FROM {table} ORDER BY sequence LIMIT 1"
        ).fetchone()
        if first is None:
            return
        (last,) = self._db.execute(f"SELECT max(sequence) FROM {table}").fetchone()
        sequence = last - self._retention.jobs_max
        if first[0] <= sequence and table == "ended":
            sequence = self._ended.last_excess(rows, self._retention.jobs_max)
        if first[0] > sequence and first[1] >= oldest:
            return
        bounds = {"rows": rows, "sequence": sequence, "oldest": oldest}
        if table == "submission":
            self._deleted[table] += self._db.execute(DELETE_SUBMISSIONS, bounds).rowcount
            return
        old, of_owners = OLD_WITH_CALLS if with_calls else OLD, {}
        if self._ended.counts_owners:
            query = "SELECT owner, count(*) FROM ended WHERE owner IS NOT NULL AND"
            of_owners = dict(self._db.execute(f"{query} {old} GROUP BY owner", bounds).fetchall())
        count = self._db.execute(f"DELETE FROM ended WHERE {old}", bounds).rowcount
        self._ended.deleted(count, of_owners)
        self._deleted[table] += count

    def _say_deleted(self, now: float) -> None:
        """Log from time to time what was deleted."""
        if self._deleted.total() and now - self._said_at >= SAY_S:
            text = (
                "the journal keeps the last %d jobs, and those that ended in the last %g s of "
                "masters that ran; deleted: %d jobs and %d keys of submissions"
            )
            jobs_max, age_max_s = self._retention.jobs_max, self._retention.age_max_s
            log.info(text, jobs_max, age_max_s, self._deleted["ended"], self._deleted["submission"])
            self._deleted.clear()
            self._said_at = now

    def rolled_back(self) -> None:
        """The transaction failed: prune in the next one."""
        self._ended.rolled_back()
        self._pruned_at = float("-inf")
