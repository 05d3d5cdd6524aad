"""Calls after a restart: what is recorded of them in each state, and leases from before."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.checked import CALLER, LIMITS, WORKER, Core
from core.plans import Plan, call
from dte.core.calls.attempts import Outcome
from dte.core.calls.jobs import RESTORED_S
from dte.core.calls.lease import CallLease
from dte.core.graph.call import Call, CallRecord, CallState, Ref
from dte.core.jobs.job import JobState
from dte.core.workers.worker import Failure

A, B = Ref("a"), Ref("b")


def the_call(core: Core, name: str = "a", job: int = 1) -> Call:
    calls = core.jobs.job(job).calls
    assert calls is not None
    return calls.calls[name]


def restored(core: Core, number: int = 1) -> CallLease:
    lease = core.calls.leases.get(number)
    assert lease is not None
    assert (lease.worker, lease.sent) == (None, True)
    return lease


def running(*names: str) -> Core:
    """A core after a restart, when a worker had calls."""
    core = Core(CALLER)
    core.graph(**{name: call("f") for name in names})
    core.hand_out()
    core = core.restarted(now=0.0)
    core.settle(0.0)
    return core


# Ends


def test_what_has_ended_is_not_done_again() -> None:
    core = Core(CALLER)
    core.graph(a=call("f"), b=call("f", A), c=call("f", B))
    core.succeed(1.0, core.hand_out()["a"], b"[1]")
    core.settle(1.0)
    core = core.restarted(now=5.0)
    core.settle(5.0)
    a = the_call(core)
    assert (a.state, a.record.value, a.record.attempts, a.record.ended_at) == (
        CallState.SUCCEEDED,
        b"[1]",
        1,
        1.0,
    )
    assert a.recorded
    assert core.jobs.operations_waiting == 2
    core.succeed(5.0, restored(core, 2), b"[2]")
    core.announce(5.0, CALLER)
    handed = core.hand_out(5.0)
    assert handed["c"].call.operands == {"b": b"[2]"}
    core.succeed(5.0, handed["c"], b"3")
    job = core.jobs.job(1)
    assert (job.answer, core.jobs.bytes_waiting) == (b"3", 0)


def test_a_failure_is_one_after_a_restart_too() -> None:
    core = Core(CALLER)
    core.graph(a=call("f"), b=call("f", A), c=call("f", not_before=99.0), d=call("f", A, B))
    core.fail_at(1.0, core.hand_out()["a"], "no disk")
    core.settle(1.0)
    core = core.restarted(now=5.0)
    core.settle(5.0)
    b = the_call(core, "b")
    assert (b.state, b.record.error, b.record.ended_at) == (
        CallState.SKIPPED,
        "skipped because 'a' failed: no disk",
        1.0,
    )
    assert the_call(core, "c").state is CallState.PAUSED


def test_a_job_all_of_whose_calls_had_ended_ends() -> None:
    """Two ends may be recorded in one commit, and the job's only after it."""
    core = Core(CALLER, records_at_once=False)
    core.graph(a=call("f"), b=call("f"))
    core.record()
    core.tick(0.0)
    core.record()
    handed = core.hand_out()
    core.succeed(0.0, handed["a"], b"1")
    core.succeed(0.0, handed["b"], b"2")
    core.record_once()
    core = core.restarted()
    core.tick(0.0)
    core.record()
    assert core.jobs.job(1).answer == b'{"a":1,"b":2}'
    assert len(core.calls.leases) == 0


def test_a_job_whose_last_calls_were_skipped_ends_though_a_crash_came_before_its_end() -> None:
    core = Core(CALLER, records_at_once=False)
    core.graph(a=call("f"), b=call("f", A))
    core.record()
    core.tick(0.0)
    core.record()
    core.fail_at(0.0, core.hand_out()["a"], "no disk")
    core.record_once()
    core = core.restarted()
    core.record()
    assert core.jobs.job(1).error == "node 'a': no disk"
    assert core.disk.records[1]["b"].error == "skipped because 'a' failed: no disk"


def test_what_another_job_has_done_need_not_be_done() -> None:
    core = Core(CALLER)
    plan = Plan({"a": call("f"), "b": call("f", A), "gone": call("f")})
    first = core.plan(plan)
    core.succeed(0.0, core.hand_out()["a"], b"[1]")
    core.settle(0.0)
    for lease in core.out:
        core.fail_at(0.0, lease)
    core.settle(0.0)
    assert first.state is JobState.FAILED
    kept = [
        record for record in core.disk.records[1].values() if record.state is CallState.SUCCEEDED
    ]
    unknown = replace(kept[0], name="x")
    again = core.plan(Plan({"a": call("f"), "b": call("f", A)}), records=[unknown, *kept])
    handed = core.hand_out()
    assert handed.keys() == {"b"}
    assert handed["b"].call.operands == {"a": b"[1]"}
    core.succeed(0.0, handed["b"], b"2")
    assert again.answer == b"2"
    core = core.restarted()
    assert core.jobs.job(2).is_terminal


