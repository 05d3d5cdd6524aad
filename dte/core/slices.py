"""Long work in slices: a generator does a part of it between two yields."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

SLICE = 10_000
"""The weight of a slice: it takes some milliseconds."""
CALL, EDGE = 10, 1
"""The weights of a call and of an edge between two calls."""


def at_once(work: Generator[None, None, T]) -> T:
    """Do work without a pause, and return what it returns."""
    while True:
        try:
            next(work)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
