"""Keeps a journal within its bounds: deletes what has ended and is too much or too old."""

from __future__ import annotations

import sqlite3
import sys
from dataclasses import dataclass
from math import inf

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
"""Counts a call as it does a job, as it is deleted with its job; one job is deleted in any case."""
DELETE_SUBMISSIONS = """
DELETE FROM submission WHERE sequence IN (
    SELECT sequence FROM (SELECT * FROM submission ORDER BY sequence LIMIT :rows)
    WHERE (sequence <= :sequence OR submitted_at < :moment) AND NOT EXISTS (
        SELECT 1 FROM waiting WHERE number BETWEEN first AND first + count - 1))
"""
PRUNE_S = 1.0
"""Time between searches for old rows, unless many rows are added."""
PRUNED_AT_LEAST = 1_000
"""Rows that a commit may delete, besides two for each row that was added."""


@dataclass(frozen=True, slots=True)
class Retention:
    """The bounds of a journal: the number of ended jobs, and their age."""

    jobs_max: int = sys.maxsize
    age_max_s: float = inf


class Pruning:
    """Deletes old jobs and keys bit by bit, so that no commit takes long.

    All methods are called by `Journal`, in its transactions, and raise what SQLite raises.
    """

    def __init__(self, db: sqlite3.Connection, retention: Retention) -> None:
        self._db = db
        self._retention = retention
        self._added = 0
        self._pruned_s = float("-inf")

    def oldest(self, wall_s: float) -> float:
        """The moment before which rows are too old."""
        return wall_s - self._retention.age_max_s

    def prune(self, added: int, wall_s: float, last_job: int) -> None:
        """Delete some of the old rows, if it is time to look for them.

        Args:
            added: rows that are added in this transaction.
            wall_s: now, in seconds since 1970.
            last_job: the highest number of a job, to be kept when that job is deleted.
        """
        self._added += added
        # Not each time: a look costs as much as what it is added to.
        if self._added < PRUNED_AT_LEAST and abs(wall_s - self._pruned_s) < PRUNE_S:
            return
        rows = PRUNED_AT_LEAST + 2 * self._added
        self._added, self._pruned_s = 0, wall_s
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
            sequence, moment = last - self._retention.jobs_max, self.oldest(wall_s)
            if first[0] <= sequence or first[1] < moment:
                self._db.execute(statement, {"rows": rows, "sequence": sequence, "moment": moment})
                self._db.execute("UPDATE master SET last_job = ?", (last_job,))

    def rolled_back(self) -> None:
        """The transaction failed: prune in the next one."""
        self._pruned_s = float("-inf")
