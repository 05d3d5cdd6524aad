"""The journal's tables of plans, of retries, of calls and of webhooks.

A job that is more than a formula has a row in `plan`, and one in `retry` if it repeats the failed
part of another. Each of its calls has a row in `call` since its first hand-over, or since the job's
end. Triggers delete these rows with the job's row in `ended`.

All methods are called by `Journal`, in its transactions, and raise what SQLite raises.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from heapq import merge
from itertools import islice
from typing import Any

from dte.core.graph.call import CallRecord, CallState
from dte.core.jobs.facts import Cancel, End, Step
from dte.core.jobs.job import Job
from dte.master.journal.bounds import without_odd
from dte.master.journal.rows import Insertion, as_json, json_field, json_read, writable
from dte.wire.codec import encode

RECORD = tuple(each.name for each in fields(CallRecord))
CALLS = Insertion(
    "call", ("job", *RECORD), foreign=("worker", "value", "error", "trace"), replaces=True
)
PLANS = Insertion("plan", ("number", "text"), foreign=("text",), replaces=True)
RETRIES = Insertion("retry", ("number", "retry_of"), foreign=(), replaces=True)
DELIVERIES = Insertion("notice", ("number", "url", "since"), foreign=("url",), replaces=True)
RECORDS = f"SELECT {', '.join(RECORD)} FROM call WHERE job = ?"
NOTICES = (
    "SELECT notice.number, url, since, coalesce(owner, '') "
    "FROM notice LEFT JOIN ended ON ended.number = notice.number ORDER BY sequence"
)
CANCEL = (
    "UPDATE waiting SET cancelled_at = json_extract(value, '$[1]') "
    "FROM json_each(?) WHERE waiting.number = json_extract(value, '$[0]')"
)

SORTED_AT_ONCE = 5_000
"""Sorting holds Python's lock, and the loop waits for it: 2 ms."""
Key = tuple[int, str]
"""The number of the job, and the name of the call."""


class CallTables:
    """The tables of plans, calls and webhooks in an open journal."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    # Writing

    def write(
        self,
        plans: Sequence[tuple[Job, str]],
        steps: Iterable[Step],
        cancels: Iterable[Cancel],
        ends: Iterable[End],
        ran_s: float,
    ) -> None:
        """Write facts about jobs that are more than arithmetic, with the records of their calls."""
        PLANS.insert(self._db, ((job.number, writable(plan)) for job, plan in plans))
        RETRIES.insert(
            self._db,
            ((job.number, job.retry_of) for job, _ in plans if job.retry_of is not None),
        )
        # The last of several records of a call counts.
        records = {(number, record.name): record for number, record in _records(plans, steps, ends)}
        # One after the other: all rows together may have many times the bytes of a result.
        rows = (self._row(number, record) for (number, _), record in in_key_order(records))
        CALLS.insert(self._db, rows)
        for text in as_json((cancel.job.number, cancel.at) for cancel in cancels):
            self._db.execute(CANCEL, (text,))
        deliveries = (
            (end.job.number, writable(end.job.notify), ran_s) for end in ends if end.job.notify
        )
        DELIVERIES.insert(self._db, deliveries)

    def delivered(self, numbers: Sequence[int]) -> None:
        text = encode(numbers).decode()
        query = "DELETE FROM notice WHERE number IN (SELECT value FROM json_each(?))"
        self._db.execute(query, (text,))

    def _row(self, job: int, record: CallRecord) -> tuple[Any, ...]:
        """The row of a record, field by field: by their names it would take three times as long."""
        return (
            job,
            record.name,
            None if record.state is None else record.state.value,
            record.attempts,
            record.failures,
            record.lost,
            record.lease,
            record.lease_s,
            writable(record.worker),
            record.dialect,
            record.started_at,
            record.ended_at,
            record.resumes_at,
            json_field(record.value),
            None if record.error is None else writable(record.error),
            None if record.trace is None else writable(record.trace),
            record.session,
        )

    # Reading

    def records(self, job: int) -> list[CallRecord]:
        return [self._record(row) for row in self._db.execute(RECORDS, (job,))]

    def _record(self, row: Sequence[Any]) -> CallRecord:
        values = without_odd("call", dict(zip(RECORD, row, strict=True)))
        if values["state"] is not None:
            values["state"] = CallState(values["state"])
        values["value"] = json_read(values["value"])
        return CallRecord(**values)

    def plans(self, numbers: Iterable[int]) -> dict[int, tuple[str | None, list[CallRecord]]]:
        found = {}
        for number in numbers:
            row = self._db.execute("SELECT text FROM plan WHERE number = ?", (number,)).fetchone()
            (text,) = row or (None,)
            records = self.records(number)
            if text is not None or records or self._has_ended(number):
                found[number] = (text, records)
        return found

    def _has_ended(self, number: int) -> bool:
        query = "SELECT 1 FROM ended WHERE number = ?"
        return self._db.execute(query, (number,)).fetchone() is not None

    def deliveries(self) -> list[tuple[int, str, float, str]]:
        """The webhooks that have not been taken, in the order of the ends, with times of `Ages`."""
        return self._db.execute(NOTICES).fetchall()


def in_key_order(records: Mapping[Key, CallRecord]) -> Iterator[tuple[Key, CallRecord]]:
    """Records in the order of the table.

    To find the place of a row, SQLite reads rows that may have long results, whole. A row that
    comes last needs no such search: of 10,000 in any order, one takes 10 ms beside some of 16 MB.
    """
    keys = iter(records)
    runs = []
    while run := sorted(islice(keys, SORTED_AT_ONCE)):
        runs.append(run)
    return ((key, records[key]) for key in merge(*runs))


def _records(
    plans: Iterable[tuple[Job, str]], steps: Iterable[Step], ends: Iterable[End]
) -> Iterator[tuple[int, CallRecord]]:
    for job, _ in plans:
        for call in job.each_call():
            if call.recorded:
                yield job.number, call.record
    for step in steps:
        yield step.call.job, step.record
    for end in ends:
        # Of equal calls, one has a row; `Archive` finds the others again.
        for call in end.job.each_call():
            if not call.recorded:
                yield end.job.number, call.record
