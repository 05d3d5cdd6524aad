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

Processes and planned starts together never exceed the slots. After a failed start one process at a
time is tried, after pauses that double, until one becomes ready. Meanwhile the executor has the
capacity of its ready processes; without any, it is failing and returns every call.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable, Collection, Sequence, Set

from dte.handlers import registry
from dte.wire.messages.calls import Call, Progress, Report, State
from dte.worker.processes.channel import NotReady
from dte.worker.processes.child import is_async
from dte.worker.processes.process import Process, ProcessSettings
from dte.worker.processes.reports import indented
from dte.worker.processes.start_failures import describe

log = logging.getLogger("dte.worker")

RESULT_BYTES_MAX = 16_000_000
RESTART_FIRST_S = 0.5
RESTART_MAX_S = 10.0
NUMBERS = re.compile(r"0x[0-9a-f]+|\d+")
START_S = 30.0
"""A process that takes longer to start counts as one that cannot, until it is ready."""
OnCapacity = Callable[[int, str | None], None]
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
        calls_per_process: the number of calls after which a process is replaced; None for no limit.
        log_level: the level from which on log records of handlers are printed.

    Attributes:
        failing: the reason why no call can run: processes cannot start, and none is left.
        on_capacity: called with `capacity` and `failing` when they have changed.

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
        calls_per_process: int | None = None,
        log_level: str = "info",
    ) -> None:
        registry.load(modules)
        self._settings = ProcessSettings(
            list(modules), memory_mb, result_bytes_max, calls_per_process, log_level
        )
        self._on_done = on_done
        self.on_progress = on_progress
        self._loop = asyncio.get_running_loop()
        self._waiting_plain: dict[int, Call] = {}
        self._waiting_async: dict[int, Call] = {}
        self._running: dict[int, Process] = {}
        self._async_process: Process | None = None
        self._idle: list[Process] = []
        self._starting: set[Process] = set()
        self._ready: set[Process] = set()
        self._processes: set[Process] = set()
        self._isolated: set[str] = set()
        self._problem: str | None = None
        self._restart: asyncio.TimerHandle | None = None
        self._restart_s = RESTART_FIRST_S
        self._slots = slots
        self._capacity = slots
        self._leaving = False
        self._closing = False
        self._empty = asyncio.Event()
        self.failing: str | None = None
        self.on_capacity: OnCapacity = lambda capacity, failing: None

    @property
    def capacity(self) -> int:
        """The number of calls that can run at once: less than `slots` while starts fail."""
        return self._slots if self._problem is None else len(self._ready)

    @property
    def waiting(self) -> Set[int]:
        """The leases of calls that wait for a slot or a process."""
        return self._waiting_plain.keys() | self._waiting_async.keys()

    def start(self, call: Call) -> None:
        """Run a call as soon as there is a slot and a process for it."""
        lease = call.lease
        if lease in self._running or lease in self._waiting_plain or lease in self._waiting_async:
            return
        if self._closing or self.failing is not None:
            self._report(lease, "returned", LEAVING if self._closing else self._cannot_start())
            return
        self._waiting_of(call.handler)[lease] = call
        self._fill()

    def _waiting_of(self, handler: str) -> dict[int, Call]:
        shares = is_async(handler) and handler not in self._isolated
        return self._waiting_async if shares else self._waiting_plain

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
        """Report waiting calls as returned, if no further call can run."""
        if len(self._running) >= self.capacity:
            self._return_waiting("no slot became free")

    def leave(self) -> None:
        """Let calls end although their processes get the signals of a service that stops."""
        self._leaving = True
        for process in self._processes:
            process.leave()

    async def close(self) -> None:
        """Stop all calls, which are reported as returned, and end the processes."""
        self._closing = True
        if self._restart is not None:
            self._restart.cancel()
        self._return_waiting(LEAVING)
        for process in self._processes:
            process.end("returned", LEFT)
        if self._processes:
            await self._empty.wait()

    def _return_waiting(self, reason: str) -> None:
        for lease in list(self.waiting):
            self._take(lease)
            self._report(lease, "returned", reason)

    def _take(self, lease: int) -> Call | None:
        """Remove a call from those that wait."""
        return self._waiting_plain.pop(lease, None) or self._waiting_async.pop(lease, None)

    # Starting processes

    def _add_process(self) -> None:
        try:
            process = Process(self._settings, self)
        except (OSError, RuntimeError) as error:
            self._start_failed(describe(error))
            return
        self._processes.add(process)
        if self._leaving:
            process.leave()
        self._starting.add(process)
        self._loop.call_later(START_S, self._check_start, process)

    def _check_start(self, process: Process) -> None:
        if process in self._starting and not self._closing:
            self._start_failed(f"the process is not ready after {START_S:g} s")

    def _start_failed(self, problem: str, trace: str = "") -> None:
        """Return calls that no process can run, and plan the next start if none is under way."""
        if self._problem is None or not _is_known(problem, self._problem):
            self._problem = problem
            log.warning("%s; trying again%s", self._cannot_start(), indented(trace))
        if self._restart is None and not self._starting:
            self._restart = self._loop.call_later(self._restart_s, self._try_again)
            self._restart_s = min(RESTART_MAX_S, self._restart_s * 2)
        self._note_capacity()

    def _try_again(self) -> None:
        self._restart = None
        self._add_process()

    def _started(self, process: Process) -> None:
        self._starting.discard(process)
        self._ready.add(process)
        self._restart_s = RESTART_FIRST_S
        if self._problem is not None:
            log.info("processes for handlers start again")
            self._problem = None
        self._note_capacity()

    def _note_capacity(self) -> None:
        """Report a change of the capacity; return all calls if none can run."""
        failing = self._problem if not self._ready else None
        if self._closing or (failing, self.capacity) == (self.failing, self._capacity):
            return
        self.failing, self._capacity = failing, self.capacity
        self.on_capacity(self._capacity, failing)
        if failing is not None:
            self._return_waiting(self._cannot_start())

    def _cannot_start(self) -> str:
        return f"the worker cannot start processes for handlers: {self._problem}"

    # Assigning calls

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
        """Start a process for each call that waits for one, unless starts fail."""
        if self._problem is not None:
            return
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
        if process in self._starting:
            self._started(process)
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

    def on_not_begun(self, call: Call) -> None:
        """Run a call elsewhere, before those that came later."""
        del self._running[call.lease]
        if self.failing is not None:
            self._report(call.lease, "returned", self._cannot_start())
            return
        waiting = self._waiting_of(call.handler)
        later = waiting.copy()
        waiting.clear()
        waiting.update({call.lease: call} | later)
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
        self._ready.discard(process)
        if process is self._async_process:
            self._async_process = None
        if process in self._idle:
            self._idle.remove(process)
        self._note_capacity()

    def on_ended(self, process: Process, problem: NotReady | None) -> None:
        """Replace a process that has ended, after a pause if it never became ready."""
        self._processes.discard(process)
        self._starting.discard(process)
        if self._closing:
            if not self._processes:
                self._empty.set()
        elif problem is not None:
            self._start_failed(problem.reason, problem.trace)
        elif self._problem is None:
            self._add_process()

    def check(self) -> None:
        """Assert every invariant; for tests, after each step."""
        planned = self._restart is not None
        assert len(self._processes) + planned <= self._slots, "more processes than slots"
        assert not self._starting & self._ready
        assert self._starting | self._ready | {*self._idle} <= self._processes
        assert self.failing is None or not self.waiting, (
            "calls wait for processes that cannot start"
        )


def _is_known(problem: str, before: str) -> bool:
    """Return True if a problem says no more than the one before.

    Numbers, as of attempts and addresses, always differ. An exit code says less than an exception.
    """
    same = NUMBERS.sub("", problem) == NUMBERS.sub("", before)
    return same or problem.startswith("the process ended with exit code")
