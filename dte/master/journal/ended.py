"""The ended jobs of a journal: how many there are, and whose.

Half of those that are kept are the most that an owner has, but for the machine's own user. Beyond
it an owner loses its own oldest, so that those of others are kept as long as ever.

All methods are called by `Pruning`, in the transactions of a journal, and raise what SQLite raises.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dte.core.jobs.facts import End
from dte.wire.codec import encode

OWNERS = "SELECT owner, count(*), min(sequence) FROM ended WHERE owner IS NOT NULL GROUP BY owner"
OLDEST_OF_OWNER = """
SELECT sequence FROM (
    SELECT sequence, total(rows) OVER (ORDER BY sequence) - rows AS before FROM (
        SELECT sequence, iif(state IS NULL, 1, 1 + operations) AS rows FROM ended
        WHERE sequence > :after AND sequence <= :last AND owner = :owner
        ORDER BY sequence LIMIT :excess))
WHERE before < :rows ORDER BY sequence
"""
DELETE = "DELETE FROM ended WHERE sequence IN (SELECT value FROM json_each(?))"
SEARCHED = 20_000
"""Rows among which an owner's oldest are looked for at a time."""


@dataclass(slots=True)
class _Owned:
    """The jobs of an owner: their number, and a place that is before all of them."""

    count: int
    after: int


class EndedRows:
    """Counts the ended jobs of an open journal, and those of each owner once it matters.

    Args:
        jobs_max: the most that are kept.
    """

    def __init__(self, db: sqlite3.Connection, jobs_max: int) -> None:
        self._db = db
        self._share = max(1, jobs_max // 2)
        self._count: int | None = None
        self._owners: dict[str, _Owned] | None = None
        self._has_new_owned = False

    @property
    def counts_owners(self) -> bool:
        """True if `deleted` must know whose jobs were deleted."""
        return bool(self._owners)

    def added(self, ends: Sequence[End]) -> None:
        """Note jobs that have been written."""
        if self._count is not None:
            self._count += len(ends)
        owned = [end.job.owner for end in ends if end.job.owner]
        self._has_new_owned = self._has_new_owned or bool(owned)
        if self._owners is None:
            return
        for owner in owned:
            known = self._owners.get(owner)
            if known is None:
                known = self._owners[owner] = _Owned(0, self._last() - len(ends))
            known.count += 1

    def deleted(self, count: int, of_owners: Mapping[str, int]) -> None:
        """Note that jobs were deleted.

        Args:
            of_owners: those of others than the machine's own user, by owner.
        """
        if self._count is not None:
            self._count -= count
        for owner, some in of_owners.items():
            assert self._owners is not None
            self._owners[owner].count -= some
            if not self._owners[owner].count:
                del self._owners[owner]

    def last_excess(self, rows: int, jobs_max: int) -> int:
        """The place up to which jobs are too many; 0 if they are not. It is after at most `rows`.

        Places do not tell how many there are, as the oldest of an owner may have been deleted.
        While an owner has more than its share, its oldest are looked for, and go first.
        """
        if any(known.count > self._share for known in (self._owners or {}).values()):
            return 0
        if self._count is None:
            (self._count,) = self._db.execute("SELECT count(*) FROM ended").fetchone()
        excess = min(self._count - jobs_max, rows)
        if excess <= 0:
            return 0
        query = "SELECT sequence FROM ended ORDER BY sequence LIMIT 1 OFFSET ?"
        sequence: int = self._db.execute(query, (excess - 1,)).fetchone()[0]
        return sequence

    def delete_beyond_shares(self, rows: int) -> int:
        """Delete some of the oldest jobs of owners that have more than their share.

        Args:
            rows: about the most rows to be deleted, of calls too.

        Returns:
            The number of jobs that were deleted.
        """
        if self._owners is None and self._has_new_owned and self._last() > self._share:
            found = self._db.execute(OWNERS)
            self._owners = {owner: _Owned(count, first - 1) for owner, count, first in found}
        count = 0
        for owner, known in list((self._owners or {}).items()):
            if known.count > self._share:
                count += self._delete_oldest(owner, known, rows)
        return count

    def _delete_oldest(self, owner: str, known: _Owned, rows: int) -> int:
        last = known.after + SEARCHED
        bounds = {"after": known.after, "last": last, "owner": owner, "rows": rows}
        excess = {"excess": known.count - self._share}
        oldest = [sequence for (sequence,) in self._db.execute(OLDEST_OF_OWNER, bounds | excess)]
        known.after = oldest[-1] if oldest else last
        if oldest:
            self._db.execute(DELETE, (encode(oldest).decode(),))
            self.deleted(len(oldest), {owner: len(oldest)})
        return len(oldest)

    def _last(self) -> int:
        (last,) = self._db.execute("SELECT coalesce(max(sequence), 0) FROM ended").fetchone()
        return int(last)

    def rolled_back(self) -> None:
        """The transaction failed: count again."""
        self._count = self._owners = None
