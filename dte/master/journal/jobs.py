"""The part of the journal that is about jobs as a whole: those that wait, and how others ended.

All methods are called by `Journal`, in its transactions, and raise what SQLite raises.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dte.core.graph.numbers import Number
from dte.core.jobs.facts import End, Submission
from dte.core.jobs.job import TASK_CHARS_KEPT, Job, JobState
from dte.master.journal.rows import NUL, as_json, goes_alone, json_field, json_read, writable
from dte.wire.codec import encode

ARITHMETIC_ENDED = (
    "number, submitted_at, started_at, ended_at, operations, operations_done, answer, error, task"
)
ENDED = f"{ARITHMETIC_ENDED}, state, answer_json"
INSERT_WAITING = """
INSERT INTO waiting (number, submitted_at, operations, task)
SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]'), json_extract(value, '$[2]'),
       json_extract(value, '$[3]')
FROM json_each(?)
"""
INSERT_ONE_WAITING = """
INSERT INTO waiting (number, submitted_at, operations, task, formula) VALUES (?, ?, ?, ?, ?)
"""
END_FIELDS = """
waiting.number, waiting.submitted_at, json_extract(value, '$[1]'), json_extract(value, '$[2]'),
json_extract(value, '$[3]'), json_extract(value, '$[4]'), json_extract(value, '$[5]'),
json_extract(value, '$[6]'), waiting.task"""
ALL_END_FIELDS = f"{END_FIELDS}, json_extract(value, '$[7]'), json_extract(value, '$[8]')"
ENDS = "json_each(?) CROSS JOIN waiting ON waiting.number = json_extract(value, '$[0]')"
MOVE_ENDED = f"INSERT INTO ended ({ENDED}) SELECT {ALL_END_FIELDS} FROM {ENDS}"
MOVE_ARITHMETIC = f"INSERT INTO ended ({ARITHMETIC_ENDED}) SELECT {END_FIELDS} FROM {ENDS}"
"""For arithmetic alone, as two fields less take a fifth less time."""
DELETE_WAITING = """
DELETE FROM waiting WHERE number IN (SELECT json_extract(value, '$[0]') FROM json_each(?))
"""
REPLACE_END = "UPDATE ended SET error = ?, answer_json = ? WHERE number = ?"
UNFINISHED = """
SELECT waiting.number, coalesce(formula, task), plan.text,
       EXISTS (SELECT 1 FROM call WHERE job = waiting.number)
