"""Decodes bodies with calls, so that bad arguments of one call do not affect the others."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import msgspec

from dte.wire.codec import Decoder, Malformed
from dte.wire.messages.calls import Call

T = TypeVar("T")

_token = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_key = re.compile(rb'"(?:kw)?args"\s*:\s*\Z')
KEY_BYTES_MAX = 100


class CallDecoder(Generic[T]):
    """Decodes JSON with calls, and leaves their arguments undecoded.

    msgspec skips arguments, but fails on some, for example on deeply nested ones. In this case the
    body is decoded without arguments, which are then put back. The process that runs the call
    reports the fault in its arguments.

    Args:
        depth: the number of open brackets where arguments begin.
        calls: returns the calls of a decoded body.
    """

    def __init__(self, shape: type[T], depth: int, calls: Callable[[T], Iterable[Call]]) -> None:
        self._decoder: Decoder[T] = Decoder(shape, lenient=False)
        self._depth = depth
        self._calls = calls

    def decode(self, raw: bytes) -> T:
        """Decode a body; raise `Malformed` if even without arguments it has not this shape."""
        try:
            return self._decoder.decode(raw)
        except Malformed:
            rest, cut = _without_args(raw, self._depth)
            if not cut:
                raise
        decoded = self._decoder.decode(rest)
        for call in self._calls(decoded):
            call.args = msgspec.Raw(cut.get(bytes(call.args), bytes(call.args)))
            if isinstance(call.kwargs, msgspec.Raw):
                call.kwargs = msgspec.Raw(cut.get(bytes(call.kwargs), bytes(call.kwargs)))
        return decoded


def _without_args(raw: bytes, depth: int) -> tuple[bytes, dict[bytes, bytes]]:
    """Replace the arguments in JSON by markers; return the JSON, and the arguments by marker."""
    cut: dict[bytes, bytes] = {}
    rest = []
    kept = opened = begun = 0
    is_args = False
    for token in _token.finditer(raw):
        if token[0] in b"[{":
            if opened == depth:
                begun = token.start()
                is_args = bool(_key.search(raw[max(0, begun - KEY_BYTES_MAX) : begun]))
            opened += 1
        elif token[0] in b"]}":
            opened -= 1
            if opened == depth and is_args:
                marker = b'"\\u0061rgs %d"' % len(cut)
                cut[marker] = raw[begun : token.end()]
                rest += [raw[kept:begun], marker]
                kept = token.end()
                is_args = False
    return b"".join([*rest, raw[kept:]]), cut
