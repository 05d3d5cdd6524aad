"""Calls that wait for a time of the wall clock, which may be set, or for a delay, which may not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.checked import CALLER, Core
from core.plans import call
from dte.core.graph.call import CallState, Ref
from dte.core.jobs.job import Job

HOUR_S = 3600.0


def hand_out(core: Core, now: float) -> list[str]:
    """What a worker gets that announces itself at a moment."""
    core.announce(now, CALLER)
    return list(core.hand_out(now))


def goes_on_at(core: Core) -> float:
    """When the core next goes on with a call that pauses."""
    moment = core.calls.jobs.pauses.next_moment()
    assert moment is not None
    return moment


def state(job: Job, name: str = "a") -> CallState:
    assert job.calls is not None
    return job.calls.calls[name].state


def test_a_clock_that_is_set_ahead_begins_what_is_then_due() -> None:
    core = Core()
    job = core.graph(a=call("f", not_before=HOUR_S))
    assert hand_out(core, 10.0) == []
    core.jobs.wall_offset_s = HOUR_S - 10.0
    assert goes_on_at(core) == 10.0
    assert hand_out(core, 9.9) == []
    assert state(job) is CallState.PAUSED
    assert hand_out(core, 10.0) == ["a"]


def test_a_clock_that_is_set_back_puts_off_what_waits() -> None:
    core = Core()
    core.graph(a=call("f", not_before=HOUR_S))
    core.settle(10.0)
    core.jobs.wall_offset_s = -600.0
    assert hand_out(core, HOUR_S) == []
    assert goes_on_at(core) == HOUR_S + 600.0
    assert hand_out(core, HOUR_S + 600.0) == ["a"]


def test_what_was_due_and_is_not_any_more_waits_again() -> None:
    """It had no worker when its time came."""
    core = Core()
    job = core.graph(a=call("f", not_before=HOUR_S), b=call("f"))
    core.settle(HOUR_S)
    assert state(job) is CallState.READY
    core.jobs.wall_offset_s = -600.0
    assert hand_out(core, HOUR_S + 1) == ["b"]
    core.succeed(HOUR_S + 1, core.out[-1])
    assert state(job) is CallState.PAUSED
    assert hand_out(core, HOUR_S + 600.0) == ["a"]


def test_another_attempt_does_not_wait_once_more_for_the_first_moment() -> None:
    core = Core()
    job = core.graph(a=call("f", not_before=HOUR_S, retries=1))
    core.announce(HOUR_S, CALLER)
    lease = core.hand_out(HOUR_S)["a"]
    core.jobs.wall_offset_s = -600.0
    core.fail_at(HOUR_S, lease)
    assert state(job) is CallState.PAUSED
    assert hand_out(core, goes_on_at(core)) == ["a"]


@pytest.mark.parametrize("step_s", [-HOUR_S, HOUR_S])
def test_a_delay_and_a_pause_before_another_attempt_last_as_long_whatever_the_clock_shows(
    step_s: float,
) -> None:
    core = Core(CALLER)
    core.graph(a=call("f", delayed_until=60.0), b=call("f", retries=1))
    core.fail_at(0.0, core.hand_out()["b"])
    core.jobs.wall_offset_s = step_s
    until = goes_on_at(core)
    assert hand_out(core, until - 0.001) == []
    assert hand_out(core, until) == ["b"]
    core.succeed(until, core.out[-1])
    assert hand_out(core, 59.9) == []
    assert hand_out(core, 60.0) == ["a"]


def test_a_call_may_wait_for_its_operands_its_delay_and_its_moment_in_turn() -> None:
    core = Core(CALLER)
    job = core.graph(a=call("f"), b=call("f", Ref("a"), delayed_until=20.0, not_before=50.0))
    core.succeed(10.0, core.hand_out()["a"])
    assert goes_on_at(core) == 20.0
    core.settle(20.0)
    assert state(job, "b") is CallState.PAUSED
    core.jobs.wall_offset_s = 25.0
    assert hand_out(core, 24.0) == []
    assert hand_out(core, 25.0) == ["b"]


def test_after_a_restart_a_moment_is_that_of_the_clock_as_it_then_stands() -> None:
    core = Core()
    core.graph(a=call("f", not_before=HOUR_S))
    core.record()
    core.jobs.wall_offset_s = -600.0
    core = core.restarted(now=HOUR_S)
    assert hand_out(core, HOUR_S + 599.0) == []
    assert hand_out(core, HOUR_S + 600.0) == ["a"]


def test_a_clock_that_was_set_back_over_a_restart_makes_no_pause_longer() -> None:
    core = Core(CALLER)
    core.graph(a=call("f", retries=1))
    core.fail_at(0.0, core.hand_out()["a"])
    core.record()
    core.jobs.wall_offset_s = -HOUR_S
    core = core.restarted()
    assert 0 < goes_on_at(core) <= core._limits.retry_pause_max_s


def test_times_are_stamped_by_the_clock_of_the_time_and_no_job_takes_less_than_no_time() -> None:
    core = Core(replace(CALLER, handler_slots=1))
    job = core.graph(1.0, a=call("f"), b=call("f"))
    lease = core.hand_out(2.0)["a"]
    core.jobs.wall_offset_s = -HOUR_S
    core.succeed(3.0, lease)
    lease = core.hand_out(4.0)["b"]
    core.jobs.wall_offset_s = 2 * HOUR_S
    core.succeed(5.0, lease)
    core.settle(5.0)
    assert job.calls is not None
    a, b = (each.record for each in job.calls.calls.values())
    assert (a.started_at, a.ended_at) == (2.0, 2.0)
    assert (b.started_at, b.ended_at) == (4.0 - HOUR_S, 5.0 + 2 * HOUR_S)
    assert (job.submitted_at, job.started_at, job.ended_at) == (1.0, 2.0, 5.0 + 2 * HOUR_S)
    assert [event.at for event in core.events if event.node == "b"][-1] == 5.0 + 2 * HOUR_S
