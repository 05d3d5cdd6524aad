"""What workers say to the master: that they are there, what they claim, what they have done."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from math import isfinite

import msgspec

from dte.core.arithmetic.lease import BatchLease
from dte.core.calls.attempts import Outcome
from dte.core.errors import InvalidRequest, TooLarge
from dte.core.graph.call import CallState
from dte.core.graph.handlers import HandlerPolicy, check_handler
from dte.core.workers.worker import Announcement, Delivery
from dte.master.api.base import JsonHandler
from dte.master.api.openapi import documented
from dte.master.dispatch.calls import call_of, outcome_of
from dte.master.workers import BatchResults
from dte.wire.codec import Decoder, Malformed
from dte.wire.messages.batches import Announce, Batch, BatchResult
from dte.wire.messages.calls import (
    Claim,
    Claimed,
    Extend,
    ExtendReply,
    Report,
    Reports,
    ReportsReply,
)
from dte.wire.messages.handlers import Handlers

NAME_CHARS_MAX = 200
ANNOUNCE_BYTES_MAX = 200_000
EXTEND_BYTES_MAX = 1_000_000
SLOTS_MAX = 1_000
BATCH_MAX = 100_000
HANDLERS_MAX = 1_000
LEASES_MAX = 10_000
"""Most leases in one request of a worker: each takes some microseconds."""
PROGRESS_CHARS_MAX = 500


class WorkerListed(msgspec.Struct):
    """A worker among the known ones."""

    worker_name: str
    address: str
    state: str
    slots: int
    handlers: list[str]
    handler_slots: int
    leases: int
    calls: int
    batch: int
    operations_done: int
    calls_done: int
    failures: int
    last_failure: str | None
    heard_at: datetime | None


class ReportsAsSaid(msgspec.Struct):
    """As `Reports`, with batches unread: their integers may be too long for the fast reader."""

    worker: str
    results: list[Report] = []
    batches: list[msgspec.Raw] = []


class Registered(msgspec.Struct):
    """The reply to a worker that has announced itself."""

    status: str


_announce: Decoder[Announce] = Decoder(Announce, lenient=False)
_claim: Decoder[Claim] = Decoder(Claim, lenient=False)
_reports: Decoder[ReportsAsSaid] = Decoder(ReportsAsSaid, lenient=False)
_batch_result: Decoder[BatchResult] = Decoder(BatchResult)
_extend: Decoder[Extend] = Decoder(Extend, lenient=False)


class Workers(JsonHandler):
    """``POST /worker``: a worker announces itself. ``GET /worker``: the known ones."""

    def body_bytes_max(self) -> int:
        return min(ANNOUNCE_BYTES_MAX, super().body_bytes_max())

    @documented(
        "Announce a worker",
        body=Announce,
        examples={"a worker": {"worker_name": "worker-1", "port": 6000, "slots": 4}},
        replies={200: Registered},
    )
    async def post(self) -> None:
        try:
            announce = self.body(_announce)
        except InvalidRequest as error:
            raise InvalidRequest(
                "Worker name required" if "worker_name" in str(error) else str(error)
            ) from None
        if not announce.worker_name:
            raise InvalidRequest("Worker name required")
        check_name("worker_name", announce.worker_name)
        check_name("incarnation", announce.incarnation)
        for field, value, most in (
            ("port", announce.port, 65_535),
            ("slots", announce.slots, SLOTS_MAX),
            ("batch_max", announce.batch_max, BATCH_MAX),
        ):
            check_range(field, value, 1, most)
        check_range("handler_slots", announce.handler_slots, 0, SLOTS_MAX)
        handlers = policies(announce.handlers)
        await self.master.announce(
            Announcement(
                announce.worker_name,
                f"{self.request.remote_ip}:{announce.port}",
                announce.slots,
                announce.batch_max,
                announce.incarnation,
                announce.draining,
                handlers,
                (announce.handler_slots or announce.slots) if handlers else 0,
                announce.arithmetic,
            )
        )
        self.reply(Registered("Worker registered"))

    @documented("The known workers", replies={200: list[WorkerListed]})
    def get(self) -> None:
        self.reply(
            [
                WorkerListed(
                    worker.announcement.name,
                    worker.announcement.address,
                    worker.state,
                    worker.announcement.slots,
                    sorted(worker.announcement.handlers),
                    worker.announcement.handler_slots,
                    len(worker.batch_leases),
                    len(worker.call_leases),
                    worker.batch,
                    worker.operations_done,
                    worker.calls_done,
                    worker.failures,
                    worker.last_failure,
                    self.master.wall_time(worker.last_seen_at),
                )
                for worker in self.master.core.workers()
            ]
        )


class Claims(JsonHandler):
    """``POST /claim``: a worker that cannot be called asks for work, and waits for it."""

    def body_bytes_max(self) -> int:
        return min(ANNOUNCE_BYTES_MAX, super().body_bytes_max())

    @documented(
        "Claim work",
        body=Claim,
        examples={
            "a worker": {"worker": "worker-1", "handlers": ["echo"], "slots": 2, "wait": 0.1}
        },
        replies={200: Claimed},
        errors=(409, 503),
        description="Results are given back by `POST /result`; until then `POST /extend` keeps the "
        "leases. A claim that is hung up on gives back what it got.",
    )
    async def post(self) -> None:
        claim = self.body(_claim)
        if not claim.worker:
            raise InvalidRequest("worker: a name is expected")
        check_name("worker", claim.worker)
        check_name("incarnation", claim.incarnation)
        check_range("slots", claim.slots, 0, SLOTS_MAX)
        check_range("batch_max", claim.batch_max, 0, BATCH_MAX)
        wait_s = self.checked_wait_s(claim.wait)
        said = Announcement(
            claim.worker,
            "",
            1,
            max(1, claim.batch_max),
            claim.incarnation,
            claim.draining,
            policies(claim.handlers),
            claim.slots,
            claim.batch_max > 0,
            Delivery.PULL,
        )
        if claim.draining:
            await self.master.calls.leave_claiming(said)
            self.reply(Claimed([], []))
            return
        leases, batch = await self.master.calls.claim(said, claim.slots, wait_s, self.gone)
        self.reply(Claimed([call_of(lease) for lease in leases], [_batch(batch)] if batch else []))


class Results(JsonHandler):
    """``POST /result``: what became of calls and batches."""

    @documented(
        "Report results",
        body=Reports,
        examples={"a result": {"worker": "worker-1", "results": [{"lease": 7, "result": 55}]}},
        replies={200: ReportsReply},
        errors=(503,),
        description="Answered when what counts is recorded. A result under a lease that has ended "
        "is stale and changes nothing.",
    )
    async def post(self) -> None:
        reports = await self.body_in_slices(_reports)
        count = len(reports.results) + len(reports.batches)
        if count > LEASES_MAX:
            raise TooLarge(f"{count} results in a request; up to {LEASES_MAX} are taken")
        bytes_max = self.master.settings.value_bytes_max
        outcomes = [(report.lease, outcome(report, bytes_max)) for report in reports.results]
        batches = [batch_results(raw) for raw in reports.batches]
        accepted, stale = await self.master.calls.report(reports.worker, outcomes, batches)
        self.reply(ReportsReply(accepted, stale))


class Extends(JsonHandler):
    """``POST /extend``: a worker is at work on its leases."""

    def body_bytes_max(self) -> int:
        return min(EXTEND_BYTES_MAX, super().body_bytes_max())

    @documented(
        "Keep leases",
        body=Extend,
        examples={
            "two": {
                "worker": "worker-1",
                "leases": [7, 8],
                "progress": {"7": {"fraction": 0.4, "text": "resizing"}},
            }
        },
        replies={200: ExtendReply},
    )
    def post(self) -> None:
        extend = self.body(_extend)
        if len(extend.leases) > LEASES_MAX:
            raise TooLarge(
                f"{len(extend.leases)} leases in a request; up to {LEASES_MAX} are taken"
            )
        progress = {}
        for number, said in extend.progress.items():
            if not isfinite(said.fraction) or not 0 <= said.fraction <= 1:
                raise InvalidRequest(f"progress of {number} is {said.fraction}; 0 to 1 is expected")
            progress[number] = (said.fraction, said.text[:PROGRESS_CHARS_MAX])
        extended, lost, stop = self.master.calls.extend(extend.worker, extend.leases, progress)
        self.reply(ExtendReply(extended, lost, stop, self.master.settings.lease_s))


def check_name(field: str, text: str) -> None:
    """Check a name that a worker gives itself.

    Raises:
        InvalidRequest: it is too long, or cannot be shown.
    """
    if len(text) > NAME_CHARS_MAX:
        raise InvalidRequest(f"{field} has more than {NAME_CHARS_MAX} characters")
    if not text.isprintable():
        raise InvalidRequest(f"{field} has characters that cannot be printed")


def check_range(field: str, value: int, least: int, most: int) -> None:
    """Check a number that a worker says of itself.

    Raises:
        InvalidRequest: it is out of range.
    """
    if not least <= value <= most:
        raise InvalidRequest(f"{field} is {value}; {least} to {most} is expected")


def policies(handlers: Handlers) -> Mapping[str, HandlerPolicy]:
    """What a worker says of its handlers, as the core knows it.

    Raises:
        InvalidRequest: a name is none, or a number is out of range.
    """
    if len(handlers) > HANDLERS_MAX:
        raise InvalidRequest(f"handlers: {len(handlers)}; up to {HANDLERS_MAX} are taken")
    for name in handlers:
        check_handler(name, "handlers: ")
    if isinstance(handlers, list):
        return dict.fromkeys(handlers, HandlerPolicy())
    known = {}
    for name, info in handlers.items():
        if info.timeout is not None and not (isfinite(info.timeout) and info.timeout > 0):
            raise InvalidRequest(f"handlers: timeout of {name} is {info.timeout}")
        check_range(f"handlers: retries of {name}", info.retries, 0, 1_000)
        known[name] = HandlerPolicy(info.timeout, info.retries, info.pure)
    return known


def outcome(report: Report, bytes_max: int) -> Outcome:
    """What a report says became of a call."""
    if report.state == "lost":
        return Outcome(None, None, report.error, lost=True)
    if report.state == "returned":
        return Outcome(None, None, report.error, begun=report.begun)
    succeeded = report.error is None and report.state in (None, "succeeded")
    if report.result is not msgspec.UNSET and succeeded:
        return outcome_of(bytes(report.result), bytes_max)
    if report.error is None and report.state is None:
        raise InvalidRequest(f"lease {report.lease}: a result, an error or a state is expected")
    state = CallState(report.state or "failed")
    if state is CallState.SUCCEEDED:
        raise InvalidRequest(f"lease {report.lease} succeeded, and has no result")
    return Outcome(state, None, report.error or state.value, report.retry)


def batch_results(raw: msgspec.Raw) -> BatchResults:
    """What a report says came of a batch."""
    try:
        batch = _batch_result.decode(bytes(raw))
    except Malformed as error:
        raise InvalidRequest(f"batches: {error}") from None
    return BatchResults(batch.lease, batch.results, batch.errors)


def _batch(lease: BatchLease) -> Batch:
    return Batch(lease.number, *lease.columns())
