"""One child process of a worker, from its start to its end."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, Protocol

import msgspec
from pebble import ProcessPool

from dte.wire.messages.calls import Call, Progress, Report, State
from dte.worker.processes import child
from dte.worker.processes.channel import Begin, Listener, News, Outcome, Stop, message
from dte.worker.processes.tasks import BEAT, PLACES, STEP

log = logging.getLogger("dte.worker")

STOP_S = 3.0
"""How long an async call that is cancelled may take to end before its process is ended."""
LOOK_S = 1.0
LOOKS_MAX = 5
"""An event loop that has not turned from one look to the next, so many times, is blocked."""
STOPPED_OTHER = "its process was ended, as another call in it did not stop"
BLOCKED = "its process was ended, as a call in it blocked the event loop"

_context = multiprocessing.get_context("spawn")
_starting = threading.Lock()


@dataclass(frozen=True, slots=True)
class ProcessSettings:
    """What a child process is given: see `dte.worker.processes.child.prepare`."""

    modules: list[str]
    memory_mb: int | None
    result_bytes_max: int


class Owner(Protocol):
    """Who is told what happens in a process, on the loop's thread."""

    def freed(self, process: Process) -> None:
        """It has begun, or has nothing to do any more."""

    def done(self, report: Report) -> None:
        """A call has ended."""

    def progressed(self, lease: int, progress: Progress) -> None:
        """A call is so far."""

    def harmed(self, process: Process, handlers: Collection[str], how: str) -> None:
        """An async call of one of these handlers, or of the only one, harms others in it."""

    def ending(self, process: Process) -> None:
        """It takes no more calls."""

    def ended(self, process: Process, problem: str | None) -> None:
        """It has gone; `problem` says why it never began."""


@dataclass(slots=True, eq=False)
class _Given:
    """A call that a process has.

    Attributes:
        timer: looks after its timeout, or after its end when it is stopped.
        verdict: what is to be reported of it when it has been stopped: the state, and why.
    """

    call: Call
    timer: asyncio.TimerHandle | None = None
    verdict: tuple[State, str] | None = None


