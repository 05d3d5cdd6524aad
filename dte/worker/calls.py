"""The calls of a worker: begins them, extends their leases, stops them and reports their ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

import msgspec

from dte.logs import LimitedLog
from dte.wire.codec import Decoder, Malformed, encode
from dte.wire.messages.calls import Call, Extend, ExtendReply, Progress, Report
from dte.worker.master_client import MasterAway, MasterClient, Refused
from dte.worker.processes.executor import LEAVING, LEFT, Executor, OnCapacity
from dte.worker.reporter import Reporter
from dte.worker.session import Session, without_session

log = logging.getLogger("dte.worker")

SLOTS_MAX = 64
WAITING_A_SLOT = 64
"""Calls that may wait for each slot. A master sends none to wait, but does not know the worker."""
SLOT_BYTES = 32_000_000
"""Bytes of arguments for each slot, and for four more."""
PROGRESS_PAUSE_S = 0.5
"""The pause between extensions while calls make progress."""
RETRY_MIN_S = 0.1
TIMEOUT_MIN_S = 1.0
REQUEUE_S = 0.25
"""The time after which a call that waits for a slot is returned; another worker may have one."""
STOP_S = 5.0
"""The time that stopped calls have to end when the worker ends."""

MakeExecutor = Callable[[Callable[[Report], None], Callable[[int, Progress], None]], Executor]

_reply: Decoder[ExtendReply] = Decoder(ExtendReply)


class TooManyCalls(Exception):
    """A worker has as many calls as it may have."""


class LeaseTaken(Malformed):
    """Two different calls have one lease, so one of them does not come from the master."""


def calls_max(slots: int) -> int:
    """The most calls that a worker with these slots has at a time."""
    return slots * (1 + WAITING_A_SLOT)


def size_of(call: Call) -> int:
    """The bytes of a call's arguments."""
    kwargs = call.kwargs
    return len(memoryview(call.args)) + (
        len(memoryview(kwargs)) if isinstance(kwargs, msgspec.Raw) else 0
    )


def _is_same(running: Call, call: Call) -> bool:
    """True if a message hands over a call that runs already."""
    return encode(running) == encode(call)


@dataclass(slots=True, eq=False)
class _Running:
    """A call that has not ended. `stopped` is the reason why it is being stopped, if it is."""

    call: Call
    lease_s: float
    stopped: Literal["", "cancelled", "lost"] = ""


