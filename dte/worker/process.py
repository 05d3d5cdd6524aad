"""One child process of a worker, from its start to its end."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, Protocol

import msgspec
from pebble import ProcessPool

from dte.wire.calls import Call, Progress, Report, State
from dte.worker import child
from dte.worker.child import Outcome

log = logging.getLogger("dte.worker")

NEWS_BYTES = 65536

_context = multiprocessing.get_context("spawn")
_starting = threading.Lock()
_progress = msgspec.json.Decoder(tuple[int, float, str])


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """What a child process is given: see `dte.worker.child.prepare`."""

    modules: list[str]
    memory_mb: int | None
    result_bytes_max: int


class Owner(Protocol):
    """Who is told what happens in a process, on the loop's thread."""

    def freed(self, process: Process) -> None:
        """It has begun, or has done its call."""

    def done(self, report: Report) -> None:
        """A call has ended."""

    def progressed(self, lease: int, progress: Progress) -> None:
        """A call is so far."""

    def ending(self, process: Process) -> None:
        """It takes no more calls."""

    def ended(self, process: Process, problem: str | None) -> None:
        """It has gone; `problem` says why it never began."""


class Process:
    """A child process in a pool of pebble for it alone, which does one call at a time.

    So ending one waits for no other, and what may break when it is killed is its own: the pool
    is thrown away with it. That it has ended is told by a pipe whose other end it alone holds
    open; progress comes along the same way.

    Args:
        settings: what it is given.
        owner: is told what happens.
        threads: where its end is waited for.

    Raises:
        OSError, RuntimeError: it cannot be started.
    """

    def __init__(
        self, settings: ProcessSettings, owner: Owner, threads: ThreadPoolExecutor
    ) -> None:
        self._owner = owner
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self._call: Call | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._is_ready = False
        self._verdict: tuple[State, str, bool] | None = None
        self._is_ending = False
        self._rest = b""
        self._news, theirs = _context.Pipe(duplex=False)
        given = (settings.modules, settings.memory_mb, settings.result_bytes_max, theirs)
        self._pool = ProcessPool(1, initializer=child.prepare, initargs=given, context=_context)
        try:
            ready, self._process = _start(self._pool)
        except BaseException:
            self._news.close()
            raise
        finally:
            # Nor can the pool start another process now, when this one has ended.
            theirs.close()
        os.set_blocking(self._news.fileno(), False)
        self._loop.add_reader(self._news.fileno(), self._read_news)
        ready.add_done_callback(self._on_loop(self._began))

    def run(self, call: Call) -> None:
        """Do a call, and tell its end."""
        self._call = call
        try:
            arguments = (call.lease, call.handler, bytes(call.args))
            future = self._pool.schedule(child.run, arguments)
        except RuntimeError:
            self.end("returned", "the process had ended before the call began", begun=False)
        else:
            if call.timeout is not None:
                text = f"stopped after {call.timeout:g} s"
                self._timer = self._loop.call_later(call.timeout, self.end, "timed_out", text)
            future.add_done_callback(self._on_loop(self._answered))

    def end(self, state: State, text: str, begun: bool = True) -> None:
        """End it, and then report so of the call that it does, if nothing else was said before."""
        if not self._is_ending:
            self._verdict = state, text, begun and state == "returned"
            self._begin_to_end()

    def _begin_to_end(self) -> None:
        if self._is_ending:
            return
        self._is_ending = True
        self._owner.ending(self)
        ended = self._threads.submit(self._end_in_thread)
        ended.add_done_callback(self._on_loop(self._ended))

    def _end_in_thread(self) -> None:
        """End the process, and what its handler started: SIGTERM, three seconds later SIGKILL."""
        self._signal_group(signal.SIGTERM)
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()
        self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: signal.Signals) -> None:
        if self._is_ready and self._process is not None and self._process.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _began(self, future: Future[Any]) -> None:
        if future.exception() is not None:
            self._begin_to_end()
        elif not self._is_ending:
            self._is_ready = True
            self._owner.freed(self)

    def _answered(self, future: Future[Any]) -> None:
        if future.exception() is not None:
            self._begin_to_end()
            return
        if self._verdict is not None or self._call is None:
            return
        self._read_news()
        self._conclude(_report(self._call, future.result()))
        if not self._is_ending:
            self._owner.freed(self)

    def _read_news(self) -> None:
        """Read what the process has written: its progress, of which the latest counts."""
        try:
            data = os.read(self._news.fileno(), NEWS_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._news.fileno())
            self._begin_to_end()
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        if lines:
            lease, fraction, text = _progress.decode(lines[-1])
            if self._call is not None and self._call.lease == lease and not self._is_ending:
                self._owner.progressed(lease, Progress(fraction, text))

    def _ended(self, ended: Future[Any]) -> None:
        ended.result()
        self._loop.remove_reader(self._news.fileno())
        self._news.close()
        code = None if self._process is None else self._process.exitcode
        try:
            if self._call is not None:
                state, text, begun = self._verdict or ("failed", _end_by_itself(code), False)
                report = Report(self._call.lease, error=text, state=state, begun=begun)
                self._conclude(report)
        finally:
            never_began = not self._is_ready and self._verdict is None
            self._owner.ended(self, _end_by_itself(code) if never_began else None)

    def _conclude(self, report: Report) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._call = self._timer = None
        self._owner.done(report)

    def _on_loop(self, callback: Callable[[Future[Any]], None]) -> Callable[[Future[Any]], None]:
        """What has the loop call `callback` when a thread calls it."""

        def call(future: Future[Any]) -> None:
            with suppress(RuntimeError):  # The loop is closed: nobody wants to know.
                self._loop.call_soon_threadsafe(callback, future)

        return call


def _start(pool: ProcessPool) -> tuple[Future[None], BaseProcess | None]:
    """Start a pool's process; what says that it is ready, and the process."""
    with _starting, _no_main_module():
        before = set(multiprocessing.active_children())
        ready = pool.schedule(child.ready)
        started = set(multiprocessing.active_children()) - before
    return ready, started.pop() if len(started) == 1 else None


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Have processes that are started now not run the program's main module once more.

    They need no more than modules of handlers, which have names.
    """
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _report(call: Call, outcome: Outcome) -> Report:
    if outcome.result is not None:
        return Report(call.lease, msgspec.Raw(outcome.result), state="succeeded")
    log.info(
        "%r, %r of job %d: %r%s",
        *(call.handler, call.node, call.job_id, outcome.error, _indented(outcome.trace)),
    )
    return Report(call.lease, error=outcome.error, state="failed", retry=outcome.retry)


def _indented(trace: str) -> str:
    """A trace for the log, in which no line of a handler's can pass for one of the log itself."""
    lines = (
        "".join(c if c.isprintable() else repr(c)[1:-1] for c in s) for s in trace.splitlines()
    )
    return "".join(f"\n    {line}" for line in lines)


def _end_by_itself(code: int | None) -> str:
    """What is to be said of a process that ended by itself, with that exit code."""
    if code is None:
        return "the process ended"
    hint = ""
    if code == -signal.SIGKILL:
        hint = " (killed, out of memory?)"
    elif code < 0:
        with suppress(ValueError):
            hint = f" ({signal.Signals(-code).name})"
    return f"the process ended: exit code {code}{hint}"
