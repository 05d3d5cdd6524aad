"""What the dialects share whose workers poll."""

from __future__ import annotations

from typing import Any

import pytest

from dte.core.errors import InvalidRequest
from dte.core.formula.formula import FormulaLimits
from dte.core.graph.call import CallState
from dte.core.jobs.job import JobState
from dte.core.workers.worker import Delivery
from dte.master.api.dialects.polling import (
    TASK,
    count_by_state,
    poller,
    quoted,
    standing,
    succeeded,
)
from dte.master.dispatch.calls import arguments
from dte.master.plans import Node, Plan, PlanLimits, build, plan_text, read_plan
from dte.wire.codec import encode
from master.rig import Rig


def built(args: Any) -> Any:
    """What a worker gets of arguments whose plan is kept and read again."""
    plan = read_plan(plan_text(Plan({TASK: Node("echo", quoted(args))})))
    steps = build(plan, PlanLimits(), FormulaLimits(), 0.0)
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


@pytest.mark.parametrize("name", ["", "a\nb", "a" * 201, "\0"])
def test_a_name_that_cannot_be_shown_is_none(name: str) -> None:
    with pytest.raises(InvalidRequest):
        poller(name, {}, 1.0, 1.0)


def test_who_polls_does_one_call_at_a_time_and_cannot_be_told_to_stop() -> None:
    said = poller("w", {}, 120.0, 60.0)
    assert (said.delivery, said.can_stop, said.handler_slots) == (Delivery.PULL, False, 1)
    assert not said.arithmetic
    assert (said.identity, said.lease_s, said.dead_after_s) == ("pull:w", 120.0, 60.0)


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
    assert standing(job) is JobState.WAITING
    fact = rig.master.core.calls.jobs.cancel(rig.master.now(), job)
    assert fact is not None
    assert job.state is JobState.ENDING
    assert standing(job) is JobState.WAITING
    await rig.master.calls.until_recorded([fact])
    assert standing(job) is JobState.CANCELLED
