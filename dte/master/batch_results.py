"""Reads results of arithmetic, in slices where they are long: each long integer takes 0.1 ms."""

from __future__ import annotations

from collections.abc import Generator, Iterable

import msgspec

from dte.core.errors import InvalidRequest
from dte.core.graph.numbers import Number
from dte.wire.codec import Decoder, Malformed
from dte.wire.messages.batches import BatchResult

SLICE_BYTES = 100_000
ITEMS_MAX = 100_000
"""Bound on the results, and on the errors, of a batch: no worker gets more operations in one."""
SHORT_BYTES = 26
"""Bytes that a result takes at most, with its comma, unless it is a long integer."""


class _Undecoded(msgspec.Struct):
    """A `BatchResult` with undecoded results and errors."""

    lease: int
    results: list[msgspec.Raw]
    errors: msgspec.Raw = msgspec.Raw(b"{}")
    took_s: float | None = None


_whole: Decoder[BatchResult] = Decoder(BatchResult)
_quick: Decoder[BatchResult] = Decoder(BatchResult, lenient=False)
_undecoded: Decoder[_Undecoded] = Decoder(_Undecoded, lenient=False)
_errors: Decoder[dict[int, str]] = Decoder(dict[int, str], lenient=False)
_number: Decoder[Number] = Decoder(Number)


def read_short(raw: bytes) -> BatchResult:
    """Read the results of a batch that have at most `SLICE_BYTES`; raise `Malformed` if none."""
    return _whole.decode(raw)


def read_batch_result(raw: bytes) -> Generator[None, None, BatchResult]:
    """Read the results of a batch, in slices.

    Raises:
        Malformed: they are no such results.
    """
    if len(raw) <= SLICE_BYTES:
        return read_short(raw)
    commas = raw.count(b",")
    if commas > 2 * ITEMS_MAX:
        raise Malformed(f"a batch has at most {ITEMS_MAX} results and as many errors")
    if len(raw) < SHORT_BYTES * min(commas, ITEMS_MAX):
        try:
            return _quick.decode(raw)
        except Malformed:
            yield  # It may have an integer that only the slow reader takes.
    undecoded = _undecoded.decode(raw)
    results: list[Number] = []
    size = 0
    for each in undecoded.results:
        number = bytes(each)
        size += len(number)
        if size > SLICE_BYTES:
            size = len(number)
            yield
        results.append(_number.decode(number))
    errors = _errors.decode(bytes(undecoded.errors))
    return BatchResult(undecoded.lease, results, errors, undecoded.took_s)


def read_batch_results(raws: Iterable[msgspec.Raw]) -> Generator[None, None, list[BatchResult]]:
    """Read the results of several batches, in slices.

    Raises:
        InvalidRequest: some are no such results.
    """
    batches = []
    size = 0
    for each in raws:
        raw = bytes(each)
        size += len(raw)
        if size > SLICE_BYTES:
            size = len(raw)
            yield
        try:
            batches.append((yield from read_batch_result(raw)))
        except Malformed as error:
            raise InvalidRequest(f"batches: {error}") from None
    return batches
