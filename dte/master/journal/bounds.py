"""The bounds of what a journal says of itself, and a check of it before the journal is used."""

from __future__ import annotations

import sqlite3

from dte.core.scheduler import LEASES_OF_A_BOOT
from dte.master.journal import generation

JOB_MAX = 2**53
BOUNDS: dict[str, float] = {
    "boot": 2**63 // LEASES_OF_A_BOOT,
    "last_job": JOB_MAX,
    "ran_s": 1e10,
}
"""What the columns of the table `master` stay below: leases have 64 bits; 317 years."""
VALUE_CHARS = 40


def is_possible(column: str, value: object) -> bool:
    """True for a value of the table `master` that a master may have written."""
    kinds = (int, float) if column == "ran_s" else (int,)
    return isinstance(value, kinds) and 0 <= value < BOUNDS[column]


def check_rows(db: sqlite3.Connection) -> None:
    """Check the two tables of one row, and the numbers of jobs.

    Raises:
        ValueError: a row is missing, or has a value that no master writes.
    """
    for table in ("master", "generation"):
        (count,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
        if count != 1:
            raise ValueError(f"the table {table} has {count} rows instead of one")
    for column in BOUNDS:
        (value,) = db.execute(f"SELECT {column} FROM master").fetchone()
        if not is_possible(column, value):
            raise _wrong(f"master.{column}", value)
    row = db.execute("SELECT incomplete, marks FROM generation").fetchone()
    if not generation.is_readable(*row):
        raise _wrong("the row of generation", row)
    for table in ("waiting", "ended"):
        (number,) = db.execute(f"SELECT max(number) FROM {table}").fetchone()
        if number is not None and not (isinstance(number, int) and number < JOB_MAX):
            raise _wrong(f"{table}.number", number)


def _wrong(column: str, value: object) -> ValueError:
    return ValueError(f"{column} is {repr(value)[:VALUE_CHARS]}, which no master writes")
