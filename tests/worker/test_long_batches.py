"""Long batches are computed in slices, with the results of short ones."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from dte.core.graph.numbers import INTEGER_LIMIT
from dte.wire.codec import encode
from dte.wire.http.server import Request
from dte.wire.messages.batches import Batch
from dte.worker.compute import LONG_BYTES, ComputeServer
from dte.worker.long_batches import BYTES_MAX, OPERANDS_IN_PART

LONGEST = INTEGER_LIMIT - 1


def answer(body: bytes) -> tuple[int, dict[str, Any], int]:
    """The status, the reply and the number of slices for a body."""
    made = ComputeServer("w")(Request("POST", "/compute", body))
    slices = 0
    if isinstance(made, tuple):
        return made[0], msgspec.json.decode(made[1]), slices
    while True:
        try:
            next(made)
            slices += 1
        except StopIteration as stop:
            status, reply = stop.value
            return status, msgspec.json.decode(reply, strict=False), slices


def test_each_slice_has_a_few_of_the_longest_operands_only() -> None:
    count = 1_024
    batch = Batch(7, "+" * count, [-LONGEST] * count, [LONGEST] * count)
    body = encode(batch)
    assert len(body) < BYTES_MAX
    status, reply, slices = answer(body)
    assert (status, reply["lease"], reply["results"]) == (200, 7, [0] * count)
    assert "errors" not in reply
    assert slices > 2 * count / (2 * OPERANDS_IN_PART)


def test_results_and_failures_are_those_of_a_short_batch() -> None:
    symbols, lefts, rights = "+-*/", [7, 1.5, LONGEST, 1], [3, 2, LONGEST, 0]
    short = answer(encode(Batch(9, symbols, lefts, rights)))[1]
    long = answer(encode(Batch(9, symbols * 20, lefts * 20, rights * 20)) + b" " * LONG_BYTES)[1]
    assert long["results"] == short["results"] * 20
    assert [*long["errors"].items()] == [
        (str(4 * number + int(index)), reason)
        for number in range(20)
        for index, reason in short["errors"].items()
    ]
    assert long["took_s"] >= 0


def test_operations_are_counted_by_their_results() -> None:
    server = ComputeServer("w")
    batch = Batch(1, "/" * 5_000, [1] * 5_000, [1] * 4_999 + [0])
    made = server(Request("POST", "/compute", encode(batch) + b" " * LONG_BYTES))
    assert not isinstance(made, tuple)
    assert [*made]
    assert server.operations_done == 4_999


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(
            encode(Batch(1, "+" * 50_000, [1] * 50_000, [1] * 50_000)), id="too many operations"
        ),
        pytest.param(encode(Batch(1, "+", [1], [1])) + b" " * BYTES_MAX, id="too many bytes"),
        pytest.param(
            encode(Batch(1, "+" * 9_000, [1] * 9_000, [1] * 8_999)) + b" " * LONG_BYTES,
            id="columns of different lengths",
        ),
        pytest.param(b'{"lease":1,"operations":"+"' + b" " * LONG_BYTES, id="no JSON"),
        pytest.param(
            b'{"lease":1,"operations":"+","op1":[%s],"op2":[1]}' % (b"9" * 100_000), id="digits"
        ),
        pytest.param(
            b'{"lease":1,"operations":"+","op1":["1"],"op2":[1]}' + b" " * LONG_BYTES, id="a text"
        ),
        pytest.param(
            b'{"lease":1,"operations":"%%","op1":[1],"op2":[1]}' + b" " * LONG_BYTES, id="symbol"
        ),
    ],
)
def test_what_is_no_such_batch_is_refused(body: bytes) -> None:
    status, reply, _ = answer(body)
    assert status == 400
    assert "error" in reply
