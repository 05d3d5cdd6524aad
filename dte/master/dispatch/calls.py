"""Hands calls over to workers by HTTP, for workers that take requests.

A worker that takes batches gets several calls in a request, replies 202, and reports results by
`POST /result`. Any other worker gets one call in a request, and may reply with the result.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any

from dte.core.calls.attempts import Outcome
from dte.core.calls.lease import CallLease
from dte.core.graph.call import CallState
from dte.core.scheduler import Scheduler
from dte.core.workers.worker import Failure
from dte.logs import LimitedLog, one_line
from dte.master.dispatch.pool import ConnectionPool, Peer, failure_of, peer_of
from dte.master.dispatch.replies import SMALL_REPLY_BYTES, malformed, value_reply_bytes
from dte.master.hand_over import TOO_DEEP, message_of
from dte.master.messages import outcome_of_result
from dte.master.slices import Slices
from dte.wire.codec import Decoder, Malformed, encode
from dte.wire.http.client import (
    ConnectionFailed,
    Reply,
    ReplyRefused,
    future_outcome,
    reply_of,
)
from dte.wire.messages.batches import Refusal
from dte.wire.messages.calls import Call, CallResult, Calls, Stop

log = logging.getLogger("dte.master")

_result: Decoder[CallResult] = Decoder(CallResult, lenient=False)
_refusal: Decoder[Refusal] = Decoder(Refusal)

BODY_BYTES = 16_000_000
"""Calls with more bytes of arguments go in several requests: workers have bounds too."""
NOT_TAKEN = (401, 404, 405, 409, 501, 503)
"""Statuses of workers that have not begun a call, and of other programs, which run none."""
ALIVE_S = 3.0
"""Time between extensions of a lease while its worker keeps the request open."""


@dataclass(eq=False)
class CallDispatcher:
    """Sends calls to workers, stops them, and reports the replies to the core.

    Attributes:
        now: the moment on the core's clock.
        wake: called after each report to the core.
        value_bytes_max: a longer result is a failure.
        slices: does what takes long with long arguments.
    """

    core: Scheduler
    pool: ConnectionPool
    now: Callable[[], float]
    wake: Callable[[], None]
    value_bytes_max: int
    slices: Slices = field(default_factory=Slices)

    def __post_init__(self) -> None:
        self._limited = LimitedLog(log)
        self._open: dict[int, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, leases: Iterable[CallLease]) -> None:
        """Hand calls over, in batches to workers that take batches."""
        together: dict[Peer, list[CallLease]] = {}
        for lease in leases:
            assert lease.worker is not None
            announcement = lease.worker.announcement
            peer = peer_of(announcement)
            if announcement.batch_max > 1:
                together.setdefault(peer, []).append(lease)
            else:
                self._open[lease.number] = self._start(self._send_one(peer, lease))
        for peer, batch in together.items():
            self._start(self._hand_over(peer, batch))

    def stop(self, leases: Iterable[CallLease]) -> None:
        """Stop calls: by a request, or, where a call is a request, by closing its connection."""
        together: dict[Peer, list[int]] = {}
        for lease in leases:
            request = self._open.pop(lease.number, None)
            if request is not None:
                request.cancel()
                self._sent([lease])
                if lease.stop:  # Nothing more can be done about it.
                    self._report(lease, Outcome(CallState.CANCELLED, None, "cancelled"))
            elif lease.worker is not None and lease.worker.announcement.address:
                together.setdefault(peer_of(lease.worker.announcement), []).append(lease.number)
        for peer, numbers in together.items():
            self._start(self._send_stops(peer, numbers))

    def close(self) -> None:
        """Abandon all requests."""
        self._limited.close()
        for task in self._tasks:
            task.cancel()

    def _start(self, sending: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(sending)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _hand_over(self, peer: Peer, leases: list[CallLease]) -> None:
        calls: list[Call] = []
        part: list[CallLease] = []
        size = 0
        for lease in leases:
            call = await self._message_of(lease)
            if call is None:
                continue
            length = memoryview(call.args).nbytes
            if part and size + length > BODY_BYTES:
                self._start(self._post(peer, part, encode(Calls(calls))))
                calls, part, size = [], [], 0
            size += length
            calls.append(call)
            part.append(lease)
        if part:
            self._start(self._post(peer, part, encode(Calls(calls))))

    async def _message_of(self, lease: CallLease) -> Call | None:
        """The message that hands a call over; None if it has ended or ends without."""
        call = None
        if self.core.calls.leases.is_on(lease):
            call = await message_of(lease, self.slices)
            if call is None:
                self._report(lease, TOO_DEEP)
            elif not self.core.calls.leases.is_on(lease):
                call = None
        if call is None:
            self._sent([lease])
        return call

    async def _post(self, peer: Peer, leases: list[CallLease], body: bytes) -> None:
        request = _Request(self.pool, peer, body)
        del body  # It is kept until it is sent, and no longer.
        try:
            status, _, reply = await self._reply_to(request, leases, holds=False)
        except ReplyRefused as error:
            if error.status == HTTPStatus.ACCEPTED:
                return
            failure, reason = failure_of(error), str(error)
        except ConnectionFailed as error:
            if error.sent:
                return  # The worker may have got them; if not, the leases end by its silence.
            failure, reason = failure_of(error), str(error)
        else:
            if status == HTTPStatus.ACCEPTED:
                return
            failure = Failure.NOT_SENT if status in NOT_TAKEN else Failure.MALFORMED
            reason = f"status {status} instead of 202, with {len(reply)} bytes"
        self._log_failure(leases[0].worker_name, reason)
        for lease in leases:
            self._fail(lease, reason, failure)

    async def _send_one(self, peer: Peer, lease: CallLease) -> None:
        message = await self._message_of(lease)
        if message is None:
            self._open.pop(lease.number, None)
            return
        most = value_reply_bytes(self.value_bytes_max)
        request = _Request(self.pool, peer, encode(message), most)
        del message
        try:
            status, _, reply = await self._reply_to(request, [lease], holds=True)
        except ReplyRefused as error:
            self._refused(lease, error)
        except ConnectionFailed as error:
            self._log_failure(lease.worker_name, str(error))
            self._fail(lease, str(error), failure_of(error))
        except asyncio.CancelledError:
            return  # The call is to be stopped.
        else:
            if status != HTTPStatus.ACCEPTED:
                self._take_in(lease, status, reply)
        finally:
            self._open.pop(lease.number, None)

    async def _reply_to(self, request: _Request, leases: list[CallLease], *, holds: bool) -> Reply:
        """The reply to a request, which is given up if the leases end before it is sent.

        Args:
            holds: an open request renews its leases, unless its worker has stopped receiving it.
        """
        is_long = any(lease.unsent for lease in leases)
        if is_long:
            request.connection.when_sent(partial(self._sent, leases))
        try:
            if not (is_long or holds):
                return reply_of(await request.reply)
            left = request.connection.unsent
            while True:
                await asyncio.wait((request.reply,), timeout=ALIVE_S)
                if request.reply.done():
                    return reply_of(request.reply.result())
                left, before = request.connection.unsent, left
                if left and not any(map(self.core.calls.leases.is_on, leases)):
                    raise ConnectionFailed("the leases ended before the request was sent")
                if holds and (not left or left < before):
                    self.core.calls.extend(self.now(), [lease.number for lease in leases], {})
        finally:
            if not request.reply.done():
                request.connection.abandon()
            self._sent(leases)

    def _sent(self, leases: Iterable[CallLease]) -> None:
        """Make room for other calls."""
        counted = [lease for lease in leases if lease.unsent]
        for lease in counted:
            self.core.calls.leases.outgoing.sent(lease)
        if counted:
            self.wake()

    def _refused(self, lease: CallLease, error: ReplyRefused) -> None:
        """A reply exceeds a bound."""
        if error.status == HTTPStatus.OK and error.is_long:  # The result would be as long again.
            text = f"its result has more than {self.value_bytes_max} bytes (value_bytes_max)"
            self._report(lease, Outcome(CallState.FAILED, None, text, retry=False))
        elif error.status != HTTPStatus.ACCEPTED:
            self._log_failure(lease.worker_name, str(error))
            self._fail(lease, str(error), failure_of(error))

    def _take_in(self, lease: CallLease, status: int, reply: bytes) -> None:
        try:
            if status == HTTPStatus.OK:
                result = bytes(_result.decode(reply).result)
                outcome = outcome_of_result(result, self.value_bytes_max)
            else:
                error = _refusal.decode(reply).error
                outcome = Outcome(CallState.FAILED, None, error, retry=status >= 500)
        except Malformed as error:
            failure = Failure.NOT_SENT if status == 503 else Failure.MALFORMED
            reason = malformed(status, len(reply), error)
            self._log_failure(lease.worker_name, reason)
            self._fail(lease, reason, failure)
        else:
            self._report(lease, outcome)

    def _report(self, lease: CallLease, outcome: Outcome) -> None:
        self.core.calls.report(self.now(), lease.number, outcome)
        self.wake()

    def _fail(self, lease: CallLease, reason: str, failure: Failure) -> None:
        self.core.fail_call(self.now(), lease, reason, failure)
        self.wake()

    def _log_failure(self, worker: str, reason: str) -> None:
        name, reason = one_line(worker), one_line(reason)
        text = "worker %s did not take what it was sent: %s"
        self._limited.add("failed hand-overs", logging.WARNING, text, name, reason, worker=name)

    async def _send_stops(self, peer: Peer, numbers: list[int]) -> None:
        try:
            await self.pool.post(peer, "/stop", encode(Stop(numbers)))
        except ConnectionFailed:
            return  # The reply to its next sign of life has the stops.


class _Request:
    """A request with calls to a worker. The body is kept until it is sent, and no longer.

    Attributes:
        connection: the connection that it is sent on.
        reply: the reply, or the reason why none came.
    """

    def __init__(
        self, pool: ConnectionPool, peer: Peer, body: bytes, most: int = SMALL_REPLY_BYTES
    ) -> None:
        self.reply, on_reply = future_outcome()
        self.connection = pool.send(peer, "/compute", body, on_reply, most)
