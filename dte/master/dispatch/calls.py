"""Hands calls over to workers that are called, by HTTP.

A worker that takes batches gets several calls in a request, answers at once, and reports later by
`POST /result`. Any other gets one call a request, and may answer it with the result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol

import msgspec

from dte.core.calls.attempts import Outcome
from dte.core.calls.lease import CallLease
from dte.core.graph import call as core
from dte.core.graph.call import CallState, filled
from dte.core.workers.worker import Failure
from dte.master.dispatch.pool import ConnectionPool
from dte.wire.codec import Decoder, Malformed, encode
from dte.wire.http.client import ConnectionFailed
from dte.wire.messages.batches import Refusal
from dte.wire.messages.calls import Call, CallResult, Calls, Stop

_result: Decoder[CallResult] = Decoder(CallResult, lenient=False)
_refusal: Decoder[Refusal] = Decoder(Refusal)
_any: Decoder[Any] = Decoder(Any)

BODY_BYTES = 16_000_000
"""Calls whose arguments together are longer go in several requests: workers have bounds too."""
ALIVE_S = 3.0
"""How often a lease is extended while its worker keeps the request open."""


class CallOutcomes(Protocol):
    """Who hears what came of the lease of a call."""

    def reported(self, number: int, outcome: Outcome) -> None:
        """The worker answered with what became of it."""

    def at_work(self, number: int) -> None:
        """The worker keeps the request open."""

    def call_failed(self, lease: CallLease, reason: str, failure: Failure) -> None:
        """It came to nothing."""


class CallDispatcher:
    """Sends calls to workers, and what is to be stopped.

    Args:
        value_bytes_max: a longer result is a failure.
    """

    def __init__(self, outcomes: CallOutcomes, pool: ConnectionPool, value_bytes_max: int) -> None:
        self._outcomes = outcomes
        self._pool = pool
        self._value_bytes_max = value_bytes_max
        self._held: dict[int, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def send(self, leases: Iterable[CallLease]) -> None:
        """Hand calls over, those of a worker together if it takes batches."""
        together: dict[str, list[CallLease]] = {}
        for lease in leases:
            assert lease.worker is not None
            announcement = lease.worker.announcement
            if announcement.batch_max > 1:
                together.setdefault(announcement.address, []).append(lease)
            else:
                self._held[lease.number] = self._start(self._hold(announcement.address, lease))
        for address, batch in together.items():
            self._start(self._hand_over(address, batch))

    def stop(self, leases: Iterable[CallLease]) -> None:
        """Tell workers to stop calls; one that answers in its own time is hung up on."""
        together: dict[str, list[int]] = {}
        for lease in leases:
            held = self._held.pop(lease.number, None)
            if held is not None:
                held.cancel()
                if lease.stop:  # It was hung up on, which is all that can be done.
                    outcome = Outcome(CallState.CANCELLED, None, "cancelled")
                    self._outcomes.reported(lease.number, outcome)
            elif lease.worker is not None and lease.worker.announcement.address:
                together.setdefault(lease.worker.announcement.address, []).append(lease.number)
        for address, numbers in together.items():
            self._start(self._tell(address, numbers))

    def close(self) -> None:
        """Give up everything that is under way."""
        for task in self._tasks:
            task.cancel()

    def _start(self, sending: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(sending)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _hand_over(self, address: str, leases: list[CallLease]) -> None:
        calls: list[Call] = []
        part: list[CallLease] = []
        size = 0
        for lease in leases:
            call = call_of(lease)
            if part and size + len(bytes(call.args)) > BODY_BYTES:
                self._start(self._post(address, part, encode(Calls(calls))))
                calls, part, size = [], [], 0
            size += len(bytes(call.args))
            calls.append(call)
            part.append(lease)
        await self._post(address, part, encode(Calls(calls)))

    async def _post(self, address: str, leases: list[CallLease], body: bytes) -> None:
        try:
            status, reply = await self._pool.post(address, "/compute", body)
        except ConnectionFailed as error:
            if error.sent:
                return  # It may have got them: if not, the leases end by its silence.
            failure = Failure.REFUSED if error.refused else Failure.NOT_SENT
            reason = str(error)
        else:
            if status == 202:
                return
            failure = Failure.NOT_SENT if status == 503 else Failure.MALFORMED
            reason = f"status {status} instead of 202: {reply[:200].decode(errors='replace')}"
        for lease in leases:
            self._outcomes.call_failed(lease, reason, failure)

    async def _hold(self, address: str, lease: CallLease) -> None:
        request = asyncio.ensure_future(
            self._pool.post(address, "/compute", encode(call_of(lease)))
        )
        try:
            while True:
                done, _ = await asyncio.wait((request,), timeout=ALIVE_S)
                if done:
                    break
                self._outcomes.at_work(lease.number)
            status, reply = request.result()
        except ConnectionFailed as error:
            failure = Failure.BROKEN if error.sent else Failure.NOT_SENT
            if error.refused:
                failure = Failure.REFUSED
            self._outcomes.call_failed(lease, str(error), failure)
        except asyncio.CancelledError:
            request.cancel()
        else:
            if status != 202:
                self._answered(lease, status, reply)
        finally:
            self._held.pop(lease.number, None)

    def _answered(self, lease: CallLease, status: int, reply: bytes) -> None:
        try:
            if status == 200:
                outcome = outcome_of(bytes(_result.decode(reply).result), self._value_bytes_max)
            else:
                error = _refusal.decode(reply).error
                outcome = Outcome(CallState.FAILED, None, error, retry=status >= 500)
        except Malformed as error:
            failure = Failure.NOT_SENT if status == 503 else Failure.MALFORMED
            reason = f"garbled reply, status {status}: {error}"
            self._outcomes.call_failed(lease, reason, failure)
        else:
            self._outcomes.reported(lease.number, outcome)

    async def _tell(self, address: str, numbers: list[int]) -> None:
        try:
            await self._pool.post(address, "/stop", encode(Stop(numbers)))
        except ConnectionFailed:
            return  # It hears of it with its next sign of life.


def call_of(lease: CallLease) -> Call:
    """A lease as a worker gets it."""
    call = lease.call
    args = call.args
    if call.operands:
        args = filled(args, {name: msgspec.Raw(value) for name, value in call.operands.items()})
    if not isinstance(args, msgspec.Raw):
        args = msgspec.Raw(encode(args))
    return Call(
        lease.number,
        call.job,
        call.name,
        call.handler,
        args,
        lease.timeout_s,
        call.record.attempts,
        lease.lease_s,
    )


def arguments(call: core.Call) -> Any:
    """The arguments of a call, with the results that they refer to; None if they cannot be read."""
    args = call.args
    if isinstance(args, msgspec.Raw):
        raw = bytes(args)
    else:
        values = {name: msgspec.Raw(value) for name, value in call.operands.items()}
        raw = encode(filled(args, dict.fromkeys(call.refs, msgspec.Raw(b"null")) | values))
    try:
        return _any.decode(raw)
    except Malformed:
        return None


def outcome_of(result: bytes, bytes_max: int) -> Outcome:
    """What a worker's result makes of a call: a success, unless nobody else could take it."""
    if len(result) > bytes_max:
        error = f"its result has {len(result)} bytes, more than {bytes_max} (value_bytes_max)"
        return Outcome(CallState.FAILED, None, error, retry=False)
    try:
        result.decode()
    except UnicodeDecodeError:
        return Outcome(CallState.FAILED, None, "its result is not in UTF-8", retry=False)
    return Outcome(CallState.SUCCEEDED, result)
