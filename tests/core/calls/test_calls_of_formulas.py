"""Formulas that call handlers: results are numbers, arguments may be arithmetic."""

from __future__ import annotations

from dataclasses import replace

import pytest

from core.checked import CALLER, LIMITS, WORKER, Core
from dte.core.calls.attempts import Outcome
from dte.core.graph.call import CallState
from dte.core.graph.handlers import HandlerPolicy
from dte.core.graph.numbers import INTEGER_DIGITS_MAX, number_of
from dte.core.jobs.job import Job, JobState
from dte.core.workers.worker import Failure


def play(core: Core, job: Job, **values: bytes) -> dict[str, list[bytes]]:
    """Do all there is; the operands of each call in the order in which they were handed over."""
    seen: dict[str, list[bytes]] = {}
    while not job.is_terminal:
        ticks = core.settle(0.0)
        for tick in ticks:
            for lease in tick.batches:
                core.answer(0.0, lease)
        leases = [lease for tick in ticks for lease in tick.calls]
        for lease in leases:
            seen.setdefault(lease.call.name, []).extend(lease.call.operands.values())
            core.succeed(0.0, lease, values[lease.call.handler])
        assert ticks[0].batches or leases or job.is_terminal, "nothing goes on"
    return seen


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("f(1)", 5),
        ("f(1)+2", 7),
        ("f(1)*f(1)", 25),
        ("g(f(1))", 0.5),
        ("f(1+2)", 5),
        ("f((1+2)*3, 4/2) - g(2)", 4.5),
        ("f(f(f(1)))+f(1)", 10),
        ("-f(1)", -5),
        ("f(g(1)+f(2))/f(1)", 1.0),
        ("p(1)+p(1)", 6),
        ("p(1+2)+p(1+2)*f(p(1+2))", 18),
    ],
)
def test_a_formula_s_value(text, answer) -> None:
    core = Core(CALLER, WORKER)
    job = core.formula(text)
    play(core, job, f=b"5", g=b"0.5", p=b"3")
    assert (job.answer, job.error) == (answer, None)
    assert type(job.answer) is type(answer)
    jobs = core.jobs
    assert (jobs.operations_waiting, jobs.bytes_waiting, len(core.calls.leases)) == (0, 0, 0)


def test_arguments_are_the_values_of_arithmetic_and_of_calls() -> None:
    core = Core(CALLER, WORKER)
    job = core.formula("f(1/2 + 1) + g(f(2*3), 7)")
    seen = play(core, job, f=b"5", g=b"1")
    assert seen == {"f@1": [b"1.5"], "f@16": [b"6"], "g@14": [b"5"]}


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (b"null", "the handler returned null; a formula needs a number"),
        (b"true", "the handler returned true; a formula needs a number"),
        (b'"7"', 'the handler returned "7"; a formula needs a number'),
        (b"[7]", "the handler returned [7]; a formula needs a number"),
        (b"", "the handler returned ; a formula needs a number"),
        (b"NaN", "the handler returned NaN; a formula needs a number"),
        (b"1e999", "the handler returned 1e999; a formula needs a number"),
        (
            b"[" + b"1" * 99 + b"]",
            "the handler returned [" + "1" * 39 + "; a formula needs a number",
        ),
        (b"9" * (INTEGER_DIGITS_MAX + 1), f"has more than {INTEGER_DIGITS_MAX} digits"),
        (b"-" + b"9" * (INTEGER_DIGITS_MAX + 1), f"has more than {INTEGER_DIGITS_MAX} digits"),
    ],
)
@pytest.mark.parametrize("text", ["{}(1)", "{}(1)+1", "f({}(1))"])
@pytest.mark.parametrize("handler", ["g", "p"])
def test_a_result_that_is_no_number_fails_the_formula(value, error, text, handler) -> None:
    core = Core(CALLER, WORKER)
    text = text.format(handler)
    job = core.formula(text)
    play(core, job, **{handler: value})
    assert job.state is JobState.FAILED
    assert str(job.error).startswith(f"{handler}@{text.index(handler) + 1}: ")
    assert error in str(job.error)


