from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dte.core.calls.attempts import Outcome
from dte.core.errors import InvalidRequest
from dte.core.graph.call import Call, CallState, Ref
from dte.core.graph.handlers import HandlerPolicy
from dte.master.messages import (
    arguments,
    check_range,
    outcome_of_report,
    outcome_of_result,
    policies,
)
from dte.wire.messages.calls import Report
from dte.wire.messages.handlers import HandlerInfo


@pytest.mark.parametrize(
    ("report", "outcome"),
    [
        ({"result": 55}, Outcome(CallState.SUCCEEDED, b"55")),
        ({"result": None, "state": "succeeded"}, Outcome(CallState.SUCCEEDED, b"null")),
        ({"error": "broke"}, Outcome(CallState.FAILED, None, "broke")),
        ({"error": "broke", "result": 1}, Outcome(CallState.FAILED, None, "broke")),
        ({"error": "no", "retry": False}, Outcome(CallState.FAILED, None, "no", retry=False)),
        ({"state": "cancelled"}, Outcome(CallState.CANCELLED, None, "cancelled")),
        ({"state": "lost", "error": "gone"}, Outcome(None, None, "gone", lost=True)),
    ],
)
def test_a_report_has_an_outcome(report: dict[str, Any], outcome: Outcome) -> None:
    assert outcome_of_report(read(report), 100) == outcome


@pytest.mark.parametrize("begun", [False, True])
def test_a_returned_call_says_whether_it_had_begun(begun: bool) -> None:
    assert outcome_of_report(read({"state": "returned", "begun": begun}), 100).begun is begun


@pytest.mark.parametrize("report", [{}, {"state": "succeeded"}])
def test_a_report_without_an_outcome_is_refused(report: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="lease 7"):
        outcome_of_report(read(report), 100)


def read(report: dict[str, Any]) -> Report:
    return msgspec.json.decode(msgspec.json.encode({"lease": 7} | report), type=Report)


def test_a_result_that_nobody_could_read_is_a_failure() -> None:
    assert outcome_of_result(b'"1234"', 6) == Outcome(CallState.SUCCEEDED, b'"1234"')
    too_long = outcome_of_result(b'"12345"', 6)
    assert (too_long.state, too_long.retry) == (CallState.FAILED, False)
    assert "value_bytes_max" in str(too_long.error)
    garbled = outcome_of_result(b'"\xff"', 6)
    assert (garbled.state, garbled.retry) == (CallState.FAILED, False)


def test_arguments_have_results_in_place_of_references() -> None:
    call = Call("c", "echo", [Ref("a"), Ref("b"), 3])
    call.refs = ("a", "b")
    call.operands = {"a": b'"of a"'}
    assert arguments(call) == ["of a", None, 3]
    assert arguments(Call("c", "echo", msgspec.Raw(b"[1, 2]"))) == [1, 2]
    assert arguments(Call("c", "echo", msgspec.Raw(b"[1, "))) is None


def test_policies_of_handlers_are_as_their_worker_announces_them() -> None:
    assert policies(["echo"]) == {"echo": HandlerPolicy()}
    known = policies({"fib": HandlerInfo(timeout=2.5, retries=3, pure=True)})
    assert known == {"fib": HandlerPolicy(2.5, 3, True)}


@pytest.mark.parametrize(
    "handlers",
    [
        ["not a name"],
        {"fib": HandlerInfo(timeout=0)},
        {"fib": HandlerInfo(timeout=float("inf"))},
        {"fib": HandlerInfo(retries=1_001)},
        {"fib": HandlerInfo(retries=-1)},
        [f"h{number}" for number in range(1_001)],
    ],
)
def test_handlers_out_of_bounds_are_refused(handlers: Any) -> None:
    with pytest.raises(InvalidRequest, match="handlers: "):
        policies(handlers)


def test_a_number_out_of_range_is_refused_with_its_bounds() -> None:
    check_range("slots", 1, 1, 5)
    check_range("slots", 5, 1, 5)
    for value in (0, 6):
        with pytest.raises(InvalidRequest, match=f"slots must be from 1 to 5, not {value}"):
            check_range("slots", value, 1, 5)
