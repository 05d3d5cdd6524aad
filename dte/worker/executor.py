"""Runs calls of handlers in child processes, each of which does one call at a time.

start ──▶ waiting ──▶ running ──▶ report: succeeded or failed
             │           │ stop, timeout, close, or the process ends
             │           ▼
             │        ending ──▶ report, once the process has gone; another takes its place
             └── stop, close ──▶ report: cancelled or returned
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor

from dte.handlers import registry
from dte.wire.calls import Call, Progress, Report, State
from dte.worker.process import Process, ProcessSettings

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
        self._waiting: dict[int, Call] = {}
        self._running: dict[int, Process] = {}
        self._idle: list[Process] = []
        self._processes: set[Process] = set()
        self._restarts: set[asyncio.TimerHandle] = set()
        self._restart_s = RESTART_FIRST_S
        self._slots = slots
        self._closing = False
        self._empty = asyncio.Event()
        for _ in range(slots):
            self._add_process()

    @property
    def running(self) -> Set[int]:
        """The leases of all calls that have not been reported, those that wait included."""
        return self._waiting.keys() | self._running.keys()

    def start(self, call: Call) -> None:
        """Run a call as soon as a process is free; `on_done` is told its end."""
        if call.lease in self._waiting or call.lease in self._running:
            return
        if self._closing:
            self._report(call.lease, "returned", LEAVING)
            return
        self._waiting[call.lease] = call
        self._fill()

    def stop(self, lease: int) -> bool:
        """Stop a call; it is reported as cancelled when nothing of it runs any more.

        Returns:
            Whether there is such a call.
        """
        if self._waiting.pop(lease, None) is not None:
            self._report(lease, "cancelled", "cancelled before it began")
            return True
        process = self._running.get(lease)
        if process is not None:
            process.end("cancelled", "cancelled")
        return process is not None

    def give_back_waiting(self) -> None:
        """Report calls that wait as returned, if each process has one that runs."""
        if len(self._running) >= self._slots:
            for lease in list(self._waiting):
                del self._waiting[lease]
                self._report(lease, "returned", "it waited for a slot")

    @property
    def waiting(self) -> Set[int]:
        """The leases of calls that wait for a process."""
        return self._waiting.keys()

    async def close(self) -> None:
        """Stop all calls, which are reported as returned, and end the processes."""
        self._closing = True
        for timer in self._restarts:
            timer.cancel()
        for lease in list(self._waiting):
            del self._waiting[lease]
            self._report(lease, "returned", LEAVING)
        for process in self._processes:
            process.end("returned", LEFT)
        if self._processes:
            await self._empty.wait()
        self._threads.shutdown(wait=False)

    def _add_process(self) -> None:
        try:
            process = Process(self._settings, self, self._threads)
        except (OSError, RuntimeError) as error:
            self._add_later(f"cannot start a process for handlers: {error}")
        else:
            self._processes.add(process)

    def _add_later(self, problem: str) -> None:
        """Start a process after a pause, which grows while this fails."""
        log.warning("%s; trying again in %g s", problem, self._restart_s)
        if not self._processes:
            for lease in list(self._waiting):
                del self._waiting[lease]
                self._report(lease, "returned", problem)

        def add() -> None:
            self._restarts.discard(timer)
            self._add_process()

        timer = self._loop.call_later(self._restart_s, add)
        self._restarts.add(timer)
        self._restart_s = min(RESTART_MAX_S, self._restart_s * 2)

    def _fill(self) -> None:
        """Give calls that wait to processes that are free."""
        while self._waiting and self._idle:
            lease, call = next(iter(self._waiting.items()))
            del self._waiting[lease]
            process = self._running[lease] = self._idle.pop()
            process.run(call)

    def _report(self, lease: int, state: State, error: str, retry: bool = True) -> None:
        self._on_done(Report(lease, error=error, state=state, retry=retry))

    # What processes tell it.

    def freed(self, process: Process) -> None:
        """A process has begun, or has done its call."""
        self._restart_s = RESTART_FIRST_S
        self._idle.append(process)
        self._fill()

    def done(self, report: Report) -> None:
        """A call has ended."""
        self._running.pop(report.lease, None)
        self._on_done(report)

    def progressed(self, lease: int, progress: Progress) -> None:
        """A call is so far."""
        self._on_progress(lease, progress)

    def ending(self, process: Process) -> None:
        """A process gets no more calls."""
        if process in self._idle:
            self._idle.remove(process)

    def ended(self, process: Process, problem: str | None) -> None:
        """A process has gone; `problem` says why it was never ready."""
        self._processes.discard(process)
        if not self._closing:
            if problem is None:
                self._add_process()
            else:
                self._add_later(f"no process for handlers begins: {problem}")
        elif not self._processes:
            self._empty.set()
