"""Long work in slices: one slice of one piece of work in each turn of the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator


class Slices:
    """Runs pieces of work that are cut into slices, in turns, between all else the loop does."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()

    async def run(self, slices: Iterator[None]) -> None:
        """Run all slices of an iterator, which does one each time it is asked for the next.

        Raises:
            Whatever the iterator raises.
        """
        while True:
            # The lock is fair: all that wait for it get a slice before this work gets its next.
            async with self._turn:
                if next(slices, False) is False:
                    return
                await asyncio.sleep(0)