@pytest.mark.parametrize("value", [b"9" * INTEGER_DIGITS_MAX, b"-" + b"9" * INTEGER_DIGITS_MAX])
def test_the_longest_integer_is_one(value) -> None:
    core = Core(CALLER, WORKER)
    job = core.formula("f(1)")
    play(core, job, f=value)
    assert job.answer == int(value)


def test_numbers_of_results() -> None:
    assert number_of(b"-12") == -12
    assert number_of(b"-0.5e3") == -500.0
    assert number_of(b"1.5x") is None
    assert number_of(b"--5") is None
    assert number_of(None) is None
    assert number_of(b"\xff") is None


@pytest.mark.parametrize(
    ("state", "ends"),
    [(CallState.FAILED, JobState.FAILED), (CallState.TIMED_OUT, JobState.TIMED_OUT)],
)
@pytest.mark.parametrize("text", ["f(1) + g(2)", "f(1) + g(2) + f(3) * h(4)"])
def test_a_formula_fails_with_its_first_call_and_stops_the_others(state, ends, text) -> None:
    core = Core(CALLER)
    job = core.formula(text)
    handed = core.hand_out()
    core.end_call(0.0, handed["f@1"], Outcome(state, None, "no"))
    core.settle(0.0)
    assert (job.state, job.error) == (ends, "f@1: no")
    assert core.told == [handed["g@8"]]
    assert (len(core.calls.leases), core.calls.jobs.ready.count) == (0, 0)
    assert core.jobs.operations_waiting == 0
    assert core.succeed(1.0, handed["g@8"], b"1") is False


def test_arithmetic_that_fails_stops_the_calls() -> None:
    core = Core(CALLER, WORKER)
    job = core.formula("1/0 + f(1)")
    ticks = core.settle(0.0)
    (batch,) = [lease for tick in ticks for lease in tick.batches]
    (running,) = core.out
    core.answer(0.0, batch)
    core.settle(0.0)
    assert job.error == "division by zero: 1 / 0"
    assert core.told == [running]


def test_a_call_that_is_about_to_be_handed_over_when_its_job_ends_is_not() -> None:
    core = Core(CALLER, WORKER, records_at_once=False)
    core.formula("1/0 + f(1)")
    core.record()
    (batch,) = core.tick(0.0).batches
    core.answer(0.0, batch)
    core.record()
    tick = core.tick(0.0)
    assert (tick.calls, tick.stops) == ([], [])
    assert len(core.calls.leases) == 0


@pytest.mark.parametrize("handlers", ["fg", "pp", "fp", "pf"])
@pytest.mark.parametrize("second", [CallState.SUCCEEDED, CallState.FAILED, None])
def test_calls_that_are_reported_together_when_the_first_fails_the_formula(
    handlers, second
) -> None:
    core = Core(CALLER, records_at_once=False)
    job = core.formula(f"{handlers[0]}(1) + {handlers[1]}(2)")
    core.record()
    core.tick(0.0)
    core.record()
    core.hand_out()
    one, other = sorted(core.out, key=lambda lease: lease.call.name.split("@")[1])
    core.fail_at(1.0, one, "no")
    outcome = Outcome(second, b"7" if second is CallState.SUCCEEDED else None, None)
    counts = core.end_call(1.0, other, outcome) is not False
    assert counts == (handlers[0] == "f"), "a pure call's failure needs no disk, and ends all"
    core.record()
    core.tick(1.0)
    core.record()
    core.tick(1.0)
    assert job.state is JobState.FAILED
    assert core.jobs.operations_waiting == core.jobs.bytes_waiting == len(core.calls.leases) == 0
    assert job.calls is not None
    assert all(call.is_terminal for call in job.calls.calls.values())


@pytest.mark.parametrize("failure", [Failure.BROKEN, Failure.NOT_SENT])
def test_a_call_that_comes_to_nothing_when_its_formula_has_just_failed(failure) -> None:
    core = Core(CALLER)
    job = core.formula("p(1) + p(2)")
    handed = core.hand_out()
    core.fail_at(1.0, handed["p@1"], "no")
    core.calls.fail(1.0, handed["p@8"].number, "reset", failure)
    core.settle(1.0)
    assert job.state is JobState.FAILED
    assert (
        len(core.calls.leases) == core.calls.jobs.ready.count == core.jobs.operations_waiting == 0
    )


