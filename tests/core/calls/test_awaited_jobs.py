"""Jobs that begin when others have ended."""

from __future__ import annotations

import pytest

from core.checked import CALLER, WORKER, Core
from core.plans import Plan, call
from dte.core.calls.attempts import Outcome
from dte.core.graph.call import CallState, Ref
from dte.core.jobs.job import Job, JobState

ONE = {"a": call("f")}


def end(core: Core, now: float, job: Job, state: CallState = CallState.SUCCEEDED) -> None:
    """End a job that is one call."""
    lease = next(lease for lease in core.out if lease.call.job == job.number)
    core.end_call(now, lease, Outcome(state, b"1", None if state is CallState.SUCCEEDED else "no"))


def test_a_job_begins_when_those_have_ended_that_it_waits_for() -> None:
    core = Core(CALLER)
    first, second = core.plan(Plan(ONE)), core.plan(Plan(ONE))
    third = core.plan(Plan(ONE, after=[first.number, second.number]))
    core.hand_out()
    end(core, 1.0, first)
    assert core.hand_out(1.0) == {}
    assert third.state is JobState.WAITING
    end(core, 2.0, second)
    assert core.hand_out(2.0).keys() == {"a"}
    end(core, 3.0, third)
    assert third.state is JobState.SUCCEEDED


def test_a_job_begins_only_when_the_other_s_end_is_recorded() -> None:
    core = Core(CALLER, records_at_once=False)
    first = core.plan(Plan(ONE))
    core.record()
    core.tick(0.0)
    core.record()
    core.tick(0.0)
    core.plan(Plan(ONE, after=[first.number]))
    core.record()
    end(core, 1.0, first)
    core.tick(1.0)
    assert len(core.calls.leases) == 0
    core.record()
    core.tick(1.0)
    assert len(core.calls.leases) == 1


def test_a_job_that_waits_for_one_that_has_ended_begins_at_once() -> None:
    core = Core(CALLER)
    first = core.plan(Plan(ONE))
    core.hand_out()
    end(core, 0.0, first)
    core.plan(Plan(ONE, after=[first.number]))
    assert core.hand_out().keys() == {"a"}


def test_a_job_may_be_accepted_in_the_commit_in_which_the_other_ends() -> None:
    core = Core(CALLER, records_at_once=False)
    first = core.plan(Plan(ONE))
    core.record()
    core.tick(0.0)
    core.record()
    core.tick(0.0)
    core.plan(Plan(ONE, after=[first.number]))
    end(core, 0.0, first)
    core.record()
    core.tick(0.0)
    assert len(core.calls.leases) == 1


def test_two_that_end_in_one_commit_begin_a_job_once() -> None:
    core = Core(CALLER, records_at_once=False)
    first, second = core.plan(Plan(ONE)), core.plan(Plan(ONE))
    core.record()
    third = core.plan(Plan({"a": call("f"), "b": call("f")}, after=[1, 2]))
    core.record()
    core.tick(0.0)
    core.record()
    core.tick(0.0)
    end(core, 1.0, first)
    end(core, 1.0, second)
    core.record()
    core.tick(1.0)
    core.record()
    assert core.hand_out(1.0).keys() == {"a", "b"}
    assert third.calls is not None
    assert {call.record.attempts for call in third.calls.calls.values()} == {1}


@pytest.mark.parametrize(
    ("state", "how"), [(CallState.FAILED, "failed"), (CallState.TIMED_OUT, "timed out")]
)
@pytest.mark.parametrize("before", [True, False])
def test_a_job_fails_if_the_other_did(state, how, before) -> None:
    core = Core(CALLER)
    first = core.plan(Plan(ONE))
    plan = Plan({"a": call("f"), "b": call("f", Ref("a"))}, after=[first.number])
    waiting = None if before else core.plan(plan)
    core.hand_out()
    end(core, 1.0, first, state)
    waiting = waiting or core.plan(plan)
    core.settle(1.0)
    assert (waiting.state, waiting.error) == (JobState.FAILED, f"skipped because job 1 {how}")
    assert waiting.calls is not None
    assert {call.record.error for call in waiting.calls.calls.values()} == {waiting.error}
    assert core.jobs.operations_waiting == core.jobs.bytes_waiting == 0


def test_a_job_fails_if_the_other_is_cancelled_and_so_do_those_that_wait_for_it() -> None:
    core = Core()
    first = core.plan(Plan(ONE))
    jobs = [core.plan(Plan(ONE, after=[number])) for number in (1, 2, 3)]
    core.settle(0.0)
    core.cancel(0.0, first)
    core.settle(0.0)
    assert [job.error for job in jobs] == [
        "skipped because job 1 was cancelled",
        "skipped because job 2 failed",
        "skipped because job 3 failed",
    ]


def test_nobody_hears_that_a_job_fails_before_that_is_recorded() -> None:
    core = Core(records_at_once=False)
    first = core.plan(Plan(ONE))
    core.record()
    core.plan(Plan(ONE, after=[1]))
    core.record()
    core.tick(0.0)
    core.cancel(0.0, first)
    core.record_once()
    assert {event.job for event in core.tick(0.0).events} == {1}
    core.record()
    assert [(event.job, event.node) for event in core.tick(0.0).events] == [(2, "a"), (2, "")]


def test_a_job_begins_whatever_became_of_the_other_if_it_says_so() -> None:
    core = Core(CALLER)
    first = core.plan(Plan(ONE))
    waiting = core.plan(Plan(ONE, after=[first.number], run_on_failure=True))
    core.hand_out()
    end(core, 0.0, first, CallState.FAILED)
    core.hand_out()
    end(core, 0.0, waiting)
    assert waiting.state is JobState.SUCCEEDED


def test_a_job_that_is_cancelled_while_it_waits_does_not_begin() -> None:
    core = Core(CALLER)
    first = core.plan(Plan(ONE))
    waiting = core.plan(Plan(ONE, after=[1]))
    core.hand_out()
    core.cancel(0.0, waiting)
    core.settle(0.0)
    assert waiting.state is JobState.CANCELLED
    end(core, 1.0, first)
    core.settle(1.0)
    assert len(core.calls.leases) == 0


def test_the_calls_of_a_formula_wait_too_when_its_arithmetic_is_done() -> None:
    core = Core(CALLER, WORKER)
    first = core.plan(Plan(ONE))
    waiting = core.plan(Plan({}, "f(1+2) + g(7)", after=[1]))
    for tick in core.settle(0.0):
        for lease in tick.batches:
            core.answer(0.0, lease)
    core.settle(0.0)
    assert waiting.calls is not None
    assert {call.state for call in waiting.calls.calls.values()} == {CallState.WAITING}
    end(core, 1.0, first)
    handed = core.hand_out(1.0)
    assert handed.keys() == {"f@1", "g@10"}
    core.succeed(1.0, handed["f@1"], b"1")
    core.succeed(1.0, handed["g@10"], b"2")
    core.run(1.0)
    assert waiting.answer == 3


def test_after_a_restart_a_job_waits_as_before() -> None:
    core = Core(CALLER)
    core.plan(Plan(ONE))
    core.plan(Plan(ONE, after=[1]))
    core.hand_out()
    core = core.restarted(CALLER)
    assert core.hand_out() == {}
    restored = core.calls.leases.get(1)
    assert restored is not None
    core.succeed(1.0, restored)
    assert core.hand_out(1.0).keys() == {"a"}
    core = core.restarted(CALLER, now=1.0)
    core.settle(1.0)
    assert len(core.calls.leases) == 1, "the first has ended, and the other was begun"
