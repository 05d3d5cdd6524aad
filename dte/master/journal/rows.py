"""Rows as JSON texts, from which one statement writes them all, and what cannot go that way."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import Any

from dte.wire.codec import encode

NUL = "\0"
ROWS_BYTES = 500_000
"""About how long a JSON text of rows is: making a longer one would stop the loop for too long."""
FIELD_CHARS_MAX = 16_384
"""A longer field is copied too often on its way through such a text."""


class Insertion:
    """Puts rows into a table; one with the key of another takes its place.

    Args:
        columns: of the table, with commas between them.
        foreign: indexes of the columns whose text comes from users, so that it may hold anything.
    """

    def __init__(self, table: str, columns: str, foreign: tuple[int, ...]) -> None:
        into = f"INSERT OR REPLACE INTO {table} ({columns})"
        count = columns.count(",") + 1
        fields = ", ".join(f"json_extract(value, '$[{place}]')" for place in range(count))
        self._foreign = foreign
        self._many = f"{into} SELECT {fields} FROM json_each(?)"
        self._one = f"{into} VALUES ({', '.join('?' * count)})"

    def insert(self, db: sqlite3.Connection, rows: Iterable[tuple[Any, ...]]) -> None:
        """Put in rows, no two with the same key."""
        together = []
        for row in rows:
            if any(goes_alone(row[place]) for place in self._foreign):
                db.execute(self._one, row)
            else:
                together.append(row)
        for text in as_json(together):
            db.execute(self._many, (text,))


def as_json(rows: Iterable[tuple[Any, ...]]) -> Iterator[str]:
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


def writable(text: str) -> str:
    """The text, with question marks for what is no character and can be written nowhere."""
    return text.encode(errors="replace").decode()


def json_field(json: bytes | None) -> str | bytes | None:
    """Somebody's JSON as a field: a text, and if it is none after all, its bytes as they are."""
    try:
        return None if json is None else json.decode()
    except UnicodeDecodeError:
        return json


def json_read(field: str | bytes | None) -> bytes | None:
    """What `json_field` was given, byte for byte."""
    return field.encode() if isinstance(field, str) else field


def goes_alone(field: str | bytes | None) -> bool:
    """Whether a field makes its row one that is written by a statement of its own.

    Older SQLites read strings in JSON only up to a NUL, and bytes are no JSON.
    """
    if not field:
        return False
    return isinstance(field, bytes) or NUL in field or len(field) > FIELD_CHARS_MAX
