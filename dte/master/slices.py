"""Long work in slices, between which the loop goes on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator, Iterable
from typing import TypeVar

from dte.master.turns import OTHER, Turns, what_for

T = TypeVar("T")

ITERATIONS_BETWEEN = 3
"""Iterations of the loop between two slices: a request takes several, each behind a slice."""


SLICE_S = 0.005
"""A slice of work whose parts take differently long ends after this time."""


def collected(values: Iterable[T]) -> Generator[None, None, list[T]]:
    """Collect values, each of which is made when it is asked for, in slices."""
    found: list[T] = []
    began = time.monotonic()
    for value in values:
        found.append(value)
        if time.monotonic() - began > SLICE_S:
            yield
            began = time.monotonic()
    return found


class Slices:
    """Runs work that is cut into slices, one slice at a time, in round robin.

    Args:
        turns: those in which it is run.
    """

    def __init__(self, turns: Turns | None = None) -> None:
        self._lock = asyncio.Lock()
        self._turns = turns or Turns()

    async def run(self, slices: Generator[None, None, T]) -> T:
        """Run a generator that does a slice between its yields, and return what it returns."""
        what = what_for.get()
        if what is OTHER:
            what = (getattr(slices, "__qualname__", "slices"),)
        value: T
        while True:
            # The lock is fair: other work that waits for it gets a slice before the next of this.
            async with self._lock:
                self._turns.note(what)
                try:
                    next(slices)
                except StopIteration as stop:
                    value = stop.value
                    break
                finally:
                    self._turns.note()
                for _ in range(ITERATIONS_BETWEEN):
                    await asyncio.sleep(0)
        if self._turns.so_far_s > SLICE_S:  # Thousands of short works may follow each other.
            await asyncio.sleep(0)
        return value