class Process:
    """A child process in a pool of pebble for it alone, which does one plain call or async ones.

    So ending one waits for no other, and what may break when it is killed is its own: the pool
    is thrown away with it. That it has ended is told by a line whose other end it alone holds
    open; calls go to it and their outcomes come along the same way.

    Args:
        settings: what it is given.
        owner: is told what happens.
        threads: where its end is waited for.

    Attributes:
        calls: what it has to do, by lease.

    Raises:
        OSError, RuntimeError: it cannot be started.
    """

    def __init__(
        self, settings: ProcessSettings, owner: Owner, threads: ThreadPoolExecutor
    ) -> None:
        self._owner = owner
        self._threads = threads
        self._loop = asyncio.get_running_loop()
        self.calls: dict[int, _Given] = {}
        self._orders: list[Begin | Stop] = []
        self._unsent = bytearray()
        self._is_ready = False
        self._others: tuple[State, str] | None = None
        self._is_ending = False
        self._looks = 0
        self._beat = 0
        self._looking: asyncio.TimerHandle | None = None
        self._place = _context.RawArray("q", PLACES)
        self._line, theirs = _context.Pipe()
        self._listener: Listener[Outcome | News] = Listener(self._line.fileno(), Outcome | News)  # type: ignore[arg-type]
        given = (settings.modules, settings.memory_mb, settings.result_bytes_max, theirs)
        self._pool = ProcessPool(
            1, initializer=child.prepare, initargs=(*given, self._place), context=_context
        )
        try:
            served, self._process = _start(self._pool)
        except BaseException:
            self._line.close()
            raise
        finally:
            # Nor can the pool start another process now, when this one has ended.
            theirs.close()
        os.set_blocking(self._line.fileno(), False)
        self._loop.add_reader(self._line.fileno(), self._hear)
        served.add_done_callback(self._on_loop(self._served))

    def run(self, call: Call) -> None:
        """Do a call, and tell its end."""
        given = self.calls[call.lease] = _Given(call)
        if call.timeout is not None:
            verdict: tuple[State, str] = "timed_out", f"stopped after {call.timeout:g} s"
            given.timer = self._loop.call_later(call.timeout, self.stop, call.lease, *verdict)
        self._order(Begin(call.lease, call.handler, bytes(call.args)))
        if self._looking is None and child.is_async(call.handler):
            self._looks = 0
            self._looking = self._loop.call_later(LOOK_S, self._look)

    def stop(self, lease: int, state: State, text: str) -> None:
        """End a call, and report so when nothing of it runs any more."""
        given = self.calls[lease]
        if given.verdict is not None or self._is_ending:
            return
        given.verdict = state, text
        if not child.is_async(given.call.handler):
            self.end("returned", STOPPED_OTHER)
            return
        if given.timer is not None:
            given.timer.cancel()
        self._order(Stop(lease))
        given.timer = self._loop.call_later(STOP_S, self._end_in_vain, given)

    def _end_in_vain(self, given: _Given) -> None:
        """End it, as a task goes on that was cancelled, or another by which it stands still."""
        guilty = self.calls.get(self._place[STEP], given)
        self._owner.harmed(self, [guilty.call.handler], "does not end when it is cancelled")
        self.end("returned", STOPPED_OTHER)

    def end(self, state: State, text: str) -> None:
        """End it, and then report so of the calls of which nothing else was said before."""
        if not self._is_ending:
            self._others = state, text
            self._begin_to_end()

    def _begin_to_end(self) -> None:
        if self._is_ending:
            return
        self._is_ending = True
        self._owner.ending(self)
        ended = self._threads.submit(self._end_in_thread)
        ended.add_done_callback(self._on_loop(self._ended))

    def _end_in_thread(self) -> None:
        """End the process, and what its handlers started: SIGTERM, three seconds later SIGKILL."""
        self._signal_group(signal.SIGTERM)
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()
        self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: signal.Signals) -> None:
        if self._is_ready and self._process is not None and self._process.pid is not None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _served(self, future: Future[Any]) -> None:
        """The process does no more: it could not begin, or has ended."""
        self._begin_to_end()

    # What is said to it

    def _order(self, order: Begin | Stop) -> None:
        """Say something, together with all else that is to be said now."""
        if not self._orders:
            self._loop.call_soon(self._say)
        self._orders.append(order)

    def _say(self) -> None:
        orders, self._orders = self._orders, []
        if self._is_ending:
            return
        waits = bool(self._unsent)
        self._unsent += message(orders)
        if not waits:
            self._send()
            if self._unsent:
                self._loop.add_writer(self._line.fileno(), self._send)

    def _send(self) -> None:
        try:
            del self._unsent[: os.write(self._line.fileno(), self._unsent)]
        except BlockingIOError:
            return
        except OSError:  # It has ended, which is heard in a moment.
            self._unsent.clear()
        if not self._unsent:
            self._loop.remove_writer(self._line.fileno())

    # What it says

    def _hear(self) -> bool:
        """Take in what it has said; whether there may be more."""
        try:
            said = self._listener.hear()
        except BlockingIOError:
            return False
        except OSError:
            said = None
        if said is None:
            self._loop.remove_reader(self._line.fileno())
            self._begin_to_end()
            return False
        if not self._is_ready and not self._is_ending:
            self._is_ready = True
            self._owner.freed(self)
        latest = {each.lease: each for each in said if isinstance(each, News)}
        for lease, news in latest.items():
            if lease in self.calls and not self._is_ending:
                self._owner.progressed(lease, Progress(news.fraction, news.text))
        for each in said:
            if isinstance(each, Outcome):
                self._outcome(each)
        return True

    def _outcome(self, outcome: Outcome) -> None:
        given = self.calls.get(outcome.lease)
        if given is None or self._others is not None:
            return
        if given.verdict is None:
            self._conclude(given, _report(given.call, outcome))
        elif child.is_async(given.call.handler):
            self._conclude(given, _said_of(given, *given.verdict))
        if not self.calls and not self._is_ending:
            self._owner.freed(self)

    def _conclude(self, given: _Given, report: Report) -> None:
        if given.timer is not None:
            given.timer.cancel()
        del self.calls[given.call.lease]
        if not self.calls and self._looking is not None:
            self._looking.cancel()
            self._looking = None
        self._owner.done(report)

    def _look(self) -> None:
        """See whether the event loop turns."""
        turns = self._place[BEAT] != self._beat
        self._looks = 0 if turns else self._looks + 1
        self._beat = self._place[BEAT]
        if self._looks < LOOKS_MAX:
            self._looking = self._loop.call_later(LOOK_S, self._look)
            return
        guilty = self._guilty()
        self._owner.harmed(self, self._suspected(guilty), "blocks the event loop of others")
        if len(self.calls) > 1:
            self.end("lost" if guilty is None else "returned", BLOCKED)

    def _guilty(self) -> _Given | None:
        """The call that makes a step, or made one when the process ended; None if none did."""
        if len(self.calls) == 1:
            return next(iter(self.calls.values()))
        return self.calls.get(self._place[STEP])

    def _suspected(self, guilty: _Given | None) -> Collection[str]:
        """The handler of the guilty call; of all calls if nobody knows which it is."""
        return {
            given.call.handler for given in (self.calls.values() if guilty is None else [guilty])
        }

    # Its end

    def _ended(self, ended: Future[Any]) -> None:
        ended.result()
        for timer in (self._looking, *(given.timer for given in self.calls.values())):
            if timer is not None:
                timer.cancel()
        while self._hear():
            pass  # It may have said something just before.
        self._loop.remove_reader(self._line.fileno())
        self._loop.remove_writer(self._line.fileno())
        self._line.close()
        code = None if self._process is None else self._process.exitcode
        never_began = not self._is_ready and self._others is None
        try:
            guilty = self._guilty() if self._others is None else None
            if self._others is None and any(map(_is_async, self.calls.values())):
                self._owner.harmed(self, self._suspected(guilty), "ended the process of others")
            for given in list(self.calls.values()):
                self._conclude(given, _said_of(given, *self._verdict(given, guilty, code)))
        finally:
            self._owner.ended(self, _end_by_itself(code) if never_began else None)

    def _verdict(self, given: _Given, guilty: _Given | None, code: int | None) -> tuple[State, str]:
        """How a call ends whose process has ended."""
        verdict = given.verdict or self._others
        if verdict is not None:
            return verdict
        text = _end_by_itself(code)
        if given is guilty:
            return "failed", text
        if guilty is None:
            return "lost", text
        return "returned", f"{text}, by another call in it"

    def _on_loop(self, callback: Callable[[Future[Any]], None]) -> Callable[[Future[Any]], None]:
        """What has the loop call `callback` when a thread calls it."""

        def call(future: Future[Any]) -> None:
            with suppress(RuntimeError):  # The loop is closed: nobody wants to know.
                self._loop.call_soon_threadsafe(callback, future)

        return call


def _start(pool: ProcessPool) -> tuple[Future[None], BaseProcess | None]:
    """Start a pool's process; what says that it serves no more, and the process."""
    with _starting, _no_main_module():
        before = set(multiprocessing.active_children())
        served = pool.schedule(child.serve)
        started = set(multiprocessing.active_children()) - before
    return served, started.pop() if len(started) == 1 else None


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


def _is_async(given: _Given) -> bool:
    return child.is_async(given.call.handler)


def _said_of(given: _Given, state: State, text: str) -> Report:
    """The report of a call that gave nothing."""
    return Report(given.call.lease, error=text, state=state, begun=state == "returned")


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