# Leases


def test_a_result_under_a_lease_of_before_counts() -> None:
    core = running("a")
    core.announce(0.0, CALLER)
    assert core.hand_out() == {}
    core.succeed(1.0, restored(core), b"7")
    job = core.jobs.job(1)
    assert (job.state, job.answer, the_call(core).record.attempts) == (JobState.SUCCEEDED, b"7", 1)


def test_a_lease_of_before_is_extended_and_belongs_to_the_worker_of_its_name() -> None:
    core = running("a")
    lease = restored(core)
    assert core.calls.extend(1.0, [1], {}) == ([1], [], [])
    assert lease.worker is None, "nobody of that name is known yet"
    core.announce(2.0, CALLER)
    core.calls.extend(2.0, [1], {1: (0.5, "half")})
    (worker,) = core.workers()
    assert lease.worker is worker
    assert worker.call_leases == {1}
    for now in range(3, 60, 3):
        core.calls.extend(float(now), [1], {})
        core.settle(float(now))
    assert core.calls.leases.get(1) is lease
    core.leave(60.0, worker)
    assert (the_call(core).state, the_call(core).record.lost) == (CallState.READY, 1)


def test_a_sign_of_life_of_the_worker_is_enough() -> None:
    core = running("a", "b")
    core.announce(2.0, CALLER)
    (worker,) = core.workers()
    core.calls.seen(29.0, worker)
    core.settle(38.9)
    assert worker.call_leases == {1, 2}
    core.calls.seen(38.9, worker)
    core.settle(45.0)
    assert len(core.calls.leases) == 2


def test_a_lease_of_before_goes_on_long_enough_for_its_worker_to_find_the_way_back() -> None:
    core = running("a")
    core.settle(RESTORED_S - 0.1)
    assert len(core.calls.leases) == 1
    core.settle(RESTORED_S)
    assert (the_call(core).state, the_call(core).record.lost) == (CallState.READY, 1)
    assert the_call(core).record.error == "worker c: silent for 10 s"
    core.announce(RESTORED_S, CALLER)
    again = core.hand_out(RESTORED_S)["a"]
    assert again.number > LIMITS.lease_s
    assert again.call.record.attempts == 2


def test_numbers_of_leases_go_on_beyond_those_of_before() -> None:
    core = running("a")
    core.announce(0.0, CALLER)
    core.graph(b=call("f"))
    assert core.hand_out()["b"].number > 10**9


def test_a_lease_of_before_times_out() -> None:
    core = Core(CALLER)
    core.graph(a=call("f", timeout_s=5.0))
    core.hand_out()
    core = core.restarted(CALLER, now=100.0)
    for second in range(14):
        core.calls.extend(100.0 + second, [1], {})
        core.settle(100.0 + second)
    core.settle(115.0)
    assert core.jobs.job(1).state is JobState.TIMED_OUT


def test_a_worker_that_never_comes_back_counts_as_lost_each_time() -> None:
    core = Core(CALLER)
    core.graph(a=call("f", lost_max=3))
    core.hand_out()
    for lost in range(1, 3):
        core = core.restarted()
        core.settle(0.0)
        core.settle(RESTORED_S)
        core.settle(RESTORED_S + 10.0)
        assert the_call(core).record.lost == lost
        core.announce(RESTORED_S + 10.0, CALLER)
        assert core.hand_out(RESTORED_S + 10.0).keys() == {"a"}
    core = core.restarted()
    core.settle(0.0)
    core.settle(RESTORED_S)
    assert core.jobs.job(1).state is JobState.FAILED


# Pauses


def test_a_pause_goes_on_after_a_restart() -> None:
    core = Core(CALLER)
    core.graph(a=call("f", retries=1))
    core.fail_at(0.0, core.hand_out()["a"])
    core.settle(0.0)
    until = the_call(core).record.resumes_at
    assert until is not None
    core = core.restarted(CALLER, now=0.1)
    assert core.hand_out(until - 0.01) == {}
    assert (the_call(core).state, the_call(core).record.failures) == (CallState.PAUSED, 1)
    lease = core.hand_out(until)["a"]
    core.fail_at(until, lease, "again")
    core.settle(until)
    assert core.jobs.job(1).error == "again", "its retries are counted from before"


