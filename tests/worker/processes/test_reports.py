"""Reports of calls, and the lines of the log about those that failed."""

from __future__ import annotations

import logging

import msgspec
import pytest

from dte.wire.messages.calls import Call, State
from dte.worker.processes.reports import report_without_result

CALL = Call(7, 6, "a", "flaky", msgspec.Raw(b"[]"), None, 2, 10.0)


@pytest.mark.parametrize(
    ("state", "how"),
    [("failed", "failed"), ("timed_out", "timed out"), ("lost", "was lost")],
)
async def test_an_attempt_without_a_result_is_a_warning_with_its_fields(
    caplog: pytest.LogCaptureFixture, state: State, how: str
) -> None:
    report_without_result(CALL, state, "no luck")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.message == f"job 6, node a: handler flaky {how} on attempt 2: no luck"
    fields = vars(record)
    assert (fields["job"], fields["node"], fields["handler"]) == (6, "a", "flaky")
    assert (fields["attempt"], fields["error"]) == (2, "no luck")


@pytest.mark.parametrize("state", ["cancelled", "returned"])
async def test_a_call_that_is_cancelled_or_returned_is_no_warning(
    caplog: pytest.LogCaptureFixture, state: State
) -> None:
    report_without_result(CALL, state, "its worker leaves")
    assert not caplog.records
