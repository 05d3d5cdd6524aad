"""Attempts without a result are in the tick, for whoever tells operators."""

from __future__ import annotations

import pytest

from core.checked import CALLER, LIMITS, Core
from core.plans import call
from dte.core.calls import setbacks as setbacks_module
from dte.core.calls.attempts import Outcome
from dte.core.calls.setbacks import Setback, Setbacks
from dte.core.graph.call import CallState
from dte.core.workers.worker import Failure


def test_each_failed_attempt_is_a_setback_and_the_last_is_final() -> None:
    core = Core(CALLER)
    core.graph(a=call("f", retries=1))
    lease = core.hand_out()["a"]
    core.fail_at(1.0, lease, "first")
    (first,) = core.tick(1.0).setbacks
    name = CALLER.name
    assert first == Setback(1, "a", "f", name, 1, 2, "first", lost=False, final=False, alone=True)
    assert core.tick(1.0).setbacks == []
    later = core.following(1.0)
    core.fail_at(later, core.hand_out(later)["a"], "second")
    (second,) = core.tick(later).setbacks
    assert (second.attempt, second.error, second.final) == (2, "second", True)


def test_a_failure_for_which_no_retry_helps_is_final() -> None:
    core = Core(CALLER)
    core.graph(a=call("f", retries=5), b=call("f"))
    lease = core.hand_out()["a"]
    core.calls.report(
        1.0, lease.number, Outcome(CallState.FAILED, None, "bad arguments", retry=False)
    )
    (setback,) = core.tick(1.0).setbacks
    assert (setback.final, setback.alone, setback.attempts_max) == (True, False, 6)


def test_a_call_that_is_lost_with_its_worker_is_a_setback_until_it_is_given_up() -> None:
    core = Core(CALLER)
    core.graph(a=call("f"))
    found = []
    now = 0.0
    while len(found) < LIMITS.workers_lost_max:
        handed = core.hand_out(now)
        if handed:
            core.fail_call(now, handed["a"], "it broke", Failure.BROKEN)
            found += core.tick(now).setbacks
        now = core.following(now)
        core.announce(now, CALLER)
    assert all(each.lost and "it broke" in each.error for each in found)
    assert [each.final for each in found] == [False] * (LIMITS.workers_lost_max - 1) + [True]


def test_what_succeeds_or_is_returned_is_no_setback() -> None:
    core = Core(CALLER)
    core.graph(a=call("f"), b=call("f"))
    handed = core.hand_out()
    core.succeed(1.0, handed["a"], b"1")
    core.calls.report(1.0, handed["b"].number, Outcome(None, None, "the worker leaves"))
    assert core.tick(1.0).setbacks == []


def test_setbacks_between_two_ticks_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setbacks_module, "SETBACKS_MAX", 2)
    core = Core(CALLER)
    job = core.graph(a=call("f"))
    (one,) = job.each_call()
    setbacks = Setbacks()
    for _ in range(5):
        setbacks.add(job, one, None, "no", lost=False, final=False)
    assert len(setbacks.take()) == 2
    assert setbacks.take() == []
