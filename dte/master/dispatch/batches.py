"""Hands batches of arithmetic over to workers by HTTP, and reports the replies to the core."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from dte.core.arithmetic.lease import BatchLease
from dte.core.graph.numbers import NAMES, Number
from dte.core.scheduler import Scheduler
from dte.core.workers.worker import Failure
from dte.master.dispatch.pool import ConnectionPool, failure_of
from dte.master.dispatch.replies import batch_reply_bytes
from dte.wire.codec import Decoder, Malformed, Unrepresentable, encode
from dte.wire.http.client import ConnectionFailed, KeptAliveConnection, Reply
from dte.wire.messages.batches import Batch, BatchResult, Refusal, Single, SingleResult

_batch_result: Decoder[BatchResult] = Decoder(BatchResult)
_single_result: Decoder[SingleResult] = Decoder(SingleResult)
_refusal: Decoder[Refusal] = Decoder(Refusal)

PROBE: tuple[str, list[Number], list[Number]] = ("+", [1], [1])
"""An operation that any worker can do, sent to see whether the worker is there."""

LATE_S = 120.0
"""Time after the end of a lease in which late results are waited for."""


@dataclass(eq=False)
class Dispatcher:
    """Sends each batch on its own connection, and reports the reply to the core.

    Attributes:
        now: the moment on the core's clock.
        wake: called after each report to the core.
    """

    core: Scheduler
    pool: ConnectionPool
    now: Callable[[], float]
    wake: Callable[[], None]

    def __post_init__(self) -> None:
        self._under_way: dict[int, KeptAliveConnection] = {}
        self._late: dict[int, KeptAliveConnection] = {}

    def send(self, lease: BatchLease) -> None:
        """Hand a batch over; its reply is reported later."""
        announcement = lease.worker.announcement
        # Kept for the reply: the worker may announce another form until then.
        batched = announcement.batch_max > 1
        body = _request_body(lease, batched)
        on_reply = partial(self._replied, lease, batched)
        self._under_way[lease.number] = self.pool.send(
            announcement.address, "/compute", body, on_reply, batch_reply_bytes(lease.count)
        )

    def abandon(self, lease: BatchLease) -> None:
        """Stop waiting for the reply to a batch, and close its connection.

        If its worker fell silent, the connection stays open for `LATE_S`: late results do not
        count, but they show that the worker is there.
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
        """Abandon all batches."""
        for connection in (*self._under_way.values(), *self._late.values()):
            connection.abandon()
        self._under_way.clear()
        self._late.clear()

    def _give_up(self, number: int) -> None:
        connection = self._late.pop(number, None)
        if connection is not None:
            connection.abandon()

    def _replied(self, lease: BatchLease, batched: bool, reply: Reply | ConnectionFailed) -> None:
        self._under_way.pop(lease.number, None)
        self._late.pop(lease.number, None)
        self._take_in(lease, batched, reply)
        self.wake()

    def _take_in(self, lease: BatchLease, batched: bool, reply: Reply | ConnectionFailed) -> None:
        now = self.now()
        if isinstance(reply, ConnectionFailed):
            self.core.arithmetic.fail(now, lease.number, str(reply), failure_of(reply))
            return
        try:
            results, errors, took_s = _read_reply(lease, batched, reply.status, reply.body)
        except Malformed as error:
            reason = f"malformed reply, status {reply.status}: {error}"
            self.core.arithmetic.fail(now, lease.number, reason, Failure.MALFORMED)
            return
        if lease.may_come_late:
            self.core.arithmetic.late(now, lease)
            return
        if not lease.count:  # Any reply to the probe shows that the worker is there.
            results, errors = [], {}
        self.core.arithmetic.complete(now, lease.number, results, errors, took_s)


def _request_body(lease: BatchLease, batched: bool) -> bytes:
    symbols, operands1, operands2 = lease.columns()
    if not lease.count:
        symbols, operands1, operands2 = PROBE
    if batched:
        return encode(Batch(lease.number, symbols, operands1, operands2))
    return encode(Single(NAMES[symbols], operands1[0], operands2[0]))


def _read_reply(
    lease: BatchLease, batched: bool, status: int, reply: bytes
) -> tuple[Sequence[Number], Mapping[int, str], float | None]:
    """The results and errors of a reply, and the time that the worker reports, if it does."""
    if batched:
        if status != 200:
            raise Malformed("the reply to a batch must have status 200")
        batch = _batch_result.decode(reply)
        if batch.lease != lease.number:
            raise Malformed(f"it has lease {batch.lease} instead of {lease.number}")
        return batch.results, batch.errors, batch.took_s
    if status == 200:
        try:
            result = _single_result.decode(reply).result
        except Unrepresentable as error:
            return [0], {0: f"the result is {error}"}, None
        return [result], {}, None
    if status >= 500:
        # The operation failed, if there is an error: arithmetic would fail again.
        return [0], {0: _refusal.decode(reply).error}, None
    raise Malformed("the reply to an operation must be 200, or 5xx with an error")
