"""Whether a job with calls ended as it may: its answer, its state, and how each call ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torture.simulation.executions import Executions
from torture.simulation.plans import FATAL, FLAKY, NodeSpec, PlanSpec, filled, value_of

LOST = "died while running"
TOO_LONG = "it took longer than", "it took too long"
NOT_RUN = "skipped because "


@dataclass(frozen=True, slots=True)
class CallRow:
    """How a call ended, as the journal has it."""

    name: str
    state: str
    attempts: int
    failures: int
    lost: int
    value: Any
    error: str | None

    @property
    def succeeded(self) -> bool:
        return self.state == "succeeded"

    @property
    def result(self) -> Any:
        return json.loads(self.value) if self.value is not None else None


@dataclass(frozen=True, slots=True)
class Ended:
    """How a job ended.

    Attributes:
        answer: as `repr` writes a number, or JSON after ``json:``.
        rows: its calls, by name.
        cancel_asked: somebody wanted it cancelled.
        again: it does the failed part of another job again, and keeps the other results: also those
            of calls that were done although what they wait for failed.
        awaited_failed: a job that it waits for did not succeed.
        losses: how many leases a call has lost, by its name.
    """

    number: int
    answer: str
    error: str | None
    state: str
    rows: Mapping[str, CallRow]
    cancel_asked: bool
    again: bool
    awaited_failed: bool
    losses: Callable[[str], int]


def complaint(plan: PlanSpec, ended: Ended, executions: Executions) -> str | None:
    """What is wrong with the end of a job; None if nothing is."""
    if plan.formula:
        return _of_formula(plan, ended)
    if ended.awaited_failed and not plan.whatever and ended.error and NOT_RUN in ended.error:
        return None if ended.state == "failed" else f"it is {ended.state}"
    by_tag = {node.tag: ended.rows[name] for name, node in plan.nodes.items() if name in ended.rows}
    rows = {name: ended.rows.get(name) or by_tag.get(node.tag) for name, node in plan.nodes.items()}
    known: dict[str, CallRow] = {}
    for name, row in rows.items():
        if row is None:
            if ended.state == "cancelled" and ended.cancel_asked:
                return None  # Before anything of it was begun.
            return f"nothing is known of {name}"
        known[name] = row
    for name, node in plan.nodes.items():
        wrong = _of_call(plan, node, known, ended, executions)
        if wrong is not None:
            return f"{name}: {wrong}: {known[name]}"
    return _of_job(plan, known, ended)


def _of_call(
    plan: PlanSpec,
    node: NodeSpec,
    rows: Mapping[str, CallRow],
    ended: Ended,
    executions: Executions,
) -> str | None:
    row = rows[node.name]
    before = [name for name in (*node.refs, *node.after) if not rows[name].succeeded]
    failed_before = bool(before)
    if row.failures > node.retries_max + 1 or row.lost > node.lost_max:
        return "it was tried too often"
    if row.succeeded:
        if any(plan.nodes[name].pure for name in before):
            # It is not remembered after a restart, and may have come to nothing then.
            return None if executions.was_done(node.tag, row.result) else "nobody has done it"
        if failed_before and not node.whatever:
            return "it was done although what it waits for failed"
        values = {name: rows[name].result for name in node.refs}
        value = value_of(filled(node.args, values))
        # It may have been done when a pure one had failed, which succeeded after a restart.
        forgotten = ended.again or any(plan.nodes[name].pure for name in node.refs)
        right = row.result == value or (forgotten and node.whatever)
        right = right and executions.was_done(node.tag, row.result)
        return None if right else f"it should be {value}"
    if row.state == "cancelled":
        return None if ended.cancel_asked else "nobody wanted it cancelled"
    # One may have been begun before a restart, after which what it waits for was done anew.
    twins = [other.name for other in plan.nodes.values() if other.tag == node.tag]
    if not row.attempts or (row.error or "").startswith(NOT_RUN):
        return None if failed_before and not node.whatever else "it was never tried"
    return _of_failure(node, row, max(map(ended.losses, twins)))


def _of_failure(node: NodeSpec, row: CallRow, losses: int) -> str | None:
    error = row.error or ""
    if LOST in error:
        return None if losses >= node.lost_max else f"{losses} workers were lost"
    if node.handler == "fatal" and FATAL in error:
        return None
    slow = any(text in error for text in TOO_LONG) and node.may_time_out
    if not slow and not (node.handler == "flaky" and FLAKY in error):
        return "it had no reason to fail"
    return None if row.failures == node.retries_max + 1 else "it was not tried often enough"


def _of_job(plan: PlanSpec, rows: Mapping[str, CallRow], ended: Ended) -> str | None:
    if ended.state == "cancelled" and ended.cancel_asked:
        return None
    if plan.answer is not None:
        row = rows[plan.answer]
        state, answer = "failed" if row.state == "skipped" else row.state, row.result
    else:
        leaves = plan.leaves
        states = [row.state for row in rows.values()]
        state = "succeeded" if all(state == "succeeded" for state in states) else "not"
        results = {name: rows[name].result for name in leaves}
        answer = results if len(leaves) > 1 else next(iter(results.values()))
    if state == "succeeded":
        right = ended.state == "succeeded" and ended.answer == f"json:{json.dumps(answer)}"
        if not right and ended.answer.startswith("json:"):
            right = ended.state == "succeeded" and json.loads(ended.answer[5:]) == answer
        return None if right else f"its answer should be {answer}"
    if ended.state == "succeeded" or not ended.error:
        return "it should have failed"
    return None if state in ("not", ended.state) else f"it should have ended as {state}"


def _of_formula(plan: PlanSpec, ended: Ended) -> str | None:
    if ended.error is None:
        return None if ended.answer == repr(plan.value) else f"it should be {plan.value}"
    if ended.state == "cancelled":
        return None if ended.cancel_asked else "nobody wanted it cancelled"
    if LOST in ended.error:
        lost = max(map(ended.losses, ended.rows), default=0)
        return None if lost >= 3 else f"{lost} workers were lost"
    return "it had no reason to fail"
