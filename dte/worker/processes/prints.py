"""Stdout, stderr and the log of a child process, which lead to the worker.

Async calls share a process, so each of their lines begins with a mark that names the call. The
worker knows the only call of any other process.
"""

from __future__ import annotations

import ctypes
import io
import logging
import os
import sys
import threading
from typing import Any

from dte.wire.current_call import call_of_task

PARTIAL_BYTES_MAX = 8_000
FORMAT = "%(levelname)s %(name)s: %(message)s"


class _Lines(io.RawIOBase):
    """A stream that writes whole lines, each at once and after the mark of its call."""

    def __init__(self, fileno: int) -> None:
        self._fileno = fileno
        self._partial: dict[int, bytes] = {}
        self._cut: set[int] = set()
        self._is_shared = False
        self._renew_lock()
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = threading.Lock()

    def fileno(self) -> int:
        return self._fileno

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        data = bytes(data)
        lease = _lease()
        length = len(data)
        self._is_shared = self._is_shared or lease != 0
        with self._lock:
            if lease in self._cut:  # Its line has been ended already.
                self._cut.discard(lease)
                data = data.removeprefix(b"\n")
            text = self._partial.pop(lease, b"") + data
            whole, newline, rest = text.rpartition(b"\n")
            if len(rest) > PARTIAL_BYTES_MAX:
                whole, newline, rest = text, b"\n", b""
                self._cut.add(lease)
            if rest:
                self._partial[lease] = rest
        if newline:
            self._send(lease, whole + newline)
        return length

    def flush(self) -> None:
        """Send the unfinished line of the only call, which the worker keeps until it is whole."""
        if self._is_shared or 0 not in self._partial:
            return
        with self._lock:
            rest = self._partial.pop(0, b"")
        self._send(0, rest)

    def end(self, lease: int) -> None:
        """Write the unfinished line of a call."""
        if (
            lease not in self._partial and lease not in self._cut
        ):  # It is so after nearly every call.
            return
        with self._lock:
            rest = self._partial.pop(lease, b"")
            self._cut.discard(lease)
        if rest:
            self._send(lease, rest + b"\n")

    def _send(self, lease: int, text: bytes) -> None:
        if lease:
            mark = b"\x1e%d\x1f" % lease
            text = mark + text[:-1].replace(b"\n", b"\n" + mark) + b"\n"
        rest = memoryview(text)
        while rest:
            rest = rest[os.write(self._fileno, rest) :]


_streams: list[_Lines] = []
_c_library = ctypes.CDLL(None)


def _lease() -> int:
    """Return the lease of the async call in which this code runs; 0 for any other code."""
    call = call_of_task()
    return 0 if call is None else call.lease


def redirect(fileno: int) -> None:
    """Have everything that this process prints go to a pipe, which this function closes."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(fileno, number)
        lines = _Lines(number)
        _streams.append(lines)
        stream = io.TextIOWrapper(  # type: ignore[type-var]
            lines,
            encoding="utf-8",
            errors="backslashreplace",
            write_through=True,
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    os.close(fileno)


def call_ends(lease: int = 0) -> None:
    """Send the unfinished lines of an async call, or of the only call."""
    for each in _streams:
        each.end(lease)
    if not lease:
        _c_library.fflush(None)


class _Handler(logging.StreamHandler[Any]):
    """Prints records that no handler of the user's modules has printed already."""

    def filter(self, record: logging.LogRecord) -> Any:
        logger: logging.Logger | None = logging.getLogger(record.name)
        while logger is not None and logger.parent is not None:
            if any(not isinstance(each, logging.NullHandler) for each in logger.handlers):
                return False
            logger = logger.parent if logger.propagate else None
        return super().filter(record)


def log(level: str) -> None:
    """Print log records from a level up, unless the user's modules have configured logging."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler = _Handler(sys.stderr)
    handler.setFormatter(logging.Formatter(FORMAT))
    root.addHandler(handler)
    if root.level == logging.WARNING:  # As it is when nobody has set it.
        root.setLevel(level.upper())
