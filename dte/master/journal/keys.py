"""The journal's table of the keys of submissions, by which repeats are recognised.

Half of the keys that are kept are the most that an owner has, but for the machine's own user. A
further one takes the place of its oldest, so that those of others are kept as long as ever.

All methods are called by `Journal`, in its transactions, and raise what SQLite raises.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Iterable
from typing import Any

from dte.core.jobs.facts import KnownSubmission, Submission
from dte.master.journal.bounds import COUNT

NO_JOB = 0
"""The number that no job has."""
COUNT_MAX = 10_000_000
"""No submission has more jobs."""
KNOWN = "SELECT digest, first, count FROM submission WHERE key = ?"
INSERT = (
    "INSERT INTO submission (key, digest, first, count, submitted_at, recorded_s, owner) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)
OWNED = (
    "SELECT owner, sequence FROM submission WHERE owner IS NOT NULL ORDER BY recorded_s, sequence"
)
REPLACE = (
    "UPDATE submission SET key = ?, digest = ?, first = ?, count = ?, submitted_at = ?, "
    "recorded_s = ?, owner = ? WHERE sequence = ?"
)


class KeyTable:
    """The table of keys in an open journal.

    Args:
        keys_max: the most keys that are kept.
    """

    def __init__(self, db: sqlite3.Connection, keys_max: int) -> None:
        self._db = db
        self._share = max(1, keys_max // 2)
        self._owned: dict[str, deque[int]] | None = None

    def known(self, key: str) -> KnownSubmission | None:
        """The submission with a key, if there was one.

        Where the row has numbers that no master writes, it is that of no job: a repeat may not be
        accepted as another submission.
        """
        row = self._db.execute(KNOWN, (key,)).fetchone()
        if row is None:
            return None
        digest, first, count = row
        if COUNT.has(first) and COUNT.has(count) and count <= COUNT_MAX:
            return KnownSubmission(digest, first, count)
        return KnownSubmission(str(digest), NO_JOB, 1)

    def insert(
        self, submissions: Iterable[Submission], ran_s: float
    ) -> dict[Submission, KnownSubmission]:
        """Write the keys of submissions; those that repeat an earlier one, with that one.

        Args:
            ran_s: now, by the time by which rows age.
        """
        repeats = {}
        for submission in submissions:
            if not submission.key:
                continue
            known = self.known(submission.key)
            if known is not None:
                repeats[submission] = known
                continue
            first, count = submission.jobs[0], len(submission.jobs)
            row = (submission.key, submission.digest, first.number, count, first.submitted_at)
            self._insert((*row, ran_s, first.owner or None), first.owner)
        return repeats

    def _insert(self, row: tuple[Any, ...], owner: str) -> None:
        if not owner:
            self._db.execute(INSERT, row)
            return
        rows = self._rows_of(owner)
        while len(rows) >= self._share:
            oldest = rows.popleft()
            if self._db.execute(REPLACE, (*row, oldest)).rowcount:
                rows.append(oldest)
                return
            # It was too old, and is deleted: the new one takes no place.
        rows.append(int(self._db.execute(INSERT, row).lastrowid or 0))

    def _rows_of(self, owner: str) -> deque[int]:
        """The rows of an owner's keys, the oldest first; some of the first may be deleted."""
        if self._owned is None:
            self._owned = {}
            for name, sequence in self._db.execute(OWNED):
                self._owned.setdefault(name, deque()).append(sequence)
        return self._owned.setdefault(owner, deque())

    def rolled_back(self) -> None:
        """The transaction failed: look again which rows there are."""
        self._owned = None
