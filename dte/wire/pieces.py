"""Large JSON objects and lists in pieces, between which the loop goes on.

A piece ends after a value of the object or list. Whether a comma is behind such a value, or deeper,
or in a text, shows as the piece is read: with a bracket behind it, it is JSON in the first case
alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping, Sequence

import msgspec

from dte.wire.codec import Malformed

PIECE_BYTES = 200_000
"""About how long a piece is; longer values are pieces of their own."""
LONG_BYTES = 1_000_000
"""To copy so much, or to look through it, takes some milliseconds."""

Values = Mapping[str, msgspec.Raw] | Sequence[msgspec.Raw]

_level = msgspec.json.Decoder(dict[str, msgspec.Raw] | list[msgspec.Raw])
_comma = re.compile(rb"[}\]]\s*,")


def in_pieces(raw: bytes, take: Callable[[Values], None]) -> Generator[None, None, None]:
    """Read an object or a list, and call `take` with the undecoded values of each piece.

    Raises:
        Malformed: it is not JSON.
    """
    raw = raw.strip()
    opening, closing = raw[:1], raw[-1:]
    start, size = 1, PIECE_BYTES
    while True:
        comma = yield from _find_comma(raw, start + size)
        piece = opening + (raw[start:] if comma is None else raw[start : comma.start() + 1])
        if len(piece) > LONG_BYTES:
            yield
        try:
            values = _level.decode(piece if comma is None else piece + closing)
        except (msgspec.DecodeError, RecursionError) as error:
            if comma is None:
                raise Malformed(str(error)) from None
            size *= 2  # The comma is deeper, or in a text.
            yield
            continue
        if comma is None and not values and start > 1:
            raise Malformed("JSON is malformed: trailing comma")
        take(values)
        if comma is None:
            return
        start, size = comma.end(), PIECE_BYTES
        yield


def _find_comma(raw: bytes, at: int) -> Generator[None, None, re.Match[bytes] | None]:
    """Find a comma behind a bracket. It may miss one at the end of a slice; any other will do."""
    for start in range(at, len(raw), LONG_BYTES):
        if start > at:
            yield
        if comma := _comma.search(raw, start, start + LONG_BYTES):
            return comma
    return None
