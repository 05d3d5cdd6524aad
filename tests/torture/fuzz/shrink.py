"""Makes a text shorter that shows a difference, for people to read."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

WORK_MAX = 300_000
"""Characters of all texts tried, each with `TRY_COST` more."""
TRY_COST = 100


def shrink(text: str, differs: Callable[[str], bool]) -> str:
    """The shortest text found that still differs: with parts left out, with numbers made simple.

    Args:
        text: differs.
        differs: whether a text does.
    """
    work = 0
    found = True
    while found:
        found = False
        for shorter in _shorter(text):
            work += len(shorter) + TRY_COST
            if work > WORK_MAX:
                return text
            if differs(shorter):
                text, found = shorter, True
                break
    return text


def _shorter(text: str) -> Iterator[str]:
    """The text with a part left out, large parts first; then with one number exchanged for 1."""
    chars = len(text) // 2
    while chars:
        yield text[chars:-chars]
        for start in range(0, len(text), chars):
            yield text[:start] + text[start + chars :]
        chars //= 2
    for pair in re.finditer(r"\(([^()]*)\)", text):
        yield text[: pair.start()] + pair[1] + text[pair.end() :]
    for number in re.finditer(r"[0-9.]{2,}", text):
        yield f"{text[: number.start()]}1{text[number.end() :]}"
