"""What workers say to the master: that they are there, what they claim, what they have done."""

from __future__ import annotations

from datetime import datetime
from math import isfinite

import msgspec

from dte.core.errors import InvalidRequest, TooLarge
from dte.core.workers.availability import Announcement, Delivery
from dte.master.api.base import JsonHandler
from dte.master.api.openapi import documented
from dte.master.messages import (
    batch_of,
    batch_result_of,
    call_of,
    check_range,
    outcome_of_report,
    policies,
)
from dte.wire.codec import Decoder
from dte.wire.messages.batches import Announce
from dte.wire.messages.calls import (
    Claim,
    Claimed,
    Extend,
    ExtendReply,
    Report,
    Reports,
    ReportsReply,
)

NAME_CHARS_MAX = 200
ANNOUNCE_BYTES_MAX = 200_000
EXTEND_BYTES_MAX = 1_000_000
SLOTS_MAX = 1_000
BATCH_MAX = 100_000
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
                    len(worker.leases),
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
        batches = [batch_of(batch)] if batch else []
        self.reply(Claimed([call_of(lease) for lease in leases], batches))


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
        outcomes = [
            (report.lease, outcome_of_report(report, bytes_max)) for report in reports.results
        ]
        batches = [batch_result_of(raw) for raw in reports.batches]
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
