"""The journal's tables of jobs: the unfinished ones, and the ended ones.

All methods are called by `Journal`, in its transactions, and raise what SQLite raises.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dte.core.graph.numbers import Number
from dte.core.jobs.facts import End, Submission
from dte.core.jobs.job import Job, JobState
from dte.core.shares import OWN_USER
from dte.master.journal.bounds import check_kinds, without_odd
from dte.master.journal.rows import (
    Insertion,
    as_json,
    extracted,
    goes_alone,
    json_field,
    json_read,
    writable,
)
from dte.wire.codec import encode

WAITING = Insertion(
    "waiting",
    ("number", "submitted_at", "operations", "task", "formula"),
    foreign=("task", "formula"),
)
OWNED = Insertion(
    "waiting",
    ("number", "submitted_at", "operations", "task", "formula", "owner"),
    foreign=("task", "formula", "owner"),
)
ARITHMETIC_END = (
    *("number", "started_at", "ended_at"),
    *("operations", "operations_done", "answer", "error"),
)
END = (*ARITHMETIC_END, "state", "answer_json", "trace")
ENDED = (*END, "submitted_at", "task", "owner")


def _moving(end: Sequence[str]) -> str:
    """The statement that inserts ends into `ended`, with columns that `waiting` has of the jobs.

    Args:
        end: the columns of the rows, the job's number first.
    """
    return f"""
INSERT INTO ended ({", ".join(end)}, submitted_at, task, owner, recorded_s)
SELECT waiting.number, {extracted(range(1, len(end)))},
       waiting.submitted_at, waiting.task, waiting.owner, ?
FROM json_each(?) CROSS JOIN waiting ON waiting.number = json_extract(value, '$[0]')
"""


MOVE_ENDED = _moving(END)
MOVE_ARITHMETIC = _moving(ARITHMETIC_END)
"""For arithmetic alone: two fields fewer take a fifth less time."""
DELETE_WAITING = """
DELETE FROM waiting WHERE number IN (SELECT json_extract(value, '$[0]') FROM json_each(?))
"""
RETRY_OF = "(SELECT retry_of FROM retry WHERE retry.number = {}.number) AS retry_of"
SELECT_ENDED = f"SELECT {', '.join(ENDED)}, {RETRY_OF.format('ended')} FROM ended"
FOUND = (*ENDED, "retry_of")
REPLACE_END = "UPDATE ended SET error = ?, answer_json = ?, trace = ? WHERE number = ?"
UNFINISHED = """
SELECT waiting.number, coalesce(formula, task), plan.text,
       EXISTS (SELECT 1 FROM call WHERE job = waiting.number)
