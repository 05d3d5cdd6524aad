"""The journal's tables of workers that do not announce themselves again, and of replacements."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from dataclasses import fields

import msgspec

from dte.core.graph.handlers import HandlerPolicy
from dte.core.workers.worker import Announcement, Delivery
from dte.wire.codec import encode

WRITTEN_AS = {"delivery": "reach", "can_stop": "obeys"}
"""Fields of `Announcement` that have another name on disk: that of schema 2."""
UNWRITTEN = ("session", "secret")
"""Only workers without them are written."""
MAILBOX = {"dialect": "rest", "tasks": None}
"""Fields that earlier releases did not write of workers with a mailbox, all of one dialect."""


class WorkerTable:
    """The tables of workers in an open journal. Methods raise what SQLite raises."""

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

    def remember_replaced(self, policies: Mapping[str, HandlerPolicy]) -> None:
        """Write the policies of the built-in handlers that are replaced, instead of all others."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute("DELETE FROM replaced")
        rows = [(name, encode(policy).decode()) for name, policy in policies.items()]
        self._db.executemany("INSERT INTO replaced VALUES (?, ?)", rows)
        self._db.execute("COMMIT")

    def replaced(self) -> dict[str, HandlerPolicy]:
        rows = self._db.execute("SELECT handler, policy FROM replaced")
        return {name: msgspec.json.decode(text, type=HandlerPolicy) for name, text in rows}


def write_announcement(announcement: Announcement) -> str:
    names = (each.name for each in fields(announcement) if each.name not in UNWRITTEN)
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
