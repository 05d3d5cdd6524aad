"""Long work in slices: one slice of one piece of work in each turn of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")


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
                await asyncio.sleep(0)
