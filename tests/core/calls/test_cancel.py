"""Jobs that are cancelled, in every state of theirs and of their calls."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.checked import CALLER, PULLER, WORKER, Core
from core.plans import Plan, call
from dte.core.calls.attempts import Outcome
from dte.core.graph.call import CallState, Ref
from dte.core.graph.work import Work
from dte.core.jobs.facts import Cancel, End, Facts
from dte.core.jobs.job import Job, JobState
from dte.core.jobs.table import NewJob
from dte.core.workers.worker import Failure

A = Ref("a")
STOPPED = Outcome(CallState.CANCELLED, None, "stopped")


def states(job: Job) -> dict[str, str]:
    assert job.calls is not None
    return {name: call.state.value for name, call in job.calls.calls.items()}


def is_over(core: Core, job: Job) -> None:
    """It is cancelled, and nothing of it is left."""
    core.settle(1000.0)
    assert (job.state, job.error) == (JobState.CANCELLED, "cancelled")
    assert (len(core.calls.leases), core.calls.jobs.ready.count) == (0, 0)
    jobs = core.jobs
    assert (jobs.waiting, jobs.operations_waiting, jobs.bytes_waiting) == (0, 0, 0)


def test_a_job_whose_calls_wait_is_cancelled_at_once() -> None:
    core = Core()
    job = core.graph(a=call("f"), b=call("f", A, run_on_failure=True), c=call("f", not_before=50.0))
    assert core.hand_out() == {}
    assert states(job) == {"a": "ready", "b": "waiting", "c": "paused"}
    assert isinstance(core.cancel(1.0, job), End)
    assert states(job) == dict.fromkeys("abc", "cancelled")
    core.announce(1.0, CALLER)
    is_over(core, job)
    assert core.out == []


def test_a_job_is_cancelled_before_it_has_begun() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    assert isinstance(core.cancel(0.0, job), End)
    is_over(core, job)
    assert core.out == []


def test_nobody_hears_that_a_job_is_cancelled_before_that_is_recorded() -> None:
    core = Core(records_at_once=False)
    core.graph(a=call("f"), b=call("f", A))
    core.record()
    core.tick(0.0)
    core.cancel(1.0, core.jobs.job(1))
    assert core.tick(1.0).events == []
    core.record()
    assert [(event.node, event.state) for event in core.tick(1.0).events] == [
        ("a", "cancelled"),
        ("b", "cancelled"),
        ("", "cancelled"),
    ]


def test_of_a_running_job_what_waits_never_starts_and_what_runs_is_stopped() -> None:
    core = Core(replace(CALLER, handler_slots=1))
    job = core.graph(a=call("f"), b=call("f"), c=call("f", A))
    lease = core.hand_out()["a"]
    assert isinstance(core.cancel(1.0, job), Cancel)
    core.settle(1.0)
    assert job.state is JobState.CANCELLING
    assert states(job) == {"a": "cancelling", "b": "cancelled", "c": "cancelled"}
    assert core.told == [lease]
    assert core.calls.extend(2.0, [lease.number], {}) == ([], [], [lease.number])
    core.end_call(3.0, lease, STOPPED)
    is_over(core, job)
    assert job.ended_at == 3.0
    assert job.calls is not None
    assert job.calls.calls["a"].record.error == "stopped"


def test_events_tell_that_a_job_is_being_cancelled() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"), b=call("f", A))
    lease = core.hand_out()["a"]
    core.events.clear()
    core.cancel(1.0, job)
    core.settle(1.0)
    core.end_call(2.0, lease, STOPPED)
    core.settle(2.0)
    assert [(event.node, event.state, event.text) for event in core.events] == [
        ("", "cancelling", None),
        ("b", "cancelled", "cancelled"),
        ("a", "cancelling", None),
        ("a", "cancelled", "stopped"),
        ("", "cancelled", "cancelled"),
    ]


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(CallState.SUCCEEDED, b"7"),
        Outcome(CallState.FAILED, None, "no"),
        Outcome(CallState.TIMED_OUT, None, "slow"),
        Outcome(None),
        STOPPED,
    ],
)
def test_whatever_a_worker_says_the_job_is_cancelled(outcome) -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f", retries=5), b=call("p", A))
    lease = core.hand_out()["a"]
    core.cancel(1.0, job)
    core.settle(1.0)
    core.end_call(2.0, lease, outcome)
    core.settle(2.0)
    succeeded = outcome.state is CallState.SUCCEEDED
    assert states(job)["a"] == ("succeeded" if succeeded else "cancelled")
    is_over(core, job)


@pytest.mark.parametrize("way", ["silent", "gone", "anew", "broken", "refused"])
def test_a_worker_that_is_lost_cannot_keep_a_job_from_being_cancelled(way) -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"), b=call("f"))
    handed = core.hand_out()
    core.cancel(1.0, job)
    core.settle(1.0)
    if way == "gone":
        core.leave(1.0, core.workers()[0])
    elif way == "anew":
        core.announce(1.0, replace(CALLER, incarnation="b"))
    elif way in ("broken", "refused"):
        for lease in handed.values():
            core.fail_call(1.0, lease, way, Failure(way))
    is_over(core, job)


def test_a_worker_that_cannot_be_told_is_not_waited_for() -> None:
    core = Core(replace(CALLER, can_stop=False))
    job = core.graph(a=call("f"))
    lease = core.hand_out()["a"]
    core.cancel(1.0, job)
    core.settle(1.0)
    is_over(core, job)
    assert job.ended_at == 1.0
    assert core.told == []
    assert core.succeed(1001.0, lease) is False


@pytest.mark.parametrize("together", [True, False])
def test_a_call_whose_hand_over_is_being_recorded_is_not_handed_over(together) -> None:
    core = Core(CALLER, records_at_once=False)
    job = core.graph(a=call("f"), b=call("f", A))
    core.record()
    core.tick(0.0)
    facts = None if together else core.jobs.facts()
    core.cancel(1.0, job)
    if facts is not None:
        core.write(facts)
    core.record()
    tick = core.tick(1.0)
    assert (tick.calls, tick.stops) == ([], [])
    assert states(job) == dict.fromkeys("ab", "cancelled")
    core.record()
    is_over(core, job)


def test_a_call_whose_end_is_being_recorded_ends_as_it_did() -> None:
    core = Core(CALLER, records_at_once=False)
    job = core.graph(a=call("f"), b=call("f", A))
    core.record()
    core.tick(0.0)
    core.record()
    core.succeed(0.0, core.hand_out()["a"])
    assert isinstance(core.cancel(1.0, job), Cancel)
    core.record()
    core.tick(1.0)
    assert states(job) == {"a": "succeeded", "b": "cancelled"}
    core.record()
    is_over(core, job)


def test_a_job_that_pauses_after_a_failure_is_cancelled_at_once() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f", retries=1))
    core.fail_at(0.0, core.hand_out()["a"])
    assert isinstance(core.cancel(1.0, job), End)
    is_over(core, job)
    assert core.out == []


def test_a_job_can_be_cancelled_twice() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    lease = core.hand_out()["a"]
    for now in (1.0, 2.0, 3.0):
        assert isinstance(core.cancel(now, job), Cancel)
        core.settle(now)
    assert core.told == [lease], "the worker is told once"
    core.end_call(4.0, lease, STOPPED)
    is_over(core, job)


def test_a_job_that_has_ended_or_is_ending_is_not_cancelled() -> None:
    core = Core(CALLER, records_at_once=False)
    job = core.graph(a=call("f"))
    core.record()
    core.tick(0.0)
    core.record()
    core.succeed(0.0, core.hand_out()["a"])
    assert core.cancel(1.0, job) is None
    core.record()
    assert core.cancel(1.0, job) is None
    assert job.state is JobState.SUCCEEDED


def accepted(core: Core, job: Job) -> Facts:
    """Cancel a job; the facts that are now being recorded."""
    assert isinstance(core.cancel(1.0, job), Cancel)
    facts = core.jobs.facts()
    assert facts is not None
    return facts


@pytest.mark.parametrize("handler", ["f", "p"])
@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(CallState.SUCCEEDED, b"7"),
        Outcome(CallState.FAILED, None, "no", retry=False),
        Outcome(CallState.TIMED_OUT, None, "slow"),
    ],
)
def test_a_job_whose_last_call_ends_while_its_cancel_is_recorded_is_cancelled(
    handler, outcome
) -> None:
    core = Core(CALLER, records_at_once=False)
    job = core.graph(a=call(handler))
    core.record()
    core.tick(0.0)
    core.record()
    lease = core.hand_out()["a"] if handler == "f" else core.out[0]
    facts = accepted(core, job)
    core.end_call(1.0, lease, outcome)
    core.write(facts)
    assert core.cancel(1.0, job) is None, "its end is being recorded"
    core.tick(1.0)
    core.record()
    core.tick(1.0)
    assert (job.answer, core.told) == (None, [])
    is_over(core, job)


def test_a_cancel_that_could_not_be_recorded_holds_all_the_same() -> None:
    core = Core(CALLER, records_at_once=False)
    job = core.graph(a=call("f"))
    core.record()
    core.tick(0.0)
    core.record()
    lease = core.hand_out()["a"]
    facts = accepted(core, job)
    core.succeed(1.0, lease, b"7")
    core.unrecorded(1.0, facts)
    core.record()
    is_over(core, job)


def test_a_formula_whose_answer_comes_while_its_cancel_is_recorded_is_cancelled() -> None:
    core = Core(CALLER, WORKER, records_at_once=False)
    job = core.formula("f(1) + 2*3")
    core.record()
    (batch,) = core.tick(0.0).batches
    core.record()
    lease = core.hand_out()["f@1"]
    facts = accepted(core, job)
    core.give(1.0, batch, [6], {})
    core.succeed(1.0, lease, b"7")
    core.record()
    (batch,) = core.tick(1.0).batches
    core.give(1.0, batch, [13], {})
    core.write(facts)
    core.record()
    is_over(core, job)


def test_a_job_after_one_that_ended_while_its_cancel_was_recorded_does_not_begin() -> None:
    core = Core(CALLER, records_at_once=False)
    job = core.graph(a=call("f"))
    core.record()
    after = core.plan(Plan({"a": call("f")}, after=[job.number]))
    core.record()
    core.tick(0.0)
    core.record()
    lease = core.hand_out()["a"]
    facts = accepted(core, job)
    core.succeed(1.0, lease)
    core.write(facts)
    core.record()
    assert core.tick(1.0).calls == []
    core.record()
    assert (after.state, after.error) == (JobState.FAILED, "skipped because job 1 was cancelled")


def test_what_a_claim_waits_for_is_not_handed_over_when_its_job_is_cancelled() -> None:
    """A pure call needs no disk, and waits with the others that the claim gets."""
    core = Core(records_at_once=False)
    core.graph(a=call("p"))
    core.graph(a=call("f"))
    core.announce(0.0, replace(CALLER, draining=True))
    core.record()
    claim = core.ask(0.0)
    assert core.tick(0.0).claims == []
    assert [lease.sent for lease in core.got(claim)] == [True, False]
    core.cancel(1.0, core.jobs.job(1))
    facts = core.jobs.facts()
    assert facts is not None
    core.write(facts)
    (answered,) = core.tick(1.0).claims
    assert [lease.call.job for lease in core.got(answered)] == [2]
    core.record()
    assert core.jobs.job(1).state is JobState.CANCELLED


def test_a_claim_whose_calls_are_all_cancelled_waits_on() -> None:
    core = Core(records_at_once=False)
    job = core.graph(a=call("f"))
    core.record()
    claim = core.ask(0.0)
    core.tick(0.0)
    core.cancel(0.0, job)
    core.record()
    assert core.tick(0.0).claims == []
    assert not claim.closed
    core.graph(1.0, a=call("f"))
    core.record()
    core.tick(1.0)
    core.record()
    assert core.tick(1.0).claims == [claim]


# Formulas


def test_a_formula_without_calls_is_cancelled_at_once() -> None:
    core = Core(WORKER)
    (job,) = core.add("(1+2)*(3+4)")
    (lease,) = core.tick(0.0).batches
    assert isinstance(core.cancel(1.0, job), End)
    assert core.give(1.0, lease, [3, 7], {})
    is_over(core, job)


def test_of_a_formula_with_calls_neither_arithmetic_nor_calls_begin_any_more() -> None:
    core = Core(CALLER)
    job = core.formula("f(1) + 2*3 + g(4*5)")
    lease = core.hand_out()["f@1"]
    core.cancel(1.0, job)
    core.settle(1.0)
    assert job.state is JobState.CANCELLING
    core.announce(1.0, WORKER)
    assert core.tick(1.0).batches == []
    core.end_call(2.0, lease, STOPPED)
    is_over(core, job)


@pytest.mark.parametrize("way", ["answered", "failed", "lost"])
def test_arithmetic_that_is_under_way_when_its_job_is_cancelled_is_not_done_again(way) -> None:
    core = Core(CALLER, WORKER)
    job = core.formula("f(1) + 2/0 + g(4*5)")
    ticks = core.settle(0.0)
    arithmetic = [lease for tick in ticks for lease in tick.batches]
    lease = next(lease for tick in ticks for lease in tick.calls)
    core.cancel(1.0, job)
    core.settle(1.0)
    for batch in arithmetic:
        if way == "answered":
            core.give(1.0, batch, [1] * batch.count, {})
        elif way == "failed":
            core.answer(1.0, batch)
        else:
            core.lose(1.0, batch, Failure.NOT_SENT)
    core.announce(1.0, replace(WORKER, address="10.0.0.9:1", incarnation="x"))
    assert all(not tick.batches for tick in core.settle(1.0))
    assert job.state is JobState.CANCELLING
    core.end_call(2.0, lease, STOPPED)
    is_over(core, job)


# After a restart


@pytest.mark.parametrize("text", ["1+2", "f(1)+2"])
def test_a_job_that_is_not_read_again_yet_is_cancelled_when_it_is(text) -> None:
    core = Core(CALLER)
    _ = core.formula(text) if "f" in text else core.add(text)
    core = core.restarted(reads=False)
    job = core.jobs.job(1)
    assert isinstance(core.cancel(1.0, job), Cancel)
    core.settle(1.0)
    assert job.state is JobState.WAITING
    core.read_again(2.0, job)
    is_over(core, job)


def test_a_job_that_cannot_be_read_again_is_cancelled_if_that_was_confirmed() -> None:
    core = Core(CALLER)
    core.graph(a=call("f"))
    core.record()
    core = core.restarted(reads=False)
    job = core.jobs.job(1)
    core.cancel(1.0, job)
    core.record()
    assert job.shown_state is JobState.CANCELLING
    core.resume(2.0, job, NewJob("f()", Work.failed("it cannot be read any more"), "{"))
    is_over(core, job)


def test_a_job_whose_calls_had_all_ended_before_a_restart_can_still_be_cancelled() -> None:
    core = Core(CALLER, records_at_once=False)
    job = core.graph(a=call("f"), b=call("f"))
    core.record()
    core.tick(0.0)
    core.record()
    for lease in core.hand_out().values():
        core.succeed(0.0, lease)
    core.record_once()
    core = core.restarted(reads=False)
    job = core.jobs.job(1)
    assert isinstance(core.cancel(1.0, job), Cancel)
    core.record()
    core.read_again(2.0, job)
    core.record()
    assert states(job) == {"a": "succeeded", "b": "succeeded"}
    is_over(core, job)


@pytest.mark.parametrize("text", ["1+2", "f(1)+2"])
def test_a_job_may_be_read_again_while_its_cancelling_is_recorded(text) -> None:
    core = Core(CALLER)
    _ = core.formula(text) if "f" in text else core.add(text)
    core = core.restarted(reads=False)
    core.records_at_once = False
    job = core.jobs.job(1)
    core.cancel(1.0, job)
    facts = core.jobs.facts()
    assert facts is not None
    core.read_again(1.0, job)
    core.tick(1.0)
    core.write(facts)
    core.tick(2.0)
    core.record()
    is_over(core, job)


def test_a_job_that_was_being_cancelled_is_so_after_a_restart() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"), b=call("f", A))
    lease = core.hand_out()["a"]
    core.cancel(1.0, job)
    core.settle(1.0)
    core = core.restarted(CALLER, now=2.0)
    job = core.jobs.job(1)
    core.settle(2.0)
    assert job.state is JobState.CANCELLING
    assert core.calls.extend(3.0, [lease.number], {}) == ([], [], [lease.number])
    restored = core.calls.leases.get(lease.number)
    assert restored is not None
    core.end_call(4.0, restored, STOPPED)
    is_over(core, job)


def test_a_job_that_was_being_cancelled_ends_also_if_its_worker_never_comes_back() -> None:
    core = Core(PULLER)
    job = core.graph(a=call("f"))
    core.ask(0.0)
    core.settle(0.0)
    core.cancel(1.0, job)
    core.settle(1.0)
    core = core.restarted(now=2.0)
    core.settle(2.0)
    is_over(core, core.jobs.job(1))


def test_a_job_that_was_cancelled_while_it_waited_for_another_is_over_after_a_restart() -> None:
    core = Core()
    first = core.graph(a=call("f"))
    core.plan(Plan({"a": call("f")}, after=[first.number]))
    core = core.restarted(reads=False)
    job = core.jobs.job(2)
    core.cancel(0.0, job)
    core.record()
    core = core.restarted()
    core.settle(0.0)
    assert core.jobs.job(2).state is JobState.CANCELLED
    assert not core.jobs.job(1).is_terminal


def test_until_a_cancel_is_recorded_a_job_that_waits_is_shown_as_it_was() -> None:
    core = Core(records_at_once=False)
    job = core.graph(a=call("f"), b=call("f", A, run_on_failure=True), c=call("f", not_before=50.0))
    core.record()
    core.tick(0.0)
    assert job.calls is not None
    calls = job.calls.calls.values()
    before = [(each.name, each.state.value) for each in calls]
    assert before == [("a", "ready"), ("b", "waiting"), ("c", "paused")]
    core.cancel(1.0, job)
    for now in (1.0, 20.0):
        assert (job.shown_state, job.started_at) == (JobState.WAITING, None)
        assert [(each.name, each.shown_state.value) for each in calls] == before
        facts = core.jobs.facts()
        assert facts is not None
        core.unrecorded(now, facts)
    core.record()
    assert job.shown_state is JobState.CANCELLED
    assert {each.shown_state for each in calls} == {CallState.CANCELLED}


def test_until_a_cancel_is_recorded_a_call_that_is_to_be_retried_is_not_shown_as_running() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f", retries=3))
    lease = core.hand_out()["a"]
    core.end_call(1.0, lease, Outcome(CallState.FAILED, None, "broke"))
    assert states(job) == {"a": "paused"}
    core.records_at_once = False
    core.cancel(1.0, job)
    assert job.calls is not None
    assert job.calls.calls["a"].shown_state is CallState.PAUSED
    assert job.shown_state is JobState.RUNNING, "it had begun"
    core.record()
    assert job.shown_state is JobState.CANCELLED


def test_until_its_cancel_is_recorded_a_formula_is_shown_as_it_was() -> None:
    core = Core(records_at_once=False)
    (job,) = core.add("1+2")
    core.record()
    core.cancel(1.0, job)
    assert (job.shown_state, job.started_at) == (JobState.WAITING, None)
    core.record()
    assert job.shown_state is JobState.CANCELLED
