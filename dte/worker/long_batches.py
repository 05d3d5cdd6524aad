"""Computes a long batch of operations in slices, between which the worker does other things.

To read and to write an integer takes time by the square of its length, so a batch of the longest
ones takes half a second.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass

import msgspec

from dte.core.graph.numbers import INTEGER_DIGITS_MAX, Number
from dte.wire.codec import Decoder, Malformed, encode
from dte.wire.messages.batches import BatchResult
from dte.worker.arithmetic import compute_all

OPERATIONS_MAX = 16_384
BYTES_MAX = 16_000_000
"""The longest batch. One of a master has at most 1,024 operations, which take 9 MB."""
OPERANDS_IN_PART = 16
"""About how many of the longest operands take 3 ms."""
PART_BYTES = OPERANDS_IN_PART * INTEGER_DIGITS_MAX
NUMBER_BYTES_MAX = 10_000
SEARCHED_BYTES = 1_000_000
"""Bytes in which commas are counted at a time."""


class _RawBatch(msgspec.Struct):
    """A `Batch` whose operands are not read yet."""

    lease: int
    operations: str
    op1: list[msgspec.Raw]
    op2: list[msgspec.Raw]


@dataclass(frozen=True, slots=True)
class Computed:
    """The encoded reply to a batch, and the number of operations that have a result."""

    reply: bytes
    done: int


_raw_batch: Decoder[_RawBatch] = Decoder(_RawBatch, lenient=False)
_numbers: Decoder[list[Number]] = Decoder(list[Number])


def compute_in_slices(body: bytes) -> Generator[None, None, Computed]:
    """Compute the operations of a batch.

    Raises:
        Malformed: the body is no batch.
        ValueError: it is too long, has too many operations, or columns of different lengths.
        KeyError: an operation is unknown.
    """
    if len(body) > BYTES_MAX:
        raise ValueError(f"a batch has at most {BYTES_MAX} bytes, not {len(body)}")
    yield from _ensure_few(body)
    batch = _raw_batch.decode(body)
    count = len(batch.operations)
    if not count == len(batch.op1) == len(batch.op2):
        raise ValueError("operations, op1 and op2 differ in length")
    yield
    took_s, start = 0.0, 0
    results: list[bytes] = []
    errors: dict[int, str] = {}
    while start < count:
        end = _end_of_part(batch, start)
        lefts, rights = _read(batch.op1[start:end]), _read(batch.op2[start:end])
        began = time.monotonic()
        found, failed = compute_all(batch.operations[start:end], lefts, rights)
        took_s += time.monotonic() - began
        results.append(encode(found)[1:-1])
        errors |= {start + index: reason for index, reason in failed.items()}
        start = end
        yield
    # The results stand where a list of none would.
    reply = encode(BatchResult(batch.lease, [], errors, took_s))
    head, _, tail = reply.partition(b"[]")
    return Computed(b"%s[%s]%s" % (head, b",".join(results), tail), count - len(errors))


def _ensure_few(body: bytes) -> Generator[None, None, None]:
    """Refuse a body with too many operations before they take memory."""
    commas = 0
    for start in range(0, len(body), SEARCHED_BYTES):
        commas += body.count(b",", start, start + SEARCHED_BYTES)
        if commas > 2 * OPERATIONS_MAX + 1:
            raise ValueError(f"a batch has at most {OPERATIONS_MAX} operations")
        if start % (8 * SEARCHED_BYTES) == 0:
            yield


def _end_of_part(batch: _RawBatch, start: int) -> int:
    """The end of a part of the batch that takes a short time."""
    size, end = 0, start
    while end < len(batch.operations) and size <= PART_BYTES:
        size += len(bytes(batch.op1[end])) + len(bytes(batch.op2[end]))
        end += 1
    return end


def _read(operands: list[msgspec.Raw]) -> list[Number]:
    if any(len(bytes(each)) > NUMBER_BYTES_MAX for each in operands):
        raise Malformed(f"a number has more than {NUMBER_BYTES_MAX} digits")
    return _numbers.decode(b"[%s]" % b",".join(operands))