def test_a_pause_that_is_over_is_over() -> None:
    core = Core(CALLER)
    core.graph(a=call("f", retries=1))
    core.fail_at(0.0, core.hand_out()["a"])
    core = core.restarted(CALLER, now=100.0)
    assert core.hand_out(100.0).keys() == {"a"}


def test_what_was_given_back_is_ready() -> None:
    core = Core(CALLER)
    core.graph(a=call("f"))
    core.end_call(0.0, core.hand_out()["a"], Outcome(None))
    core.workers()[0].resumes_at = 100.0
    core = core.restarted(CALLER)
    core.settle(0.0)
    assert core.hand_out().keys() == {"a"} or len(core.calls.leases) == 1
    assert the_call(core).record.attempts == 1


def test_what_never_got_to_its_worker_goes_to_another_at_once_after_a_restart() -> None:
    core = Core(CALLER, records_at_once=False)
    core.graph(a=call("f"))
    core.record()
    core.tick(0.0)
    core.leave(0.0, core.workers()[0])
    core.record()
    core = core.restarted(CALLER)
    core.tick(0.0)
    core.record()
    assert core.hand_out().keys() == {"a"}
    assert (the_call(core).record.attempts, the_call(core).record.lost) == (1, 0)


# Results that are not recorded, as they are made anew


def pure_then_running(*more: str) -> Core:
    """After a restart: b was begun with the result of a, which nobody remembers."""
    core = Core(CALLER)
    core.graph(a=call("p"), b=call("f", A, retries=1), c=call("f", B))
    core.succeed(0.0, core.hand_out()["a"], b"1")
    assert core.hand_out().keys() == {"b"}
    core = core.restarted()
    core.settle(0.0)
    assert the_call(core, "a").state is CallState.READY
    assert the_call(core, "b").state is CallState.RUNNING
    return core


def test_a_call_whose_operands_are_not_known_any_more_may_end_all_the_same() -> None:
    core = pure_then_running()
    core.succeed(1.0, restored(core, 2), b"2")
    core.announce(1.0, CALLER)
    handed = core.hand_out(1.0)
    assert handed.keys() == {"a", "c"}
    assert handed["c"].call.operands == {"b": b"2"}


@pytest.mark.parametrize("first", ["operand", "loss"])
def test_a_call_that_is_lost_is_not_begun_before_its_operands_are_known_again(first) -> None:
    core = pure_then_running()
    if first == "loss":
        core.settle(RESTORED_S)
        assert the_call(core, "b").state is CallState.WAITING
    core.announce(1.0, CALLER)
    now = RESTORED_S if first == "loss" else 1.0
    core.announce(now, CALLER)
    handed = core.hand_out(now)
    assert handed.keys() == {"a"}
    core.succeed(now, handed["a"], b"1")
    if first == "operand":
        assert core.hand_out(now) == {}, "a worker has it"
        core.calls.fail(now, 2, "reset", Failure.BROKEN)
    assert core.hand_out(now)["b"].call.operands == {"a": b"1"}


def test_a_call_that_failed_waits_for_its_operands_and_its_pause() -> None:
    core = pure_then_running()
    core.fail_at(1.0, restored(core, 2))
    assert the_call(core, "b").state is CallState.WAITING
    until = the_call(core, "b").record.resumes_at
    assert until is not None
    core.announce(1.0, CALLER)
    core.succeed(1.0, core.hand_out(1.0)["a"], b"1")
    core.settle(1.0)
    assert the_call(core, "b").state is CallState.PAUSED
    assert core.hand_out(until).keys() == {"b"}


@pytest.mark.parametrize("over", [False, True])
def test_a_call_that_paused_waits_for_its_operands_too(over) -> None:
    core = Core(CALLER)
    core.graph(a=call("p"), b=call("f", A, retries=1))
    core.succeed(0.0, core.hand_out()["a"], b"1")
    core.fail_at(0.0, core.hand_out()["b"])
    until = the_call(core, "b").record.resumes_at
    assert until is not None
    now = 100.0 if over else 0.0
    core = core.restarted(now=now)
    core.settle(now)
    assert the_call(core, "b").state is CallState.WAITING
    core.announce(now, CALLER)
    core.succeed(now, core.hand_out(now)["a"], b"1")
    assert bool(core.hand_out(now)) == over
    core.settle(until)
    assert the_call(core, "b").state is CallState.RUNNING


