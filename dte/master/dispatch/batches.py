"""Hands leases over to workers by HTTP and reports what came of them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

from dte.core.arithmetic.lease import BatchLease
from dte.core.graph.numbers import NAMES, Number
from dte.core.workers.worker import Failure
from dte.master.dispatch.pool import ConnectionPool
from dte.wire.codec import Decoder, Malformed, Unrepresentable, encode
from dte.wire.http.client import ConnectionFailed, KeptAliveConnection, Reply
from dte.wire.messages.batches import Batch, BatchResult, Refusal, Single, SingleResult

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
        self,
        lease_number: int,
        results: Sequence[Number],
        errors: Mapping[int, str],
        took_s: float | None,
    ) -> None:
        """The worker gave results, and for some places of the lease errors."""

    def late(self, lease: BatchLease) -> None:
        """The worker gave results when the lease had ended by silence."""

    def failed(self, lease_number: int, reason: str, failure: Failure) -> None:
        """It came to nothing."""


class Dispatcher:
    """Sends each lease on a connection of its own."""

    def __init__(self, outcomes: Outcomes, pool: ConnectionPool) -> None:
        self._outcomes = outcomes
        self._pool = pool
        self._under_way: dict[int, KeptAliveConnection] = {}
        self._late: dict[int, KeptAliveConnection] = {}

    def send(self, lease: BatchLease) -> None:
        """Hand a lease over, and report later."""
        announcement = lease.worker.announcement
        # Kept for the reply: the worker may announce another form meanwhile.
        batched = announcement.batch_max > 1
        body = _request_body(lease, batched)
        told = partial(self._told, lease, batched)
        self._under_way[lease.number] = self._pool.send(
            announcement.address, "/compute", body, told
        )

    def abandon(self, lease: BatchLease) -> None:
        """Stop waiting for a lease, if that is still going on, and close its connection.

        One that fell silent is waited for some time longer: its results come too late, but it is
        known then that they do.
        """
        connection = self._under_way.pop(lease.number, None)
        if connection is None:
            return
        if not lease.may_come_late:
            connection.abandon()
            return
        self._late[lease.number] = connection
        asyncio.get_running_loop().call_later(LATE_S, self._give_up, lease.number)

    def close(self) -> None:
        """Abandon everything."""
        for connection in (*self._under_way.values(), *self._late.values()):
            connection.abandon()
        self._under_way.clear()
        self._late.clear()

    def _give_up(self, number: int) -> None:
        connection = self._late.pop(number, None)
        if connection is not None:
            connection.abandon()

    def _told(self, lease: BatchLease, batched: bool, what: Reply | ConnectionFailed) -> None:
        self._under_way.pop(lease.number, None)
        self._late.pop(lease.number, None)
        if isinstance(what, ConnectionFailed):
            failure = Failure.BROKEN if what.sent else Failure.NOT_SENT
            if what.refused:
                failure = Failure.REFUSED
            self._outcomes.failed(lease.number, str(what), failure)
            return
        try:
            reply = _read_reply(lease, batched, what.status, what.body)
        except Malformed as error:
            reason = f"garbled reply, status {what.status}: {error}"
            self._outcomes.failed(lease.number, reason, Failure.MALFORMED)
            return
        if lease.may_come_late:
            self._outcomes.late(lease)
            return
        results, errors, took_s = reply
        if not lease.count:  # Whatever 1 + 1 is, the worker is there.
            results, errors = [], {}
        self._outcomes.completed(lease.number, results, errors, took_s)


def _request_body(lease: BatchLease, batched: bool) -> bytes:
    symbols, operands1, operands2 = lease.columns()
    if not lease.count:
        symbols, operands1, operands2 = QUESTION
    if batched:
        return encode(Batch(lease.number, symbols, operands1, operands2))
    return encode(Single(NAMES[symbols], operands1[0], operands2[0]))


def _read_reply(
    lease: BatchLease, batched: bool, status: int, reply: bytes
) -> tuple[Sequence[Number], Mapping[int, str], float | None]:
    """Results and errors of a reply, and how long the worker took, if it says so.

    Raises:
        Malformed: it is neither results nor a failed operation.
    """
    if batched:
        if status != 200:
            raise Malformed("a batch is answered with 200")
        batch = _batch_result.decode(reply)
        if batch.lease != lease.number:
            raise Malformed(f"it answers lease {batch.lease} instead of {lease.number}")
        return batch.results, batch.errors, batch.took_s
    if status == 200:
        try:
            result = _single_result.decode(reply).result
        except Unrepresentable as error:
            return [0], {0: f"the result is {error}"}, None
        return [result], {}, None
    if status >= 500:
        # The operation's own failure, if it says so: arithmetic does not get better by repetition.
        return [0], {0: _refusal.decode(reply).error}, None
    raise Malformed("an operation is answered with 200, or with 5xx and an error")
