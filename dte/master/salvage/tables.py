"""The tables of a journal, and what their rows look like in the file.

The tables differ so much that a row shows by its fields of which table it is. So a page whose
place in the file is lost still says what it is. Migrations only add columns at the end of tables;
rows from before have fewer fields.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache

from dte.master.journal.schema import SCHEMA_VERSION, statements
from dte.master.salvage.records import Field, Row

KINDS: dict[str, tuple[type, ...]] = {
    "INTEGER": (int,),
    "REAL": (int, float),
    "TEXT": (str, bytes),
    "BLOB": (bytes,),
}
CONTENTS = {
    "sqlite_master": "the list of tables",
    "index of ended": "the index of ended jobs",
    "master": "the numbers of starts and of jobs",
    "generation": "the mark of the log",
    "waiting": "waiting jobs",
    "ended": "ended jobs",
    "plan": "plans of jobs",
    "call": "records of the calls of jobs",
    "notice": "webhooks to be sent",
    "retry": "notes of which job a retry repeats",
    "submission": "idempotency keys",
    "worker": "workers that do not announce themselves",
    "replaced": "notes of replaced handlers",
}
"""Names for people of what the tables have."""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        columns: in the order of their fields in a row.
        kinds: the types of these fields.
        required: True for each column that has a value in each row.
        least: the fewest fields of a row.
        id_at: the column that stands for the row's id; None if there is none.
        is_index: its rows are in the tree of its key and have no ids.
    """

    name: str
    columns: tuple[str, ...]
    kinds: tuple[tuple[type, ...], ...]
    required: tuple[bool, ...]
    least: int
    id_at: int | None = None
    is_index: bool = False

    def values(self, row: Row) -> list[Field] | None:
        """The values of a row, in the order of the columns; None if it is of no such table."""
        fields = row.fields
        if not self.least <= len(fields) <= len(self.columns) or self.is_index != (row.id is None):
            return None
        if self.id_at is not None:
            if fields[self.id_at] is not None:
                return None
            fields = [*fields]
            fields[self.id_at] = row.id
        for field, kinds, is_required in zip(fields, self.kinds, self.required, strict=False):
            if is_required if field is None else not isinstance(field, kinds):
                return None
        return fields


CATALOGUE = Table(
    "sqlite_master",
    ("type", "name", "tbl_name", "rootpage", "sql"),
    (KINDS["TEXT"], KINDS["TEXT"], KINDS["TEXT"], KINDS["INTEGER"], KINDS["TEXT"]),
    (True, True, True, True, False),
    5,
)
NUMBERS = Table("index of ended", ("number", "id"), ((int,), (int,)), (True, True), 2, None, True)
"""The index of ended jobs by their numbers: it knows also those whose rows are lost."""

KEYS = Table("index of a text", ("key", "id"), (KINDS["TEXT"], (int,)), (True, True), 2, None, True)
"""Any other index of a table. Nothing is lost with it."""


@cache
def tables() -> dict[str, Table]:
    """The tables of a journal by their names."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(statements(None, SCHEMA_VERSION))
        catalogue = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'")
        return {name: _table(db, name, sql) for name, sql in catalogue.fetchall()}


def later_tables(version: int | None) -> set[str]:
    """The tables that a version of journals does not have yet."""
    return set(tables()) if version is not None and version < 3 else set()


def _table(db: sqlite3.Connection, name: str, sql: str) -> Table:
    columns = db.execute(f"PRAGMA table_info({name})").fetchall()
    is_index = sql.rstrip().upper().endswith("WITHOUT ROWID")
    if is_index:  # The key comes first.
        columns = sorted(columns, key=lambda column: (column[5] or len(columns) + 1, column[0]))
    keys = [at for at, column in enumerate(columns) if column[5] and column[2] == "INTEGER"]
    id_at = keys[0] if keys and not is_index else None
    required = [bool(column[3] or column[5]) for column in columns]
    added = [column[3] and column[4] is not None for column in columns]
    # A column that a migration added has a default, or may be empty.
    least = max(at for at in range(len(columns)) if required[at] and not added[at]) + 1
    return Table(
        name,
        tuple(column[1] for column in columns),
        tuple(KINDS[column[2]] for column in columns),
        tuple(is_required and at != id_at for at, is_required in enumerate(required)),
        least,
        id_at,
        is_index,
    )


def table_of(row: Row) -> Table | None:
    """The table that a row can be of; None if there is none or several are possible."""
    found = [
        each
        for each in (*tables().values(), CATALOGUE, NUMBERS, KEYS)
        if each.values(row) is not None
    ]
    return found[0] if len(found) == 1 else None


def table_of_all(rows: Sequence[Row]) -> Table | None:
    """The table of most of the rows of a page."""
    found = [table for row in rows if (table := table_of(row)) is not None]
    most = max(found, key=found.count, default=None)
    return most if most is not None and 2 * found.count(most) > len(rows) else None
