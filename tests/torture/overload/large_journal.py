"""A journal of more than a gigabyte, as a master has after a few hundred thousand jobs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from dte.master.journal.journal import Journal

JOBS = 260_000
ANSWER_CHARS = 4_100
ROWS_AT_A_TIME = 20_000
INSERT = f"""
WITH RECURSIVE numbers (number) AS (
    SELECT :first UNION ALL SELECT number + 1 FROM numbers WHERE number < :last
)
INSERT INTO ended (number, submitted_at, started_at, ended_at, operations, operations_done, state,
                   answer_json, task, recorded_s)
SELECT number, 1700000000.0, 1700000000.0, 1700000001.0, 1, 1, 'succeeded',
       printf('"%0{ANSWER_CHARS}d"', number), 'echo(' || number || ')', 0
FROM numbers
"""


def make_large_journal(path: Path) -> None:
    """Make a journal with `JOBS` ended jobs that have long answers."""
    Journal(str(path)).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA journal_mode = OFF")
        for first in range(1, JOBS + 1, ROWS_AT_A_TIME):
            last = min(first + ROWS_AT_A_TIME - 1, JOBS)
            db.execute(INSERT, {"first": first, "last": last})
