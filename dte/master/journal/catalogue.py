"""Checks that a journal has the tables and triggers of dte and nothing else.

A trigger or a view that somebody has put into the file would change jobs as a master writes them.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from functools import cache

COMMENT = re.compile(r"--[^\n]*")
SPACE = re.compile(r"\s+")
BESIDE_MARKS = re.compile(r" ?([(),;]) ?")
READ = "SELECT type, name, tbl_name, sql FROM sqlite_master"
OF_SQLITE = "sqlite_"
"""Begins the names that SQLite gives to indexes and statistics of its own, and to nothing else."""
PROBE = "probe"
"""A table that a master makes and drops to see whether it can write."""

Entry = tuple[str, str, str, str | None]
"""Type, name, table and SQL."""


def strangers(entries: Iterable[Entry], statements: str, *, by_text: bool = True) -> list[str]:
    """Describe the entries of a catalogue that the statements of a schema do not make.

    Args:
        by_text: the SQL of each must be that of the schema.
    """
    expected = _made_by(statements)
    found = []
    for kind, name, of, sql in entries:
        if name.startswith(OF_SQLITE) and kind in ("index", "table"):
            continue
        if kind == "table" and name == PROBE:
            continue
        on = f" on {of}" if kind in ("trigger", "index") else ""
        if (kind, name, of) not in expected:
            found.append(f"{kind} {name}{on}")
        elif by_text and _plain(sql) != expected[kind, name, of]:
            found.append(f"{kind} {name}{on} (it is not that of dte)")
    return found


@cache
def _made_by(statements: str) -> dict[tuple[str, str, str], str]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(statements)
        return {(kind, name, of): _plain(sql) for kind, name, of, sql in db.execute(READ)}


def _plain(sql: str | None) -> str:
    """SQL without comments and spaces, which differ where a migration has added a column."""
    text = SPACE.sub(" ", COMMENT.sub("", sql or "")).strip()
    return BESIDE_MARKS.sub(r"\1", text)
