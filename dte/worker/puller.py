"""Claims work from the master, for a worker that the master cannot call."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from http import HTTPStatus
from typing import Literal

import msgspec
from msgspec.structs import replace

from dte.logs import LimitedLog, one_line
from dte.wire.codec import Decoder, Malformed, encode
from dte.wire.messages.batches import Batch, BatchResult
from dte.wire.messages.calls import Call, Claim
from dte.worker.arithmetic import compute_all
from dte.worker.calls import RunningCalls
from dte.worker.decoding import CallDecoder
from dte.worker.master_client import PAUSE_FIRST_S, MasterAway, MasterClient, Refused
from dte.worker.reporter import Reporter
from dte.worker.session import Session, without_session

log = logging.getLogger("dte.worker")

WAIT_S = 20.0
"""The longest time that the master holds a claim while there is no work."""
HELD_S = 0.5
"""A claim that got nothing sooner was not held by the master, so the next claim has to wait."""
REPLY_S = 10.0
"""The time that the answer may take in addition."""
LEAVE_S = 2.0
"""The time that the master has to acknowledge a leaving worker, and to answer its last claim."""

Status = Literal["", "answered", "away", "name taken"]
"""The outcome of the last claim; ``name taken`` if another worker claims under this name."""


class _Claimed(msgspec.Struct):
    """Like `dte.wire.messages.calls.Claimed`; its batches are decoded once its calls have begun."""

    calls: list[Call]
    batches: msgspec.Raw
    session: str | None = None


_claimed = CallDecoder(_Claimed, lambda claimed: claimed.calls)
_batches: Decoder[list[Batch]] = Decoder(list[Batch])


class Puller:
    """Claims work while there are free slots, one claim after the other.

    Args:
        claim: the claim, with the worker's name, its handlers and all of its slots.
        pause_max_s: the longest pause while the master is away, in seconds.
        calls: runs claimed calls.
        reporter: sends the results of arithmetic.
        session: takes in what the master replies.
    """

    def __init__(
        self,
        master_url: str,
        claim: Claim,
        pause_max_s: float,
        calls: RunningCalls,
        reporter: Reporter,
        session: Session | None = None,
    ) -> None:
        self._url = master_url
        self._full_claim = claim
        self._pause_max_s = pause_max_s
        self._calls = calls
        self._reporter = reporter
        self._session = session or without_session()
        self._master = MasterClient(master_url)
        self._free = asyncio.Event()
        self._leaving = asyncio.Event()
        self._status: Status = ""
        self._limited = LimitedLog(log)
        self._renewals: set[asyncio.Task[None]] = set()
        calls.on_ended = self._free.set
        self._task = asyncio.create_task(self._run())

    def renew(self) -> None:
        """Claim anew at once, because the claim has changed; the open one is answered by that."""
        renewal = asyncio.create_task(self._renew())
        self._renewals.add(renewal)
        renewal.add_done_callback(self._renewals.discard)

    async def _renew(self) -> None:
        other = MasterClient(self._url)
        with suppress(MasterAway, Refused, Malformed):  # The next claim has the change too.
            await self._claim(other, max(0, self._full_claim.slots - len(self._calls)), 0.0)
        other.close()

    async def leave(self) -> None:
        """Stop claiming, and tell the master so; work that it hands out meanwhile is returned."""
        self._leaving.set()
        self._free.set()
        self._limited.close()
        other = MasterClient(self._url)  # A claim may occupy the first.
        own = self._full_claim
        claim = Claim(own.worker, incarnation=own.incarnation, draining=True, sessions=own.sessions)
        with suppress(MasterAway, Refused):
            await other.post("/claim", encode(claim), LEAVE_S, self._session.headers)
        other.close()
        tasks = [self._task, *self._renewals]
        await asyncio.wait(tasks, timeout=LEAVE_S)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        self._master.close()

    async def _run(self) -> None:
        pause_s = PAUSE_FIRST_S
        while not self._leaving.is_set():
            self._free.clear()
            slots = self._full_claim.slots - len(self._calls)
            if slots <= 0:
                await self._free.wait()
                continue
            # A claim that is answered at once shows that the master is back; reports wait for that.
            # The first one gives the worker its session, without which it could not leave.
            at_once = self._status == "away" or not self._session.is_known
            try:
                got_some = await self._claim(self._master, slots, 0.0 if at_once else WAIT_S)
                self._set_status("answered")
                got_some = got_some or at_once
            except (MasterAway, Refused, Malformed) as reason:
                got_some = False
                is_taken = isinstance(reason, Refused) and reason.status == HTTPStatus.CONFLICT
                status: Status = "name taken" if is_taken else "away"
                self._set_status(status, str(reason) or type(reason).__name__)
            if got_some:
                pause_s = PAUSE_FIRST_S
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(min(pause_s, self._pause_max_s)):
                    await self._leaving.wait()
            pause_s = min(2 * pause_s, self._pause_max_s)

    async def _claim(self, master: MasterClient, slots: int, wait_s: float) -> bool:
        """Claim once; return True if there was work, or the master held the claim."""
        claim = replace(self._full_claim, slots=slots, wait=wait_s)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        headers = self._session.headers
        reply = await master.post("/claim", encode(claim), wait_s + REPLY_S, headers)
        claimed = _claimed.decode(reply)
        self._session.replied(claimed.session)
        self._reporter.hurry()
        if self._leaving.is_set():
            self._calls.requeue(claimed.calls)
        else:
            self._calls.take(claimed.calls)
        batches = _batches.decode(bytes(claimed.batches))
        for batch in batches:
            self._compute(batch)
        return bool(claimed.calls or batches) or loop.time() - begun >= HELD_S

    def _compute(self, batch: Batch) -> None:
        try:
            results, errors = compute_all(batch.operations, batch.op1, batch.op2)
        except (KeyError, ValueError) as error:
            text = "malformed batch with lease %d: %s"
            reason = one_line(repr(error), 300)
            self._limited.add("malformed batches", logging.ERROR, text, batch.lease, reason)
            return
        self._reporter.report(BatchResult(batch.lease, results, errors))

    def _set_status(self, status: Status, problem: str = "") -> None:
        """Log the status if it is new."""
        if status == self._status or self._leaving.is_set():
            return
        self._status = status
        name = self._full_claim.worker
        if status == "answered":
            log.info("worker %s claims work from %s", name, self._url)
        elif status == "name taken":
            log.error(
                "another worker named %r claims work from %s; give this one another --name or "
                "stop the other; trying again",
                *(name, self._url),
            )
        else:
            log.warning("cannot claim work from %s: %s; trying again", self._url, problem)