@pytest.mark.parametrize("first", ["operand", "loss"])
def test_a_call_whose_operand_fails_this_time_never_begins_again(first) -> None:
    core = pure_then_running()
    core.announce(0.0, CALLER)
    handed = core.hand_out()
    if first == "operand":
        core.fail_at(0.0, handed["a"], "not today")
        core.calls.fail(0.0, 2, "reset", Failure.BROKEN)
    else:
        core.calls.fail(0.0, 2, "reset", Failure.BROKEN)
        core.fail_at(0.0, handed["a"], "not today")
    core.settle(0.0)
    core.settle(0.0)
    assert the_call(core, "b").record.error == "skipped because 'a' failed: not today"
    assert core.jobs.job(1).error == "node 'a': not today"


def test_a_call_that_is_done_whatever_happens_gets_null_then() -> None:
    core = Core(CALLER)
    core.graph(a=call("p"), b=call("f", A, run_on_failure=True))
    core.succeed(0.0, core.hand_out()["a"], b"1")
    core.hand_out()
    core = core.restarted(CALLER)
    core.fail_at(0.0, core.hand_out()["a"], "not today")
    core.calls.fail(0.0, 2, "reset", Failure.BROKEN)
    assert core.hand_out()["b"].call.operands == {"a": b"null"}


def test_a_formula_s_call_goes_on_while_its_arguments_are_reckoned_anew() -> None:
    core = Core(CALLER, WORKER)
    core.formula("f(1+2) + 1")
    for tick in core.settle(0.0):
        for lease in tick.batches:
            core.answer(0.0, lease)
    assert core.hand_out().keys() == {"f@1"}
    number = core.out[0].number
    for way in ("reported", "lost"):
        again = core.restarted(WORKER, CALLER)
        for tick in again.settle(0.0):
            for lease in tick.batches:
                again.answer(0.0, lease)
        assert again.hand_out() == {}, "a worker has it"
        if way == "lost":
            again.calls.fail(0.0, number, "reset", Failure.BROKEN)
            handed = again.hand_out()["f@1"]
            assert handed.call.operands == {"#0": b"3"}
            again.succeed(0.0, handed, b"9")
        else:
            again.succeed(0.0, restored(again, number), b"9")
        again.run(0.0)
        assert again.jobs.job(1).answer == 10
        if way == "reported":
            core.disk.ends.clear()
            core.disk.records[1].clear()
            core.disk.records[1]["f@1"] = record_of_lease("f@1", number)


def record_of_lease(name: str, number: int) -> CallRecord:
    return CallRecord(name, None, 1, 0, 0, number, 10.0, "c", 0.0, None, None, None, None)


def test_a_formula_s_call_that_ended_is_not_begun_when_its_arguments_are_reckoned_anew() -> None:
    core = Core(CALLER, WORKER)
    core.formula("f(1+2) + g(1)")
    for tick in core.settle(0.0):
        for lease in tick.batches:
            core.answer(0.0, lease)
    core.settle(0.0)
    for lease in list(core.out):
        if lease.call.name == "f@1":
            core.succeed(0.0, lease, b"9")
    core.settle(0.0)
    core = core.restarted(CALLER, WORKER)
    core.run(0.0)
    assert the_call(core, "f@1").state is CallState.SUCCEEDED
    assert the_call(core, "g@10").state is CallState.RUNNING
    core.succeed(0.0, restored(core, the_call(core, "g@10").record.lease), b"1")
    core.run(0.0)
    assert core.jobs.job(1).answer == 10


def test_a_formula_whose_call_had_failed_fails() -> None:
    core = Core(CALLER, records_at_once=False)
    core.formula("f(1)+g(1)")
    core.record()
    core.tick(0.0)
    core.record()
    core.fail_at(0.0, core.hand_out()["f@1"], "no")
    core.record_once()
    core = core.restarted()
    core.tick(0.0)
    core.record()
    core.tick(0.0)
    assert core.jobs.job(1).error == "f@1: no"
    assert len(core.calls.leases) == 0


def test_a_call_that_is_done_whatever_happens_waits_for_what_is_made_anew() -> None:
    core = Core(CALLER)
    core.graph(a=call("p"), b=call("f", A, run_on_failure=True))
    core.succeed(0.0, core.hand_out()["a"], b"1")
    core.hand_out()
    core = core.restarted(now=0.0)
    core.settle(0.0)
    core.calls.fail(0.0, restored(core, 2).number, "reset", Failure.BROKEN)
    assert the_call(core, "b").state is CallState.WAITING
    core.announce(0.0, CALLER)
    core.fail_at(0.0, core.hand_out()["a"], "not today")
    core.settle(0.0)
    assert the_call(core, "b").operands == {"a": b"null"}
    assert the_call(core, "b").state is CallState.RUNNING