FROM waiting LEFT JOIN plan ON plan.number = waiting.number
WHERE waiting.number > ? AND waiting.number <= ? ORDER BY waiting.number
"""
# Each end is compared with these; a look-up in the enumeration takes longer.
CANCELLED, TIMED_OUT = JobState.CANCELLED, JobState.TIMED_OUT


class JobTables:
    """The tables of jobs in an open journal."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    # Writing

    def accept(self, submissions: Iterable[Submission]) -> list[tuple[Job, str]]:
        """Write accepted jobs, and return the jobs that have plans, with their plans."""
        rows: list[tuple[Any, ...]] = []
        owned: list[tuple[Any, ...]] = []
        plans: list[tuple[Job, str]] = []
        for submission in submissions:
            for job, text in zip(submission.jobs, submission.texts, strict=True):
                task, formula = job.task, None if text == job.task else text
                if job.plan is not None:
                    plans.append((job, text))
                    task, formula = writable(task), None
                row = (job.number, job.submitted_at, job.operations, task, formula)
                if job.owner:
                    owned.append((*row, job.owner))
                else:
                    rows.append(row)
        WAITING.insert(self._db, rows)
        OWNED.insert(self._db, owned)
        return plans

    def end(self, ends: Iterable[End], ran_s: float, *, arithmetic: bool) -> None:
        """Move jobs from `waiting` to `ended`.

        Args:
            ran_s: now, by the time by which rows age.
            arithmetic: none of them `is_more`.
        """
        rows = map(self._arithmetic_row if arithmetic else self._row, ends)
        for text in as_json(rows):
            self._db.execute(MOVE_ARITHMETIC if arithmetic else MOVE_ENDED, (ran_s, text))
            self._db.execute(DELETE_WAITING, (text,))
        for end in ends:
            if end.error is None and arithmetic:
                continue
            fields = (_writable(end.error), _json_of(end), _writable(end.trace))
            if any(map(goes_alone, fields)):
                self._db.execute(REPLACE_END, (*fields, end.job.number))

    def _arithmetic_row(self, end: End) -> tuple[Any, ...]:
        job, answer = end.job, end.answer
        return (
            job.number,
            job.started_at,
            end.at,
            job.operations,
            job.operations_done,
            None if answer is None or isinstance(answer, bytes) else repr(answer),
            _writable(end.error),
        )

    def _row(self, end: End) -> tuple[Any, ...]:
        row = self._arithmetic_row(end)
        if not is_more(end):
            return row
        json = _json_of(end)
        answer = None if goes_alone(json) else json
        return (*row, end.state.value, answer, _writable(end.trace))

    # Reading

    def waiting(self) -> list[Job]:
        """The unfinished jobs, without their graphs."""
        rows = self._db.execute(
            "SELECT number, task, submitted_at, operations, cancelled_at, owner, "
            f"{RETRY_OF.format('waiting')} FROM waiting ORDER BY number"
        )
        jobs = []
        for number, task, submitted_at, operations, cancelled_at, owner, retry_of in rows:
            jobs.append(Job(number, task, submitted_at, operations, None, JobState.WAITING))
            jobs[-1].cancelled, jobs[-1].retry_of = cancelled_at is not None, retry_of
            jobs[-1].owner = owner or OWN_USER
        return jobs

    def last_ended(self, count: int, size: int) -> list[Job]:
        """The jobs that ended last, in the order of their ends, up to a count and a size."""
        query = f"{SELECT_ENDED} ORDER BY sequence DESC LIMIT ?"
        ended: list[Job] = []
        for row in self._db.execute(query, (count,)):
            fields = dict(zip(FOUND, row, strict=True))
            check_kinds("ended", fields)
            size -= len(fields["task"]) + len(fields["answer"] or "") // 2
            size -= len(fields["answer_json"] or "") + len(fields["trace"] or "")
            if size < 0:
                break
            ended.append(self._ended_job(fields))
        ended.reverse()
        return ended

    def ended(self, numbers: Sequence[int]) -> dict[int, Job]:
        query = f"{SELECT_ENDED} WHERE number IN (SELECT value FROM json_each(?))"
        rows = self._db.execute(query, (encode(numbers).decode(),))
        jobs = (self._ended_job(dict(zip(FOUND, row, strict=True))) for row in rows)
        return {job.number: job for job in jobs}

    def _ended_job(self, fields: dict[str, Any]) -> Job:
        """The job of a row, whose fields but `answer_json` have the names of the job's.

        A time or a count that no master writes is not known.
        """
        fields = without_odd("ended", fields)
        answer_json, owner = fields.pop("answer_json"), fields.pop("owner")
        job = Job(graph=None, owner=owner or OWN_USER, **fields)
        answer, state = fields["answer"], fields["state"]
        job.answer = json_read(answer_json) if answer is None else read_number(answer)
        by_error = JobState.SUCCEEDED if job.error is None else JobState.FAILED
        job.state = by_error if state is None else JobState(state)
        return job

    def unfinished(self, after: int, last: int) -> Iterator[tuple[int, str, str | None, bool]]:
        """The unfinished jobs after a number, up to another, in the order of their numbers.

        Returns:
            The number, the formula or the description, the plan, and whether calls have records.
        """
        return self._db.execute(UNFINISHED, (after, last))


def is_more(end: End) -> bool:
    """True for the end of a job that is not arithmetic, or of one that was cancelled.

    Only such jobs have rows in other tables, and their states are recorded.
    """
    job = end.job
    return (
        job.calls is not None
        or job.plan is not None
        or end.state is CANCELLED
        or end.state is TIMED_OUT
        or isinstance(end.answer, bytes)
    )


def _json_of(end: End) -> str | bytes | None:
    return json_field(end.answer) if isinstance(end.answer, bytes) else None


def _writable(text: str | None) -> str | None:
    return None if text is None else writable(text)


def read_number(text: str) -> Number:
    """The number that a text in the journal is."""
    return int(text) if text.lstrip("-").isdigit() else float(text)
