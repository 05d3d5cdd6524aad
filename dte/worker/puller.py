"""Fetches work from the master, for a worker that the master cannot call."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from http import HTTPStatus
from typing import Literal

import msgspec
from msgspec.structs import replace

from dte.wire.codec import Decoder, Malformed, encode
from dte.wire.messages.batches import Batch, BatchResult
from dte.wire.messages.calls import Call, Claim
from dte.worker.arithmetic import compute_all
from dte.worker.calls import RunningCalls
from dte.worker.decoding import CallDecoder
from dte.worker.master_client import PAUSE_FIRST_S, MasterAway, MasterConnection, Refused
from dte.worker.reporter import Reporter

log = logging.getLogger("dte.worker")

WAIT_S = 20.0
"""How long the master is to hold a claim while there is nothing to do."""
HELD_S = 0.5
"""A claim that got nothing sooner than this was not held, and the next is not made at once."""
REPLY_S = 10.0
"""How long an answer may take beyond that."""
LEAVE_S = 2.0
"""How long the master may take to hear that a worker leaves, and to answer the last claim."""

Standing = Literal["", "heard", "away", "taken"]
"""How the last claim went; ``taken`` if another worker has the name."""


class _Claimed(msgspec.Struct):
    """`dte.wire.messages.calls.Claimed`, whose batches are read when its calls have begun."""

    calls: list[Call]
    batches: msgspec.Raw


_claimed = CallDecoder(_Claimed, 3, lambda claimed: claimed.calls)
_batches: Decoder[list[Batch]] = Decoder(list[Batch])


class Puller:
    """Claims work while there are free slots, one claim after the other.

    Args:
        master_url: where the master is.
        claim: what to say: the worker's name, what it can do, and how many calls it has at a time.
        pause_max_s: the longest pause while the master is away, in seconds.
        calls: where claimed calls go.
        reporter: where results of arithmetic go.
    """

    def __init__(
        self,
        master_url: str,
        claim: Claim,
        pause_max_s: float,
        calls: RunningCalls,
        reporter: Reporter,
    ) -> None:
        self._url = master_url
        self._said = claim
        self._pause_max_s = pause_max_s
        self._calls = calls
        self._reporter = reporter
        self._master = MasterConnection(master_url)
        self._free = asyncio.Event()
        self._leaving = asyncio.Event()
        self._standing: Standing = ""
        calls.on_ended = self._free.set
        self._task = asyncio.create_task(self._run())

    async def leave(self) -> None:
        """Claim nothing more, and tell the master; what it handed out meanwhile goes back."""
        self._leaving.set()
        self._free.set()
        other = MasterConnection(self._url)  # The first may be held by a claim.
        claim = Claim(self._said.worker, incarnation=self._said.incarnation, draining=True)
        with suppress(MasterAway, Refused):
            await other.post("/claim", encode(claim), LEAVE_S)
        other.close()
        await asyncio.wait([self._task], timeout=LEAVE_S)
        self._task.cancel()
        await asyncio.wait([self._task])
        self._master.close()

    async def _run(self) -> None:
        pause_s = PAUSE_FIRST_S
        while not self._leaving.is_set():
            self._free.clear()
            slots = self._said.slots - len(self._calls)
            if slots <= 0:
                await self._free.wait()
                continue
            try:
                got_some = await self._claim(slots)
                self._say("heard")
            except (MasterAway, Refused, Malformed) as reason:
                got_some = False
                is_taken = isinstance(reason, Refused) and reason.status == HTTPStatus.CONFLICT
                self._say("taken" if is_taken else "away", str(reason) or type(reason).__name__)
            if got_some:
                pause_s = PAUSE_FIRST_S
            elif not self._leaving.is_set():
                pause_s = await self._pause(pause_s)

    async def _claim(self, slots: int) -> bool:
        """Claim once; whether the master held the claim, or there was work.

        Raises:
            MasterAway, Refused, Malformed: there is no answer, or no good one.
        """
        claim = replace(self._said, slots=slots, wait=WAIT_S)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        reply = await self._master.post("/claim", encode(claim), WAIT_S + REPLY_S)
        claimed = _claimed.decode(reply)
        self._reporter.hurry()
        self._begin(claimed.calls)
        batches = _batches.decode(bytes(claimed.batches))
        for batch in batches:
            self._compute(batch)
        return bool(claimed.calls or batches) or loop.time() - begun >= HELD_S

    def _begin(self, calls: list[Call]) -> None:
        if self._leaving.is_set():
            self._calls.requeue(calls)
        else:
            self._calls.take(calls)

    def _compute(self, batch: Batch) -> None:
        try:
            results, errors = compute_all(batch.operations, batch.op1, batch.op2)
        except (KeyError, ValueError) as error:
            log.error("lease %d is of no batch: %r", batch.lease, error)
            return
        self._reporter.report(BatchResult(batch.lease, results, errors))

    async def _pause(self, pause_s: float) -> float:
        """Wait for so long, unless the worker leaves; how long to wait the next time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(pause_s, self._pause_max_s)):
                await self._leaving.wait()
        return min(2 * pause_s, self._pause_max_s)

    def _say(self, standing: Standing, problem: str = "") -> None:
        """Log how it stands with the master, if that is new."""
        if standing == self._standing or self._leaving.is_set():
            return
        self._standing = standing
        name = self._said.worker
        if standing == "heard":
            log.info("worker %s claims work from %s", name, self._url)
        elif standing == "taken":
            log.error(
                "another worker named %r claims work from %s: give this one another --name, or "
                "end the other; trying again",
                *(name, self._url),
            )
        else:
            log.warning("cannot claim work from %s: %s; trying again", self._url, problem)
