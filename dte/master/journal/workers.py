"""Announcements of workers as the journal holds them, with the field names of schema 2."""

from __future__ import annotations

from dataclasses import fields

import msgspec

from dte.core.workers.worker import Announcement
from dte.wire.codec import encode

WRITTEN_AS = {"delivery": "reach", "can_stop": "obeys"}
"""Fields whose names on disk differ from those in `Announcement`."""


def write_announcement(announcement: Announcement) -> str:
    """The announcement as JSON for the table of workers."""
    names = (each.name for each in fields(announcement))
    row = {WRITTEN_AS.get(name, name): getattr(announcement, name) for name in names}
    return encode(row).decode()


def read_announcement(text: str) -> Announcement:
    """The announcement that `write_announcement` wrote, in this or an earlier release."""
    row = msgspec.json.decode(text)
    for name, written in WRITTEN_AS.items():
        if written in row:
            row[name] = row.pop(written)
    return msgspec.convert(row, Announcement)
