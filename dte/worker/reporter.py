"""Reports finished work to the master until the master has accepted it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import msgspec

from dte.logs import LimitedLog, one_line
from dte.wire.codec import Decoder, Malformed, encode
from dte.wire.messages.batches import BatchResult
from dte.wire.messages.calls import Report, ReportsReply
from dte.worker.master_client import PAUSE_FIRST_S, MasterAway, MasterClient, Refused
from dte.worker.session import Session, headers_of, without_session
from dte.worker.spool import Spool

log = logging.getLogger("dte.worker")

REQUEST_RESULTS_MAX = 1000
REQUEST_BYTES_MAX = 4_000_000
RETRY_S = 20.0
TTL_S = 3600.0
CLOSE_S = 2.0
"""The time that a worker that ends spends on its last reports."""

_reply: Decoder[ReportsReply] = Decoder(ReportsReply)


@dataclass(slots=True, eq=False)
class _Finished:
    """A result that the master has not received. It is dropped at `until`, by the loop's clock.

    It was found in the spool if it has a session, which is that of an earlier start.
    """

    worker: str
    session: str | None
    result: Report | BatchResult
    body: msgspec.Raw
    until: float
    is_spooled: bool = False


class Reporter:
    """Sends results. Those that arrive during a request go together into the next.

    While the master is away, pauses between attempts double; `hurry` cuts a pause short.

    Args:
        spool: keeps results on disk meanwhile.
        retry_s: the longest pause, in seconds.
        ttl_s: the age at which a result is dropped, in seconds.
        session: that of this start of the worker.

    Attributes:
        on_settled: called with the lease of each result that the master has accepted, or will never
            accept.
    """

    def __init__(
        self,
        worker: str,
        master_url: str,
        spool: Spool | None = None,
        retry_s: float = RETRY_S,
        ttl_s: float = TTL_S,
        session: Session | None = None,
    ) -> None:
        self._worker = worker
        self._session = session or without_session()
        self._master = MasterClient(master_url)
        self._spool = spool
        self._retry_s = retry_s
        self._ttl_s = ttl_s
        self._unsent: dict[int, _Finished] = {}
        self._has_unsent = asyncio.Event()
        self._all_sent = asyncio.Event()
        self._all_sent.set()
        self._hurry = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._limited = LimitedLog(log)
        self.on_settled: Callable[[int], None] = lambda lease: None

    def start(self) -> None:
        """Start, with the results that an earlier worker left in the spool."""
        for spooled, age_s in self._spool.read() if self._spool else ():
            finished = self._add(spooled.report, spooled.worker, spooled.session, age_s)
            finished.is_spooled = True
        if self._unsent:
            log.info("results in the spool that are still to be reported: %d", len(self._unsent))
        self._task = asyncio.create_task(self._run())

    def report(self, result: Report | BatchResult) -> None:
        self._add(result, self._worker)

    def hurry(self) -> None:
        """Try again at once, because the master seems to be back."""
        self._hurry.set()

    async def close(self) -> None:
        """Try for a moment to send the last results, and stop."""
        self.hurry()
        if self._task is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._all_sent.wait()
            self._task.cancel()
            await asyncio.wait([self._task])
        self._master.close()
        self._spool_unsent()
        for finished in self._unsent.values():
            if not finished.is_spooled and isinstance(finished.result, Report):
                text = "lost the result of lease %d"
                self._limited.add("lost results", logging.WARNING, text, finished.result.lease)
        self._limited.close()

    def _add(
        self,
        result: Report | BatchResult,
        worker: str,
        session: str | None = None,
        age_s: float = 0.0,
    ) -> _Finished:
        until = asyncio.get_running_loop().time() + self._ttl_s - age_s
        finished = _Finished(worker, session, result, msgspec.Raw(encode(result)), until)
        self._unsent[result.lease] = finished
        self._has_unsent.set()
        self._all_sent.clear()
        return finished

    async def _run(self) -> None:
        pause_s = PAUSE_FIRST_S
        while True:
            await self._has_unsent.wait()
            self._hurry.clear()
            try:
                await self._send(self._next())
            except MasterAway as reason:
                if pause_s == PAUSE_FIRST_S:
                    text = "cannot report results: %s; trying again"
                    self._limited.add(
                        "failed reports", logging.WARNING, text, one_line(str(reason))
                    )
                self._drop_old()
                await asyncio.to_thread(self._spool_unsent)
                with suppress(TimeoutError):
                    async with asyncio.timeout(min(pause_s, self._retry_s)):
                        await self._hurry.wait()
                pause_s = min(2 * pause_s, self._retry_s)
            else:
                pause_s = PAUSE_FIRST_S

    def _next(self) -> list[_Finished]:
        """Return the oldest results of one worker and session that fit into a request."""
        chosen: list[_Finished] = []
        room = REQUEST_BYTES_MAX
        for finished in self._unsent.values():
            room -= len(memoryview(finished.body))
            if chosen and (room < 0 or _source(finished) != _source(chosen[0])):
                break
            chosen.append(finished)
            if len(chosen) == REQUEST_RESULTS_MAX:
                break
        return chosen

    async def _send(self, chosen: list[_Finished]) -> None:
        """Send results and settle them; some may be settled even if this raises `MasterAway`."""
        session = chosen[0].session
        if session is None and not self._session.is_known:
            raise MasterAway("it has not replied to an announcement yet")
        headers = self._session.headers if session is None else headers_of(session)
        fields: dict[str, list[msgspec.Raw]] = {"results": [], "batches": []}
        for finished in chosen:
            field = "results" if isinstance(finished.result, Report) else "batches"
            fields[field].append(finished.body)
        body = {"worker": chosen[0].worker} | {name: some for name, some in fields.items() if some}
        try:
            reply = await self._master.post("/result", encode(body), headers=headers)
        except Refused as reason:
            if len(chosen) > 1:  # One bad result must not hold up the others.
                half = len(chosen) // 2
                await self._send(chosen[:half])
                await self._send(chosen[half:])
            else:
                self._refused(chosen[0], reason)
            return
        with suppress(Malformed):
            for lease in _reply.decode(reply).stale:
                text = "the result of lease %d came too late"
                self._limited.add("results that came too late", logging.INFO, text, lease)
        for finished in chosen:
            self._settle(finished)

    def _refused(self, finished: _Finished, reason: Refused) -> None:
        result, lease = finished.result, finished.result.lease
        text = "the master refused the result of lease %d: %s"
        self._limited.add("refused results", logging.ERROR, text, lease, one_line(str(reason)))
        self._settle(finished)
        if isinstance(result, Report) and isinstance(result.result, msgspec.Raw):
            error = f"the master refused the result: {reason}"
            report = Report(lease, error=error, state="failed", retry=False)
            self._add(report, finished.worker, finished.session)

    def _settle(self, finished: _Finished) -> None:
        lease = finished.result.lease
        if self._unsent.get(lease) is not finished:
            return  # The lease has another result by now.
        del self._unsent[lease]
        if not self._unsent:
            self._has_unsent.clear()
            self._all_sent.set()
        if finished.is_spooled and self._spool is not None:
            self._spool.drop(lease)
        self.on_settled(lease)

    def _drop_old(self) -> None:
        now = asyncio.get_running_loop().time()
        for finished in list(self._unsent.values()):
            if finished.until <= now:
                lease = finished.result.lease
                text = "dropping the result of lease %d after %g s"
                self._limited.add("dropped results", logging.WARNING, text, lease, self._ttl_s)
                self._settle(finished)

    def _spool_unsent(self) -> None:
        """Write unsent results to the spool. This may run in a thread beside the loop."""
        if self._spool is None:
            return
        for finished in list(self._unsent.values()):
            if not finished.is_spooled and isinstance(finished.result, Report):
                session = self._session.text if finished.session is None else finished.session
                finished.is_spooled = self._spool.keep(finished.worker, finished.result, session)


def _source(finished: _Finished) -> tuple[str, str | None]:
    return finished.worker, finished.session
