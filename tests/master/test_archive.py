from __future__ import annotations

import pytest

from dte.core.graph.call import CallRecord, CallState
from dte.master import archive, slices
from dte.master.plans import Node, Plan


def test_the_names_of_equal_calls_of_an_ended_job_are_found_in_slices(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slices, "SLICE_S", -1.0)  # Each value is a slice of its own.
    equal = {f"n{number}": Node("same", after=["hub"]) for number in range(30)}
    plan = Plan({"hub": Node("fails"), **equal}, merged=["same"])
    records = [CallRecord("hub", CallState.FAILED), CallRecord("n0", CallState.SKIPPED)]
    work = archive._calls(plan, records)
    count = 0
    while True:
        try:
            next(work)
        except StopIteration as stop:
            calls = stop.value
            break
        count += 1
    assert [call.name for call in calls] == ["hub", *equal]
    assert {call.record.name for call in calls} == {"hub", *equal}
    assert {call.record.state for call in calls[1:]} == {CallState.SKIPPED}
    assert count >= len(calls)