class RunningCalls:
    """Runs calls and extends their leases, even while the master is away.

    Args:
        reporter: sends the reports; it is started and closed here.
        make_executor: creates the executor from its two callbacks.
        slots: calls that run at once, from which the most calls follow.
        session: that of this start of the worker.

    Attributes:
        on_ended: called when a call has ended and another can begin.
        on_capacity: called when more or fewer calls can run at once, see `Executor`.
    """

    def __init__(
        self,
        worker: str,
        master_url: str,
        reporter: Reporter,
        make_executor: MakeExecutor,
        slots: int = SLOTS_MAX,
        session: Session | None = None,
    ) -> None:
        self._worker = worker
        self._session = session or without_session()
        self._master = MasterClient(master_url)
        self._reporter = reporter
        self._make_executor = make_executor
        self._executor: Executor | None = None
        self._running: dict[int, _Running] = {}
        self._calls_max = calls_max(slots)
        self._bytes, self._bytes_max = 0, (slots + 4) * SLOT_BYTES
        self._unreported: dict[int, float] = {}
        self._progress: dict[int, Progress] = {}
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._extended_at = 0.0
        self._extend_at = 0.0
        self._failing = False
        self._checks_waiting = False
        self._limited = LimitedLog(log)
        self._task: asyncio.Task[None] | None = None
        self.on_ended: Callable[[], None] = lambda: None
        self.on_capacity: OnCapacity = lambda capacity, failing: None
        reporter.on_settled = self._on_settled

    def start(self) -> None:
        self._reporter.start()
        self._task = asyncio.create_task(self._run())

    def __len__(self) -> int:
        return len(self._running)

    @property
    def running(self) -> list[Call]:
        return [each.call for each in self._running.values()]

    def take(self, calls: Iterable[Call]) -> None:
        """Begin calls. Calls that run already are left alone.

        Raises:
            TooManyCalls: there would be more calls than the bound, so none begins.
            LeaseTaken: another call runs under the lease of one, so none begins.
        """
        calls = list(calls)
        if not calls:
            return
        self._refuse_taken(calls)
        if len(self._running) + len(calls) > self._calls_max and any(
            call.lease not in self._running for call in calls
        ):
            raise TooManyCalls(f"a worker with its slots has at most {self._calls_max} calls")
        size = sum(map(size_of, calls))
        if self._bytes + size > self._bytes_max and self._running:
            raise TooManyCalls(f"the arguments of its calls take {self._bytes} bytes already")
        if self._executor is None:  # A worker without calls needs no child processes.
            self._executor = self._make_executor(self._on_done, self._on_progress)
            self._executor.on_capacity = self.on_capacity
        if not self._running and not self._unreported:
            self._extended_at = asyncio.get_running_loop().time()
        for call in calls:
            if call.lease not in self._running:
                self._running[call.lease] = _Running(call, call.lease_s)
                self._bytes += size_of(call)
                self._idle.clear()
                self._executor.start(call)
        self._check_waiting_later()
        self._schedule_extension()

    def _refuse_taken(self, calls: Iterable[Call]) -> None:
        for call in calls:
            running = self._running.get(call.lease)
            if running is not None and not _is_same(running.call, call):
                raise LeaseTaken(f"another call runs under lease {call.lease}")

    def _check_waiting_later(self) -> None:
        """Check in a moment whether calls still wait for a slot."""
        if self._executor is not None and self._executor.waiting and not self._checks_waiting:
            self._checks_waiting = True
            waiting = set(self._executor.waiting)
            asyncio.get_running_loop().call_later(REQUEUE_S, self._check_waiting, waiting)

    def _check_waiting(self, before: Set[int]) -> None:
        """Return calls that have waited since the last check; another worker may be free."""
        self._checks_waiting = False
        if self._executor is not None and before & self._executor.waiting:
            self._executor.requeue_waiting()
        self._check_waiting_later()

    def requeue(self, calls: Iterable[Call]) -> None:
        """Report calls that never began as returned, so that other workers get them."""
        for call in calls:
            self._reporter.report(Report(call.lease, error=LEAVING, state="returned"))

    def stop(self, leases: Iterable[int]) -> list[int]:
        """Stop calls, which are then reported as cancelled; return the leases that are known."""
        return [lease for lease in leases if self._stop(lease, "cancelled")]

    def leave(self) -> None:
        """Let calls end although their processes get the signals of a service that stops."""
        if self._executor is not None:
            self._executor.leave()

    async def drain(self, grace_s: float) -> None:
        """Wait for calls to end, stop and return the others after `grace_s` seconds, and close."""
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        if self._running:
            log.info("stopping and returning unfinished calls: %d", len(self._running))
        self._limited.close()
        if self._executor is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await self._executor.close()
        for lease in list(self._running):  # Calls that have not stopped.
            self._on_done(Report(lease, error=LEFT, state="returned", begun=True))
        await self._reporter.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._master.close()

    # The ends of calls

    def _stop(self, lease: int, why: Literal["cancelled", "lost"]) -> bool:
        running = self._running.get(lease)
        if running is None:
            return False
        is_stopping = bool(running.stopped)
        if running.stopped != "lost":
            running.stopped = why
        if not is_stopping and self._executor is not None:
            self._executor.stop(lease)
        return True

    def _on_done(self, report: Report) -> None:
        running = self._running.pop(report.lease, None)
        if running is None:
            return
        self._bytes -= size_of(running.call)
        report.progress = self._progress.pop(report.lease, None)
        if not self._running:
            self._idle.set()
        if running.stopped != "lost":
            self._unreported[report.lease] = running.lease_s
            self._reporter.report(report)
        self.on_ended()

    def _on_settled(self, lease: int) -> None:
        self._unreported.pop(lease, None)

    # The extension of leases

    def _on_progress(self, lease: int, progress: Progress) -> None:
        if lease in self._running:
            self._progress[lease] = progress
            self._schedule_extension()

    def _schedule_extension(self) -> None:
        """Set the time of the next extension after a change."""
        pause_s = self._lease_s() / 3
        if self._failing:
            pause_s = max(RETRY_MIN_S, pause_s / 4)
        elif self._progress:
            pause_s = min(pause_s, PROGRESS_PAUSE_S)
        self._extend_at = self._extended_at + pause_s
        self._changed.set()

    def _lease_s(self) -> float:
        """Return the shortest duration of a lease; infinite if there is none."""
        running = (each.lease_s for each in self._running.values())
        return min([*running, *self._unreported.values()], default=float("inf"))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        self._schedule_extension()
        while True:
            self._changed.clear()
            pause_s = self._extend_at - loop.time()
            if pause_s > 0:
                with suppress(TimeoutError):
                    async with asyncio.timeout(None if pause_s == float("inf") else pause_s):
                        await self._changed.wait()
                continue
            if self._running or self._unreported:
                await self._extend()
            else:
                self._extended_at = loop.time()
            self._schedule_extension()

    async def _extend(self) -> None:
        """Extend all leases, and stop the calls that the master names."""
        progress, self._progress = self._progress, {}
        leases = [lease for lease, each in self._running.items() if each.stopped != "lost"]
        leases += [lease for lease in self._unreported if lease not in self._running]
        self._extended_at = asyncio.get_running_loop().time()
        try:
            if not self._session.is_known:
                raise MasterAway("it has not replied to an announcement yet")
            body = encode(Extend(self._worker, leases, progress))
            timeout_s = max(TIMEOUT_MIN_S, self._lease_s() / 3)
            headers = self._session.headers
            reply = _reply.decode(await self._master.post("/extend", body, timeout_s, headers))
        except (MasterAway, Refused, Malformed) as reason:
            if not self._failing:
                log.warning("cannot extend leases (%d): %s; trying again", len(leases), reason)
            self._failing = True
            known = {lease: each for lease, each in progress.items() if lease in self._running}
            self._progress = known | self._progress
            return
        self._failing = False
        for lease in reply.extended:
            if lease in self._running:
                self._running[lease].lease_s = reply.lease_s
        for lease in reply.lost:
            self._unreported.pop(lease, None)
            if self._stop(lease, "lost"):
                text = "lease %d has ended; stopping its call"
                self._limited.add("calls whose lease has ended", logging.INFO, text, lease)
        self.stop(reply.stop)
        self._reporter.hurry()
