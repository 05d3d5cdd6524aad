"""Measures how deep JSON nests, in time linear in its length."""

from __future__ import annotations

from array import array
from collections.abc import Generator
from itertools import accumulate

ARGUMENT_LEVELS_MAX = 500
"""The deepest nesting of arguments. Code that handles deeper ones would exhaust Python's stack."""
PIECE_BYTES = 65_536
"""Longer JSON is measured in pieces, each in a slice of its own."""
PASSES = 16
"""Attempts to show cheaply that a piece does not nest too deep."""

_others = bytes(set(range(256)) - set(b'[]{}"'))
_alike = bytes.maketrans(b"{}", b"[]")
_steps = bytes.maketrans(b"[]", b"\x01\xff")


def nests_deeper(raw: bytes, levels: int) -> bool:
    """Return True if valid JSON has more levels of nesting.

    The decoders' own bounds depend on the version of Python.
    """
    search = search_deeper(raw, levels)
    while True:
        try:
            next(search)
        except StopIteration as stop:
            return bool(stop.value)


def search_deeper(raw: bytes, levels: int) -> Generator[None, None, bool]:
    """Measure like `nests_deeper`, in slices."""
    if len(raw) <= levels or raw.count(b"[") + raw.count(b"{") <= levels:
        return False
    opened = 0
    in_text = False
    rest = b""
    for start in range(0, len(raw), PIECE_BYTES):
        if start:
            yield
        piece = rest + raw[start : start + PIECE_BYTES]
        rest = b""
        if b"\\" in piece:
            piece = piece.replace(rb"\\", b"")
            if piece.endswith(b"\\"):  # What it escapes is in the next piece.
                piece, rest = piece[:-1], b"\\"
            piece = piece.replace(rb"\"", b"")
        texts = piece.translate(_alike, _others).split(b'"')
        brackets = b"".join(texts[in_text::2])
        in_text ^= len(texts) % 2 == 0
        if _exceeds(brackets, levels - opened):
            return True
        opened += brackets.count(b"[") - brackets.count(b"]")
    return False


def _exceeds(brackets: bytes, levels: int) -> bool:
    """Return True if more than `levels` brackets of a sequence are open at once."""
    left = brackets
    for removed in range(PASSES):  # Each pass removes the innermost pairs, a level at most.
        if left.count(b"[") + removed <= levels:
            return False
        left = left.replace(b"[]", b"")
    steps = array("b", brackets.translate(_steps))
    return max(accumulate(steps, initial=0)) > levels
