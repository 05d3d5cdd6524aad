"""A master whose turns are measured in lines of Python: load does not change their number."""

from __future__ import annotations

import asyncio
import sys
import threading
from http.client import HTTPConnection
from types import FrameType
from typing import Any

from harness.http import HOST

from dte.master.loop import MasterLoop
from dte.master.server import MasterServer
from dte.master.settings import Settings
from dte.master.turns import Turns, What


class CountedTurns(Turns):
    """Counts the lines that the loop's thread executes in each turn.

    Attributes:
        most: the lines of the longest turn since `forget`, and what most of them were for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines = self._lines_before = 0
        self._what_now: What = ()
        self._parts: dict[What, int] = {}
        self.most: tuple[int, dict[What, int]] = (0, {})

    def begin(self) -> None:
        super().begin()
        self.lines = self._lines_before = 0
        self._parts, self._what_now = {}, ("other",)

    def note(self, what: What = ("other",)) -> None:
        super().note(what)
        self._close_part()
        self._what_now = what

    def end(self) -> None:
        super().end()
        self._close_part()
        if self.lines > self.most[0]:
            self.most = self.lines, self._parts

    def _close_part(self) -> None:
        lines = self.lines - self._lines_before
        self._parts[self._what_now] = self._parts.get(self._what_now, 0) + lines
        self._lines_before = self.lines

    def forget(self) -> None:
        self.most = (0, {})

    def count(self, frame: FrameType, event: str, argument: Any) -> Any:
        self.lines += 1
        return self.count


class CountedMaster:
    """A master on a loop in a thread of its own, in which each line is counted."""

    def __init__(self, **settings: Any) -> None:
        self.turns = CountedTurns()
        self._loop = MasterLoop()
        self._loop.turns = self._loop._selector._turns = self.turns  # type: ignore[attr-defined]
        self._started = threading.Event()
        self._stop: asyncio.Event
        self._settings = Settings(HOST, 0, **settings)
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()
        assert self._started.wait(20)
        self.port = self.server.port

    def _live(self) -> None:
        sys.settrace(self.turns.count)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            sys.settrace(None)
            self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self.server = MasterServer(self._settings)
        self.server.start()
        self._started.set()
        await self._stop.wait()
        await self.server.stop()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(60)

    def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        """Send a request, and return the status and the beginning of the reply."""
        connection = HTTPConnection(HOST, self.port, timeout=120)
        try:
            connection.request(method, path, body)
            reply = connection.getresponse()
            is_stream = reply.getheader("Content-Type", "") == "text/event-stream"
            return reply.status, b"" if is_stream else reply.read()
        finally:
            connection.close()
