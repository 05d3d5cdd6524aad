"""Reads bodies with calls in them, so that the arguments of one call keep no other from its run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

import msgspec

from dte.wire.codec import Decoder, Malformed
from dte.wire.messages.calls import Call

T = TypeVar("T")

_token = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_key = re.compile(rb'"args"\s*:\s*\Z')
KEY_BYTES_MAX = 100


class CallDecoder(Generic[T]):
    """Decodes JSON with calls in it, whose arguments stay as they are.

    msgspec steps over arguments, but not over such as nest too deep, say. Then the body is read
    once more without any arguments, which are put back afterwards: the process that is to do the
    call finds what is wrong with them.

    Args:
        shape: what is decoded.
        depth: how many brackets are open before arguments begin.
        calls: gives the calls in what was decoded.
    """

    def __init__(self, shape: type[T], depth: int, calls: Callable[[T], Iterable[Call]]) -> None:
        self._decoder: Decoder[T] = Decoder(shape, lenient=False)
        self._depth = depth
        self._calls = calls

    def decode(self, raw: bytes) -> T:
        """The value that `raw` stands for.

        Raises:
            Malformed: it is no JSON, or not of the decoder's type, whatever the arguments are.
        """
        try:
            return self._decoder.decode(raw)
        except Malformed:
            rest, cut = _without_args(raw, self._depth)
            if not cut:
                raise
        decoded = self._decoder.decode(rest)
        for call in self._calls(decoded):
            call.args = msgspec.Raw(cut.get(bytes(call.args), bytes(call.args)))
        return decoded


def _without_args(raw: bytes, depth: int) -> tuple[bytes, dict[bytes, bytes]]:
    """JSON with texts in the place of arguments, and the arguments by these texts."""
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
                place = b'"\\u0061rgs %d"' % len(cut)
                cut[place] = raw[begun : token.end()]
                rest += [raw[kept:begun], place]
                kept = token.end()
                is_args = False
    return b"".join([*rest, raw[kept:]]), cut
