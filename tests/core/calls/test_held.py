"""Jobs that wait for each other: `why` of each names the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from core.checked import CALLER, Core
from core.plans import Plan, call
from dte.core.calls.held import HeldCalls
from dte.core.calls.lease import CallLease
from dte.core.jobs.job import Job
from dte.core.why import Reason, reasons

ONE = replace(CALLER, handler_slots=1)
OTHER = replace(ONE, name="d", address="10.0.1.2:6000")


def start(core: Core, handler: str = "f", count: int = 1) -> tuple[Job, CallLease]:
    """Submit a job of a call that a worker gets."""
    job = core.graph(call=call(handler))
    return job, core.hand_out()["call"]


def why(core: Core, job: Job, held: Mapping[int, Sequence[int]]) -> Reason:
    (reason,) = reasons(core, 1.0, job, held)
    return reason


def test_a_call_and_the_job_that_needs_its_slot_name_each_other() -> None:
    core = Core(ONE)
    parent, lease = start(core)
    child = core.graph(call=call("g"))
    core.settle(0.0)
    held = {lease.number: [child.number]}
    reason = why(core, parent, held)
    assert (reason.state, reason.waits_for, reason.names) == ("running", "jobs", ("2",))
    assert reason.text == (
        "running on worker c for 1.0 s (attempt 1); "
        "it waits for job 2, which waits for a slot that job 1 holds on worker c"
    )
    reason = why(core, child, held)
    assert (reason.state, reason.waits_for) == ("ready", "slot")
    assert reason.text == (
        "waiting for a free slot on worker c; job 1's call of f holds one on c and waits for job 2"
    )


def test_a_chain_of_jobs_is_followed_from_both_ends() -> None:
    core = Core(ONE, OTHER)
    first, first_lease = start(core)
    second, second_lease = start(core)
    third = core.graph(call=call("g"))
    core.settle(0.0)
    held = {first_lease.number: [second.number], second_lease.number: [third.number]}
    assert why(core, first, held).text.endswith(
        "; it waits for job 2, which waits for job 3, "
        f"which waits for a slot that job 1 holds on worker {first_lease.worker_name}"
    )
    assert "which waits for a slot that job 2 holds" in why(core, second, held).text
    assert why(core, third, held).text.endswith(
        f"; job 1's call of f holds one on {first_lease.worker_name} and waits for job 2, "
        "which waits for job 3"
    )


def test_two_calls_that_hold_each_other_s_slots_are_named() -> None:
    """The first waits for a call that the other's worker alone can run, and the other way round."""
    only = {"f": CALLER.handlers["f"]}
    core = Core(replace(ONE, handlers={**only, "g": CALLER.handlers["g"]}))
    first, first_lease = start(core)
    core.announce(0.0, replace(OTHER, handlers={**only, "h": CALLER.handlers["h"]}))
    second, second_lease = start(core)
    assert (first_lease.worker_name, second_lease.worker_name) == ("c", "d")
    needs_second, needs_first = core.graph(call=call("h")), core.graph(call=call("g"))
    core.settle(0.0)
    held = {first_lease.number: [needs_second.number], second_lease.number: [needs_first.number]}
    assert why(core, first, held).text.endswith(
        "; it waits for job 3, which waits for a slot that job 2 holds on worker d, "
        "which waits for job 4, which waits for a slot that job 1 holds on worker c"
    )
    assert why(core, second, held).waits_for == "jobs"


def test_a_job_that_starts_after_another_is_a_link_of_the_chain() -> None:
    core = Core(ONE)
    parent, lease = start(core)
    core.graph(call=call("g"))
    last = core.plan(Plan({"call": call("g")}, after=[2]))
    core.settle(0.0)
    held = {lease.number: [last.number]}
    assert why(core, parent, held).text.endswith(
        "; it waits for job 3, which starts after job 2, "
        "which waits for a slot that job 1 holds on worker c"
    )


def test_a_call_that_waits_for_its_own_job_is_told_so() -> None:
    core = Core(CALLER)
    job, lease = start(core)
    reason = why(core, job, {lease.number: [job.number]})
    assert reason.waits_for == "jobs"
    assert reason.text.endswith("; it waits for its own job")


def test_a_call_that_waits_for_a_job_with_a_slot_of_its_own_runs() -> None:
    core = Core(CALLER)
    parent, lease = start(core)
    child, _ = start(core, "g")
    reason = why(core, parent, {lease.number: [child.number]})
    assert reason.waits_for == "result"
    assert reason.text.endswith("; it waits for job 2")
    assert "job" not in why(core, child, {lease.number: [child.number]}).text


def test_a_call_that_waits_for_another_job_is_not_blamed() -> None:
    core = Core(ONE)
    parent, lease = start(core)
    child = core.graph(call=call("g"))
    core.settle(0.0)
    assert why(core, child, {lease.number: [77]}).text == "waiting for a free slot on worker c"
    assert why(core, parent, {lease.number: [77]}).waits_for == "result"


def test_waits_under_leases_that_have_ended_say_nothing() -> None:
    core = Core(ONE)
    _, lease = start(core)
    core.succeed(0.0, lease)
    second, _ = start(core)
    child = core.graph(call=call("g"))
    core.settle(0.0)
    held = {lease.number: [child.number], 12345: [child.number]}
    assert why(core, child, held).text == "waiting for a free slot on worker c"
    assert why(core, second, held).waits_for == "result"


def test_a_job_that_has_ended_waits_for_nothing() -> None:
    core = Core(ONE)
    waits = HeldCalls({}, core.calls.leases, core.jobs, core.workers(), core.calls.routing)
    assert list(waits._next(99)) == []
