"""Hands leases over to workers by HTTP and reports what came of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Protocol

from dte.core.lease import Lease
from dte.core.operations import NAMES, Number
from dte.core.scheduler import Failure
from dte.master.connection_pool import ConnectionPool
from dte.wire.codec import Decoder, Malformed, Unrepresentable, encode
from dte.wire.connection import ConnectionFailed
from dte.wire.messages import Batch, BatchResult, Refusal, Single, SingleResult

_batch_result: Decoder[BatchResult] = Decoder(BatchResult)
_single_result: Decoder[SingleResult] = Decoder(SingleResult)
_refusal: Decoder[Refusal] = Decoder(Refusal)

QUESTION: tuple[str, list[Number], list[Number]] = ("+", [1], [1])
"""What a worker is asked to see whether it is there: something that any worker can do."""


LATE_S = 120.0
"""How long results are waited for after their lease has ended."""


class Outcomes(Protocol):
    """Who hears what came of a lease."""

    def completed(
        self, lease_number: int, results: Sequence[Number], errors: Mapping[int, str]
    ) -> None:
        """The worker gave results, and for some places of the lease errors."""

    def late(self, lease: Lease) -> None:
        """The worker gave results when the lease had ended by silence."""

    def failed(self, lease_number: int, reason: str, failure: Failure) -> None:
        """It came to nothing."""


class Dispatcher:
    """Sends each lease on a connection of its own."""

    def __init__(self, outcomes: Outcomes, pool: ConnectionPool) -> None:
        self._outcomes = outcomes
        self._pool = pool
        self._under_way: dict[int, asyncio.Task[None]] = {}
        self._late: set[asyncio.Task[None]] = set()

    def send(self, lease: Lease) -> None:
        """Hand a lease over, and report later."""
        # Kept for the reply: the worker may announce another form meanwhile.
        batched = lease.worker.said.batch_max > 1
        body = _request_body(lease, batched)
        task = asyncio.get_running_loop().create_task(self._hand_over(lease, batched, body))
        self._under_way[lease.number] = task

    def abandon(self, lease: Lease) -> None:
        """Stop waiting for a lease, if that is still going on, and close its connection.

        One that fell silent is waited for some time longer: its results come too late, but it is
        known then that they do.
        """
        task = self._under_way.pop(lease.number, None)
        if task is None:
            return
        if not lease.may_come_late:
            task.cancel()
            return
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        asyncio.get_running_loop().call_later(LATE_S, task.cancel)

    def close(self) -> None:
        """Abandon everything."""
        for task in (*self._under_way.values(), *self._late):
            task.cancel()
        self._under_way.clear()

    async def _hand_over(self, lease: Lease, batched: bool, body: bytes) -> None:
        address = lease.worker.said.address
        try:
            status, reply = await self._pool.post(address, "/compute", body)
        except ConnectionFailed as error:
            self._under_way.pop(lease.number, None)
            failure = Failure.BROKEN if error.sent else Failure.UNREACHED
            if error.refused:
                failure = Failure.REFUSED
            self._outcomes.failed(lease.number, str(error), failure)
            return
        self._under_way.pop(lease.number, None)
        try:
            results, errors = _read_reply(lease, batched, status, reply)
        except Malformed as error:
            reason = f"garbled reply, status {status}: {error}"
            self._outcomes.failed(lease.number, reason, Failure.GARBLED)
        else:
            if lease.may_come_late:
                self._outcomes.late(lease)
                return
            if not lease.count:  # Whatever 1 + 1 is, the worker is there.
                results, errors = [], {}
            self._outcomes.completed(lease.number, results, errors)


def _request_body(lease: Lease, batched: bool) -> bytes:
    symbols, operands1, operands2 = lease.columns()
    if not lease.count:
        symbols, operands1, operands2 = QUESTION
    if batched:
        return encode(Batch(lease.number, symbols, operands1, operands2))
    return encode(Single(NAMES[symbols], operands1[0], operands2[0]))


def _read_reply(
    lease: Lease, batched: bool, status: int, reply: bytes
) -> tuple[Sequence[Number], Mapping[int, str]]:
    """Results and errors of a reply.

    Raises:
        Malformed: it is neither results nor a failed operation.
    """
    if batched:
        if status != 200:
            raise Malformed("a batch is answered with 200")
        batch = _batch_result.decode(reply)
        if batch.lease != lease.number:
            raise Malformed(f"it answers lease {batch.lease} instead of {lease.number}")
        return batch.results, batch.errors
    if status == 200:
        try:
            result = _single_result.decode(reply).result
        except Unrepresentable as error:
            return [0], {0: f"the result is {error}"}
        return [result], {}
    if status >= 500:
        # The operation's own failure, if it says so: arithmetic does not get better by repetition.
        return [0], {0: _refusal.decode(reply).error}
    raise Malformed("an operation is answered with 200, or with 5xx and an error")
