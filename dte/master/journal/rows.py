"""Rows of tables: how one statement inserts many of them, and how their fields are written.

Such a statement takes its rows as a JSON text, so that SQLite works without Python's lock.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from dte.wire.codec import encode

NUL = "\0"
ROWS_BYTES = 500_000
"""About how long a JSON text of rows is: making a longer one would stop the loop for too long."""
FIELD_CHARS_MAX = 16_384
"""A longer field is copied too often on its way through such a text."""


class Insertion:
    """Inserts rows into a table.

    Args:
        columns: the columns for which rows have fields.
        foreign: the columns of users' texts, which may contain NULs or be long.
        replaces: a row replaces another with its key.
    """

    def __init__(
        self, table: str, columns: Sequence[str], foreign: Collection[str], replaces: bool = False
    ) -> None:
        verb = "INSERT OR REPLACE" if replaces else "INSERT"
        into = f"{verb} INTO {table} ({', '.join(columns)})"
        self._foreign = [columns.index(name) for name in foreign]
        self._many = f"{into} SELECT {extracted(range(len(columns)))} FROM json_each(?)"
        self._one = f"{into} VALUES ({', '.join('?' * len(columns))})"

    def insert(self, db: sqlite3.Connection, rows: Iterable[Sequence[Any]]) -> None:
        """Insert rows, no two with the same key."""
        together = []
        for row in rows:
            for index in self._foreign:
                if goes_alone(row[index]):
                    db.execute(self._one, row)
                    break
            else:
                together.append(row)
        for text in as_json(together):
            db.execute(self._many, (text,))


def extracted(indexes: Iterable[int]) -> str:
    """SQL for the fields of a row that stands in a JSON text."""
    return ", ".join(f"json_extract(value, '$[{index}]')" for index in indexes)


def as_json(rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """JSON texts of rows, each of about `ROWS_BYTES`."""
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
    """A text with question marks for surrogates, which cannot be written."""
    return text.encode(errors="replace").decode()


def json_field(json: bytes | None) -> str | bytes | None:
    """A worker's JSON as a field: a text, or the bytes if they are not UTF-8."""
    try:
        return None if json is None else json.decode()
    except UnicodeDecodeError:
        return json


def json_read(field: str | bytes | None) -> bytes | None:
    """The bytes that `json_field` was given."""
    return field.encode() if isinstance(field, str) else field


def goes_alone(field: str | bytes | None) -> bool:
    """True for a field that keeps its row out of JSON texts.

    Older SQLites read strings in JSON only up to a NUL, and bytes are no JSON.
    """
    if not field:
        return False
    return isinstance(field, bytes) or NUL in field or len(field) > FIELD_CHARS_MAX
