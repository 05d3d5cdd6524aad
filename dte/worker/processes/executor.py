"""Runs calls of handlers in child processes.

start ──▶ waiting ──▶ running ──▶ report: succeeded or failed
             │           │ stop, timeout, close, or the process ends
             │           ▼
             │        ending ──▶ report, once nothing of it runs; a new process replaces this one
             └── stop, close ──▶ report: cancelled or returned

A plain call has a process to itself, which ends if the call is stopped. Async calls share a
process, where each is a task that can be cancelled; the process ends only if cancelling fails. A
handler that blocks the others, ignores cancellation or ends the process is isolated: from then on
its calls have a process to themselves.
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
LEFT = "the worker left"


class Executor:
    """Runs calls in child processes, on the running loop and its thread.

    Args:
        slots: the number of calls that run at once.
        modules: modules with handlers, besides the built-in ones and those of installed packages.
        memory_mb: the address space that a child process may take in addition to what it has once
            its handlers are loaded, in megabytes; None for no limit.
        on_done: called once with the report of each call.
        on_progress: called with the lease and the progress of a call.
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
        self.on_progress = on_progress
        self._loop = asyncio.get_running_loop()
        self._threads = ThreadPoolExecutor(slots, "dte-executor")
        self._waiting_plain: dict[int, Call] = {}
        self._waiting_async: dict[int, Call] = {}
        self._running: dict[int, Process] = {}
        self._async_process: Process | None = None
        self._idle: list[Process] = []
        self._starting: set[Process] = set()
        self._processes: set[Process] = set()
        self._isolated: set[str] = set()
        self._restarts: set[asyncio.TimerHandle] = set()
        self._restart_s = RESTART_FIRST_S
        self._slots = slots
        self._leaving = False
        self._closing = False
        self._empty = asyncio.Event()

    @property
    def waiting(self) -> Set[int]:
        """The leases of calls that wait for a slot or a process."""
        return self._waiting_plain.keys() | self._waiting_async.keys()

    def start(self, call: Call) -> None:
        """Run a call as soon as there is a slot and a process for it."""
        lease = call.lease
        if lease in self._running or lease in self._waiting_plain or lease in self._waiting_async:
            return
        if self._closing:
            self._report(lease, "returned", LEAVING)
            return
        shares = is_async(call.handler) and call.handler not in self._isolated
        (self._waiting_async if shares else self._waiting_plain)[lease] = call
        self._fill()

    def stop(self, lease: int) -> bool:
        """Stop a call. It is reported as cancelled once nothing of it runs.

        Returns:
            False if there is no such call.
        """
        if self._take(lease) is not None:
            self._report(lease, "cancelled", "cancelled before it began")
            return True
        process = self._running.get(lease)
        if process is not None:
            process.stop(lease, "cancelled", "cancelled")
        return process is not None

    def requeue_waiting(self) -> None:
        """Report waiting calls as returned, if a call runs in each slot."""
        if len(self._running) >= self._slots:
            self._return_waiting("no slot became free")

    def leave(self) -> None:
        """Let calls end although their processes get the signals of a service that stops."""
        self._leaving = True
        for process in self._processes:
            process.leave()

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

    def _return_waiting(self, reason: str) -> None:
        for lease in list(self.waiting):
            self._take(lease)
            self._report(lease, "returned", reason)

    def _take(self, lease: int) -> Call | None:
        """Remove a call from those that wait."""
        return self._waiting_plain.pop(lease, None) or self._waiting_async.pop(lease, None)

    def _add_process(self) -> None:
        try:
            process = Process(self._settings, self, self._threads)
        except (OSError, RuntimeError) as error:
            self._add_later(f"the worker cannot start a process for its handlers: {error}")
        else:
            self._processes.add(process)
            if self._leaving:
                process.leave()
            self._starting.add(process)

    def _add_later(self, problem: str) -> None:
        """Start a process after a pause, which doubles while starts fail."""
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
        """Assign waiting calls to processes, and start processes if some are missing."""
        while len(self._running) < self._slots:
            self._grow()
            waiting = self._next()
            if not waiting:
                return
            lease, call = next(iter(waiting.items()))
            del waiting[lease]
            if waiting is self._waiting_plain:
                process = self._idle.pop()
            else:
                process = self._async_process = self._async_process or self._idle.pop()
            self._running[lease] = process
            process.run(call)

    def _grow(self) -> None:
        """Start a process for each call that waits for one."""
        room = min(self._slots - len(self._running), self._slots - len(self._processes))
        needed = len(self._waiting_plain)
        needed += bool(self._waiting_async) and self._async_process is None
        for _ in range(min(room, needed - len(self._starting) - len(self._idle))):
            self._add_process()

    def _next(self) -> dict[int, Call] | None:
        """Return the waiting calls whose first is next; None if all wait for a process."""
        can_run_async = self._async_process is not None or self._idle
        waiting_async = self._waiting_async if can_run_async else None
        # Leases have ascending numbers, so the lower number came first.
        if self._waiting_plain and not (
            waiting_async and next(iter(waiting_async)) < next(iter(self._waiting_plain))
        ):
            if self._idle:
                return self._waiting_plain
            if len(self._processes) >= self._slots:
                return None  # Otherwise async calls would never leave it a process.
        return waiting_async

    def _report(self, lease: int, state: State, error: str, retry: bool = True) -> None:
        self._on_done(Report(lease, error=error, state=state, retry=retry))

    # Events of processes

    def on_idle(self, process: Process) -> None:
        """Use a process that has started, or whose last call has ended."""
        self._restart_s = RESTART_FIRST_S
        self._starting.discard(process)
        if process is self._async_process:
            self._async_process = None
        self._idle.append(process)
        self._fill()

    def on_done(self, report: Report) -> None:
        """Report the end of a call, and use its slot."""
        self._running.pop(report.lease, None)
        self._on_done(report)
        if self._waiting_async or self._waiting_plain:
            self._fill()

    def on_harm(self, process: Process, handlers: Collection[str], how: str) -> None:
        """Isolate the handlers of an async call that harms others.

        If the call is unknown, the handlers of all calls in the process are isolated: in a process
        to itself the harmful one harms no other.
        """
        if process is self._async_process:
            self._async_process = None
        for handler in sorted(set(handlers) - self._isolated):
            self._isolated.add(handler)
            log.warning(
                "async handler %r %s%s; its calls have a process to themselves from now on",
                *(handler, "may be the one that " if len(handlers) > 1 else "", how),
            )
        for lease, call in list(self._waiting_async.items()):
            if call.handler in self._isolated:
                self._waiting_plain[lease] = self._waiting_async.pop(lease)

    def on_ending(self, process: Process) -> None:
        """Give a process no more calls."""
        if process is self._async_process:
            self._async_process = None
        if process in self._idle:
            self._idle.remove(process)

    def on_ended(self, process: Process, problem: str | None) -> None:
        """Replace a process that has ended, after a pause if it never became ready."""
        self._processes.discard(process)
        self._starting.discard(process)
        if not self._closing:
            if problem is None:
                self._add_process()
            else:
                self._add_later(f"the worker cannot start a process for its handlers: it {problem}")
        elif not self._processes:
            self._empty.set()