FROM waiting LEFT JOIN plan ON plan.number = waiting.number
WHERE waiting.number > ? AND waiting.number <= ? ORDER BY waiting.number
"""
# Each end is compared with these, and to look them up in the enumeration takes longer.
CANCELLED, TIMED_OUT = JobState.CANCELLED, JobState.TIMED_OUT


class JobTables:
    """The tables of jobs in an open journal.

    Args:
        wall_offset_s: see `Journal`.
    """

    def __init__(self, db: sqlite3.Connection, wall_offset_s: float) -> None:
        self._db = db
        self._offset_s = wall_offset_s

    # Writing

    def accept(self, submissions: Iterable[Submission]) -> list[tuple[Job, str]]:
        """Write jobs that are accepted; those that have plans are given back with these."""
        rows: list[tuple[Any, ...]] = []
        plans: list[tuple[Job, str]] = []
        for submission in submissions:
            for job, text in zip(submission.jobs, submission.texts, strict=True):
                row = (job.number, job.submitted_at + self._offset_s, job.operations, job.task)
                if job.plan is not None:
                    plans.append((job, text))
                    row, text = (*row[:3], writable(job.task)), ""
                if len(text) > TASK_CHARS_KEPT or NUL in row[3]:
                    self._db.execute(INSERT_ONE_WAITING, (*row, text or None))
                else:
                    rows.append(row)
        for json in as_json(rows):
            self._db.execute(INSERT_WAITING, (json,))
        return plans

    def end(self, ends: Iterable[End], *, arithmetic: bool) -> None:
        """Move jobs that wait to those that have ended.

        Args:
            arithmetic: none of them `is_more`.
        """
        rows = map(self._arithmetic_row if arithmetic else self._row, ends)
        for text in as_json(rows):
            self._db.execute(MOVE_ARITHMETIC if arithmetic else MOVE_ENDED, (text,))
            self._db.execute(DELETE_WAITING, (text,))
        for end in ends:
            if end.error is not None and NUL in end.error:
                self._db.execute(REPLACE_END, (writable(end.error), None, end.job.number))
            elif not arithmetic and goes_alone(answer := _json_of(end)):
                self._db.execute(REPLACE_END, (None, answer, end.job.number))

    def _arithmetic_row(self, end: End) -> tuple[Any, ...]:
        job, answer, offset_s = end.job, end.answer, self._offset_s
        return (
            job.number,
            None if job.started_at is None else job.started_at + offset_s,
            end.at + offset_s,
            job.operations,
            job.operations_done,
            None if answer is None or isinstance(answer, bytes) else repr(answer),
            None if end.error is None else writable(end.error),
        )

    def _row(self, end: End) -> tuple[Any, ...]:
        row = self._arithmetic_row(end)
        if not is_more(end):
            return row
        json = _json_of(end)
        return (*row, end.state.value, None if goes_alone(json) else json)

    # Reading

    def waiting(self) -> list[Job]:
        """The jobs that have not ended, without what is to be done for them."""
        rows = self._db.execute(
            "SELECT number, task, submitted_at, operations, cancelled_at FROM waiting "
            "ORDER BY number"
        )
        jobs = []
        for number, task, submitted_at, operations, cancelled_at in rows:
            at = submitted_at - self._offset_s
            jobs.append(Job(number, task, at, operations, None, JobState.WAITING))
            jobs[-1].cancelled = cancelled_at is not None
        return jobs

    def last_ended(self, count: int, size: int) -> list[Job]:
        """The last that have ended, in that order: so many, of about so many bytes."""
        ended: list[Job] = []
        for row in self._db.execute(
            f"SELECT {ENDED} FROM ended ORDER BY sequence DESC LIMIT ?", (count,)
        ):
            _, _, _, _, _, _, answer, _, task, _, answer_json = row
            size -= len(task) + len(answer or "") // 2 + len(answer_json or "")
            if size < 0:
                break
            ended.append(self._ended_job(*row))
        ended.reverse()
        return ended

    def ended(self, numbers: Sequence[int]) -> dict[int, Job]:
        """Those of the jobs that have ended, by number."""
        query = f"SELECT {ENDED} FROM ended WHERE number IN (SELECT value FROM json_each(?))"
        rows = self._db.execute(query, (encode(numbers).decode(),))
        return {row[0]: self._ended_job(*row) for row in rows}

    def _ended_job(
        self,
        number: int,
        submitted_at: float,
        started_at: float | None,
        ended_at: float,
        operations: int,
        operations_done: int,
        answer: str | None,
        error: str | None,
        task: str,
        state: str | None,
        answer_json: str | bytes | None,
    ) -> Job:
        offset_s = self._offset_s
        return Job(
            number,
            task,
            submitted_at - offset_s,
            operations,
            None,
            _state_by(error) if state is None else JobState(state),
            None if started_at is None else started_at - offset_s,
            ended_at - offset_s,
            json_read(answer_json) if answer is None else _number(answer),
            error,
            operations_done,
        )

    def unfinished(self, after: int, last: int) -> Iterator[tuple[int, str, str | None, bool]]:
        """The jobs that have not ended, in the order of their numbers.

        Args:
            after: their numbers are higher than this.
            last: the highest number.

        Returns:
            The number, the whole formula or what it is, the plan if there is one, and whether
            there is something in the table of calls.
        """
        return self._db.execute(UNFINISHED, (after, last))


def is_more(end: End) -> bool:
    """Whether a job is more than arithmetic, or its end is another than that usually has.

    Only of such jobs there can be something in other tables, and their states are recorded.
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


def _state_by(error: str | None) -> JobState:
    return JobState.SUCCEEDED if error is None else JobState.FAILED


def _number(text: str) -> Number:
    return int(text) if text.lstrip("-").isdigit() else float(text)
