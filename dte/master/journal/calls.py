"""The part of the journal that is about calls: plans, what became of calls, who is to be told.

A job that is more than a formula has a row in `plan`, and in `call` one for each of its calls that
anything is known of: those that were handed out, and when it has ended all. They stay until the
job is deleted from `ended`, whose trigger deletes them too.

All methods are called by `Journal`, in its transactions, and raise what SQLite raises.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from dte.core.graph.call import CallRecord, CallState
from dte.core.jobs.facts import Cancel, End, Step
from dte.core.jobs.job import Job
from dte.master.journal.rows import Insertion, as_json, json_field, json_read, writable

RECORD = (
    "name, state, attempts, failures, lost, lease, lease_s, worker, started_at, ended_at, "
    "resumes_at, value, error"
)
CALLS = Insertion("call", f"job, {RECORD}", foreign=(8, 12, 13))
PLANS = Insertion("plan", "number, text", foreign=(1,))
NOTICES = Insertion("notice", "number, url, since", foreign=(1,))
CANCEL = (
    "UPDATE waiting SET cancelled_at = json_extract(value, '$[1]') "
    "FROM json_each(?) WHERE waiting.number = json_extract(value, '$[0]')"
)


class CallTables:
    """The tables of plans, calls and notices in an open journal.

    Args:
        wall_offset_s: see `Journal`.
    """

    def __init__(self, db: sqlite3.Connection, wall_offset_s: float) -> None:
        self._db = db
        self._offset_s = wall_offset_s

    # Writing

    def write(
        self,
        plans: Sequence[tuple[Job, str]],
        steps: Iterable[Step],
        cancels: Iterable[Cancel],
        ends: Iterable[End],
    ) -> None:
        """Write what there is of jobs that are more than arithmetic.

        Args:
            plans: of jobs that are accepted; what is known of their calls is written too.
            steps: what became of calls.
            cancels: jobs that are to be cancelled.
            ends: jobs that end, with what became of all their calls.
        """
        offset_s = self._offset_s
        PLANS.insert(self._db, ((job.number, writable(plan)) for job, plan in plans))
        # Of several records of a call the last is what is known now.
        records = {
            (number, record.name): self._row(number, record)
            for number, record in chain(_taken_over(plans), _of_steps(steps), _of_ends(ends))
        }
        CALLS.insert(self._db, records.values())
        for text in as_json((cancel.job.number, cancel.at + offset_s) for cancel in cancels):
            self._db.execute(CANCEL, (text,))
        notices = (
            (end.job.number, writable(end.job.notify), end.at + offset_s)
            for end in ends
            if end.job.notify
        )
        NOTICES.insert(self._db, notices)

    def noticed(self, number: int) -> None:
        """Forget a notice."""
        self._db.execute("DELETE FROM notice WHERE number = ?", (number,))

    def _row(self, job: int, record: CallRecord) -> tuple[Any, ...]:
        started_at, ended_at, resumes_at = record.started_at, record.ended_at, record.resumes_at
        offset_s = self._offset_s
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
            None if started_at is None else started_at + offset_s,
            None if ended_at is None else ended_at + offset_s,
            None if resumes_at is None else resumes_at + offset_s,
            json_field(record.value),
            None if record.error is None else writable(record.error),
        )

    # Reading

    def records(self, job: int) -> list[CallRecord]:
        """What is known of a job's calls."""
        rows = self._db.execute(f"SELECT {RECORD} FROM call WHERE job = ?", (job,))
        return [self._record(*row) for row in rows]

    def _record(
        self,
        name: str,
        state: str | None,
        attempts: int,
        failures: int,
        lost: int,
        lease: int,
        lease_s: float,
        worker: str,
        started_at: float | None,
        ended_at: float | None,
        resumes_at: float | None,
        value: str | bytes | None,
        error: str | None,
    ) -> CallRecord:
        offset_s = self._offset_s
        return CallRecord(
            name,
            None if state is None else CallState(state),
            attempts,
            failures,
            lost,
            lease,
            lease_s,
            worker,
            None if started_at is None else started_at - offset_s,
            None if ended_at is None else ended_at - offset_s,
            None if resumes_at is None else resumes_at - offset_s,
            json_read(value),
            error,
        )

    def plans(self, numbers: Iterable[int]) -> dict[int, tuple[str | None, list[CallRecord]]]:
        """The plans of jobs, and what is known of their calls, where there is either."""
        found = {}
        for number in numbers:
            row = self._db.execute("SELECT text FROM plan WHERE number = ?", (number,)).fetchone()
            records = self.records(number)
            if row is not None or records:
                found[number] = (row[0] if row is not None else None, records)
        return found

    def notices(self) -> list[tuple[int, str, float]]:
        """Who is to be told of which job's end, and since when; the oldest first."""
        rows = self._db.execute("SELECT number, url, since FROM notice ORDER BY since, number")
        return [(number, url, since - self._offset_s) for number, url, since in rows]


def _taken_over(plans: Iterable[tuple[Job, str]]) -> Iterator[tuple[int, CallRecord]]:
    for job, _ in plans:
        for call in job.each_call():
            if call.recorded:
                yield job.number, call.record


def _of_steps(steps: Iterable[Step]) -> Iterator[tuple[int, CallRecord]]:
    for step in steps:
        yield step.call.job, step.record


def _of_ends(ends: Iterable[End]) -> Iterator[tuple[int, CallRecord]]:
    for end in ends:
        if end.job.calls is not None:
            for call in end.job.calls.named():
                if not call.recorded:
                    yield end.job.number, call.record
