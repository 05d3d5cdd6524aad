"""Hides escaped quotes in JSON, so that a text ends at the next quote.

To find the end of a text of 14 MB with many escapes takes 0.2 s, and no regular expression can be
stopped in it. Without escapes it is one look for a byte.
"""

from __future__ import annotations

from collections.abc import Generator

SLICE_BYTES = 500_000
BACKSLASH, QUOTE = b"\x01\x01", b"\x02\x02"
"""In place of an escaped backslash and of an escaped quote; no valid JSON has these bytes."""


def hiding(raw: bytes) -> Generator[None, None, bytes]:
    """Return valid JSON of the same length without escaped backslashes and quotes, in slices."""
    if b"\\" not in raw:
        return raw
    parts: list[bytes] = []
    rest = b""
    for start in range(0, len(raw), SLICE_BYTES):
        if start:
            yield
        piece = (rest + raw[start : start + SLICE_BYTES]).replace(rb"\\", BACKSLASH)
        rest = b""
        if piece.endswith(b"\\"):  # What it escapes is in the next piece.
            piece, rest = piece[:-1], b"\\"
        parts.append(piece.replace(rb"\"", QUOTE))
    parts.append(rest)
    return b"".join(parts)


def shown(text: bytes) -> bytes:
    """A part of JSON as it was before."""
    return text.replace(BACKSLASH, rb"\\").replace(QUOTE, rb"\"")
