"""Tasks of the dialects that poll: their arguments, their results, and their states."""

from __future__ import annotations

from typing import Any

import pytest

from dte.core.errors import InvalidRequest
from dte.core.formula.formula import FormulaLimits
from dte.core.graph.call import CallState
from dte.core.jobs.job import JobState
from dte.master.api.dialects.tasks import TASK, count_by_state, quoted, succeeded, task_state
from dte.master.messages import arguments
from dte.master.plans import Node, Plan, PlanLimits, build, plan_text, read_plan
from dte.wire.codec import encode
from master.rig import Rig


def built(args: Any) -> Any:
    """Arguments as a worker gets them after their plan was kept and read again."""
    plan = read_plan(plan_text(Plan({TASK: Node("echo", quoted(args))})))
    steps = build(plan, PlanLimits(FormulaLimits(), 16_000_000), 0.0)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return arguments(end.value.calls.calls[TASK])


@pytest.mark.parametrize(
    "args",
    [
        [],
        {},
        [1, "a", None, 1.5, {"b": [True]}],
        {"ref": "a"},
        [{"ref": "a"}],
        {"literal": {"ref": "a"}},
        [{"literal": 1}, {"ref": {"literal": 2}}],
        {"ref": "a", "b": {"ref": "c"}},
        [{"r\u00e9f": "\0", "ref": '"'}],
    ],
)
def test_quoted_arguments_are_what_they_were(args: Any) -> None:
    assert built(args) == args


def test_arguments_that_nest_too_deep_are_refused() -> None:
    value: Any = {"ref": "a"}
    for _ in range(500):
        value = [value]
    with pytest.raises(InvalidRequest, match="deep"):
        quoted(value)


@pytest.mark.parametrize("inmost", [1, {"ref": "a"}])
def test_arguments_that_nest_a_hundred_deep_are_not(inmost: Any) -> None:
    value = [inmost]
    for _ in range(99):
        value = [value]
    assert built(value) == value


@pytest.mark.parametrize("args", [{"limit": 10}, [["a", "literally", "x ref"]]])
def test_arguments_that_have_no_such_words_are_kept_as_they_are(args: Any) -> None:
    assert bytes(quoted(args)) == encode(args)


def test_a_result_that_is_too_long_is_a_failure_for_good() -> None:
    assert succeeded([1, 2], 5).value == b"[1,2]"
    outcome = succeeded([1, 2], 4)
    assert (outcome.state, outcome.retry) == (CallState.FAILED, False)
    assert "value_bytes_max" in str(outcome.error)


async def test_jobs_are_counted_by_how_they_stand(rig: Rig) -> None:
    for _ in range(3):
        await rig.post("/jobs", {"handler": "resize"})
    await rig.post("/submit", {"task": "1"})
    await rig.post("/job/2/cancel")
    counted = await rig.master.slices.run(count_by_state(rig.master.core.jobs))
    assert counted == {JobState.WAITING: 2, JobState.CANCELLED: 1, JobState.SUCCEEDED: 1}


async def test_that_a_job_ends_is_no_news_before_it_is_recorded(rig: Rig) -> None:
    await rig.post("/jobs", {"handler": "resize"})
    job = rig.master.core.jobs.job(1)
    assert task_state(job) is JobState.WAITING
    fact = rig.master.core.calls.jobs.cancel(rig.master.clock.now(), job)
    assert fact is not None
    assert job.state is JobState.ENDING
    assert task_state(job) is JobState.WAITING
    await rig.master.awaited.until_recorded([fact])
    assert task_state(job) is JobState.CANCELLED
