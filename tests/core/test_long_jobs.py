"""What is done with all calls of long jobs is done in slices, and whatever happens between them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import Phase, settings

from core import checked
from core.checked import CALLER, WORKER, Core
from core.plans import Plan, call
from core.test_call_model import Histories
from dte.core.calls import awaited, cancels, jobs
from dte.core.calls.attempts import Outcome
from dte.core.graph import calls
from dte.core.graph.call import CallRecord, CallState, Ref
from dte.core.jobs.facts import Cancel
from dte.core.jobs.job import Job, JobState
from dte.core.slices import CALL
from dte.core.why import Reason, reasons


@pytest.fixture(autouse=True)
def short_slices() -> Iterator[None]:
    """Every job is long, and a slice is one call or one edge."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calls, "SLICE", 1)
        for module in (calls, jobs, cancels):
            patch.setattr(module, "CALLS_IN_SLICE", 1)
        patch.setattr(jobs, "FEW", 0)
        patch.setattr(awaited, "UNBLOCKED_IN_SLICE", 1)
        patch.setattr(checked, "TICKS_MAX", 2_000)
        yield


class LongHistories(Histories):
    """The histories of the model, with long jobs alone."""


LongHistories.TestCase.settings = settings(
    Histories.TestCase.settings, max_examples=25, phases=[Phase.explicit, Phase.generate]
)
TestLongHistories = LongHistories.TestCase


def states(job: Job) -> dict[str, str]:
    return {each.name: each.state.value for each in job.each_call()}


def test_the_calls_of_a_long_job_are_begun_in_slices() -> None:
    core = Core(CALLER)
    job = core.plan(Plan({f"n{n}": call("f") for n in range(4)}))
    seen = []
    while core.calls.jobs.chores:
        seen.append(sum(each.state is not CallState.WAITING for each in job.each_call()))
        core.tick(0.0)
    assert seen == [0, 1, 2, 3, 4]


def test_a_failure_skips_the_calls_of_a_long_job_in_slices() -> None:
    core = Core(CALLER)
    nodes = {"a": call("f")} | {f"n{n}": call("f", Ref("a")) for n in range(5)}
    job = core.plan(Plan(nodes))
    core.fail_at(0.0, core.hand_out()["a"], retry=False)
    assert states(job)["a"] == "failed"
    assert job.state is JobState.RUNNING
    core.settle(0.0)
    assert job.state is JobState.FAILED
    assert job.error == "node 'a': no"
    assert [states(job)[f"n{n}"] for n in range(5)] == ["skipped"] * 5
    skipped = [event.node for event in core.events if event.state == "skipped"]
    assert skipped == [f"n{n}" for n in range(5)]


def test_a_job_may_be_cancelled_while_its_calls_are_begun() -> None:
    core = Core(CALLER)
    job = core.plan(Plan({f"n{n}": call("f") for n in range(6)}))
    core.tick(0.0)
    assert isinstance(core.cancel(0.0, job), Cancel)
    assert job.state is JobState.CANCELLING
    handed = [lease for tick in core.settle(0.0) for lease in tick.calls]
    assert handed == []
    assert job.state is JobState.CANCELLED
    assert set(states(job).values()) == {"cancelled"}


def test_a_job_may_be_cancelled_before_its_first_call_is_begun() -> None:
    core = Core()
    job = core.plan(Plan({f"n{n}": call("f") for n in range(3)}))
    core.cancel(0.0, job)
    core.tick(0.0)
    assert "ready" not in states(job).values()
    core.settle(0.0)
    assert job.state is JobState.CANCELLED
    assert set(states(job).values()) == {"cancelled"}


def test_a_result_begins_the_calls_that_wait_for_it_in_slices() -> None:
    core = Core(CALLER)
    job = core.plan(Plan({"a": call("f")} | {f"n{n}": call("f", Ref("a")) for n in range(4)}))
    core.succeed(0.0, core.hand_out()["a"], b"7")
    seen = []
    while core.calls.jobs.chores:
        seen.append(list(states(job).values()).count("waiting"))
        core.tick(0.0)
    assert seen == sorted(seen, reverse=True)
    assert {4, 3, 2, 1} <= set(seen)
    assert {lease.call.name: lease.call.operands for lease in core.out} == {
        "n0": {"a": b"7"},
        "n1": {"a": b"7"},
    }


def test_a_job_may_be_cancelled_before_a_failure_is_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "SLICE", CALL)  # The first slice would skip a call.
    core = Core(CALLER)
    nodes = {"a": call("f")} | {f"n{n}": call("f", Ref("a")) for n in range(3)}
    job = core.plan(Plan(nodes))
    core.fail_at(0.0, core.hand_out()["a"], retry=False)
    core.cancel(0.0, job)
    core.settle(0.0)
    assert job.state is JobState.CANCELLED
    assert states(job) == {"a": "failed"} | dict.fromkeys(("n0", "n1", "n2"), "cancelled")


