"""Why a job has not ended: a reason for each call of it, in each state."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from core.checked import CALLER, PULLER, WORKER, Core
from core.plans import Plan, call
from dte.core.calls.attempts import Outcome
from dte.core.graph.call import Ref
from dte.core.graph.calls import CALLS_IN_SLICE
from dte.core.jobs.job import Job
from dte.core.why import NAMED_MAX, POSITIONS_MAX, Reason, reasons

A, B = Ref("a"), Ref("b")


def why(core: Core, job: Job, now: float = 0.0, **more: Any) -> dict[str, Reason]:
    found = list(reasons(core, now, job, **more))
    named = {reason.node: reason for reason in found}
    assert len(named) == len(found) or job.calls is not None
    return named


def test_a_job_that_has_ended_waits_for_nothing() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    core.succeed(0.0, core.hand_out()["a"])
    assert why(core, job) == {}


def test_a_call_waits_for_its_operands() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"), b=call("f"), c=call("f", A, B, after=["a"]), d=call("f", A))
    core.hand_out()
    found = why(core, job)
    assert found["c"] == Reason("c", "waiting", "operands", "starts after nodes a, b", ("a", "b"))
    assert found["d"].text == "starts after node a"
    core.succeed(0.0, core.out[0])
    core.settle(0.0)
    assert why(core, job)["c"].names == ("b",)


def test_a_call_without_operands_waits_for_a_slot_as_soon_as_its_job_is_recorded() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    assert why(core, job)["a"].text == "waiting for a free slot on worker c"


def test_a_call_of_a_long_job_waits_a_moment_until_it_is_begun() -> None:
    core = Core(CALLER)
    job = core.plan(Plan({f"n{n}": call("f") for n in range(CALLS_IN_SLICE + 1)}))
    assert why(core, job)["n0"] == Reason("n0", "waiting", "operands", "starts in a moment")
    core.settle(0.0)
    assert why(core, job)["n2"].waits_for == "slot"


def test_of_many_operands_some_are_named() -> None:
    core = Core(CALLER)
    names = [f"n{n}" for n in range(NAMED_MAX + 3)]
    nodes = {name: call("f") for name in names}
    job = core.plan(Plan({**nodes, "z": call("f", *map(Ref, names))}))
    core.settle(0.0)
    reason = why(core, job)["z"]
    assert len(reason.names) == NAMED_MAX
    assert reason.text.endswith(" and 3 more")


def test_a_call_waits_for_a_worker_that_has_its_handler() -> None:
    core = Core(WORKER)
    job = core.graph(a=call("f"))
    core.settle(0.0)
    assert why(core, job)["a"] == Reason(
        "a", "ready", "worker", "no connected worker has the handler 'f'"
    )
    core.announce(0.0, replace(CALLER, draining=True))
    reason = why(core, job)["a"]
    assert reason.text == "no worker with the handler 'f' takes calls: c is leaving"
    assert reason.names == ("c",)


def test_a_call_waits_for_workers_that_can_start_processes_again() -> None:
    failing = replace(CALLER, failing="no GPU left (mine.py, line 12)")
    core = Core(failing)
    job = core.graph(a=call("f"))
    core.settle(0.0)
    text = "worker c cannot start processes for handlers: no GPU left (mine.py, line 12)"
    assert why(core, job)["a"] == Reason("a", "ready", "worker", text, ("c",))
    core.announce(0.0, replace(CALLER, name="d", address="x:1", draining=True))
    assert why(core, job)["a"].text == f"{text} (1 gone, draining or pausing)"
    for port in range(2, 6):
        core.announce(0.0, replace(failing, name="e", address=f"x:{port}"))
    assert "; 2 more workers are in trouble" in why(core, job)["a"].text
    core.announce(0.0, replace(CALLER, name="f", address="x:9", handler_slots=0))
    assert why(core, job)["a"].text.startswith("waiting for a free slot on worker f; worker ")


def test_a_call_that_a_worker_returned_says_why() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    for _ in range(2):
        lease = core.hand_out()["a"]
        core.calls.report(0.0, lease.number, Outcome(None, error="it cannot start"))
    reason = why(core, job)["a"]
    assert reason.waits_for == "delay"
    assert reason.text.endswith(" s; worker c returned it: it cannot start")


def test_a_call_waits_for_a_slot() -> None:
    core = Core(replace(CALLER, handler_slots=1))
    job = core.graph(a=call("f"), b=call("f"), c=call("f"))
    core.hand_out()
    found = why(core, job)
    assert found["b"].position == 0
    assert found["c"] == Reason(
        "c",
        "ready",
        "slot",
        "waiting for a free slot on worker c; 1 call is ahead",
        ("c",),
        1,
    )


def test_positions_of_only_some_are_looked_up() -> None:
    core = Core(replace(CALLER, handler_slots=1), replace(CALLER, name="d", address="x:1"))
    job = core.plan(Plan({f"n{n}": call("f") for n in range(POSITIONS_MAX + 5)}))
    core.settle(0.0)
    positions = [
        reason.position for reason in why(core, job).values() if reason.waits_for == "slot"
    ]
    assert positions == [*range(POSITIONS_MAX), None, None]
    text = next(r.text for r in why(core, job).values() if r.waits_for == "slot")
    assert text.startswith("waiting for a free slot on workers c, d")


def test_a_call_waits_for_its_moment_or_for_another_try() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f", not_before=9.0), b=call("f", retries=1))
    core.fail_at(0.0, core.hand_out()["b"], "no disk")
    found = why(core, job, 1.0)
    assert found["a"] == Reason("a", "paused", "delay", "starts in 8.0 s", until=9.0)
    assert found["b"].waits_for == "retry"
    assert found["b"].until is not None
    assert found["b"].text.endswith(" s; attempt 1 failed: no disk")


@pytest.mark.parametrize(
    ("left_s", "shown"),
    [(59.9, "59.9 s"), (5_400.0, "1.5 h"), (97_458_747.0, "1128.0 days")],
)
def test_a_long_wait_is_told_in_hours_or_days(left_s: float, shown: str) -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f", not_before=1.0 + left_s))
    assert why(core, job, 1.0)["a"].text == f"starts in {shown}"


def test_a_call_waits_for_its_result() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    lease = core.hand_out()["a"]
    assert why(core, job, 2.0)["a"] == Reason(
        "a", "running", "result", "running on worker c for 2.0 s (attempt 1)", ("c",)
    )
    core.calls.extend(2.0, [lease.number], {lease.number: (0.5, "half")})
    assert why(core, job, 2.0)["a"].text.endswith("; 50% done: half")


def test_a_call_waits_for_the_journal() -> None:
    core = Core(CALLER, records_at_once=False)
    job = core.graph(a=call("f"), b=call("f", A))
    core.record()
    core.tick(0.0)
    reason = why(core, job)["a"]
    assert (reason.waits_for, reason.text) == ("journal", "its hand-over is being recorded")
    core.record()
    core.succeed(0.0, core.hand_out()["a"])
    reason = why(core, job)["a"]
    assert (reason.state, reason.text) == ("running", "its end is being recorded")


def test_a_call_waits_until_it_is_stopped() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    core.hand_out()
    core.cancel(0.0, job)
    core.settle(0.0)
    assert why(core, job)["a"] == Reason("a", "cancelling", "stop", "worker c must stop it", ("c",))


def test_a_job_waits_for_others() -> None:
    core = Core()
    core.plan(Plan({"a": call("f")}))
    job = core.plan(Plan({"a": call("f"), "b": call("f", A)}, after=[1]))
    core.settle(0.0)
    found = why(core, job)
    assert found[""] == Reason("", "waiting", "jobs", "starts after job 1", ("1",))
    assert found["a"].text == "starts with its job"
    assert found["b"].names == ("a",)


@pytest.mark.parametrize("text", ["1/0", "1+2"])
def test_a_job_whose_end_is_being_recorded_waits_for_the_journal(text) -> None:
    core = Core(WORKER, records_at_once=False)
    (job,) = core.add(text)
    core.record()
    (lease,) = core.tick(0.0).batches
    core.answer(0.0, lease)
    assert why(core, job)[""].waits_for == "journal"


def test_a_job_of_before_a_restart_waits_to_be_read() -> None:
    core = Core(CALLER)
    core.graph(a=call("f"))
    core = core.restarted(reads=False)
    reason = why(core, core.jobs.job(1))[""]
    assert reason.waits_for == "restart"


def test_arithmetic_waits_for_workers_slots_and_results() -> None:
    core = Core(CALLER)
    (job,) = core.add("(1+2)*(3+4)")
    assert why(core, job)[""].text == (
        "3 arithmetic operations are left, 2 of them ready; no worker does arithmetic"
    )
    core.announce(0.0, WORKER)
    reason = why(core, job)[""]
    assert (reason.waits_for, reason.names) == ("slot", ("w",))
    core.tick(0.0)
    assert why(core, job)[""].waits_for == "result"


def test_a_formula_s_call_waits_for_arithmetic() -> None:
    core = Core(CALLER)
    job = core.formula("f(1+2)")
    core.settle(0.0)
    assert why(core, job)["f@1"].names == ("#0",)


def test_arithmetic_that_needs_calls_waits_for_them_and_not_for_results() -> None:
    core = Core(WORKER)
    job = core.formula("unknown(1)+2")
    core.settle(0.0)
    found = why(core, job)
    assert found[""].waits_for == "operands"
    assert found["unknown@1"].waits_for == "worker"


def test_the_handler_that_was_probably_meant_is_named() -> None:
    def similar(name: str, names: Collection[str]) -> str:
        assert name == "ff"
        assert {"f", "g", "h", "p"} == set(names)
        return "f"

    core = Core(CALLER)
    job = core.graph(a=call("ff"))
    core.settle(0.0)
    text = why(core, job, similar=similar)["a"].text
    assert text == "no connected worker has the handler 'ff'; did you mean 'f'?"


def test_without_workers_that_is_the_reason() -> None:
    core = Core()
    job = core.graph(a=call("f"))
    (formula,) = core.add("1+2")
    core.settle(0.0)
    assert why(core, job)["a"].text == "no worker is connected, so none has the handler 'f'"
    assert why(core, formula)[""].text.endswith("; no worker is connected")


def test_a_running_call_says_that_its_worker_is_not_heard_of() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    lease = core.hand_out()["a"]
    core.calls.extend(3.0, [lease.number], {})
    assert why(core, job, 7.0)["a"].waits_for == "result"
    reason = why(core, job, 11.0)["a"]
    assert reason.waits_for == "silence"
    assert reason.text == (
        "running on worker c for 11.0 s (attempt 1); worker c has not been heard of for 8 s"
    )


def test_a_call_that_workers_keep_returning_does_not_wait_for_its_pause() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    for moment in (0.0, 1.0):
        lease = core.hand_out(moment)["a"]
        core.end_call(moment, lease, Outcome(None, None, "no process starts"))
    core.announce(1.0, replace(CALLER, draining=True))
    reason = why(core, job, 1.0)["a"]
    assert (reason.state, reason.waits_for) == ("paused", "worker")
    text = "no worker with the handler 'f' takes calls: c is leaving; next try in "
    assert reason.text.startswith(text)
    assert reason.text.endswith(" s; worker c returned it: no process starts")
    assert reason.until is not None


def test_a_running_call_names_a_worker_that_cannot_be_called() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    lease = core.hand_out()["a"]
    assert lease.worker is not None
    core.reached(0.0, lease.worker, "Connection refused")
    reason = why(core, job, 1.0)["a"]
    assert reason.waits_for == "silence"
    assert reason.text.endswith("; calls to worker c at 10.0.1.1:6000 fail: Connection refused")
    core.reached(0.0, lease.worker, None)
    assert why(core, job, 1.0)["a"].waits_for == "result"


def test_a_running_call_whose_lease_is_not_known_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    core.hand_out()
    monkeypatch.setattr(core.calls.leases, "get", lambda number: None)
    assert why(core, job, 1.0)["a"].waits_for == "result"


def test_workers_that_take_no_calls_are_named_with_the_reason() -> None:
    core = Core(CALLER)
    worker = core.worker(CALLER.identity)
    assert worker is not None
    job = core.graph(a=call("f"))
    worker.silent_since = 1.0
    text = "no worker with the handler 'f' takes calls: c "
    assert why(core, job, 8.0)["a"].text == f"{text}has not been heard of for 8 s"
    worker.silent_since, worker.resumes_at, worker.last_failure = -1.0, 9.0, "reset"
    assert why(core, job, 8.0)["a"].text == f"{text}is pausing: reset"


def test_a_worker_that_claims_is_unreachable_until_it_claims_again() -> None:
    core = Core(PULLER)
    worker = core.worker(PULLER.identity)
    assert worker is not None
    job = core.graph(a=call("f"))
    core.reached(0.0, worker, "has hung up")
    assert why(core, job)["a"].text == "worker puller has hung up"
    core.calls.seen(1.0, worker)
    assert worker.unreachable is None


def test_of_many_calls_ahead_it_is_told_that_there_are_many(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dte.core.why.AHEAD_MAX", 3)
    core = Core(replace(CALLER, handler_slots=1))
    first = core.plan(Plan({f"n{n}": call("f") for n in range(5)}))
    core.settle(0.0)
    found = [reason for reason in why(core, first).values() if reason.waits_for == "slot"]
    assert [reason.position for reason in found] == [0, 1, 2, None]
    later = core.plan(Plan({"a": call("f", priority=-1)}))
    core.settle(0.0)
    assert why(core, later)["a"].position is None
    assert why(core, later)["a"].text.endswith("; at least 3 calls are ahead")


def test_workers_are_looked_up_once_for_all_calls_of_a_handler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    core = Core(*(replace(CALLER, name=f"w{n}", address=f"10.0.1.{n}:1") for n in range(20)))
    job = core.plan(Plan({f"n{n}": call("fg"[n % 2]) for n in range(200)}))
    core.settle(0.0)
    looked: list[str] = []
    can_run = core.calls.routing.can_run
    monkeypatch.setattr(
        core.calls.routing,
        "can_run",
        lambda announcement, of: looked.append(of.handler) or can_run(announcement, of),
    )
    assert len(why(core, job)) == 200
    assert sorted(looked) == ["f"] * 20 + ["g"] * 20
