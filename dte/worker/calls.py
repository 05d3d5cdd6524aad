"""The calls that a worker has: begun, kept, stopped, and reported when they have ended."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Set
from contextlib import suppress
from dataclasses import dataclass
from typing import Literal

from dte.wire.codec import Decoder, Malformed, encode
from dte.wire.messages.calls import Call, Extend, ExtendReply, Progress, Report
from dte.worker.master_client import MasterAway, MasterConnection, Refused
from dte.worker.processes.executor import LEAVING, LEFT, Executor
from dte.worker.reporter import Reporter

log = logging.getLogger("dte.worker")

PROGRESS_PAUSE_S = 0.5
"""Progress is passed on after so long, if some was before."""
RETRY_MIN_S = 0.1
TIMEOUT_MIN_S = 1.0
GIVE_BACK_S = 0.25
"""Calls that have waited for a slot so long go back: another worker may have one."""
STOP_S = 5.0
"""How long a call that is stopped when the worker ends may take to do so."""

MakeExecutor = Callable[[Callable[[Report], None], Callable[[int, Progress], None]], Executor]

_reply: Decoder[ExtendReply] = Decoder(ExtendReply)


@dataclass(slots=True, eq=False)
class _Running:
    """A call that has not ended.

    Attributes:
        lease_s: its lease ends after so many seconds, unless it is extended.
        stopped: why it is being stopped, if it is.
    """

    call: Call
    lease_s: float
    stopped: Literal["", "cancelled", "lost"] = ""


class RunningCalls:
    """Runs calls and keeps their leases, whether the master is there or not.

    Args:
        worker: the worker's name.
        master_url: where the master is.
        reporter: what has ended goes there; it is started and closed with this.
        make_executor: gives what runs calls, from the two callbacks that it is to have.

    Attributes:
        on_ended: called when a call has ended, so that another can begin.
    """

    def __init__(
        self, worker: str, master_url: str, reporter: Reporter, make_executor: MakeExecutor
    ) -> None:
        self._worker = worker
        self._master = MasterConnection(master_url)
        self._reporter = reporter
        self._make_executor = make_executor
        self._executor: Executor | None = None
        self._running: dict[int, _Running] = {}
        self._unreported: dict[int, float] = {}
        self._progress: dict[int, Progress] = {}
        self._changed = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._extended_at = 0.0
        self._extend_at = 0.0
        self._failing = False
        self._watching = False
        self._task: asyncio.Task[None] | None = None
        self.on_ended: Callable[[], None] = lambda: None
        reporter.on_settled = self._settled

    def start(self) -> None:
        """Begin to extend leases, and to report."""
        self._reporter.start()
        self._task = asyncio.create_task(self._run())

    def __len__(self) -> int:
        return len(self._running)

    @property
    def running(self) -> list[Call]:
        """The calls that have not ended."""
        return [each.call for each in self._running.values()]

    def take(self, calls: Iterable[Call]) -> None:
        """Begin calls; one that is there already goes on."""
        calls = list(calls)
        if not calls:
            return
        if self._executor is None:  # Who only does arithmetic needs no child processes.
            self._executor = self._make_executor(self._done, self._progressed)
        if not self._running and not self._unreported:
            self._extended_at = asyncio.get_running_loop().time()
        for call in calls:
            if call.lease in self._running:
                continue
            self._running[call.lease] = _Running(call, call.lease_s)
            self._idle.clear()
            self._executor.start(call)
        self._watch_waiting()
        self._plan()

    def _watch_waiting(self) -> None:
        """Look again in a moment whether calls still wait for a slot."""
        if self._executor is not None and self._executor.waiting and not self._watching:
            self._watching = True
            waiting = set(self._executor.waiting)
            asyncio.get_running_loop().call_later(GIVE_BACK_S, self._look_at_waiting, waiting)

    def _look_at_waiting(self, before: Set[int]) -> None:
        """Give calls back that have waited since the last look: another worker may be free."""
        self._watching = False
        if self._executor is not None and before & self._executor.waiting:
            self._executor.give_back_waiting()
        self._watch_waiting()

    def requeue(self, calls: Iterable[Call]) -> None:
        """Report calls that were never begun, so that others get them."""
        for call in calls:
            self._reporter.report(_returned(call.lease))

    def stop(self, leases: Iterable[int]) -> list[int]:
        """Stop calls, to be reported as cancelled; those of them that are known."""
        return [lease for lease in leases if self._stop(lease, "cancelled")]

    async def drain(self, grace_s: float) -> None:
        """Let calls end, give back what does not within `grace_s` seconds, report and close."""
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._idle.wait()
        if self._running:
            log.info("%d calls are stopped and given back", len(self._running))
        if self._executor is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await self._executor.close()
        for lease in list(self._running):  # Such as will not end even so.
            self._done(Report(lease, error=LEFT, state="returned", begun=True))
        await self._reporter.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._master.close()

    # How calls end

    def _stop(self, lease: int, why: Literal["cancelled", "lost"]) -> bool:
        running = self._running.get(lease)
        if running is None:
            return False
        begun_to_stop = bool(running.stopped)
        if running.stopped != "lost":
            running.stopped = why
        if not begun_to_stop and self._executor is not None:
            self._executor.stop(lease)
        return True

    def _done(self, report: Report) -> None:
        running = self._running.pop(report.lease, None)
        if running is None:
            return
        self._progress.pop(report.lease, None)
        if not self._running:
            self._idle.set()
        if running.stopped != "lost":
            self._unreported[report.lease] = running.lease_s
            self._reporter.report(report)
        self.on_ended()

    def _settled(self, lease: int) -> None:
        self._unreported.pop(lease, None)

    # How leases are kept

    def _progressed(self, lease: int, progress: Progress) -> None:
        if lease in self._running:
            self._progress[lease] = progress
            self._plan()

    def _plan(self) -> None:
        """Say when leases are to be extended, now that something has changed."""
        pause_s = self._lease_s() / 3
        if self._failing:
            pause_s = max(RETRY_MIN_S, pause_s / 4)
        elif self._progress:
            pause_s = min(pause_s, PROGRESS_PAUSE_S)
        self._extend_at = self._extended_at + pause_s
        self._changed.set()

    def _lease_s(self) -> float:
        """The shortest time that a lease lasts; infinite if there is none."""
        running = (each.lease_s for each in self._running.values())
        return min([*running, *self._unreported.values()], default=float("inf"))

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        self._plan()
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
            self._plan()

    async def _extend(self) -> None:
        """Tell the master of all leases, and heed what it says of them."""
        progress, self._progress = self._progress, {}
        leases = [lease for lease, each in self._running.items() if each.stopped != "lost"]
        leases += [lease for lease in self._unreported if lease not in self._running]
        self._extended_at = asyncio.get_running_loop().time()
        try:
            body = encode(Extend(self._worker, leases, progress))
            timeout_s = max(TIMEOUT_MIN_S, self._lease_s() / 3)
            reply = _reply.decode(await self._master.post("/extend", body, timeout_s))
        except (MasterAway, Refused, Malformed) as reason:
            if not self._failing:
                log.warning("cannot extend %d leases: %s; trying again", len(leases), reason)
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
                log.info("lease %d has ended; its call is stopped", lease)
        self.stop(reply.stop)
        self._reporter.hurry()


def _returned(lease: int) -> Report:
    return Report(lease, error=LEAVING, state="returned")