def test_a_result_that_is_recorded_with_its_formula_s_failure_stays_one() -> None:
    core = Core(CALLER, records_at_once=False)
    job = core.formula("f(1) + g(2)")
    core.record()
    core.tick(0.0)
    core.record()
    handed = core.hand_out()
    core.fail_at(1.0, handed["f@1"], "no")
    core.succeed(1.0, handed["g@8"], b"7")
    core.record()
    core.tick(1.0)
    core.record()
    core.tick(1.0)
    assert job.calls is not None
    assert job.calls.calls["g@8"].state is CallState.SUCCEEDED
    record = core.disk.records[1]["g@8"]
    assert (record.state, record.value) == (CallState.SUCCEEDED, b"7")


@pytest.mark.parametrize("handlers", ["ff", "pp"])
def test_calls_that_time_out_together(handlers) -> None:
    policies = {name: HandlerPolicy(timeout_s=5.0, pure=name == "p") for name in handlers}
    core = Core(replace(CALLER, handlers=policies, lease_s=1000.0, dead_after_s=1000.0))
    job = core.formula(f"{handlers[0]}(1) + {handlers[1]}(2)")
    core.hand_out()
    core.settle(100.0)
    assert job.state in (JobState.TIMED_OUT, JobState.FAILED)
    assert len(core.calls.leases) == 0


@pytest.mark.parametrize("handlers", ["ff", "pp"])
def test_a_worker_that_ends_with_several_calls_of_a_formula(handlers) -> None:
    core = Core(CALLER)
    job = core.formula(f"{handlers[0]}(1) + {handlers[1]}(2)")
    now = 0.0
    for start in range(20):
        if job.is_terminal:
            break
        core.settle(now)
        core.announce(now, replace(CALLER, incarnation=str(start)))
        core.settle(now)
        now += 10.0
    assert job.state is JobState.FAILED
    assert "workers_lost_max" in str(job.error)
    assert len(core.calls.leases) == core.jobs.operations_waiting == 0


def test_a_formula_fails_with_arguments_that_grow_beyond_the_bound() -> None:
    core = Core(CALLER, WORKER, limits=replace(LIMITS, value_bytes_max=3))
    job = core.formula("p(100*100)+2*3")
    core.run()
    assert job.error == (
        "p@1: arguments too large once results are filled in: 5 bytes > 3 (value_bytes_max)"
    )
    assert core.jobs.ready.count == core.jobs.operations_waiting == 0


@pytest.mark.parametrize("text", ["p(f(1))+f(1)", "p(p(1))+p(1)*2", "f(f(1))+f(1)"])
def test_a_formula_fails_once_when_the_result_of_a_call_is_too_long_for_another(text: str) -> None:
    core = Core(CALLER, WORKER, limits=replace(LIMITS, value_bytes_max=3))
    job = core.formula(text)
    for lease in core.hand_out().values():
        core.succeed(0.0, lease, b"12345")
    core.settle(0.0)
    assert "arguments too large once results are filled in: 5 bytes > 3" in str(job.error)
    assert core.jobs.ready.count == core.jobs.operations_waiting == 0
    assert len(core.calls.leases) == core.calls.jobs.ready.count == 0


def test_the_calls_of_a_formula_that_fails_at_once_end_with_it() -> None:
    core = Core(CALLER)
    job = core.formula("1e999*f(1)")
    core.tick(0.0)
    assert job.error == "a number in the formula is too large for a float"
    assert core.disk.records[1]["f@7"].error == "its job has ended"
    assert ("f@7", "cancelled") in [(event.node, event.state) for event in core.events]
    assert core.restarted().jobs.job(1).error == job.error


def test_the_answer_is_bounded_like_any_other() -> None:
    core = Core(CALLER, WORKER)
    job = core.formula("f(1)*f(1)")
    play(core, job, f=b"9" * 3000)
    assert "digits" in str(job.error)
