"""Decodes bodies with calls, so that bad arguments of one call do not affect the others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import msgspec

from dte.wire.codec import Decoder, Malformed
from dte.wire.messages.calls import Call

T = TypeVar("T")

SLOW_BYTES_MAX = 1_000_000
"""A longer body is not read without its arguments, as that takes long. A master sends none."""
SLOW_CALLS_MAX = 10_000
"""Bound on the arguments that are read apart."""

_text = rb'"(?:[^"\\]++|(?:\\.)++)*+(?:"|\\?\Z)'
"""A text. One that does not end is matched at once, not anew at each quote in it."""
_args = re.compile(rb'"(?:kw)?args"\s*+:\s*+(?=[\[{])')
"""What is before arguments; no text looks like this, as quotes in it are escaped."""
_brackets = re.compile(
    rb'(?:%b|\[[^][{}"]*+\]|\{[^][{}"]*+\}|[^][{}"]++)*+([\[{]++|[\]}]++)?+' % _text, re.DOTALL
)
"""What matters not where a value ends, and what is behind: some brackets that open or close."""


class CallDecoder(Generic[T]):
    """Decodes JSON with calls, and leaves their arguments undecoded.

    msgspec skips arguments, but fails on some, for example on deeply nested ones. In this case the
    body is decoded without arguments, which are then put back. The process that runs the call
    reports the fault in its arguments.

    Args:
        calls: returns the calls of a decoded body.
    """

    def __init__(self, shape: type[T], calls: Callable[[T], Iterable[Call]]) -> None:
        self._decoder: Decoder[T] = Decoder(shape, lenient=False)
        self._calls = calls

    def decode(self, raw: bytes) -> T:
        """Decode a body; raise `Malformed` if even without arguments it has not this shape."""
        try:
            return self._decoder.decode(raw)
        except Malformed:
            if len(raw) > SLOW_BYTES_MAX:
                raise
            rest, cut = _without_args(raw)
            if not cut:
                raise
        decoded = self._decoder.decode(rest)
        for call in self._calls(decoded):
            call.args = msgspec.Raw(cut.get(bytes(call.args), bytes(call.args)))
            if isinstance(call.kwargs, msgspec.Raw):
                call.kwargs = msgspec.Raw(cut.get(bytes(call.kwargs), bytes(call.kwargs)))
        return decoded


def _without_args(raw: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Replace the arguments in JSON by markers; return the JSON, and the arguments by marker."""
    cut: dict[bytes, bytes] = {}
    rest = []
    kept = 0
    for found in _args.finditer(raw):
        begun = found.end()
        if begun < kept:
            continue  # It is a name in other arguments.
        end = _end_of_value(raw, begun)
        if end is None or len(cut) == SLOW_CALLS_MAX:
            break
        marker = b'"\\u0061rgs %d"' % len(cut)
        cut[marker] = raw[begun:end]
        rest += [raw[kept:begun], marker]
        kept = end
    return b"".join([*rest, raw[kept:]]), cut


def _end_of_value(raw: bytes, start: int) -> int | None:
    """Return where the list or object ends that begins at a place; None if it does not."""
    opened = 1
    for found in _brackets.finditer(raw, start + 1):
        run = found[1]
        if run is None:
            return None
        if run[:1] in b"[{":
            opened += len(run)
        elif len(run) >= opened:
            return found.start(1) + opened
        else:
            opened -= len(run)
    return None
