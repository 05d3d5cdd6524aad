"""How long leases of calls go on: signs of life, timeouts, workers that vanish."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from core.checked import CALLER, HANDLERS, LIMITS, LOOKER, Core
from core.plans import Plan, call
from dte.core.calls import leases, scheduler
from dte.core.calls.attempts import Outcome
from dte.core.graph.call import Call, CallState, Ref
from dte.core.graph.handlers import HandlerPolicy
from dte.core.jobs.job import Job, JobState
from dte.core.workers.worker import Failure

OTHER = replace(CALLER, name="other", address="10.0.1.2:6000")


def only_call(job: Job) -> Call:
    assert job.calls is not None
    (call,) = job.calls.calls.values()
    return call


# Signs of life


def test_a_lease_ends_by_silence_and_the_call_goes_to_another() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    lease = core.hand_out()["a"]
    core.workers()[0].resumes_at = 100.0
    core.announce(9.0, OTHER)
    assert core.hand_out(9.999) == {}
    again = core.hand_out(10.0)["a"]
    assert (again.worker_name, only_call(job).record.lost) == ("other", 1)
    assert core.succeed(11.0, lease, b"1") is False, "it comes too late"
    core.succeed(11.0, again, b"2")
    assert job.answer == b"2"


def test_a_lease_goes_on_as_long_as_it_is_extended() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    lease = core.hand_out()["a"]
    for now in range(3, 60, 3):
        assert core.calls.extend(float(now), [lease.number, 77], {}) == ([lease.number], [77], [])
        core.settle(float(now))
    assert core.workers()[0].last_seen_at == 57.0
    assert core.hand_out(66.9) == {}
    core.succeed(66.95, lease)
    assert job.state is JobState.SUCCEEDED


@pytest.mark.parametrize("ends", [True, False], ids=["it ends", "it falls silent"])
def test_an_extended_lease_ends_in_time_though_a_later_one_goes_on_longer(ends: bool) -> None:
    core = Core(CALLER)
    core.graph(a=call("f"))
    first = core.hand_out(0.0)["a"]
    core.calls.extend(5.0, [first.number], {})
    core.graph(9.0, b=call("f"))
    later = core.hand_out(9.0)["b"]
    core.settle(10.0)
    assert core.calls.leases.get(first.number) is first
    if ends:
        core.succeed(12.0, first)
    core.settle(15.0)
    assert core.calls.leases.get(first.number) is None
    assert core.calls.leases.get(later.number) is later


def test_extending_one_lease_does_not_extend_another() -> None:
    core = Core(CALLER)
    core.graph(a=call("f"), b=call("f"))
    handed = core.hand_out()
    core.calls.extend(8.0, [handed["a"].number], {})
    core.settle(10.0)
    assert core.calls.leases.get(handed["a"].number) is handed["a"]
    assert core.calls.leases.get(handed["b"].number) is None


def test_a_worker_may_say_how_long_its_leases_go_on() -> None:
    core = Core(replace(CALLER, lease_s=100.0, dead_after_s=1000.0))
    core.graph(a=call("f"))
    lease = core.hand_out()["a"]
    core.settle(99.0)
    assert core.calls.leases.get(lease.number) is lease
    core.settle(100.0)
    assert core.calls.leases.get(lease.number) is None


def test_a_sign_of_life_of_a_worker_extends_all_that_it_has() -> None:
    core = Core(LOOKER)
    core.graph(a=call("f"), b=call("f"))
    (worker,) = core.workers()
    assert core.hand_out() == {}, "nobody calls it"
    leases = core.calls.leases.sent_to(worker)
    assert [lease.call.name for lease in leases] == ["a", "b"]
    core.calls.seen(8.0, worker)
    core.settle(17.9)
    assert core.calls.leases.sent_to(worker) == leases
    core.settle(18.0)
    assert core.calls.leases.get(leases[0].number) is None


def test_what_a_worker_that_asks_again_has_forgotten_is_not_extended_and_may_be_reported() -> None:
    core = Core(replace(LOOKER, dead_after_s=1000.0))
    job = core.graph(a=call("f"), b=call("f"))
    (worker,) = core.workers()
    core.hand_out()
    first, second = core.calls.leases.sent_to(worker)
    core.calls.asks_again(worker)
    core.calls.seen(8.0, worker)
    core.succeed(9.0, first)
    core.settle(9.9)
    assert core.calls.leases.get(second.number) is second
    core.settle(10.0)
    assert core.calls.leases.get(second.number) is None
    assert job.calls is not None
    assert job.calls.calls["a"].state is CallState.SUCCEEDED


def test_leases_that_are_being_recorded_are_not_shown_to_who_looks() -> None:
    core = Core(LOOKER, records_at_once=False)
    core.graph(a=call("f"))
    core.record()
    core.tick(0.0)
    (worker,) = core.workers()
    assert core.calls.leases.sent_to(worker) == []
    core.record()
    core.tick(0.0)
    assert len(core.calls.leases.sent_to(worker)) == 1


# Workers that go


def test_what_a_worker_had_that_was_started_anew_goes_out_again() -> None:
    core = Core(CALLER)
    core.graph(a=call("f"))
    lease = core.hand_out()["a"]
    core.announce(1.0, replace(CALLER, incarnation="b"))
    again = core.hand_out(1.0)["a"]
    assert again is not lease
    assert core.succeed(1.0, lease) is False


def test_what_a_worker_had_that_is_gone_goes_out_again() -> None:
    core = Core(replace(CALLER, lease_s=100.0))
    job = core.graph(a=call("f"))
    core.hand_out()
    core.settle(16.0)
    assert core.workers()[0].state == "gone"
    assert only_call(job).state is CallState.READY
    core.announce(17.0, CALLER)
    assert core.hand_out(17.0).keys() == {"a"}


def test_what_a_worker_had_that_leaves_goes_out_again() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    core.hand_out()
    core.leave(1.0, core.workers()[0])
    assert core.workers() == []
    assert only_call(job).state is CallState.READY


def test_a_worker_that_drains_keeps_what_it_has_and_gets_no_more() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"), b=call("f"), c=call("f"))
    handed = core.hand_out()
    core.announce(1.0, replace(CALLER, draining=True))
    core.succeed(2.0, handed["a"])
    assert core.hand_out(2.0) == {}
    core.succeed(2.0, handed["b"])
    core.announce(3.0, OTHER)
    core.succeed(3.0, core.hand_out(3.0)["c"])
    assert job.state is JobState.SUCCEEDED


# Timeouts


@pytest.mark.parametrize(("can_stop", "grace_s"), [(True, LIMITS.lease_s), (False, 0.0)])
def test_a_call_that_takes_too_long_is_stopped(can_stop, grace_s) -> None:
    """Who obeys stops it by itself, and the master only if nothing is heard of that."""
    core = Core(replace(CALLER, can_stop=can_stop, lease_s=1000.0, dead_after_s=1000.0))
    job = core.graph(a=call("f", timeout_s=5.0))
    lease = core.hand_out()["a"]
    assert lease.timeout_s == 5.0
    core.settle(4.999 + grace_s)
    assert not job.is_terminal
    core.settle(5.0 + grace_s)
    assert (job.state, job.error) == (JobState.TIMED_OUT, "it took longer than 5 s")
    assert core.told == [lease]
    assert core.succeed(6.0 + grace_s, lease) is False


def test_a_lease_that_is_extended_times_out_all_the_same() -> None:
    core = Core(replace(CALLER, can_stop=False))
    job = core.graph(a=call("f", timeout_s=20.0))
    lease = core.hand_out()["a"]
    for now in range(1, 20):
        core.calls.extend(float(now), [lease.number], {})
        core.settle(float(now))
    core.settle(20.0)
    assert job.state is JobState.TIMED_OUT


def test_without_a_word_the_handler_s_timeout_holds() -> None:
    handlers = HANDLERS | {"f": HandlerPolicy(timeout_s=3.0)}
    core = Core(replace(CALLER, handlers=handlers))
    core.graph(a=call("f"), b=call("f", timeout_s=7.0))
    handed = core.hand_out()
    assert (handed["a"].timeout_s, handed["b"].timeout_s) == (3.0, 7.0)


def test_a_call_that_timed_out_may_be_tried_again() -> None:
    core = Core(replace(CALLER, can_stop=False))
    job = core.graph(a=call("f", timeout_s=1.0, retries=1))
    core.hand_out()
    core.settle(1.0)
    assert only_call(job).state is CallState.PAUSED
    core.announce(3.0, CALLER)
    core.succeed(3.0, core.hand_out(3.0)["a"])
    assert (job.state, only_call(job).record.failures) == (JobState.SUCCEEDED, 1)


# Results of those whose leases have run out


def lost_call(core: Core) -> Job:
    job = core.graph(a=call("f"))
    core.hand_out()
    core.leave(1.0, core.workers()[0])
    return job


def test_a_result_counts_if_the_lease_has_run_out_and_nobody_else_has_the_call() -> None:
    core = Core(CALLER)
    job = lost_call(core)
    outcome = Outcome(CallState.SUCCEEDED, b"7")
    core.calls.report_unleased(2.0, only_call(job), "c", outcome)
    core.record()
    assert (job.state, job.answer) == (JobState.SUCCEEDED, b"7")
    assert core.calls.jobs.ready.count == 0
    assert core.calls.report_unleased(3.0, only_call(job), "c", outcome) is False
    assert core.calls.stale_results == 0, "a repeat of what was taken is not stale"
    assert core.calls.report_unleased(3.0, only_call(job), "other", outcome) is False
    assert core.calls.stale_results == 1


def test_a_result_does_not_count_if_another_worker_has_the_call_or_had_it() -> None:
    core = Core(CALLER)
    job = lost_call(core)
    outcome = Outcome(CallState.SUCCEEDED, b"7")
    assert core.calls.report_unleased(2.0, only_call(job), "x", outcome) is False
    core.announce(2.0, OTHER)
    lease = core.hand_out(2.0)["a"]
    assert core.calls.report_unleased(2.0, only_call(job), "c", outcome) is False
    core.succeed(3.0, lease, b"8")
    assert job.answer == b"8"


def test_a_result_counts_also_while_the_call_pauses() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f", lost_max=9))
    for _ in range(2):
        core.calls.fail(0.0, core.hand_out()["a"].number, "reset", Failure.BROKEN)
    assert only_call(job).state is CallState.PAUSED
    core.calls.report_unleased(0.0, only_call(job), "c", Outcome(CallState.FAILED, None, "no"))
    core.tick(0.0)
    core.record()
    assert (job.state, job.error) == (JobState.FAILED, "no")
    core.settle(10.0)


def test_a_failure_that_is_told_twice_is_counted_once() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f", retries=3))
    lease = core.hand_out()["a"]
    core.fail_at(0.0, lease)
    again = Outcome(CallState.FAILED, None, "no")
    assert core.calls.report_unleased(0.0, only_call(job), "c", again) is False
    assert only_call(job).record.failures == 1


def test_a_lease_is_its_worker_s_alone() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    lease = core.hand_out(0.0)["a"]
    done = Outcome(CallState.SUCCEEDED, b"1")
    assert core.calls.report(1.0, lease.number, done, "somebody else") is False
    assert core.calls.extend(1.0, [lease.number], {}, "somebody else") == ([], [lease.number], [])
    assert core.calls.extend(1.0, [lease.number], {}, CALLER.name) == ([lease.number], [], [])
    assert core.calls.report(1.0, lease.number, done, CALLER.name) is not False
    core.settle(1.0)
    assert job.answer == b"1"


@pytest.mark.parametrize("handlers", ["ff", "pf", "fp", "pp", "fff", "fpp", "ppf"])
def test_a_job_ends_once_when_its_last_calls_cannot_begin(handlers: str) -> None:
    core = Core(CALLER, limits=replace(LIMITS, value_bytes_max=100))
    first, others = handlers[0], handlers[1:]
    nodes = {f"n{number}": call(handler, Ref("a")) for number, handler in enumerate(others)}
    job = core.plan(Plan({"a": call(first), **nodes}))
    core.succeed(0.0, core.hand_out()["a"], b'"' + b"x" * 120 + b'"')
    core.settle(0.0)
    assert str(job.error).startswith("node 'n0': arguments too large once results are filled in: ")
    assert core.jobs.operations_waiting == core.jobs.bytes_waiting == 0


@pytest.mark.parametrize("handlers", ["ff", "pp"])
def test_a_job_fails_whose_answer_of_many_nodes_is_too_large(handlers: str) -> None:
    core = Core(CALLER, limits=replace(LIMITS, value_bytes_max=100))
    nodes = {f"n{number}": call(handler) for number, handler in enumerate(handlers)}
    of_all, of_one = core.graph(**nodes), core.graph(answer="n1", **nodes)
    value = b'"' + b"x" * 60 + b'"'
    for _ in handlers:
        for leased in core.settle(0.0):
            for lease in leased.calls:
                core.succeed(0.0, lease, value)
    core.settle(0.0)
    assert (of_all.state, of_all.answer) == (JobState.FAILED, None)
    assert str(of_all.error).startswith("answer too large: the results of the 2 nodes ")
    assert "name one node in `answer`" in str(of_all.error)
    assert of_one.answer == value


def test_arguments_that_grow_beyond_the_bound_by_what_they_refer_to_fail_their_call() -> None:
    """A short graph could else ask for gigabytes, and again after each restart."""
    core = Core(CALLER, limits=replace(LIMITS, value_bytes_max=100))
    thrice = {"x": Ref("a"), "y": [Ref("a"), {"z": Ref("a")}]}
    job = core.graph(a=call("f"), b=call("f", named=thrice), c=call("f", Ref("a")))
    core.succeed(0.0, core.hand_out(0.0)["a"], b"1" * 40)
    core.settle(0.0)
    assert job.calls is not None
    b = job.calls.calls["b"]
    assert b.state is CallState.FAILED
    assert "> 100 (value_bytes_max)" in str(b.record.error)
    assert job.calls.calls["c"].state in (CallState.READY, CallState.RUNNING)


# Many that end together


MANY = replace(CALLER, handler_slots=50)


def many_handed_out(core: Core, count: int) -> list[Call]:
    """The calls of a job, all of which one worker has."""
    job = core.graph(**{f"n{number:02}": call("f", number) for number in range(count)})
    assert job.calls is not None
    assert len(core.hand_out()) == count
    return list(job.calls.calls.values())


def lost_in_each_tick(core: Core, now: float, calls: list[Call]) -> list[int]:
    """Tick until nothing is left to do, and count the calls that are lost in each tick."""
    lost = []
    while not lost or core.following(now) <= now:
        before = sum(each.record.lost for each in calls)
        core.tick(now)
        lost.append(sum(each.record.lost for each in calls) - before)
    return lost


@pytest.fixture
def ten_in_tick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "DUE_IN_TICK", 10)
    monkeypatch.setattr(scheduler, "LOST_IN_TICK", 10)


@pytest.mark.usefixtures("ten_in_tick")
def test_leases_that_end_together_end_in_several_ticks() -> None:
    core = Core(MANY)
    calls = many_handed_out(core, 25)
    assert lost_in_each_tick(core, 10.0, calls) == [10, 10, 5]
    assert not len(core.calls.leases)


@pytest.mark.usefixtures("ten_in_tick")
def test_leases_that_were_extended_are_looked_at_in_several_ticks() -> None:
    core = Core(MANY)
    calls = many_handed_out(core, 25)
    core.calls.extend(5.0, [each.record.lease for each in calls], {})
    assert lost_in_each_tick(core, 10.0, calls) == [0, 0, 0]
    assert core.calls.leases.next_moment() == 15.0


@pytest.mark.usefixtures("ten_in_tick")
def test_a_call_that_is_extended_before_its_tick_comes_goes_on() -> None:
    core = Core(MANY)
    calls = many_handed_out(core, 12)
    core.tick(10.0)
    last = calls[-1].record.lease
    assert core.calls.extend(10.0, [last], {}) == ([last], [], [])
    core.settle(10.0)
    assert [each.record.lost for each in calls] == [1] * 11 + [0]


@pytest.mark.usefixtures("ten_in_tick")
def test_timeouts_that_come_together_end_calls_in_several_ticks() -> None:
    policy = HandlerPolicy(timeout_s=1.0, retries=0)
    core = Core(replace(MANY, handlers={"f": policy}))
    calls = many_handed_out(core, 25)
    for now in (4.0, 8.0):
        core.calls.extend(now, [each.record.lease for each in calls], {})
        core.settle(now)
    ended = []
    while not ended or core.following(11.0) <= 11.0:
        core.tick(11.0)
        core.record()
        ended.append(sum(each.state is CallState.TIMED_OUT for each in calls))
    assert ended[:3] == [10, 20, 25]


@pytest.mark.usefixtures("ten_in_tick")
def test_calls_of_a_worker_that_is_lost_go_to_others_in_several_ticks() -> None:
    core = Core(MANY)
    calls = many_handed_out(core, 25)
    core.announce(1.0, replace(MANY, incarnation="b"))
    assert not any(each.record.lost for each in calls), "none in the turn of the request"
    seen = []
    while core.following(1.0) <= 1.0:
        core.tick(1.0)
        seen.append(sum(each.record.lost for each in calls))
    assert max(after - before for before, after in pairwise([0, *seen])) == 10
    assert seen[-1] == 25
    assert len(core.calls.leases) == 25, "the new incarnation has them"


@pytest.mark.usefixtures("ten_in_tick")
def test_workers_that_are_lost_together_share_what_a_tick_may_lose() -> None:
    workers = [
        replace(CALLER, name=f"w{port}", address=f"10.0.1.1:{port}", handler_slots=4, lease_s=100.0)
        for port in range(6)
    ]
    core = Core(*workers)
    calls = many_handed_out(core, 24)
    lost = lost_in_each_tick(core, 60.0, calls)
    assert sum(lost) == 24
    assert max(lost) == 8 + 4, "those of two at once, and a slice"
