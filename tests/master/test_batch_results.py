"""Results of batches are read whatever they are, long ones in slices."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

import msgspec
import pytest

from dte.core.errors import InvalidRequest
from dte.master import batch_results
from dte.master.batch_results import (
    ITEMS_MAX,
    SLICE_BYTES,
    read_batch_result,
    read_batch_results,
)
from dte.wire.codec import Malformed
from master.calling import claim
from master.rig import Rig

T = TypeVar("T")

LONG = "-" + "9" * 4_300


def done(steps: Generator[None, None, T]) -> tuple[T, int]:
    """What a generator returns, and in how many slices."""
    slices = 1
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value, slices
        slices += 1


def body(*results: Any, more: str = "") -> bytes:
    return f'{{"lease":3,"results":[{",".join(map(str, results))}]{more}}}'.encode()


@pytest.mark.parametrize("count", [1, 20, 200])
def test_long_integers_are_read_however_many_there_are(count: int) -> None:
    results = [LONG, "7" * 4_300, -0.5] * count
    errors = ',"errors":{"1":"too large"},"took_s":0.5'
    batch, slices = done(read_batch_result(body(*results, more=errors)))
    assert batch.results == [int(LONG), int("7" * 4_300), -0.5] * count
    assert (batch.lease, batch.errors, batch.took_s) == (3, {1: "too large"}, 0.5)
    assert slices >= count * 8_600 // SLICE_BYTES


def test_many_short_results_are_read_at_once() -> None:
    results = [n + 0.1 for n in range(20_000)]
    batch, slices = done(read_batch_result(body(*results)))
    assert (batch.results, slices) == (results, 1)


def test_one_long_integer_among_many_results_is_read_too() -> None:
    batch, _ = done(read_batch_result(body(*range(50_000), LONG)))
    assert batch.results[-2:] == [49_999, int(LONG)]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"lease":"x"}',
        body(*[LONG] * 100, '"text"'),
        body(*[LONG] * 100, "1e999"),
        body(*["9" * 4_301] * 100),
        body("-" + "9" * 1_000_000),
        body(*[LONG] * 100, more=',"errors":[]'),
        body(*[0] * (2 * ITEMS_MAX + 2)),
        body(0, more=',"errors":{"1":""' + ',"1":""' * 2 * ITEMS_MAX + "}"),
    ],
)
def test_what_are_no_results_is_refused(raw: bytes) -> None:
    with pytest.raises(Malformed):
        done(read_batch_result(raw))
    with pytest.raises(InvalidRequest, match="batches: "):
        done(read_batch_results([msgspec.Raw(raw)]))


def test_several_batches_are_read_in_slices_too() -> None:
    raws = [msgspec.Raw(body(LONG, LONG))] * 100
    batches, slices = done(read_batch_results(raws))
    assert [len(batch.results) for batch in batches] == [2] * 100
    assert slices >= 100 * 8_600 // SLICE_BYTES


async def test_a_worker_may_report_many_long_integers(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one of an earlier release does, whatever their sign."""
    monkeypatch.setattr(batch_results, "SLICE_BYTES", 10_000)
    number = "9" * 2_100
    reply = await rig.post("/submit", {"tasks": [f"0 - {number} * {n}" for n in range(2, 22)]})
    ids = reply.json["job_ids"]
    while not (await rig.job(ids[-1]))["finished"]:
        asked = await rig.post("/claim", {"worker": "w", "batch_max": 64, "wait": 20})
        for batch in asked.json["batches"]:
            columns = zip(batch["operations"], batch["op1"], batch["op2"], strict=True)
            results = [one * two if sign == "*" else one - two for sign, one, two in columns]
            said = {"lease": batch["lease"], "results": results}
            answer = await rig.post("/result", {"worker": "w", "batches": [said]})
            assert answer.json["accepted"] == [batch["lease"]]
    assert [(await rig.job(each))["answer"] for each in ids] == [
        -int(number) * n for n in range(2, 22)
    ]
    assert await claim(rig) == []
