"""The journal's table of workers, for workers that do not announce themselves again."""

from __future__ import annotations

import sqlite3
from dataclasses import fields

import msgspec

from dte.core.workers.worker import Announcement, Delivery
from dte.wire.codec import encode

WRITTEN_AS = {"delivery": "reach", "can_stop": "obeys"}
"""Fields of `Announcement` that have another name on disk: that of schema 2."""
MAILBOX = {"dialect": "rest", "tasks": None}
"""Fields that earlier releases did not write of workers with a mailbox, all of one dialect."""


class WorkerTable:
    """The table of workers in an open journal. Methods raise what SQLite raises."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def remember(self, announcement: Announcement, ran_s: float) -> None:
        """Write the announcement of a worker, or delete it if the worker leaves.

        Args:
            ran_s: now, by the time by which rows age.
        """
        identity = announcement.identity
        if announcement.draining:
            self._db.execute("DELETE FROM worker WHERE address = ?", (identity,))
            return
        name, slots, batch_max = announcement.name, announcement.slots, announcement.batch_max
        row = (identity, name, slots, batch_max, ran_s, write_announcement(announcement))
        self._db.execute("INSERT OR REPLACE INTO worker VALUES (?, ?, ?, ?, ?, ?)", row)

    def load(self, oldest_s: float) -> list[Announcement]:
        """All announcements, the newest first. Announcements from before `oldest_s` are deleted."""
        self._db.execute("DELETE FROM worker WHERE announced_at < ?", (oldest_s,))
        rows = self._db.execute(
            "SELECT address, name, slots, batch_max, said FROM worker ORDER BY rowid DESC"
        )
        known: dict[str, Announcement] = {}
        for address, name, slots, batch_max, said in rows:
            read = (
                read_announcement(said) if said else Announcement(name, address, slots, batch_max)
            )
            known.setdefault(read.identity, read)  # An earlier release had another identity for it.
        return list(known.values())


def write_announcement(announcement: Announcement) -> str:
    names = (each.name for each in fields(announcement))
    row = {WRITTEN_AS.get(name, name): getattr(announcement, name) for name in names}
    return encode(row).decode()


def read_announcement(text: str) -> Announcement:
    """The announcement that `write_announcement` wrote, in this or an earlier release."""
    row = msgspec.json.decode(text)
    for name, written in WRITTEN_AS.items():
        if written in row:
            row[name] = row.pop(written)
    if "dialect" not in row and row.get("delivery") == Delivery.MAILBOX.value:
        row |= MAILBOX
    return msgspec.convert(row, Announcement)
