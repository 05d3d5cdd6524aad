"""The course of calls: handed over, reported, ended."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from core.checked import CALLER, LIMITS, WORKER, Core
from core.plans import Plan, call
from dte.core.calls.attempts import ERROR_CHARS_MAX, Outcome
from dte.core.calls.scheduler import LEASES_IN_TICK
from dte.core.errors import Busy
from dte.core.graph.call import CallState, Ref
from dte.core.graph.handlers import HandlerPolicy
from dte.core.jobs.facts import End, Step
from dte.core.jobs.job import Job, JobState
from dte.core.workers.worker import Failure

A, B = Ref("a"), Ref("b")


def state(job: Job, name: str) -> CallState:
    assert job.calls is not None
    return job.calls.calls[name].state


def shown(job: Job, name: str) -> CallState:
    assert job.calls is not None
    return job.calls.calls[name].shown_state


# The way of a graph


def test_a_graph_s_calls_are_done_one_after_the_other() -> None:
    core = Core(CALLER)
    job = core.graph(1.0, a=call("f", 1), b=call("g", A))
    handed = core.hand_out(2.0)
    assert handed.keys() == {"a"}
    assert (job.state, job.started_at) == (JobState.RUNNING, 2.0)
    core.succeed(3.0, handed["a"], b"[7]")
    handed = core.hand_out(4.0)
    assert handed["b"].call.operands == {"a": b"[7]"}
    core.succeed(5.0, handed["b"], b'"x"')
    assert core.tick(5.0).ended == [job]
    assert (job.state, job.answer, job.ended_at) == (JobState.SUCCEEDED, b'"x"', 5.0)
    jobs = core.jobs
    assert (jobs.waiting, jobs.operations_waiting, jobs.bytes_waiting) == (0, 0, 0)
    assert (job.progress, job.operations, jobs.operations_done) == (2, 2, 2)


def test_a_call_is_handed_over_only_after_that_is_recorded() -> None:
    core = Core(CALLER, records_at_once=False)
    job = core.graph(a=call("f"))
    core.record()
    assert core.tick(0.0).calls == []
    assert (len(core.calls.leases), job.state) == (1, JobState.WAITING)
    lease = core.calls.leases.get(1)
    assert lease is not None
    assert not core.succeed(0.0, lease), "nobody can have it yet"
    assert core.calls.extend(0.0, [1], {}) == ([], [1], [])
    core.record()
    assert core.tick(8.0).calls == [lease]
    assert lease.deadline == 18.0, "the time of recording is not the worker's"


def test_a_pure_call_waits_for_no_disk() -> None:
    core = Core(CALLER, records_at_once=False)
    job = core.graph(a=call("p"), b=call("p", A), c=call("f", B))
    core.record()
    assert core.succeed(0.0, core.hand_out()["a"]) is None
    assert shown(job, "a") is CallState.SUCCEEDED
    assert core.succeed(0.0, core.hand_out()["b"]) is None
    assert core.hand_out() == {}, "c is not pure"
    assert core.disk.records == {1: {}}


def test_a_call_is_pure_if_the_worker_that_gets_it_says_so() -> None:
    core = Core()
    job = core.graph(a=call("p"))
    core.announce(0.0, CALLER)
    core.succeed(0.0, core.hand_out()["a"], b"1")
    assert job.answer == b"1"
    assert core.disk.handed_out == set()


def test_what_depends_on_a_result_waits_until_that_is_recorded() -> None:
    core = Core(CALLER, records_at_once=False)
    job = core.graph(a=call("f"), b=call("p", A))
    core.record()
    core.tick(0.0)
    core.record()
    step = core.succeed(1.0, core.hand_out()["a"])
    assert isinstance(step, Step)
    assert core.hand_out(1.0) == {}
    assert (state(job, "a"), shown(job, "a")) == (CallState.ENDING, CallState.RUNNING)
    core.record()
    assert core.hand_out(2.0).keys() == {"b"}
    assert job.calls is not None
    assert job.calls.calls["a"].record.ended_at == 1.0, "it ended when the worker said so"


def test_the_last_call_s_end_is_recorded_with_its_job_s() -> None:
    core = Core(CALLER, records_at_once=False)
    job = core.graph(a=call("f"))
    core.record()
    core.tick(0.0)
    core.record()
    end = core.succeed(1.0, core.hand_out()["a"], b"1")
    assert isinstance(end, End)
    assert (job.state, shown(job, "a")) == (JobState.ENDING, CallState.RUNNING)
    assert "succeeded" not in [event.state for event in core.tick(1.0).events]
    core.record()
    tick = core.tick(2.0)
    assert tick.ended == [job]
    assert [(event.node, event.state) for event in tick.events] == [
        ("a", "succeeded"),
        ("", "succeeded"),
    ]
    assert shown(job, "a") is CallState.SUCCEEDED


def test_an_end_that_cannot_be_recorded_comes_up_again() -> None:
    core = Core(CALLER, records_at_once=False)
    job = core.graph(a=call("f"), b=call("f", A))
    core.record()
    core.tick(0.0)
    core.record()
    core.succeed(1.0, core.hand_out()["a"], b"1")
    core.refuse()
    assert core.hand_out(1.0) == {}
    core.refuse()
    core.record()
    core.tick(2.0)
    core.record()
    core.succeed(3.0, core.hand_out(3.0)["b"], b"2")
    core.refuse()
    assert core.tick(3.0).ended == []
    core.record()
    assert core.tick(3.0).ended == [job]
    assert job.answer == b"2"


def test_a_hand_over_that_cannot_be_recorded_is_void() -> None:
    core = Core(CALLER, records_at_once=False)
    job = core.graph(a=call("f"))
    core.record()
    core.tick(0.0)
    core.refuse()
    assert core.hand_out() == {}
    assert job.calls is not None
    assert job.calls.calls["a"].record.attempts == 1, "it is on its way anew, and not counted twice"
    assert len(core.calls.leases) == 1
    core.record()
    handed = core.hand_out(1.0)
    assert handed["a"].number == 2
    core.succeed(1.0, handed["a"])
    core.record()
    assert job.is_terminal


def test_a_void_hand_over_to_a_worker_that_is_gone_is_forgotten() -> None:
    core = Core(CALLER, records_at_once=False)
    core.graph(a=call("f"))
    core.record()
    core.tick(0.0)
    facts = core.jobs.facts()
    assert facts is not None
    core.leave(0.0, core.workers()[0])
    core.unrecorded(0.0, facts)
    assert core.hand_out() == {}
    assert core.calls.jobs.ready.count == 1


def test_a_hand_over_that_is_taken_back_while_it_is_recorded_does_not_come_into_effect() -> None:
    core = Core(CALLER, records_at_once=False)
    job = core.graph(a=call("f"))
    core.record()
    core.tick(0.0)
    facts = core.jobs.facts()
    assert facts is not None
    core.leave(0.0, core.workers()[0])
    core.write(facts)
    assert core.hand_out() == {}
    core.record()
    assert core.disk.records[job.number]["a"].lease == 0, "after a crash nobody is thought to do it"
    assert core.disk.records[job.number]["a"].attempts == 0


# Results


def test_a_failure_without_retries_ends_the_job_and_names_the_call() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"), b=call("f", A), c=call("g"))
    handed = core.hand_out()
    core.fail_at(0.0, handed["a"], "no disk")
    assert not job.is_terminal, "what does not depend on it goes on"
    handed |= core.hand_out()
    core.succeed(0.0, handed["c"])
    core.settle(0.0)
    assert (job.state, job.error) == (JobState.FAILED, "node 'a': no disk")
    assert state(job, "b") is CallState.SKIPPED
    assert core.disk.records[1]["b"].error == "skipped because 'a' failed: no disk"


def test_of_a_job_that_is_one_call_the_error_is_the_call_s() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    core.fail_at(0.0, core.hand_out()["a"], "no disk")
    assert job.error == "no disk"


def test_what_is_done_whatever_happens_is_done() -> None:
    core = Core(CALLER)
    job = core.plan(Plan({"a": call("f"), "b": call("g", A, run_on_failure=True)}, answer="b"))
    core.fail_at(0.0, core.hand_out()["a"])
    core.succeed(0.0, core.hand_out()["b"], b"2")
    assert (job.state, job.answer) == (JobState.SUCCEEDED, b"2")


def test_a_job_times_out_or_is_cancelled_as_its_answer_s_call() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    core.end_call(0.0, core.hand_out()["a"], Outcome(CallState.TIMED_OUT, None, "slow"))
    assert (job.state, job.error) == (JobState.TIMED_OUT, "slow")


def test_a_long_reason_is_cut() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    core.fail_at(0.0, core.hand_out()["a"], "x" * 10_000)
    assert job.error == "x" * ERROR_CHARS_MAX + "…"


def test_a_result_under_an_unknown_lease_is_stale() -> None:
    core = Core(CALLER)
    core.graph(a=call("f"))
    (lease,) = core.hand_out().values()
    core.succeed(0.0, lease)
    assert core.succeed(0.0, lease) is False
    assert core.calls.stale_results == 1


def test_what_a_worker_says_under_a_lease_makes_it_a_good_one_again() -> None:
    core = Core(CALLER)
    core.graph(a=call("f"), b=call("f"))
    handed = core.hand_out()
    (worker,) = core.workers()
    core.fail_call(0.0, handed["a"], "reset", Failure.NOT_SENT)
    assert worker.failures == 1
    core.succeed(1.0, handed["b"])
    assert (worker.failures, worker.last_failure, worker.last_seen_at) == (0, None, 1.0)
    assert worker.calls_done == 1


def test_the_answers_of_several_calls_are_one_object() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("p", 1), b=call("p", 1), c=call("f"))
    for name, lease in core.hand_out().items():
        core.succeed(0.0, lease, json.dumps(f"of {name}").encode())
    assert isinstance(job.answer, bytes)
    assert json.loads(job.answer) == {"a": "of a", "b": "of a", "c": "of c"}


# Whom a call goes to


def test_a_call_goes_only_to_a_worker_that_has_its_handler() -> None:
    other = replace(CALLER, address="10.0.1.2:6000", handlers={"z": HandlerPolicy()})
    core = Core(CALLER, WORKER)
    core.graph(a=call("z"))
    assert core.hand_out() == {}
    core.announce(0.0, other)
    handed = core.hand_out()
    assert handed["a"].worker is core.worker("10.0.1.2:6000")


def test_a_worker_has_as_many_calls_as_slots() -> None:
    core = Core(CALLER)
    core.graph(a=call("f"), b=call("f"), c=call("f"))
    handed = core.hand_out()
    assert handed.keys() == {"a", "b"}
    core.succeed(1.0, handed["b"])
    assert core.hand_out(1.0).keys() == {"c"}


def test_arithmetic_and_calls_do_not_take_each_other_s_slots() -> None:
    core = Core(replace(CALLER, arithmetic=True, batch_max=64))
    core.graph(a=call("f"), b=call("f"))
    core.add("1+2")
    tick = core.tick(0.0)
    assert len(tick.batches) == 1
    assert len(core.calls.leases) == 2


@pytest.mark.parametrize("change", ["draining", "gone", "pausing"])
def test_a_worker_that_is_not_there_gets_nothing(change) -> None:
    core = Core(CALLER)
    (worker,) = core.workers()
    if change == "draining":
        core.announce(0.0, replace(CALLER, draining=True))
    elif change == "gone":
        core._workers._set_gone(worker, True)
    else:
        worker.resumes_at = 100.0
    core.graph(a=call("f"))
    assert worker.free_call_slots == 0
    assert core.hand_out() == {}


def test_a_failing_worker_gets_arithmetic_but_no_calls_until_it_is_well() -> None:
    able = replace(CALLER, arithmetic=True)
    core = Core(replace(able, failing="no GPU"))
    job = core.graph(a=call("f"))
    core.add("1+2")
    tick = core.tick(0.0)
    assert len(tick.batches) == 1
    assert core.workers()[0].state == "failing"
    assert core.hand_out() == {}
    core.announce(1.0, able)
    assert core.hand_out(1.0).keys() == {"a"}
    core.announce(2.0, replace(able, failing="no GPU"))
    assert attempts_of(job) == 1, "the worker returns the calls that it cannot begin itself"


def attempts_of(job: Job) -> int:
    assert job.calls is not None
    return job.calls.calls["a"].record.attempts


def test_calls_of_a_failing_worker_go_elsewhere_and_count_no_attempt() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    lease = core.hand_out()["a"]
    core.announce(0.0, replace(CALLER, failing="no GPU"))
    core.announce(0.0, replace(CALLER, name="d", address="x:1"))
    core.calls.report(0.0, lease.number, Outcome(None, error="it cannot start"))
    other = core.hand_out()["a"]
    assert other.worker_name == "d"
    assert attempts_of(job) == 1


def test_higher_priority_goes_first_of_calls_and_of_jobs() -> None:
    core = Core(replace(CALLER, handler_slots=1))
    plans = [
        Plan({"a": call("f"), "b": call("f", priority=9)}),
        Plan({"c": call("f"), "d": call("f", priority=-1)}, priority=5),
    ]
    for plan in plans:
        core.plan(plan)
    order = []
    while handed := core.hand_out():
        ((name, lease),) = handed.items()
        order.append(name)
        core.succeed(0.0, lease)
    assert order == ["b", "c", "a", "d"]


def test_jobs_take_turns() -> None:
    core = Core(replace(CALLER, handler_slots=1))
    core.plan(Plan({f"a{n}": call("f") for n in range(10)}))
    core.plan(Plan({"b": call("f")}))
    order = []
    while handed := core.hand_out():
        ((name, lease),) = handed.items()
        order.append(name)
        core.succeed(0.0, lease)
    assert order[1] == "b"


def test_a_tick_hands_over_a_bounded_number() -> None:
    core = Core(replace(CALLER, handler_slots=2 * LEASES_IN_TICK))
    core.plan(Plan({f"n{n}": call("p", n) for n in range(LEASES_IN_TICK + 7)}))
    assert len(core.tick(0.0).calls) == LEASES_IN_TICK
    assert core.next_tick() == float("-inf")
    assert len(core.tick(0.0).calls) == 7
    assert core.next_tick() != float("-inf")


def test_a_core_that_hands_over_no_more_takes_in_what_is_under_way() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"), b=call("f", A))
    (lease,) = core.hand_out().values()
    core.hand_over_no_more()
    core.succeed(0.0, lease)
    assert core.hand_out() == {}
    assert not job.is_terminal
    assert state(job, "a") is CallState.SUCCEEDED


def test_a_core_that_hands_over_no_more_calls_nobody_silent() -> None:
    """A master that ends hears no more of workers, whose calls go on after its next start."""
    core = Core(CALLER)
    job = core.graph(a=call("f", retries=3))
    (lease,) = core.hand_out().values()
    core.hand_over_no_more()
    for now in (lease.lease_s + 1, LIMITS.dead_after_s + 1, 10 * LIMITS.dead_after_s):
        core.settle(now)
    assert state(job, "a") is CallState.RUNNING
    assert lease.call.record.lost == 0
    core.succeed(now, lease)
    assert state(job, "a") is CallState.SUCCEEDED


# Moments


def test_a_call_is_not_begun_before_its_moment() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f", not_before=5.0), b=call("f", A, not_before=3.0))
    assert core.hand_out(4.9) == {}
    assert state(job, "a") is CallState.PAUSED
    assert core.calls.next_moment() == 5.0
    core.succeed(5.0, core.hand_out(5.0)["a"])
    assert core.hand_out(5.0).keys() == {"b"}, "its moment has been"


# What takes memory


def test_results_count_until_their_job_has_ended() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"), b=call("f", A))
    before = core.jobs.bytes_waiting
    core.succeed(0.0, core.hand_out()["a"], b'"' + b"x" * 998 + b'"')
    core.tick(0.0)
    assert core.jobs.bytes_waiting == before + 1000 == job.size
    core.succeed(0.0, core.hand_out()["b"], b"22")
    assert core.jobs.bytes_waiting == 0


def test_what_waits_takes_a_bounded_number_of_bytes() -> None:
    core = Core(CALLER, limits=replace(LIMITS, bytes_waiting_max=60))
    job = core.graph(a=call("f"), b=call("f"))
    with pytest.raises(Busy, match="bytes_waiting_max"):
        core.graph(a=call("f"), b=call("f"))
    for lease in core.hand_out().values():
        core.succeed(0.0, lease)
    core.settle(0.0)
    assert job.is_terminal
    core.graph(a=call("f"), b=call("f"))


# Events


def test_events_tell_the_course_of_a_job_in_order() -> None:
    core = Core(CALLER)
    core.graph(a=call("f", retries=1), b=call("g", A))
    core.fail_at(1.0, core.hand_out(0.0)["a"], "no")
    lease = core.hand_out(10.0)["a"]
    for fraction in (0.5, 0.5, 0.7):
        core.calls.extend(11.0, [lease.number], {lease.number: (fraction, "half")})
    core.succeed(12.0, lease, b"1")
    core.fail_at(13.0, core.hand_out(12.0)["b"], "never", retry=False)
    core.tick(13.0)
    assert [(event.at, event.node, event.state, event.text) for event in core.events] == [
        (0.0, "", "waiting", None),
        (0.0, "", "running", None),
        (0.0, "a", "running", "on c"),
        (1.0, "a", "paused", "no"),
        (10.0, "a", "running", "on c"),
        (11.0, "a", "progress", "half"),
        (11.0, "a", "progress", "half"),
        (12.0, "a", "succeeded", None),
        (12.0, "b", "running", "on c"),
        (13.0, "b", "failed", "never"),
        (13.0, "", "failed", "node 'b': never"),
    ]
    assert {event.job for event in core.events} == {1}
    fractions = [event.fraction for event in core.events if event.state == "progress"]
    assert fractions == [0.5, 0.7], "the same is not told twice"


def test_progress_is_of_an_attempt() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    lease = core.hand_out()["a"]
    core.calls.extend(0.0, [lease.number], {lease.number: (0.25, "")})
    assert job.calls is not None
    assert job.calls.calls["a"].progress == (0.25, "")
    core.calls.fail(1.0, lease.number, "reset", Failure.BROKEN)
    core.hand_out(1.0)
    assert job.calls.calls["a"].progress is None
