"""A repeat of a result that was taken is known, however the worker names it."""

from __future__ import annotations

import pytest

from dte.core.calls.attempts import Outcome
from dte.core.graph.call import CallState
from dte.master import taken
from dte.master.taken import TakenResults, mark_of, mark_of_batch
from master.calling import claim_one, report
from master.rig import Rig

PULLER = "puller"
DONE = Outcome(CallState.SUCCEEDED, b"1")


async def stale_results(rig: Rig) -> int:
    found: int = (await rig.get("/health")).json["stale_results"]
    return found


async def test_a_repeat_of_a_call_s_result_is_not_counted_as_stale(rig: Rig) -> None:
    number = await rig.accept(handler="echo")
    lease = (await claim_one(rig))["lease"]
    await report(rig, lease, PULLER, result=1)
    for _ in range(2):
        assert (await report(rig, lease, PULLER, result=1))["stale"] == [lease]
    assert await stale_results(rig) == 0
    assert (await rig.job(number))["answer"] == 1
    await report(rig, lease, PULLER, result=2)
    assert await stale_results(rig) == 1, "another result comes too late"


async def test_a_repeat_of_a_failure_is_not_counted_either(rig: Rig) -> None:
    await rig.accept(handler="echo")
    lease = (await claim_one(rig))["lease"]
    for _ in range(2):
        await report(rig, lease, PULLER, error="no")
    assert await stale_results(rig) == 0


async def test_a_result_of_nobody_s_lease_is_counted_each_time(rig: Rig) -> None:
    for _ in range(2):
        await report(rig, 10**9, PULLER, result=1)
    assert await stale_results(rig) == 2


async def test_a_repeat_of_a_batch_is_not_counted_as_stale(rig: Rig) -> None:
    await rig.submit("1+2")
    said = {"worker": PULLER, "batch_max": 64, "wait": 20}
    (batch,) = (await rig.post("/claim", said)).json["batches"]
    body = {"worker": PULLER, "batches": [{"lease": batch["lease"], "results": [3]}]}
    for _ in range(2):
        assert (await rig.post("/result", body)).status == 200
    assert await stale_results(rig) == 0
    body["batches"] = [{"lease": batch["lease"], "results": [4]}]
    await rig.post("/result", body)
    assert await stale_results(rig) == 1


def test_only_the_newest_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(taken, "RESULTS_MAX", 2)
    results = TakenResults()
    for lease in range(5):
        results.add(lease, lease)
    assert [results.has(lease, lease) for lease in range(5)] == [False, False, True, True, True]


@pytest.mark.parametrize(
    "other",
    [
        mark_of("v", DONE),
        mark_of("w", Outcome(CallState.SUCCEEDED, b"2")),
        mark_of("w", Outcome(CallState.SUCCEEDED, b"11")),
        mark_of("w", Outcome(CallState.FAILED, error="no")),
        mark_of_batch("w", [1]),
    ],
    ids=["worker", "result", "length", "failure", "batch"],
)
def test_another_worker_or_another_result_is_no_repeat(other: int) -> None:
    assert mark_of("w", DONE) == mark_of("w", Outcome(CallState.SUCCEEDED, b"1")) != other


def test_a_batch_is_known_by_its_results() -> None:
    assert mark_of_batch("w", [1, 2, 3]) == mark_of_batch("w", [1, 2, 3])
    assert mark_of_batch("w", [1, 2, 3]) != mark_of_batch("w", [1, 2, 4])
    assert mark_of_batch("w", []) != mark_of_batch("w", [0])