def test_a_job_that_is_cancelled_ends_when_its_worker_has_stopped_the_last_call() -> None:
    core = Core(CALLER)
    job = core.plan(Plan({"a": call("f"), "b": call("f", Ref("a"))}))
    lease = core.hand_out()["a"]
    core.cancel(0.0, job)
    core.settle(0.0)
    assert (job.state, states(job)) == (JobState.CANCELLING, {"a": "cancelling", "b": "cancelled"})
    core.end_call(0.0, lease, Outcome(CallState.CANCELLED))
    core.settle(0.0)
    assert (job.state, states(job)["a"]) == (JobState.CANCELLED, "cancelled")


def test_a_job_ends_once_when_its_worker_stops_while_the_rest_is_cancelled() -> None:
    core = Core(CALLER)
    job = core.plan(Plan({"b": call("f", Ref("a")), "c": call("f", Ref("b")), "a": call("f")}))
    lease = core.hand_out()["a"]
    core.cancel(0.0, job)
    while states(job)["c"] != "cancelled":
        core.tick(0.0)
    core.end_call(0.0, lease, Outcome(CallState.CANCELLED))
    assert core.calls.jobs.chores
    assert job.state is JobState.CANCELLED
    core.tick(0.0)
    assert not core.calls.jobs.chores, "nothing of it is left to do"
    assert [event.state for event in core.events if not event.node].count("cancelled") == 1


def test_a_job_may_be_cancelled_while_a_failure_is_passed_on() -> None:
    core = Core(CALLER)
    nodes = {"a": call("f")} | {f"n{n}": call("f", Ref("a")) for n in range(5)}
    job = core.plan(Plan(nodes))
    core.fail_at(0.0, core.hand_out()["a"], retry=False)
    for _ in range(3):
        core.tick(0.0)
    core.cancel(0.0, job)
    core.settle(0.0)
    assert job.state is JobState.CANCELLED
    assert {*states(job).values()} == {"failed", "skipped", "cancelled"}


def test_no_call_of_a_long_job_is_handed_out_once_its_cancel_is_recorded() -> None:
    core = Core()
    job = core.plan(Plan({f"n{n}": call("f") for n in range(6)}))
    core.settle(0.0)
    core.cancel(0.0, job)
    core.announce(0.0, CALLER)
    handed = [lease for tick in core.settle(0.0) for lease in tick.calls]
    assert handed == []
    assert job.state is JobState.CANCELLED


def test_many_jobs_that_wait_for_one_begin_in_slices() -> None:
    core = Core(CALLER)
    first = core.plan(Plan({"a": call("f")}))
    lease = core.hand_out()["a"]
    later = [core.plan(Plan({"b": call("f")}, after=[first.number])) for _ in range(3)]
    core.succeed(0.0, lease)
    for _ in range(40):
        core.tick(0.0)
    assert not core.calls.jobs.chores
    assert not any(job.blocked for job in later)
    assert sum(job.state is JobState.RUNNING for job in later) == 2, "as many as there are slots"


def test_a_job_that_waits_may_be_cancelled_before_it_is_its_turn() -> None:
    core = Core(CALLER)
    first = core.plan(Plan({"a": call("f")}))
    lease = core.hand_out()["a"]
    later = [core.plan(Plan({"b": call("f")}, after=[first.number])) for _ in range(3)]
    core.succeed(0.0, lease)
    core.cancel(0.0, later[2])
    core.settle(0.0)
    assert later[2].state is JobState.CANCELLED


def test_a_long_job_whose_awaited_job_failed_is_skipped_in_slices() -> None:
    core = Core(CALLER)
    first = core.plan(Plan({"a": call("f")}))
    lease = core.hand_out()["a"]
    nodes = {f"n{n}": call("f") for n in range(4)}
    later = core.plan(Plan(nodes, after=[first.number]))
    core.fail_at(0.0, lease, retry=False)
    core.settle(0.0)
    assert later.state is JobState.FAILED
    assert later.error == f"skipped because job {first.number} failed"
    assert set(states(later).values()) == {"skipped"}


def test_a_job_may_be_cancelled_while_its_calls_are_skipped() -> None:
    core = Core(CALLER)
    first = core.plan(Plan({"a": call("f")}))
    lease = core.hand_out()["a"]
    later = core.plan(Plan({f"n{n}": call("f") for n in range(4)}, after=[first.number]))
    core.fail_at(0.0, lease, retry=False)
    while "skipped" not in states(later).values():
        core.tick(0.0)
    core.cancel(0.0, later)
    core.settle(0.0)
    assert later.state is JobState.CANCELLED
    assert {*states(later).values()} == {"skipped", "cancelled"}
    skipped = [name for name, state in states(later).items() if state == "skipped"]
    assert [event.node for event in core.events if event.state == "skipped"] == skipped


