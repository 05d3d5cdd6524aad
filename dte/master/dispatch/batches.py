"""Hands batches of arithmetic over to workers by HTTP, and reports the replies to the core."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from dte.core.arithmetic.lease import BatchLease
from dte.core.graph.numbers import NAMES, Number
from dte.core.scheduler import Scheduler
from dte.core.workers.worker import Failure
from dte.master.batch_results import SLICE_BYTES, read_batch_result, read_short
from dte.master.dispatch.pool import ConnectionPool, failure_of, peer_of
from dte.master.dispatch.replies import batch_reply_bytes, malformed
from dte.master.slices import Slices
from dte.wire.codec import Decoder, Malformed, Unrepresentable, encode
from dte.wire.http.client import ConnectionFailed, KeptAliveConnection, Reply
from dte.wire.messages.batches import Batch, BatchResult, Refusal, Single, SingleResult

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
        slices: does what takes long with long replies.
    """

    core: Scheduler
    pool: ConnectionPool
    now: Callable[[], float]
    wake: Callable[[], None]
    slices: Slices = field(default_factory=Slices)

    def __post_init__(self) -> None:
        self._reading: set[asyncio.Task[None]] = set()
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
            peer_of(announcement), "/compute", body, on_reply, batch_reply_bytes(lease.count)
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
        for reading in self._reading:
            reading.cancel()
        self._under_way.clear()
        self._late.clear()

    def _give_up(self, number: int) -> None:
        connection = self._late.pop(number, None)
        if connection is not None:
            connection.abandon()

    def _replied(self, lease: BatchLease, batched: bool, reply: Reply | ConnectionFailed) -> None:
        self._under_way.pop(lease.number, None)
        self._late.pop(lease.number, None)
        if isinstance(reply, ConnectionFailed):
            self._fail(lease, str(reply), failure_of(reply))
        elif batched and len(reply.body) > SLICE_BYTES:
            reading = asyncio.get_running_loop().create_task(self._read_long(lease, reply))
            self._reading.add(reading)
            reading.add_done_callback(self._reading.discard)
        else:
            try:
                self._take_in(lease, _read_reply(lease, batched, reply))
            except Malformed as error:
                self._fail_malformed(lease, reply, error)
        self.wake()

    async def _read_long(self, lease: BatchLease, reply: Reply) -> None:
        """Read a reply with long integers in slices."""
        try:
            _check_status(reply)
            batch = await self.slices.run(read_batch_result(reply.body))
            self._take_in(lease, batch)
        except Malformed as error:
            self._fail_malformed(lease, reply, error)
        self.wake()

    def _fail_malformed(self, lease: BatchLease, reply: Reply, error: Malformed) -> None:
        reason = malformed(reply.status, len(reply.body), error)
        self._fail(lease, reason, Failure.MALFORMED)

    def _fail(self, lease: BatchLease, reason: str, failure: Failure) -> None:
        self.core.arithmetic.fail(self.now(), lease.number, reason, failure)

    def _take_in(self, lease: BatchLease, batch: BatchResult) -> None:
        if batch.lease != lease.number:
            raise Malformed("it has the lease of another batch")
        now = self.now()
        if lease.may_come_late:
            self.core.arithmetic.late(now, lease)
            return
        results, errors = batch.results, batch.errors
        if not lease.count:  # Any reply to the probe shows that the worker is there.
            results, errors = [], {}
        self.core.arithmetic.complete(now, lease.number, results, errors, batch.took_s)


def _request_body(lease: BatchLease, batched: bool) -> bytes:
    symbols, operands1, operands2 = lease.columns()
    if not lease.count:
        symbols, operands1, operands2 = PROBE
    if batched:
        return encode(Batch(lease.number, symbols, operands1, operands2))
    return encode(Single(NAMES[symbols], operands1[0], operands2[0]))


def _read_reply(lease: BatchLease, batched: bool, reply: Reply) -> BatchResult:
    """The results and errors of a reply, which is short."""
    if batched:
        _check_status(reply)
        return read_short(reply.body)
    if reply.status == 200:
        try:
            result = _single_result.decode(reply.body).result
        except Unrepresentable as error:
            return BatchResult(lease.number, [0], {0: f"the result is {error}"})
        return BatchResult(lease.number, [result])
    if reply.status >= 500:
        # The operation failed, if there is an error: arithmetic would fail again.
        return BatchResult(lease.number, [0], {0: _refusal.decode(reply.body).error})
    raise Malformed("the reply to an operation must be 200, or 5xx with an error")


def _check_status(reply: Reply) -> None:
    if reply.status != 200:
        raise Malformed("the reply to a batch must have status 200")
