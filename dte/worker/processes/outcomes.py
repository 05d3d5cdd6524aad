"""Makes outcomes of what handlers return and raise, whatever that is."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Collection
from dataclasses import dataclass
from itertools import islice
from math import log10
from types import CodeType
from typing import Any

import msgspec

from dte.wire.codec import encode
from dte.worker.processes.channel import ERROR_CHARS_MAX, Outcome
from dte.worker.processes.misfits import DIGITS_MAX, reason, repeated_name
from dte.worker.processes.traces import chain_of, cut, line_of, real, trace_of

OUT_OF_MEMORY = "it ran out of memory"
CANNOT_CONVERT = "the result cannot be converted to JSON"
EXHAUSTED_CHAIN_MAX = 100

_json: msgspec.json.Decoder[msgspec.Raw] = msgspec.json.Decoder(msgspec.Raw)


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Makes outcomes, and raises nothing.

    Attributes:
        result_bytes_max: the longest result, in bytes of JSON.
        memory_mb: the limit that an error names when memory ran out, in megabytes; None for none.
        own: the functions that call handlers, which traces leave out.
    """

    result_bytes_max: int
    memory_mb: int | None
    own: Collection[CodeType] = ()

    def of_result(self, lease: int, result: Any) -> Outcome:
        """Convert a handler's result to JSON."""
        most = self.result_bytes_max
        try:
            # Converting a long integer to decimal digits might take minutes.
            if issubclass(type(result), int) and int.bit_length(result) * log10(2) > most:
                size = f"an integer of more than {most} digits, the limit is {most} bytes"
                return self.of_refusal(lease, f"the result is too large: {size}; return less")
            raw = _encoded(result)
            _json.decode(raw)  # A `msgspec.Raw` in the result may be anything.
            if not raw.isascii():
                raw.decode()
            if b"null" in raw and result is not None:  # Infinities and NaN become null as well.
                json.dumps(msgspec.to_builtins(result), allow_nan=False)
            if b'":' in raw and (repeated := repeated_name(result)):
                return self.of_refusal(lease, f"{CANNOT_CONVERT}: {repeated}")
        except BaseException as error:
            if issubclass(type(error), MemoryError):
                return self.of_error(lease, error)
            text = f"{CANNOT_CONVERT}: {reason(result, error)}"
            trace = trace_of(error, {*self.own, *ENCODERS, Outcomes.of_result.__code__})
            return self.of_refusal(lease, text, trace, exhausted_by(error))
        if len(raw) > most:
            size = f"{len(raw)} bytes, the limit is {most}"
            return self.of_refusal(lease, f"the result is too large: {size}; return less")
        return Outcome(lease, raw)

    def of_error(self, lease: int, error: BaseException) -> Outcome:
        """Describe an exception that a handler raised."""
        try:
            out_of_memory = issubclass(type(error), MemoryError)
            text = self._out_of_memory() if out_of_memory else line_of(error)
            trace = trace_of(error, self.own)
            return Outcome(lease, error=text, trace=trace, worn=exhausted_by(error))
        except MemoryError:
            return Outcome(lease, error=self._out_of_memory(), worn=OUT_OF_MEMORY)

    def of_refusal(self, lease: int, error: str, trace: str = "", worn: str = "") -> Outcome:
        """Describe a failure that a retry cannot mend."""
        text = cut(error, ERROR_CHARS_MAX)
        return Outcome(lease, error=text, retry=False, trace=trace, worn=worn)

    def _out_of_memory(self) -> str:
        limit = self.memory_mb
        return "MemoryError" if limit is None else f"out of memory: the limit is {limit} MB"


def _encoded(result: Any) -> bytes:
    """Encode a result, unless that would take minutes because of a long integer."""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(DIGITS_MAX)
    try:
        return encode(result)
    finally:
        sys.set_int_max_str_digits(before)


_json_encoder = json.JSONEncoder
ENCODERS = {
    each.__code__
    for each in (_encoded, encode, json.dumps, _json_encoder.encode, _json_encoder.iterencode)
}
"""The functions below which a trace of an error in a result begins: none of them is the user's."""


def exhausted_by(error: BaseException) -> str:
    """Return what the process has run out of, by an exception or what led to it; "" for nothing."""
    for each, _ in islice(chain_of(error), EXHAUSTED_CHAIN_MAX):
        if issubclass(type(each), MemoryError):
            return OUT_OF_MEMORY
        if issubclass(type(each), OSError):
            number = real(each, "errno", OSError)
            if number in (errno.ENOMEM, errno.EMFILE):
                return OUT_OF_MEMORY if number == errno.ENOMEM else "it has too many open files"
    return ""
