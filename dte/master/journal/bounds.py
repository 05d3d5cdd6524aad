"""The bounds of the numbers in a journal, and a check of them before the journal is used."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any, NamedTuple

from dte.core.scheduler import LEASES_OF_A_BOOT
from dte.master.journal import generation

JOB_MAX = 2**53
VALUE_CHARS = 40


class Range(NamedTuple):
    """The numbers that a column may have: from `low`, and below `high`."""

    kinds: tuple[type, ...]
    low: float
    high: float

    def has(self, value: object) -> bool:
        return isinstance(value, self.kinds) and self.low <= value < self.high  # type: ignore[operator]

    def has_not(self, column: str) -> str:
        """SQL that is true for a value of a column that is out of the range."""
        kinds = "'integer', 'real'" if float in self.kinds else "'integer'"
        within = f"typeof({column}) IN ({kinds}) AND {column} >= {self.low} AND {column} < "
        return f"({column} IS NOT NULL AND NOT ({within}{self.high}))"


TIME = Range((int, float), -62_135_424_000, 253_402_214_400)
"""Dates in each time zone: January 3 of year 1 to December 30 of 9999, in seconds since 1970."""
DURATION = Range((int, float), 0, 10_000_000_000)
"""Up to 317 years."""
AGED_FROM = Range((int, float), -DURATION.high, DURATION.high)
"""By `ran_s`."""
COUNT = Range((int,), 0, JOB_MAX)
LEASE = Range((int,), 0, 2**63 - 1)
RANGES: dict[str, dict[str, Range]] = {
    # Leases have 64 bits.
    "master": {
        "boot": Range((int,), 0, 2**63 // LEASES_OF_A_BOOT),
        "last_job": COUNT,
        "ran_s": DURATION,
    },
    "waiting": {"submitted_at": TIME, "operations": COUNT, "cancelled_at": TIME},
    "ended": {
        "submitted_at": TIME,
        "started_at": TIME,
        "ended_at": TIME,
        "operations": COUNT,
        "operations_done": COUNT,
        "recorded_s": AGED_FROM,
    },
    "call": {
        "attempts": COUNT,
        "failures": COUNT,
        "lost": COUNT,
        "lease": LEASE,
        "lease_s": DURATION,
        "started_at": TIME,
        "ended_at": TIME,
        "resumes_at": TIME,
    },
    "submission": {"count": COUNT, "submitted_at": TIME, "recorded_s": AGED_FROM},
    "worker": {"slots": COUNT, "batch_max": COUNT, "announced_at": AGED_FROM},
    "notice": {"since": AGED_FROM},
}
"""The columns of times and counts, by table."""
NEEDED = {
    "waiting": "SELECT number, {columns} FROM waiting WHERE {odd}",
    # In this order, the rows of ended jobs are not read.
    "call": "SELECT job, {columns} FROM waiting CROSS JOIN call ON job = number WHERE {odd}",
    "worker": "SELECT address, {columns} FROM worker WHERE {odd}",
    "notice": "SELECT number, {columns} FROM notice WHERE {odd}",
}
"""The rows that a master resumes from."""
ENDED_TWICE = "SELECT waiting.number FROM waiting CROSS JOIN ended USING (number) LIMIT 1"


def is_time(value: object) -> bool:
    """True for seconds since 1970 that are a date."""
    return TIME.has(value)


def odd_columns(table: str, values: Mapping[str, Any]) -> list[str]:
    """The columns with a time or a count that no master writes."""
    return [
        column
        for column, range_ in RANGES.get(table, {}).items()
        if values.get(column) is not None and not range_.has(values[column])
    ]


def without_odd(table: str, values: dict[str, Any]) -> dict[str, Any]:
    """The values of a row, with None for each time and count that no master writes."""
    return values | dict.fromkeys(odd_columns(table, values))


def check_kinds(table: str, values: Mapping[str, Any]) -> None:
    """Check that times and counts are numbers at all.

    Raises:
        ValueError: one is not.
    """
    for column in odd_columns(table, values):
        if not isinstance(values[column], int | float):
            raise ValueError(odd_text(table, column, values))


def odd_text(table: str, column: str, values: Mapping[str, Any]) -> str:
    """A time or a count that no master writes, with its row, for people."""
    place = f"{table}.{column}"
    for key, name in (("number", "job"), ("job", "job"), ("address", "worker")):
        if key in values:
            place += f" of {name} {str(values[key])[:VALUE_CHARS]}"
            break
    return str(_wrong(place, values[column]))


def check_rows(db: sqlite3.Connection) -> None:
    """Check the two tables of one row, the numbers of jobs, and what a master resumes from.

    Raises:
        ValueError: a row is missing, or has a value that no master writes.
    """
    for table in ("master", "generation"):
        (count,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
        if count != 1:
            raise ValueError(f"the table {table} has {count} rows instead of one")
    for column, range_ in RANGES["master"].items():
        (value,) = db.execute(f"SELECT {column} FROM master").fetchone()
        if not range_.has(value):
            raise _wrong(f"master.{column}", value)
    row = db.execute("SELECT incomplete, marks FROM generation").fetchone()
    if not generation.is_readable(*row):
        raise _wrong("the row of generation", row)
    for table in ("waiting", "ended"):
        (number,) = db.execute(f"SELECT max(number) FROM {table}").fetchone()
        if number is not None and not (isinstance(number, int) and number < JOB_MAX):
            raise _wrong(f"{table}.number", number)
    for table, query in NEEDED.items():
        _check_needed(db, table, query)
    for (number,) in db.execute(ENDED_TWICE):
        raise ValueError(f"job {number} is in the tables waiting and ended")


def _check_needed(db: sqlite3.Connection, table: str, query: str) -> None:
    ranges = RANGES[table]
    odd = " OR ".join(each.has_not(column) for column, each in ranges.items())
    found = db.execute(f"{query.format(columns=', '.join(ranges), odd=odd)} LIMIT 1")
    names = [each[0] for each in found.description]
    for row in found:
        values = dict(zip(names, row, strict=True))
        raise ValueError(odd_text(table, odd_columns(table, values)[0], values))


def _wrong(column: str, value: object) -> ValueError:
    return ValueError(f"{column} is {repr(value)[:VALUE_CHARS]}, which no master writes")
