"""Reads rows of a journal as a master would, to see that they are what they were."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec

from dte.core.errors import DteError
from dte.core.formula.formula import parse
from dte.core.graph.call import TERMINAL as CALL_ENDS
from dte.core.graph.call import CallState
from dte.core.graph.handlers import HandlerPolicy
from dte.core.jobs.job import TERMINAL, JobState
from dte.master.journal.bounds import odd_columns, odd_text
from dte.master.journal.jobs import read_number
from dte.master.journal.workers import read_announcement
from dte.master.parsing import NO_LIMITS
from dte.master.plans import LOST_PLAN, read_plan

ZEROED = 64 * "\0"
"""Texts may have NULs; so many in a row are left by a page that was overwritten."""
NUMBER_MAX = 2**53
Values = dict[str, Any]
REPAIRED = ("waiting", "ended")
"""Tables of jobs: a time or a count is worth less than the rest of such a row."""

CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


class _Unreadable(ValueError):
    pass


def is_readable(table: str, values: Values) -> bool:
    """True if a master can read a row."""
    if odd_columns(table, values):
        return False
    try:
        for column in ("number", "job", "retry_of", "first"):
            if not 1 <= (values.get(column) or 1) < NUMBER_MAX:
                return False
        if any(isinstance(each, str) and ZEROED in each for each in values.values()):
            return False
        if any("\0" in (values.get(column) or "") for column in ("task", "formula")):
            return False
        read = READERS.get(table)
        if read is not None:
            read(values)
    except (ValueError, KeyError, TypeError, DteError, msgspec.MsgspecError):
        return False
    return True


def odd_texts(table: str, values: Values) -> list[str]:
    """The times and counts of a row that no master writes, for people."""
    return [odd_text(table, column, values) for column in odd_columns(table, values)]


def repaired(table: str, values: Values, now: float) -> Values | None:
    """The row of a job without times and counts that no master writes; None for any other row.

    Args:
        now: stands for a time that a row must have, if it has no other; seconds since 1970.
    """
    odd = odd_columns(table, values)
    if table not in REPAIRED or not odd:
        return None
    kept = values | dict.fromkeys(odd)
    times = [kept[name] for name in ("ended_at", "started_at", "submitted_at") if kept.get(name)]
    for column in odd:
        if column in ("submitted_at", "ended_at"):
            kept[column] = times[0] if times else now
        elif column.startswith("operations"):
            kept[column] = 0
    return kept if is_readable(table, kept) else None


def is_formula_of(text: str, operations: int, task: str) -> bool:
    """True for a formula that has so many operations, and begins with a text."""
    try:
        is_same = parse(text, NO_LIMITS).operations == operations
    except DteError:
        return False
    return is_same and text.startswith(task.removesuffix("…"))


def _ended(values: Values) -> None:
    if values["answer"] is not None:
        read_number(values["answer"])
    state = values.get("state")
    if state is not None and JobState(state) not in TERMINAL:
        raise _Unreadable
    _json(values.get("answer_json"))


def _call(values: Values) -> None:
    state = values["state"]
    if state is not None and CallState(state) not in CALL_ENDS:
        raise _Unreadable
    _json(values["value"])


def _json(field: str | bytes | None) -> None:
    """Check a worker's JSON, which is kept as it was sent: it has no control characters."""
    if isinstance(field, str) and CONTROL.search(field):
        raise _Unreadable


def _worker(values: Values) -> None:
    if values.get("said"):
        read_announcement(values["said"])


def _plan(values: Values) -> None:
    if values["text"] != LOST_PLAN:
        read_plan(values["text"])


def _replaced(values: Values) -> None:
    msgspec.json.decode(values["policy"], type=HandlerPolicy)


READERS: dict[str, Callable[[Values], Any]] = {
    "ended": _ended,
    "call": _call,
    "plan": _plan,
    "worker": _worker,
    "replaced": _replaced,
}
