"""Runs calls of handlers in child processes.

start ──▶ waiting ──▶ running ──▶ report: succeeded or failed
             │           │ stop, timeout, close, or the process ends
             │           ▼
             │        ending ──▶ report, once nothing of it runs; another process takes its place
             └── stop, close ──▶ report: cancelled or returned

A plain call has a process for itself, which ends with it when it is stopped. Async calls share one,
where each is a task that can be cancelled; the process ends only if that is in vain. A handler that
blocks the others, does not end or ends the process has a process for itself from then on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence, Set
from concurrent.futures import ThreadPoolExecutor

from dte.handlers import registry
from dte.wire.messages.calls import Call, Progress, Report, State
from dte.worker.processes.child import is_async
from dte.worker.processes.process import Process, ProcessSettings

log = logging.getLogger("dte.worker")

RESULT_BYTES_MAX = 16_000_000
RESTART_FIRST_S = 0.5
RESTART_MAX_S = 30.0
LEAVING = "the worker is leaving"
LEFT = "its worker left"


class Executor:
    """Runs calls in child processes, on the running loop and in its thread.

    Args:
        slots: how many calls run at a time.
        modules: where handlers are, besides the built-in ones and those of installed packages.
        memory_mb: how many megabytes of address space a child process may take beyond what it has
            when its handlers are loaded; None for any.
        on_done: told once for each call what became of it.
        on_progress: told of a lease how far its call is.
        result_bytes_max: the longest result, in bytes of JSON.

    Raises:
        CannotLoad: the handlers of a module cannot be loaded.
    """

    def __init__(
        self,
        slots: int,
        modules: Sequence[str],
        memory_mb: int | None,
        on_done: Callable[[Report], None],
        on_progress: Callable[[int, Progress], None],
        *,
        result_bytes_max: int = RESULT_BYTES_MAX,
    ) -> None:
        registry.load(modules)
        self._settings = ProcessSettings(list(modules), memory_mb, result_bytes_max)
        self._on_done = on_done
        self._on_progress = on_progress
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(slots, "dte-executor")
        self._alone: dict[int, Call] = {}
        self._together: dict[int, Call] = {}
        self._running: dict[int, Process] = {}
        self._shared: Process | None = None
        self._idle: list[Process] = []
        self._starting: set[Process] = set()
        self._processes: set[Process] = set()
        self._apart: set[str] = set()
        self._restarts: set[asyncio.TimerHandle] = set()
        self._restart_s = RESTART_FIRST_S
        self._slots = slots
        self._closing = False
        self._empty = asyncio.Event()

    @property
    def running(self) -> Set[int]:
        """The leases of all calls that have not been reported, those that wait included."""
        return self.waiting | self._running.keys()

    @property
    def waiting(self) -> Set[int]:
        """The leases of calls that wait for a slot or a process."""
        return self._alone.keys() | self._together.keys()

    def start(self, call: Call) -> None:
        """Run a call as soon as there is a slot and a process; `on_done` is told its end."""
        lease = call.lease
        if lease in self._running or lease in self._alone or lease in self._together:
            return
        if self._closing:
            self._report(lease, "returned", LEAVING)
            return
        is_shared = is_async(call.handler) and call.handler not in self._apart
        (self._together if is_shared else self._alone)[lease] = call
        self._fill()

    def stop(self, lease: int) -> bool:
        """Stop a call; it is reported as cancelled when nothing of it runs any more.

        Returns:
            Whether there is such a call.
        """
        if self._take(lease) is not None:
            self._report(lease, "cancelled", "cancelled before it began")
            return True
        process = self._running.get(lease)
        if process is not None:
            process.stop(lease, "cancelled", "cancelled")
        return process is not None

    def give_back_waiting(self) -> None:
        """Report calls that wait as returned, if each slot has one that runs."""
        if len(self._running) >= self._slots:
            self._return_waiting("it waited for a slot")

    async def close(self) -> None:
        """Stop all calls, which are reported as returned, and end the processes."""
        self._closing = True
        for timer in self._restarts:
            timer.cancel()
        self._return_waiting(LEAVING)
        for process in self._processes:
            process.end("returned", LEFT)
        if self._processes:
            await self._empty.wait()
        self._threads.shutdown(wait=False)

    def _return_waiting(self, why: str) -> None:
        for lease in list(self.waiting):
            self._take(lease)
            self._report(lease, "returned", why)

    def _take(self, lease: int) -> Call | None:
        """Take a call out of those that wait."""
        return self._alone.pop(lease, None) or self._together.pop(lease, None)

    def _add_process(self) -> None:
        try:
            process = Process(self._settings, self, self._threads)
        except (OSError, RuntimeError) as error:
            self._add_later(f"cannot start a process for handlers: {error}")
        else:
            self._processes.add(process)
            self._starting.add(process)

    def _add_later(self, problem: str) -> None:
        """Start a process after a pause, which grows while this fails."""
        log.warning("%s; trying again in %g s", problem, self._restart_s)
        if not self._processes:
            self._return_waiting(problem)

        def add() -> None:
            self._restarts.discard(timer)
            self._add_process()

        timer = self._loop.call_later(self._restart_s, add)
        self._restarts.add(timer)
        self._restart_s = min(RESTART_MAX_S, self._restart_s * 2)

    def _fill(self) -> None:
        """Give calls that wait to processes, and start what processes they lack."""
        while len(self._running) < self._slots:
            self._grow()
            waiting = self._next()
            if not waiting:
                return
            lease, call = next(iter(waiting.items()))
            del waiting[lease]
            if waiting is self._alone:
                process = self._idle.pop()
            else:
                process = self._shared = self._shared or self._idle.pop()
            self._running[lease] = process
            process.run(call)

    def _grow(self) -> None:
        """Start a process for each call that waits for one."""
        room = min(self._slots - len(self._running), self._slots - len(self._processes))
        lacking = len(self._alone) + (bool(self._together) and self._shared is None)
        for _ in range(min(room, lacking - len(self._starting) - len(self._idle))):
            self._add_process()

    def _next(self) -> dict[int, Call] | None:
        """The calls of which the first is the next; None if all wait for a process."""
        together = self._together if self._shared is not None or self._idle else None
        # Leases that come later have higher numbers.
        if self._alone and not (together and next(iter(together)) < next(iter(self._alone))):
            if self._idle:
                return self._alone
            if len(self._processes) >= self._slots:
                return None  # Else async calls would never leave it one.
        return together

    def _report(self, lease: int, state: State, error: str, retry: bool = True) -> None:
        self._on_done(Report(lease, error=error, state=state, retry=retry))

    # What processes tell it.

    def freed(self, process: Process) -> None:
        """A process has begun, or has nothing to do any more."""
        self._restart_s = RESTART_FIRST_S
        self._starting.discard(process)
        if process is self._shared:
            self._shared = None
        self._idle.append(process)
        self._fill()

    def done(self, report: Report) -> None:
        """A call has ended."""
        self._running.pop(report.lease, None)
        self._on_done(report)
        if self._together or self._alone:
            self._fill()

    def progressed(self, lease: int, progress: Progress) -> None:
        """A call is so far."""
        self._on_progress(lease, progress)

    def harmed(self, process: Process, handlers: Collection[str], how: str) -> None:
        """An async call harms others: from now on its handler is as if it were no async def.

        Where nobody knows which call does, so are the handlers of all that were there: in a
        process for itself the guilty one harms nobody.
        """
        if process is self._shared:
            self._shared = None
        for handler in sorted(set(handlers) - self._apart):
            self._apart.add(handler)
            log.warning(
                "async handler %r %s%s; it has a process for itself from now on",
                *(handler, "may be what " if len(handlers) > 1 else "", how),
            )
        for lease, call in list(self._together.items()):
            if call.handler in self._apart:
                self._alone[lease] = self._together.pop(lease)

    def ending(self, process: Process) -> None:
        """A process gets no more calls."""
        if process is self._shared:
            self._shared = None
        if process in self._idle:
            self._idle.remove(process)

    def ended(self, process: Process, problem: str | None) -> None:
        """A process has gone; `problem` says why it was never ready."""
        self._processes.discard(process)
        self._starting.discard(process)
        if not self._closing:
            if problem is None:
                self._add_process()
            else:
                self._add_later(f"no process for handlers begins: {problem}")
        elif not self._processes:
            self._empty.set()
