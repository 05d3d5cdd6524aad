"""What a worker does with calls: it does them, reports them, and keeps its leases meanwhile.

It is forgetful when it ends: what it had, and has not reported, is lost. Reports are sent until
the master says what it makes of them, some twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
from torture.simulation.executions import Executions, extra_of
from torture.simulation.network import NoReply

from dte.wire.codec import Decoder, encode
from dte.wire.messages.batches import BatchResult
from dte.wire.messages.calls import Call as WireCall
from dte.wire.messages.calls import Extend, ExtendReply, Report, Reports, ReportsReply

if TYPE_CHECKING:
    from torture.simulation.workers import WorkerHost, WorkerProcess

REPORT_AGAIN_S = 0.4
TWICE = 0.15
"""How many reports are sent once more although the master has answered."""
INTERRUPTED = 0.02
"""How many calls are given back, although they were begun."""
GIVEN_BACK = 0.5
"""The same, of those whose worker cannot start processes any more."""

Answer = Callable[[int, bytes], None]

_reports_reply: Decoder[ReportsReply] = Decoder(ReportsReply)
_extend_reply: Decoder[ExtendReply] = Decoder(ExtendReply)


class Runner:
    """The calls of one start of a worker, as `ComputeServer` wants it.

    Args:
        extends: whether it tells the master that it is at work.
        takes_s: how long a call takes, at most.

    Attributes:
        failing: why it can begin no call; None if it can.
    """

    def __init__(
        self,
        host: WorkerHost,
        process: WorkerProcess,
        executions: Executions,
        extends: bool,
        takes_s: float,
        lease_s: float,
    ) -> None:
        self._host = host
        self._process = process
        self._executions = executions
        self._takes_s = takes_s
        self._lease_s = lease_s
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._reports: dict[int, Report] = {}
        self._batches: dict[int, BatchResult] = {}
        self._news = asyncio.Event()
        self.failing: str | None = None
        process.create_task(self._send_reports())
        if extends:
            process.create_task(self._extend())

    # What `ComputeServer` and those who claim ask for

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def running(self) -> Sequence[WireCall]:
        begun = self._executions.by_lease
        return [begun[lease].call for lease in self._tasks if lease in begun]

    def take(self, calls: Sequence[WireCall]) -> None:
        """Begin calls, or give them back."""
        for call in calls:
            if self.failing is not None:
                self._host.saw("a call is given back by a failing worker")
                self._report(Report(call.lease, error=self.failing, state="returned"))
                continue
            self._tasks[call.lease] = self._process.create_task(self._do(call))

    def stop(self, leases: Sequence[int]) -> list[int]:
        """Stop calls, and report that."""
        return [lease for lease in leases if self._stop(lease, Report(lease, state="cancelled"))]

    def requeue(self) -> None:
        """Give back what is not done, as the worker leaves."""
        for lease in list(self._tasks):
            self._stop(lease, Report(lease, state="returned"))

    def fail(self, reason: str) -> None:
        """Begin no call any more, and give back some of those that are begun."""
        self.failing = reason
        for lease in list(self._tasks):
            if self._host.chance(GIVEN_BACK):
                self._stop(lease, Report(lease, error=reason, state="returned"))

    def report_batch(self, result: BatchResult) -> None:
        """Report arithmetic that was claimed."""
        self._batches[result.lease] = result
        self._news.set()

    def _stop(self, lease: int, report: Report | None) -> bool:
        task = self._tasks.pop(lease, None)
        if task is None:
            return False
        task.cancel()
        if report is not None:
            self._report(report)
        return True

    # Doing

    async def _do(self, call: WireCall) -> None:
        report = await self.do(call, may_return=True)
        del self._tasks[call.lease]
        self._report(report)

    async def do(self, call: WireCall, may_return: bool = False) -> Report:
        """Do a call, and give what came of it; perhaps that it is given back."""
        execution = self._executions.begin(self._process, call)
        took_s = self._host.takes_s(self._takes_s)
        if call.handler == "nap":
            took_s += extra_of(call.args)
        if call.timeout is not None and took_s > call.timeout:
            await asyncio.sleep(call.timeout)
            return Report(call.lease, error="it took too long", state="timed_out")
        await asyncio.sleep(took_s)
        if may_return and not self._host.healed and self._host.chance(INTERRUPTED):
            return Report(call.lease, state="returned")
        return self._executions.end(execution)

    async def hold(self, call: WireCall, answer: Answer) -> None:
        """Do a call, and answer the request that it came with."""
        report = await self.do(call)
        if report.result is not msgspec.UNSET:
            answer(200, encode({"result": report.result}))
        elif report.state is not None or report.retry:
            answer(500, encode({"error": report.error or report.state}))
        else:
            answer(400, encode({"error": report.error}))

    # Telling the master

    def _report(self, report: Report) -> None:
        self._reports[report.lease] = report
        self._news.set()

    async def _send_reports(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            reports, batches = dict(self._reports), dict(self._batches)
            body = Reports(self._host.said_name, [*reports.values()], [*batches.values()])
            status, reply = await self._post("result", body)
            if status == 200:
                self._told(reports, batches, _reports_reply.decode(reply))
            if self._reports or self._batches:
                await asyncio.sleep(REPORT_AGAIN_S)
                self._news.set()

    def _told(
        self, reports: dict[int, Report], batches: dict[int, BatchResult], reply: ReportsReply
    ) -> None:
        told = {*reply.accepted, *reply.stale}
        for lease in reply.accepted:
            if lease in reports:
                self._executions.acknowledged(reports[lease])
        for lease in told:
            if self._host.chance(TWICE):
                continue
            if self._reports.get(lease) is reports.get(lease):
                self._reports.pop(lease, None)
            self._batches.pop(lease, None)

    async def _extend(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 3)
            leases = [*self._tasks, *self._reports]
            if not leases:
                continue
            status, reply = await self._post("extend", Extend(self._host.said_name, leases))
            if status != 200:
                continue
            said = _extend_reply.decode(reply)
            for lease in said.lost:
                self._stop(lease, None)
            self.stop(said.stop)

    async def _post(self, route: str, body: Any) -> tuple[int, bytes]:
        if not self._host.has_session:
            return 0, b""  # The master would not know whose report it is.
        with suppress(NoReply):
            return await self._host.post(self._process, route, encode(body), twice=True)
        return 0, b""
