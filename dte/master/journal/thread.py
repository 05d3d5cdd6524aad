"""The thread in which the journal is used, as that blocks.

What came of a piece of work is told straight to whoever wants to know. An executor and its futures
take three times as long, which is half of what the smallest commit takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


class JournalThread:
    """Does one piece of work after the other, beside the running loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._due: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # A process that ends need not wait for it: nobody has been told of what is not written.
        self._thread = Thread(target=self._run, name="dte-journal", daemon=True)
        self._thread.start()

    def do(self, work: Callable[[], T], told: Callable[[T | Exception], None]) -> None:
        """Have something done; the loop calls `told` with what it gives, or raises."""

        def do() -> None:
            outcome: T | Exception
            try:
                outcome = work()
            except Exception as error:
                outcome = error
            with suppress(RuntimeError):  # The loop is closed, so nobody is left to be told.
                self._loop.call_soon_threadsafe(told, outcome)

        self._due.put(do)

    def close(self) -> None:
        """End the thread when all that is due has been done."""
        self._due.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (do := self._due.get()) is not None:
            do()
            del do  # Else what it holds would stay until there is more to do.
