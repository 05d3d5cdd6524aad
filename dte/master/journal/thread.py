"""The thread of the journal, whose methods block.

The outcome of a piece of work goes straight to a callback. An executor and its futures take three
times as long, half the time of the smallest commit.
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
        # The process need not wait for it at its end: no reply depends on unwritten facts.
        self._thread = Thread(target=self._run, name="dte-journal", daemon=True)
        self._thread.start()

    def do(self, work: Callable[[], T], callback: Callable[[T | Exception], None]) -> None:
        """Do some work; the loop calls `callback` with its result or its exception."""

        def do() -> None:
            outcome: T | Exception
            try:
                outcome = work()
            except Exception as error:
                outcome = error
            with suppress(RuntimeError):  # The loop is closed.
                self._loop.call_soon_threadsafe(callback, outcome)

        self._due.put(do)

    def do_due(self) -> None:
        """Do what is due now; for work that takes long, between its steps."""
        for _ in range(self._due.qsize()):
            do = self._due.get()
            if do is None:
                self._due.put(None)
                return
            do()

    def close(self) -> None:
        """End the thread when all work is done."""
        self._due.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (do := self._due.get()) is not None:
            do()
            del do  # Frees its facts before there is more to do.