def test_a_job_ends_once_when_two_of_its_last_calls_fail_together() -> None:
    core = Core(CALLER)
    job = core.plan(Plan({"a": call("f"), "b": call("f")}))
    for lease in core.hand_out().values():
        core.fail_at(0.0, lease, retry=False)
    core.settle(0.0)
    assert (job.state, job.error) == (JobState.FAILED, "node 'a': no")
    assert [event.state for event in core.events if not event.node].count("failed") == 1


def test_a_job_ends_once_when_two_forgotten_calls_whose_readers_had_ended_are_done() -> None:
    core = Core(CALLER)
    nodes = {"a": call("p", 1), "b": call("p", 2), "c": call("f", Ref("a"), Ref("b"))}
    done = [CallRecord("c", CallState.SUCCEEDED, attempts=1, value=b"3", ended_at=0.0)]
    job = core.plan(Plan(nodes), records=done)
    for lease in core.hand_out().values():
        core.succeed(0.0, lease, b"1")
    core.settle(0.0)
    assert (job.state, job.answer) == (JobState.SUCCEEDED, b"3")
    assert [event.state for event in core.events if not event.node].count("succeeded") == 1


def test_the_jobs_of_a_submission_with_many_calls_begin_in_slices() -> None:
    core = Core(CALLER)
    new = [Plan({"a": call("f")}).new_job(core, "") for _ in range(3)]
    submitted = core.jobs.accept(0.0, new).jobs
    core.record()
    core.tick(0.0)
    core.cancel(0.0, submitted[2])
    core.settle(0.0)
    states_of_jobs = [job.state.value for job in submitted]
    assert states_of_jobs == ["running", "running", "cancelled"]


def test_a_long_formula_fails_when_the_calls_that_have_not_begun_are_cancelled() -> None:
    core = Core(CALLER)
    job = core.formula("f(1)+f(2)+f(3)+f(4)+f(5)+f(6)")
    lease = next(iter(core.hand_out().values()))
    core.fail_at(0.0, lease, retry=False)
    assert job.state is JobState.RUNNING
    handed = [lease for tick in core.settle(0.0) for lease in tick.calls]
    assert handed == []
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert job.error.endswith(": no")
    assert sorted(set(states(job).values())) == ["cancelled", "failed"]


def test_a_long_formula_that_is_failing_does_not_go_on_with_a_result() -> None:
    core = Core(CALLER, WORKER)
    job = core.formula("(f(1)+1)*(f(2)+1)")
    first, second = core.hand_out().values()
    core.fail_at(0.0, first, retry=False)
    core.tick(0.0)
    assert job.closing
    core.succeed(0.0, second, b"2")
    assert not any(tick.batches for tick in core.settle(0.0))
    assert (job.state, job.error) == (JobState.FAILED, f"{first.call.name}: no")
    assert states(job)[second.call.name] == "succeeded"


def ends_in_slices(core: Core, job: Job) -> None:
    """Check that a job's calls are cancelled one in each tick."""
    seen = []
    while not job.is_terminal:
        core.tick(0.0)
        seen.append(sum(each.is_terminal for each in job.each_call()))
        assert len(seen) < 20
    assert seen[0] < len(seen) - 2
    assert set(states(job).values()) == {"cancelled"}


def test_a_long_formula_whose_arithmetic_fails_ends_in_slices() -> None:
    core = Core(WORKER)
    job = core.formula("1/0+f(1)+f(2)+f(3)+f(4)")
    (batch,) = core.tick(0.0).batches
    core.answer(0.0, batch)
    assert job.closing
    ends_in_slices(core, job)
    assert (job.state, job.error) == (JobState.FAILED, "division by zero: 1 / 0")


def test_a_long_formula_that_fails_from_the_first_ends_in_slices() -> None:
    core = Core(CALLER)
    job = core.formula("1e999*f(1)+f(2)+f(3)+f(4)")
    assert job.closing
    ends_in_slices(core, job)
    assert job.error == "a number in the formula is too large for a float"


def test_a_long_formula_that_fails_from_the_first_ends_after_a_restart() -> None:
    core = Core(CALLER)
    core.formula("1e999*f(1)+f(2)+f(3)+f(4)")
    core = core.restarted(CALLER)
    job = core.jobs.job(1)
    core.settle(0.0)
    assert job.state is JobState.FAILED


def test_a_long_job_whose_calls_have_all_ended_is_explained_until_it_ends() -> None:
    core = Core(CALLER)
    job = core.plan(Plan({"a": call("f")} | {f"n{n}": call("f", Ref("a")) for n in range(5)}))
    core.fail_at(0.0, core.hand_out()["a"], retry=False)
    seen: list[Reason] = []
    while not job.is_terminal:
        if all(each.is_terminal for each in job.each_call()):
            seen += reasons(core, 0.0, job)
        core.tick(0.0)
    assert Reason("", "running", "journal", "it ends in a moment") in seen
    assert {each.waits_for for each in seen} == {"journal"}
