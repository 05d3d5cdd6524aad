"""Calls that are tried again, and those that end workers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.checked import CALLER, HANDLERS, LIMITS, Core
from core.plans import call
from dte.core.calls.attempts import TRACE_CHARS_MAX, Outcome
from dte.core.calls.lease import CallLease
from dte.core.graph.call import Call, CallState
from dte.core.graph.handlers import HandlerPolicy
from dte.core.jobs.job import Job, JobState
from dte.core.workers.worker import Failure


def only_call(job: Job) -> Call:
    assert job.calls is not None
    (call,) = job.calls.calls.values()
    return call


def next_attempt(core: Core, now: float) -> tuple[float, CallLease]:
    """When the one call is handed out again."""
    while True:
        handed = core.hand_out(now)
        if handed:
            return now, handed["a"]
        now = core.following(now)


def test_a_call_that_fails_is_tried_again_after_longer_and_longer_pauses() -> None:
    limits = replace(LIMITS, retry_pause_s=1.0, retry_pause_max_s=8.0)
    core = Core(CALLER, limits=limits)
    job = core.graph(a=call("f", retries=6))
    now, lease = next_attempt(core, 0.0)
    for wait_s in (1.0, 2.0, 4.0, 8.0, 8.0, 8.0):
        core.fail_at(now, lease, f"no {wait_s}")
        one = only_call(job)
        assert (one.state, one.record.error) == (CallState.PAUSED, f"no {wait_s}")
        assert one.record.resumes_at is not None
        assert wait_s / 2 <= one.record.resumes_at - now <= wait_s
        core.announce(now, CALLER)
        assert core.hand_out(one.record.resumes_at - 0.001) == {}
        now, lease = one.record.resumes_at, core.hand_out(one.record.resumes_at)["a"]
        assert one.record.resumes_at is None
    core.fail_at(now, lease, "the last")
    assert (job.state, job.error) == (JobState.FAILED, "the last")
    assert (only_call(job).record.attempts, only_call(job).record.failures) == (7, 7)


def test_pauses_differ_so_that_what_failed_together_does_not_come_back_together() -> None:
    core = Core(replace(CALLER, handler_slots=20))
    core.graph(**{f"n{n}": call("f", retries=1) for n in range(20)})
    handed = core.hand_out()
    for lease in handed.values():
        core.fail_at(0.0, lease)
    assert len({lease.call.record.resumes_at for lease in handed.values()}) == 20


def test_without_a_word_the_handler_s_retries_hold() -> None:
    handlers = HANDLERS | {"f": HandlerPolicy(retries=1)}
    core = Core(replace(CALLER, handlers=handlers))
    job = core.graph(a=call("f"), b=call("f", retries=0))
    handed = core.hand_out()
    core.fail_at(0.0, handed["a"])
    core.fail_at(0.0, handed["b"])
    assert job.calls is not None
    assert job.calls.calls["a"].state is CallState.PAUSED
    core.tick(0.0)
    assert job.calls.calls["b"].state is CallState.FAILED


def test_where_trying_again_makes_no_sense_it_is_not_done() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f", retries=5))
    core.fail_at(0.0, core.hand_out()["a"], "bad arguments", retry=False)
    assert job.error == "bad arguments"


def test_a_retry_is_recorded_with_its_moment_unless_the_call_is_pure() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f", retries=1), b=call("p", retries=1))
    handed = core.hand_out()
    core.fail_at(0.0, handed["a"])
    core.fail_at(0.0, handed["b"])
    record = core.disk.records[job.number]["a"]
    assert (record.state, record.lease, record.failures, record.attempts) == (None, 0, 1, 1)
    assert record.resumes_at == handed["a"].call.record.resumes_at
    assert "b" not in core.disk.records[job.number]


def test_what_a_worker_gives_back_is_not_counted() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    for attempt in range(10):
        lease = core.hand_out(10.0 * attempt)["a"]
        assert lease.call.record.attempts == 1
        core.end_call(10.0 * attempt, lease, Outcome(None))
    assert core.disk.records[job.number]["a"].attempts == 0 or core.calls.leases
    core.succeed(100.0, core.hand_out(100.0)["a"])
    assert job.state is JobState.SUCCEEDED
    assert (
        only_call(job).record.attempts,
        only_call(job).record.failures,
        only_call(job).record.lost,
    ) == (1, 0, 0)


def test_what_is_given_back_again_and_again_pauses_longer_each_time() -> None:
    """A worker that can begin nothing would be handed it as fast as it gives it back."""
    core = Core(CALLER)
    core.graph(a=call("f"))
    core.end_call(0.0, core.hand_out(0.0)["a"], Outcome(None))
    lease = core.hand_out(0.0)["a"]  # Once says nothing: another worker may have had a slot.
    core.end_call(0.0, lease, Outcome(None))
    pauses = []
    now = 0.0
    for _ in range(5):
        assert core.tick(now).calls == []
        began, (now, lease) = now, next_attempt(core, now)
        pauses.append(now - began)
        core.end_call(now, lease, Outcome(None))
    assert pauses == sorted(pauses)
    assert pauses[-1] > 4 * pauses[0]


def test_a_worker_that_lost_a_call_by_silence_gets_none_until_it_is_heard_of() -> None:
    """What waited for it unread would be done by it when it goes on, and by others before."""
    core = Core(CALLER)
    job = core.graph(a=call("f", retries=9))
    core.hand_out(0.0)
    now = LIMITS.lease_s + 0.1
    assert core.tick(now).calls == []
    assert only_call(job).record.lost == 1
    assert core.tick(now + 1.0).calls == []
    core.announce(now + 2.0, CALLER)
    assert list(core.hand_out(now + 2.0)) == ["a"]


def test_what_had_begun_when_its_worker_left_stays_counted_as_an_attempt() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    outcome = Outcome(None, None, "its worker left", begun=True)
    core.end_call(0.0, core.hand_out(0.0)["a"], outcome)
    assert (only_call(job).record.attempts, only_call(job).record.failures) == (1, 0)
    assert core.hand_out(0.0)["a"].call.record.attempts == 2


def test_what_a_worker_stopped_by_itself_stays_counted_as_an_attempt() -> None:
    """Nobody cancelled the job, so the call is begun again: somebody else told the worker to."""
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    outcome = Outcome(CallState.CANCELLED, None, "cancelled")
    core.end_call(0.0, core.hand_out(0.0)["a"], outcome)
    assert (only_call(job).record.attempts, only_call(job).record.failures) == (1, 0)
    assert core.hand_out(0.0)["a"].call.record.attempts == 2


def test_what_has_made_progress_stays_counted_though_its_worker_says_it_had_not_begun() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    lease = core.hand_out(0.0)["a"]
    core.calls.extend(0.0, [lease.number], {lease.number: (0.5, "half")})
    core.end_call(0.0, lease, Outcome(None, None, "no slot"))
    assert only_call(job).record.attempts == 1


def test_a_failure_told_before_the_handler_is_known_again_ends_the_call_once_it_is() -> None:
    """After a restart nobody has said yet how often the handler is tried again."""
    core = Core(replace(CALLER, handlers={"f": HandlerPolicy(retries=0)}))
    job = core.graph(a=call("f"))
    core.hand_out(0.0)
    core = core.restarted(now=1.0)
    core.settle(1.0)
    (lease,) = core.calls.leases
    core.end_call(1.0, lease, Outcome(CallState.FAILED, None, "no"))
    assert not core.jobs.job(job.number).is_terminal
    core.announce(2.0, replace(CALLER, handlers={"f": HandlerPolicy(retries=0)}))
    now = 2.0
    while not core.jobs.job(job.number).is_terminal:
        core.settle(now)
        now += 1.0
        assert now < 100
    assert core.jobs.job(job.number).error == "no"


def test_a_call_that_ends_workers_fails_after_some() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f", retries=9))
    now = 0.0
    for lost in range(1, LIMITS.workers_lost_max + 1):
        now, _ = next_attempt(core, now)
        core.announce(now, replace(CALLER, incarnation=str(lost)))
        assert only_call(job).record.lost == lost
    core.tick(now)
    assert job.state is JobState.FAILED
    assert job.error == (
        "gave up: 3 workers died while running it (workers_lost_max); "
        "the last, worker c: it was restarted"
    )


def test_a_call_that_ended_with_others_goes_out_again_and_fails_when_that_happens_often() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    now = 0.0
    for lost in range(1, LIMITS.workers_lost_max + 1):
        now, lease = next_attempt(core, now)
        core.end_call(now, lease, Outcome(None, None, "exit code -9", lost=True))
        assert (only_call(job).record.lost, only_call(job).record.attempts) == (lost, lost)
    assert (job.state, only_call(job).record.failures) == (JobState.FAILED, 0)
    assert str(job.error).endswith("(workers_lost_max); the last, exit code -9")


def test_a_call_may_have_a_bound_of_its_own_for_lost_workers() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f", lost_max=1))
    core.calls.fail(0.0, core.hand_out()["a"].number, "reset", Failure.BROKEN)
    core.tick(0.0)
    core.record()
    assert str(job.error).startswith(
        "gave up: its worker died while running it; the last, worker c: reset"
    )


def test_after_a_lost_worker_the_call_goes_to_another_at_once_and_later_with_pauses() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f", lost_max=9))
    core.calls.fail(0.0, core.hand_out()["a"].number, "reset", Failure.BROKEN)
    assert only_call(job).state is CallState.READY
    assert only_call(job).record.error == "worker c: reset"
    core.calls.fail(0.0, core.hand_out()["a"].number, "reset", Failure.BROKEN)
    assert only_call(job).state is CallState.PAUSED


@pytest.mark.parametrize("failure", [Failure.REFUSED, Failure.NOT_SENT])
def test_a_worker_that_never_got_a_call_is_not_lost(failure) -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f", lost_max=1))
    now = 0.0
    for _ in range(3):
        now, lease = next_attempt(core, now)
        core.fail_call(now, lease, "refused", failure)
        assert core.workers()[0].state == "pausing"
    now, lease = next_attempt(core, now)
    core.succeed(now, lease)
    assert (job.state, only_call(job).record.attempts) == (JobState.SUCCEEDED, 1)


@pytest.mark.parametrize("failure", [Failure.BROKEN, Failure.MALFORMED])
def test_a_worker_that_may_have_got_a_call_counts_as_lost(failure) -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f", lost_max=1))
    core.fail_call(0.0, core.hand_out()["a"], "reset", failure)
    core.tick(0.0)
    core.record()
    assert job.state is JobState.FAILED


def test_a_failure_under_a_lease_that_has_ended_changes_nothing() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    lease = core.hand_out()["a"]
    core.succeed(0.0, lease)
    core.fail_call(0.0, lease, "reset", Failure.BROKEN)
    core.calls.fail(0.0, lease.number, "reset", Failure.NOT_SENT)
    assert core.workers()[0].failures == 0
    assert job.state is JobState.SUCCEEDED


# Stack traces


def fail_with_trace(core: Core, now: float, lease: CallLease, trace: str | None) -> None:
    core.end_call(now, lease, Outcome(CallState.FAILED, None, "no", trace=trace))


def test_the_trace_of_the_last_attempt_is_kept_with_its_error() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f", retries=1))
    now, lease = next_attempt(core, 0.0)
    fail_with_trace(core, now, lease, "the first")
    assert only_call(job).record.trace == "the first"
    now, lease = next_attempt(core, now)
    assert (only_call(job).record.error, only_call(job).record.trace) == (None, None)
    fail_with_trace(core, now, lease, "x" * 10_000)
    assert job.trace == only_call(job).record.trace == "x" * TRACE_CHARS_MAX


def test_a_job_has_the_trace_of_the_call_that_failed_it() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"), b=call("f", after=["a"]), c=call("f", after=["b"]))
    fail_with_trace(core, 0.0, core.hand_out()["a"], "of a")
    assert job.state is JobState.FAILED
    assert job.trace == "of a"


def test_an_attempt_without_a_trace_leaves_none() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f", retries=1))
    now, lease = next_attempt(core, 0.0)
    fail_with_trace(core, now, lease, "the first")
    now, lease = next_attempt(core, now)
    core.fail_at(now, lease)
    assert job.trace is None
