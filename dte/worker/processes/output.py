"""Lines that handlers print and log, as the worker receives them from a child process.

A pipe takes stdout and stderr of the process and of the programs that it starts. Each line is
passed on with the call that printed it. The worker always reads, so that no handler waits for a
reader of the worker's own stderr, and leaves out lines when there are too many.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import select
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Protocol

from dte import logs
from dte.core.printable import printable
from dte.wire.messages.calls import Call

OnLine = Callable[[Call | None, str], None]
"""Takes a line, with the call that printed it if it is known."""

LOGGER = "dte.handlers"
"""The logger that lines of handlers have in JSON."""
READ_BYTES = 65_536
READS_MAX = 16
"""Reads of one pipe in an iteration of the loop."""
LINE_CHARS_MAX = 2_000
LINE_BYTES_MAX = 4 * LINE_CHARS_MAX
LINES_PER_S = 1_000
"""Lines of one process in a second; further ones are left out and counted."""
NOTE_S = 1.0
"""The longest time until a note about lines that were left out."""
MARK = re.compile(rb"\x1e(\d{1,19})\x1f")
"""The start of a line of an async call: the number of its lease."""
WAITING_BYTES_MAX = 1_000_000
WRITE_BYTES = 4_096
"""The bytes that a pipe takes at once when it says that it takes any (PIPE_BUF)."""
AGAIN_S = 0.05
LAST_S = 1.0


class Assigned(Protocol):
    """What has a call."""

    @property
    def call(self) -> Call: ...


class Output:
    """The output of one process.

    Args:
        fileno: the pipe's end, which this closes.
        calls: the calls of the process, by lease.
    """

    def __init__(self, fileno: int, calls: Mapping[int, Assigned]) -> None:
        self._fileno = fileno
        self._calls = calls
        self._on_line: OnLine = print_line
        self._loop = asyncio.get_running_loop()
        self._rest = b""
        self._second = 0
        self._lines = 0
        self._left_out = 0
        self._note: asyncio.TimerHandle | None = None
        self._poll = select.poll()
        self._poll.register(fileno, select.POLLIN)
        os.set_blocking(fileno, False)
        self._loop.add_reader(fileno, self._read)

    def call_ends(self) -> None:
        """Pass on what was printed until now, and the unfinished line of a call that is alone."""
        if self._poll.poll(0):
            self._read()
        if self._rest and len(self._calls) <= 1:
            rest, self._rest = self._rest, b""
            self._take([rest])

    def close(self) -> None:
        """Pass on the last lines, and close the pipe."""
        self.call_ends()
        if self._left_out:
            self._tell_left_out()
        self._loop.remove_reader(self._fileno)
        os.close(self._fileno)

    def _read(self) -> None:
        for _ in range(READS_MAX):
            try:
                data = os.read(self._fileno, READ_BYTES)
            except BlockingIOError:
                return
            if not data:  # The process has ended.
                self._loop.remove_reader(self._fileno)
                return
            *lines, rest = (self._rest + data).split(b"\n")
            self._rest = rest[:LINE_BYTES_MAX]
            self._take(lines)

    def _take(self, lines: list[bytes]) -> None:
        second = int(self._loop.time())
        if second != self._second:
            if self._left_out:
                self._tell_left_out()
            self._second, self._lines = second, 0
        room = LINES_PER_S - self._lines
        for line in lines[:room]:
            self._pass_on(line)
        self._lines += min(room, len(lines))
        self._left_out += max(0, len(lines) - room)
        if self._left_out and self._note is None:
            self._note = self._loop.call_later(NOTE_S, self._tell_left_out)

    def _pass_on(self, line: bytes) -> None:
        lease, mark = None, MARK.match(line)
        if mark is not None:
            lease, line = int(mark[1]), line[mark.end() :]
        self._on_line(self._find(lease), shown(line))

    def _find(self, lease: int | None) -> Call | None:
        """Return the call of a lease; for None, the only call."""
        if lease is None:
            lease = next(iter(self._calls)) if len(self._calls) == 1 else 0
        assigned = self._calls.get(lease)
        return None if assigned is None else assigned.call

    def _tell_left_out(self) -> None:
        if self._note is not None:
            self._note.cancel()
            self._note = None
        count, self._left_out = self._left_out, 0
        limit = f"more than {LINES_PER_S} in a second"
        self._on_line(self._find(None), f"… lines left out, because there were {limit}: {count}")


def shown(line: bytes) -> str:
    """Return a line as text that is safe to print, cut to a bound."""
    text = line[:LINE_BYTES_MAX].rstrip(b"\r").decode(errors="replace")
    text = "\t".join(map(printable, text.split("\t")))
    return text if len(text) <= LINE_CHARS_MAX else f"{text[: LINE_CHARS_MAX - 1]}…"


def print_line(call: Call | None, text: str) -> None:
    """Print a line on stderr, with the time and the call, in the format of the log."""
    _stderr.write(_formatted(text, call))


def _formatted(text: str, call: Call | None = None) -> bytes:
    now = time.time()
    if logs.writes_json():
        at = datetime.fromtimestamp(now, UTC).isoformat()
        entry = {"time": at, "level": "INFO", "logger": LOGGER, "message": text}
        of_call = {} if call is None else {"job": call.job_id, "node": call.node}
        return f"{json.dumps(entry | of_call)}\n".encode()
    at = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(now))},{int(now * 1000) % 1000:03}"
    about = "handlers" if call is None else f"job {call.job_id}, node {printable(call.node)}"
    return f"{at} {about}: {text}\n".encode(errors="replace")


class _Writer:
    """Writes to a descriptor from the loop's thread without ever waiting for its reader."""

    def __init__(self, fileno: int) -> None:
        self._fileno = fileno
        self._waiting: deque[bytes] = deque()
        self._size = 0
        self._left_out = 0
        self._is_scheduled = False
        self._poll = select.poll()
        self._poll.register(fileno, select.POLLOUT)

    def write(self, line: bytes) -> None:
        if self._size + len(line) > WAITING_BYTES_MAX:
            self._left_out += 1
            return
        if self._left_out:
            count, self._left_out = self._left_out, 0
            text = f"lines left out, because nobody read stderr: {count}"
            self._append(_formatted(text) if logs.writes_json() else f"{text}\n".encode())
        self._append(line)
        if not self._is_scheduled:
            self._flush()

    async def empty(self) -> None:
        """Give a slow reader a moment for the last lines."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                while self._waiting:
                    await asyncio.sleep(AGAIN_S)

    def _append(self, line: bytes) -> None:
        self._waiting.append(line)
        self._size += len(line)

    def _flush(self) -> None:
        self._is_scheduled = False
        while self._waiting and self._poll.poll(0):
            line = self._waiting.popleft()
            self._size -= len(line)
            with suppress(OSError):
                written = os.write(self._fileno, line[:WRITE_BYTES])
                if written < len(line):
                    self._waiting.appendleft(line[written:])
                    self._size += len(line) - written
        if self._waiting:
            self._is_scheduled = True
            asyncio.get_running_loop().call_later(AGAIN_S, self._flush)


_stderr = _Writer(2)


class _Log:
    """A stream for the worker's log, which never waits either. Threads may log too."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.get_ident()

    def write(self, text: str) -> None:
        line = text.encode(errors="backslashreplace")
        if threading.get_ident() == self._thread:
            _stderr.write(line)
        else:
            with suppress(RuntimeError):  # The loop is closed.
                self._loop.call_soon_threadsafe(_stderr.write, line)

    def flush(self) -> None:
        """Do nothing, because lines are written at once."""


@asynccontextmanager
async def log_without_waiting() -> AsyncIterator[None]:
    """Keep the worker's log on stderr from blocking the loop when nobody reads stderr."""
    stream = _Log(asyncio.get_running_loop())
    changed = [
        handler
        for handler in logging.getLogger().handlers
        if type(handler) is logging.StreamHandler and handler.stream is sys.stderr
    ]
    before = [handler.setStream(stream) for handler in changed]
    try:
        yield
        await _stderr.empty()
    finally:
        for handler, old in zip(changed, before, strict=True):
            handler.setStream(old)
