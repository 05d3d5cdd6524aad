"""Reports finished work to the master, until the master has it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from dte.wire.codec import Decoder, Malformed, encode
from dte.wire.messages.batches import BatchResult
from dte.wire.messages.calls import Report, ReportsReply
from dte.worker.master_client import PAUSE_FIRST_S, MasterAway, MasterConnection, Refused
from dte.worker.spool import Spool

log = logging.getLogger("dte.worker")

REQUEST_RESULTS_MAX = 1000
REQUEST_BYTES_MAX = 4_000_000
RETRY_S = 20.0
TTL_S = 3600.0
CLOSE_S = 2.0
"""How long a worker that ends still tries to report."""

_reply: Decoder[ReportsReply] = Decoder(ReportsReply)


@dataclass(slots=True, eq=False)
class _Finished:
    """One result that the master has not heard of.

    Attributes:
        worker: who had the lease.
        text: the JSON of it.
        until: when it is given up, by the loop's clock.
        is_kept: whether it is in the spool.
    """

    worker: str
    what: Report | BatchResult
    text: msgspec.Raw
    until: float
    is_kept: bool = False


class Reporter:
    """Sends results, together what has gathered while a request is under way.

    While the master is away it tries again with growing pauses, or sooner when `hurry` is called.

    Args:
        worker: the worker's name.
        master_url: where the master is.
        spool: where results are kept meanwhile, besides in memory.
        retry_s: the longest pause, in seconds.
        ttl_s: after so many seconds a result is dropped.

    Attributes:
        on_settled: called with each lease whose result the master has, or will never have.
    """

    def __init__(
        self,
        worker: str,
        master_url: str,
        spool: Spool | None = None,
        retry_s: float = RETRY_S,
        ttl_s: float = TTL_S,
    ) -> None:
        self._worker = worker
        self._master = MasterConnection(master_url)
        self._spool = spool
        self._retry_s = retry_s
        self._ttl_s = ttl_s
        self._unsent: dict[int, _Finished] = {}
        self._some = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.on_settled: Callable[[int], None] = lambda lease: None

    def start(self) -> None:
        """Begin, with what the spool has from an earlier time."""
        for spooled, age_s in self._spool.read() if self._spool else ():
            self._add(spooled.report, spooled.worker, age_s).is_kept = True
        if self._unsent:
            log.info("%d results of an earlier time are to be reported", len(self._unsent))
        self._task = asyncio.create_task(self._run())

    def report(self, finished: Report | BatchResult) -> None:
        """Have a result sent."""
        self._add(finished, self._worker)

    def hurry(self) -> None:
        """Try again at once: the master seems to be there."""
        self._hurry.set()

    async def close(self) -> None:
        """Send what there is, if that is possible in a moment, and stop."""
        self.hurry()
        if self._task is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._none.wait()
            self._task.cancel()
            await asyncio.wait([self._task])
        self._master.close()
        self._keep()
        for finished in self._unsent.values():
            if not finished.is_kept and isinstance(finished.what, Report):
                log.warning("the result of lease %d is lost", finished.what.lease)

    def _add(self, what: Report | BatchResult, worker: str, age_s: float = 0.0) -> _Finished:
        until = asyncio.get_running_loop().time() + self._ttl_s - age_s
        finished = _Finished(worker, what, msgspec.Raw(encode(what)), until)
        self._unsent[what.lease] = finished
        self._some.set()
        self._none.clear()
        return finished

    async def _run(self) -> None:
        pause_s = PAUSE_FIRST_S
        while True:
            await self._some.wait()
            self._hurry.clear()
            try:
                await self._send(self._next())
            except MasterAway as reason:
                if pause_s == PAUSE_FIRST_S:
                    log.warning("cannot report results: %s; trying again", reason)
                self._drop_old()
                await asyncio.to_thread(self._keep)
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(pause_s, self._retry_s)):
                        await self._hurry.wait()
                pause_s = min(2 * pause_s, self._retry_s)
            else:
                pause_s = PAUSE_FIRST_S

    def _next(self) -> list[_Finished]:
        """The oldest results of one worker, as many as go into a request."""
        chosen: list[_Finished] = []
        room = REQUEST_BYTES_MAX
        for finished in self._unsent.values():
            room -= len(memoryview(finished.text))
            if chosen and (room < 0 or finished.worker != chosen[0].worker):
                break
            chosen.append(finished)
            if len(chosen) == REQUEST_RESULTS_MAX:
                break
        return chosen

    async def _send(self, chosen: list[_Finished]) -> None:
        """Send results, and settle them.

        Raises:
            MasterAway: some may have been settled before.
        """
        kinds: dict[str, list[msgspec.Raw]] = {"results": [], "batches": []}
        for finished in chosen:
            kinds["results" if isinstance(finished.what, Report) else "batches"].append(
                finished.text
            )
        body = {"worker": chosen[0].worker} | {name: some for name, some in kinds.items() if some}
        try:
            reply = await self._master.post("/result", encode(body))
        except Refused as reason:
            if len(chosen) > 1:  # None of them is to suffer for another.
                half = len(chosen) // 2
                await self._send(chosen[:half])
                await self._send(chosen[half:])
            else:
                self._refused(chosen[0], reason)
            return
        with suppress(Malformed):
            for lease in _reply.decode(reply).stale:
                log.info("the result of lease %d came too late", lease)
        for finished in chosen:
            self._settle(finished)

    def _refused(self, finished: _Finished, reason: Refused) -> None:
        lease = finished.what.lease
        log.error("the master refuses the result of lease %d: %s", lease, reason)
        self._settle(finished)
        if isinstance(finished.what, Report) and isinstance(finished.what.result, msgspec.Raw):
            error = f"the master refused the result: {reason}"
            self._add(Report(lease, error=error, state="failed", retry=False), finished.worker)

    def _settle(self, finished: _Finished) -> None:
        lease = finished.what.lease
        if self._unsent.get(lease) is not finished:
            return  # It was reported anew meanwhile.
        del self._unsent[lease]
        if not self._unsent:
            self._some.clear()
            self._none.set()
        if finished.is_kept and self._spool is not None:
            self._spool.drop(lease)
        self.on_settled(lease)

    def _drop_old(self) -> None:
        now = asyncio.get_running_loop().time()
        for finished in list(self._unsent.values()):
            if finished.until <= now:
                log.warning(
                    "the result of lease %d is dropped after %g s",
                    finished.what.lease,
                    self._ttl_s,
                )
                self._settle(finished)

    def _keep(self) -> None:
        """Write what is not yet in the spool; in a thread while the loop goes on."""
        if self._spool is None:
            return
        for finished in list(self._unsent.values()):
            if not finished.is_kept and isinstance(finished.what, Report):
                finished.is_kept = self._spool.keep(finished.worker, finished.what)
