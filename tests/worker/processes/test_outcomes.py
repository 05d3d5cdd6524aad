"""Protects: a call ends with an error that says why, whatever its handler returns or raises."""

from __future__ import annotations

import enum
import itertools
import tracemalloc
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tornado.ioloop import IOLoop

from dte.worker.processes.channel import ERROR_CHARS_MAX, TRACE_CHARS_MAX
from dte.worker.processes.outcomes import OUT_OF_MEMORY, Outcomes
from worker.hostile import ERRORS, RAISED, RESULTS
from worker.rig import Rig, StartRig

pytestmark = pytest.mark.usefixtures("own_handlers")

HANDLERS = ("hostile", "hostile_async", "hostile_coroutine")
RECIPES = (
    *itertools.product(["return", "progress"], RESULTS),
    *itertools.product(["raise"], ERRORS),
)
outcomes = Outcomes(1_000_000, None)


class Number(enum.IntEnum):
    ONE = 1


async def check(one: Rig, recipe: tuple[str, tuple[str, str], str]) -> None:
    """A hostile call has an end of its own, and its process is as before."""
    handler, (deed, name), raised = recipe
    pid = await one.value("pid")
    report = await one.call(handler, deed, name, raised)
    error = report.error or ""
    assert report.state in ("failed", "succeeded"), report
    assert (report.state == "succeeded") == (not error)
    assert report.state == "failed" or deed != "raise"
    assert len(error.encode()) <= 4 * ERROR_CHARS_MAX
    assert len(error) <= ERROR_CHARS_MAX
    assert "the handler's process" not in error
    assert await one.value("pid") == pid


async def test_each_hostile_result_and_exception_has_an_outcome(rig: StartRig) -> None:
    one = rig()
    for handler, recipe in itertools.product(HANDLERS, RECIPES):
        await check(one, (handler, recipe, "SystemExit"))


async def test_an_exception_that_lies_has_an_outcome_whatever_its_attributes_raise(
    rig: StartRig,
) -> None:
    one = rig()
    for handler, raised in itertools.product(HANDLERS, RAISED):
        await check(one, (handler, ("raise", "lying"), raised))


@settings(max_examples=6, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.tuples(st.sampled_from(HANDLERS), st.sampled_from(RECIPES), st.sampled_from([*RAISED])),
        min_size=1,
        max_size=12,
    )
)
def test_hostile_calls_in_any_order_leave_the_process_to_the_next(
    io_loop: IOLoop, rig: StartRig, recipes: list[tuple[str, tuple[str, str], str]]
) -> None:
    async def run() -> None:
        one = rig(slots=2)
        for recipe in recipes:
            await check(one, recipe)
        await one.executor.close()

    io_loop.run_sync(run)


@pytest.mark.parametrize(
    ("name", "error"),
    {
        "strided view": "BufferError: ",
        "struct with an unset field": "AttributeError: ",
        "broken zone": "SystemExit: no offset",
        "raw rubbish": "DecodeError: ",
    }.items(),
)
async def test_a_result_that_cannot_be_encoded_says_why(
    rig: StartRig, name: str, error: str
) -> None:
    one = rig()
    for handler in HANDLERS:
        report = await one.call(handler, "return", name, "SystemExit")
        assert report.state == "failed"
        assert not report.retry
        assert str(report.error).startswith(f"the result cannot be converted to JSON: {error}")


@pytest.mark.parametrize(
    ("result", "name", "kinds"),
    [
        ({1: 2, "1": 3}, '"1"', ("int", "str")),
        ({"1": 3, 1: 2}, '"1"', ("str", "int")),
        ([{"a": ({1.5: 0, "1.5": 0},)}], '"1.5"', ("float", "str")),
        ({float("nan"): 1, float("nan"): 2}, '"nan"', ("float", "float")),
        ({Number.ONE: 1, "1": 2}, '"1"', ("Number", "str")),
    ],
)
def test_a_name_that_would_stand_twice_in_a_result_is_named(
    result: object, name: str, kinds: tuple[str, str]
) -> None:
    outcome = outcomes.of_result(1, result)
    first, second = kinds
    assert outcome.result is None
    assert outcome.error == (
        "the result cannot be converted to JSON: two keys of a dict have the name "
        f"{name}, one of type `{first}` and one of type `{second}`"
    )


@pytest.mark.parametrize(
    "result", [{1: 2, 2: 3}, {"1": 2}, [{"1": 2}, {1: 2}], '":', {1: {"1": 2}}]
)
def test_keys_that_are_no_texts_may_have_names_of_their_own(result: object) -> None:
    assert outcomes.of_result(1, result).error is None


@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: [n], lambda n: {"a": {"b": n}}])
def test_an_integer_that_takes_minutes_to_convert_fails_at_once(
    wrap: Callable[[int], object],
) -> None:
    outcome = outcomes.of_result(1, wrap(10**900_000))
    assert outcome.error == (
        "the result cannot be converted to JSON: it has an integer of more than 300000 digits; "
        "return it as a text"
    )
    assert outcomes.of_result(1, wrap(10**5000)).error is None


def caught(make: Callable[[], BaseException]) -> BaseException:
    try:
        raise make()
    except BaseException as error:
        return error


@pytest.mark.parametrize("kind", [ValueError, KeyError, RuntimeError])
@pytest.mark.parametrize("count", [1, 2])
def test_a_long_text_in_an_exception_is_cut_before_it_is_copied(
    kind: type[Exception], count: int
) -> None:
    error = caught(lambda: kind(*["\x01" * 50_000_000] * count))
    tracemalloc.start()
    try:
        outcome = outcomes.of_error(1, error)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000_000
    assert str(outcome.error).startswith(kind.__name__)
    assert len(str(outcome.error)) == ERROR_CHARS_MAX
    assert len(outcome.trace) <= TRACE_CHARS_MAX


@pytest.mark.parametrize("name", ERRORS)
def test_each_trace_is_short_and_can_be_encoded(name: str) -> None:
    outcome = outcomes.of_error(1, caught(lambda: ERRORS[name]("SystemExit")))
    assert len(str(outcome.error)) <= ERROR_CHARS_MAX
    assert len(outcome.trace) <= TRACE_CHARS_MAX
    outcome.trace.encode()


def test_an_error_is_one_line_and_its_trace_has_all() -> None:
    outcome = outcomes.of_error(1, caught(lambda: ValueError("first\nsecond")))
    assert outcome.error == "ValueError: first second"
    assert "first\nsecond" in outcome.trace


def test_an_exception_that_cannot_be_read_is_named() -> None:
    outcome = outcomes.of_error(1, caught(lambda: ERRORS["lying"]("SystemExit")))
    assert outcome.error == "Lying (its text cannot be read: str() raised SystemExit)"


@pytest.mark.parametrize(
    ("error", "worn"),
    [
        (MemoryError(), OUT_OF_MEMORY),
        (OSError(12, "Cannot allocate memory"), OUT_OF_MEMORY),
        (OSError(24, "Too many open files"), "it has too many open files"),
        (OSError(2, "No such file"), ""),
    ],
)
def test_what_the_process_has_run_out_of_is_found_below_other_exceptions(
    error: Exception, worn: str
) -> None:
    hidden = caught(lambda: ValueError("hidden"))
    hidden.__context__ = error
    assert outcomes.of_error(1, hidden).worn == worn
