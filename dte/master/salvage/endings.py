"""Ends jobs of a damaged journal that cannot go on, and those whose own rows are lost.

A lost row has little that is not in the plan of its job and in the records of its calls. So such a
job is kept, and it can be retried.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from functools import cached_property

from dte.core.errors import DteError
from dte.core.graph.call import CallRecord, CallState
from dte.core.jobs.job import kept_task
from dte.core.slices import at_once
from dte.master.journal.rows import json_field, json_read
from dte.master.plans import LOST_PLAN, NO_PLAN_LIMITS, Plan, build, describe, read_plan
from dte.master.salvage.reading import Values

ROW_LOST = "its row was lost when the journal was damaged, so it was not resumed"
END_LOST = "its row was lost when the journal was damaged; it had ended, and nobody knows how"
KEPT = ("submitted_at", "operations", "task", "owner")
"""Columns of waiting jobs that ended ones have, too."""
BEFORE = "SELECT number, submitted_at FROM {} WHERE number < ? ORDER BY number DESC LIMIT 1"


class Endings:
    """Ends jobs in a new journal.

    Args:
        ended: the jobs that had ended, each with its place in the order of the ends.
    """

    def __init__(self, db: sqlite3.Connection, ended: Mapping[int, int]) -> None:
        self._db = db
        self._ended = ended
        self._now = time.time()

    def fail(self, number: int, reason: str) -> None:
        """Have a waiting job fail."""
        kept = [each for each in KEPT if each in self._columns]
        query = f"SELECT {', '.join(kept)} FROM waiting WHERE number = ?"
        row = self._db.execute(query, (number,)).fetchone()
        self._db.execute("DELETE FROM waiting WHERE number = ?", (number,))
        values: Values = dict(zip(kept, row, strict=True))
        self._end(number, {**values, "state": "failed", "error": reason, "operations_done": 0})

    def rebuild(self, number: int) -> bool:
        """Make a row for a job of which the plan is left, or records of calls; False for others.

        It has failed, unless all of its calls have succeeded.
        """
        row = self._db.execute("SELECT text FROM plan WHERE number = ?", (number,)).fetchone()
        text = LOST_PLAN if row is None else row[0]
        found = self._db.execute("SELECT name, state, value FROM call WHERE job = ?", (number,))
        records = [
            CallRecord(name, CallState(state) if state else None, value=json_read(value))
            for name, state, value in found
        ]
        if text == LOST_PLAN and not records:
            return False
        values: Values = {
            "submitted_at": self._submitted_at(number),
            "operations": len(records),
            "operations_done": sum(each.state is CallState.SUCCEEDED for each in records),
            "state": "failed",
            "error": END_LOST if number in self._ended else ROW_LOST,
        }
        if text == LOST_PLAN:
            values["task"] = f"{len(records)} calls: unknown"
        else:
            plan = read_plan(text)
            values["task"] = kept_task(describe(plan))
            values.update(_outcome(plan, records))
        self._end(number, values)
        return True

    def _end(self, number: int, values: Values) -> None:
        sequence = self._ended.get(number)
        if sequence is not None:
            taken = self._db.execute("SELECT 1 FROM ended WHERE sequence = ?", (sequence,))
            values |= {"sequence": None if taken.fetchone() else sequence}
        values |= {"number": number, "ended_at": max(self._now, values["submitted_at"])}
        if "recorded_s" in self._columns:
            (values["recorded_s"],) = self._db.execute("SELECT ran_s FROM master").fetchone()
        columns, marks = ", ".join(values), ", ".join("?" * len(values))
        self._db.execute(f"INSERT INTO ended ({columns}) VALUES ({marks})", (*values.values(),))
        if sequence is None:
            self._notify(number, values.get("recorded_s", 0.0))

    def _notify(self, number: int, ran_s: float) -> None:
        """Have the webhook of a job that had not ended be sent."""
        row = self._db.execute("SELECT text FROM plan WHERE number = ?", (number,)).fetchone()
        if row is not None and row[0] != LOST_PLAN:
            url = read_plan(row[0]).notify
            if url:
                insert = "INSERT OR IGNORE INTO notice (number, url, since) VALUES (?, ?, ?)"
                self._db.execute(insert, (number, url, ran_s))

    @cached_property
    def _columns(self) -> list[str]:
        return [column[1] for column in self._db.execute("PRAGMA table_info(ended)")]

    def _submitted_at(self, number: int) -> float:
        """About when a job was submitted: when the one before it was."""
        rows = [
            self._db.execute(BEFORE.format(table), (number,)).fetchone()
            for table in ("waiting", "ended")
        ]
        return max((row for row in rows if row), default=(0, self._now))[1]


def _outcome(plan: Plan, records: list[CallRecord]) -> Values:
    """The operations of a job, and its answer if all calls have succeeded."""
    try:
        work = at_once(build(plan, NO_PLAN_LIMITS))
        values: Values = {"operations": work.operations}
        done = {each.name for each in records if each.state is CallState.SUCCEEDED}
        if plan.formula is None and work.calls is not None and done >= work.calls.calls.keys():
            work.calls.restore(records)
            values |= {"state": "succeeded", "error": None}
            values["answer_json"] = json_field(work.calls.result())
    except DteError:
        return {}
    return values
