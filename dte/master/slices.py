"""Long work in slices: one at a time, and the loop turns between them."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")

TURNS_BETWEEN = 3
"""Turns of the loop from slice to slice: a request takes several, and would else wait in each."""


class Slices:
    """Runs pieces of work that are cut into slices, in turns, between all else the loop does."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def run(self, slices: Generator[None, None, T]) -> T:
        """Run a generator that does a slice between its yields, and give what it returns.

        Raises:
            Whatever the generator raises.
        """
        while True:
            # The lock is fair: all that wait for it get a slice before this work gets its next.
            async with self._turn:
                try:
                    next(slices)
                except StopIteration as stop:
                    return stop.value  # type: ignore[no-any-return]
                for _ in range(TURNS_BETWEEN):
                    await asyncio.sleep(0)
