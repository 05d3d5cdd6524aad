"""The routes of workers: announce, claim, report, extend."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from math import isfinite
from typing import Annotated, Literal

import msgspec

from dte.core.errors import InvalidRequest, TooLarge
from dte.core.shares import token_of
from dte.core.workers.worker import HTTPS, Announcement, Delivery, Worker
from dte.master.access.seeds import is_seed
from dte.master.api.base import JsonHandler
from dte.master.api.openapi import documented
from dte.master.batch_results import read_batch_results
from dte.master.checks import check_name, check_range, check_secret, one_line
from dte.master.hand_over import TOO_DEEP, message_of
from dte.master.messages import (
    batch_of,
    outcome_of_report,
    policies,
    replaced,
)
from dte.master.sessions import HEADER, SESSION, checked, digest_of
from dte.master.slices import collected
from dte.wire.codec import Decoder
from dte.wire.duplicates import TWICE
from dte.wire.messages.batches import Announce, BatchResult
from dte.wire.messages.calls import (
    Claim,
    Claimed,
    Extend,
    ExtendReply,
    Progress,
    Report,
    Reports,
    ReportsReply,
)

ANNOUNCE_BYTES_MAX = 200_000
EXTEND_BYTES_MAX = 1_000_000
SLOTS_MAX = 1_000
BATCH_MAX = 100_000
LEASES_MAX = 10_000
FEW = 1_000
"""So many results are made ready at once: they do not wait behind the slices of others."""
"""Bound on the leases in one request; each takes some microseconds."""
PROGRESS_CHARS_MAX = 500


class WorkerListed(msgspec.Struct):
    """A worker that the master knows; `seed` marks one that came without a token."""

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
    failing: str | msgspec.UnsetType = msgspec.UNSET
    warning: str | msgspec.UnsetType = msgspec.UNSET
    seed: Literal[True] | msgspec.UnsetType = msgspec.UNSET


class RawReports(msgspec.Struct):
    """`Reports` with undecoded batches: the fast reader does not take their long integers."""

    worker: str
    results: list[Report] = []
    batches: list[msgspec.Raw] = []


class Registered(msgspec.Struct):
    """The reply to an announcement.

    Attributes:
        unreachable: the reason why calls to the worker fail, if they do.
        warning: that another worker has the same name, if one has.
        session: the worker's, which its further requests must show; absent if it has none.
    """

    status: str
    unreachable: str | msgspec.UnsetType = msgspec.UNSET
    warning: str | msgspec.UnsetType = msgspec.UNSET
    session: str | msgspec.UnsetType = msgspec.UNSET


SESSION_HEADER = {HEADER: Annotated[str, msgspec.Meta(pattern=f"^{SESSION.pattern}$")]}

_announce: Decoder[Announce] = Decoder(Announce, lenient=False)
_claim: Decoder[Claim] = Decoder(Claim, lenient=False)
_reports: Decoder[RawReports] = Decoder(RawReports, lenient=False)
_extend: Decoder[Extend] = Decoder(Extend, lenient=False)


class WorkerHandler(JsonHandler):
    """Base of the routes of workers."""

    @property
    def shown_session(self) -> str:
        """The session that the request shows; "" if it shows none.

        Raises:
            InvalidRequest: no master makes such a session.
        """
        return checked(self.request.headers.get(HEADER, ""))

    def with_session(self, said: Announcement, *, wants: bool) -> tuple[Announcement, str]:
        """Admit an announcement, give it its session, and return the session for the reply.

        Args:
            wants: the worker asks for one; with a token each has one.
        """
        said = self.master.admission.admit(said, self.caller.token)
        if wants or said.token or self.shown_session:
            return self.master.workers.open_session(said, self.shown_session)
        return said, ""


class Workers(WorkerHandler):
    BODY_BYTES_MAX = ANNOUNCE_BYTES_MAX

    @documented(
        "Announce a worker",
        body=Announce,
        examples={"a worker": {"worker_name": "worker-1", "port": 6000, "slots": 4}},
        headers=SESSION_HEADER,
        replies={200: Registered},
        errors=(403, 409),
        description="With a `secret` or a token, the reply has a session. The worker's further "
        "requests show it in `X-Dte-Session`, whichever way it gets work.",
    )
    async def post(self) -> None:
        try:
            announce = self.body(_announce)
        except InvalidRequest as error:
            if "worker_name" not in str(error) or TWICE in str(error):
                raise
            raise InvalidRequest("Worker name required") from None
        if not announce.worker_name:
            raise InvalidRequest("Worker name required")
        check_name("worker_name", announce.worker_name)
        check_name("incarnation", announce.incarnation)
        check_secret(announce.secret, announce.incarnation)
        check_range("port", announce.port, 1, 65_535)
        check_range("slots", announce.slots, 1, SLOTS_MAX)
        check_range("batch_max", announce.batch_max, 1, BATCH_MAX)
        check_range("handler_slots", announce.handler_slots, 0, SLOTS_MAX)
        handlers = policies(announce.handlers)
        announcement = Announcement(
            announce.worker_name,
            f"{HTTPS if announce.tls else ''}{self.request.remote_ip}:{announce.port}",
            announce.slots,
            announce.batch_max,
            announce.incarnation,
            announce.draining,
            handlers,
            (announce.handler_slots or announce.slots) if handlers else 0,
            announce.arithmetic,
            failing=one_line(announce.failing),
            replaced=replaced(announce.replaced, handlers),
            mixes=announce.kwargs,
            owner=self.owner,
            secret=announce.secret,
        )
        workers = self.master.workers
        announcement, session = self.with_session(announcement, wants=bool(announce.secret))
        begins = not self.shown_session
        unreachable = await workers.announce(announcement, begins=begins)
        warning = workers.warning_for(announcement)
        more = (each or msgspec.UNSET for each in (unreachable, warning, session))
        self.reply(Registered("Worker registered", *more))

    @documented("List the known workers", replies={200: list[WorkerListed]}, errors=(503,))
    async def get(self) -> None:
        workers = self.master.core.workers()
        names = Counter(worker.announcement.name for worker in workers)
        async with self.room_for_list(len(workers)):
            await self.reply_list(
                self._listed(worker, is_alone=names[worker.announcement.name] == 1)
                for worker in workers
            )

    def _listed(self, worker: Worker, *, is_alone: bool) -> WorkerListed:
        clock = self.master.clock
        return WorkerListed(
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
            clock.wall_time(clock.wall_s(worker.last_seen_at)),
            worker.announcement.failing or msgspec.UNSET,
            msgspec.UNSET if is_alone else self._warning(worker),
            True if is_seed(worker.announcement.owner) else msgspec.UNSET,
        )

    def _warning(self, worker: Worker) -> str | msgspec.UnsetType:
        return self.master.workers.namesake_of(worker) or msgspec.UNSET


class Claims(WorkerHandler):
    """``POST /claim``: a worker that the master cannot call waits for work."""

    BODY_BYTES_MAX = ANNOUNCE_BYTES_MAX

    @documented(
        "Claim work",
        body=Claim,
        examples={
            "a worker": {"worker": "worker-1", "handlers": ["echo"], "slots": 2, "wait": 0.1}
        },
        headers=SESSION_HEADER,
        replies={200: Claimed},
        errors=(403, 409, 503),
        description="Report results with `POST /result`; until then, keep the leases with "
        "`POST /extend`. If the worker hangs up, its leases go back to the queue.",
    )
    async def post(self) -> None:
        claim = self.body(_claim)
        if not claim.worker:
            raise InvalidRequest("worker: the name is missing")
        check_name("worker", claim.worker)
        check_name("incarnation", claim.incarnation)
        check_range("slots", claim.slots, 0, SLOTS_MAX)
        check_range("batch_max", claim.batch_max, 0, BATCH_MAX)
        wait_s = self.checked_wait_s(claim.wait)
        handlers = policies(claim.handlers)
        announcement = Announcement(
            claim.worker,
            "",
            1,
            max(1, claim.batch_max),
            claim.incarnation,
            claim.draining,
            handlers,
            claim.slots,
            claim.batch_max > 0,
            Delivery.PULL,
            failing=one_line(claim.failing),
            replaced=replaced(claim.replaced, handlers),
            mixes=claim.kwargs,
            owner=self.owner,
        )
        announcement, session = self.with_session(announcement, wants=claim.sessions)
        if claim.draining:
            await self.master.workers.stop_claiming(announcement)
            self.reply(Claimed([], []))
            return
        workers = self.master.workers
        self.when_closed(partial(workers.presence.disconnected, claim.worker, announcement.session))
        begins = not self.shown_session
        leases, batch = await workers.claim(
            announcement, claim.slots, wait_s, self.gone, begins=begins
        )
        batches = [batch_of(batch)] if batch else []
        calls = []
        for lease in leases:
            call = await message_of(lease, self.master.slices)
            if call is not None:
                calls.append(call)
            else:
                workers.end(lease, TOO_DEEP)
        self.reply(Claimed(calls, batches, session or msgspec.UNSET))


class Results(WorkerHandler):
    NAMES_DEPTH = 3  # Results are passed on as they are.

    @documented(
        "Report results",
        body=Reports,
        examples={"a result": {"worker": "worker-1", "results": [{"lease": 7, "result": 55}]}},
        headers=SESSION_HEADER,
        replies={200: ReportsReply},
        errors=(403, 503),
        description="The reply comes when the accepted results are recorded. A result whose lease "
        "has ended is stale: it changes nothing.",
    )
    async def post(self) -> None:
        reports = await self.body_in_slices(_reports)
        count = len(reports.results) + len(reports.batches)
        if count > LEASES_MAX:
            raise TooLarge(f"too many results in a request: {count} > {LEASES_MAX}")
        bytes_max = self.master.settings.value_bytes_max
        made = ((each.lease, outcome_of_report(each, bytes_max)) for each in reports.results)
        outcomes = list(made) if count <= FEW else await self.master.slices.run(collected(made))
        batches: Sequence[BatchResult] = ()
        if reports.batches:
            batches = await self.master.slices.run(read_batch_results(reports.batches))
        session = digest_of(self.shown_session, token_of(self.owner))
        progress = {each.lease: each.progress for each in reports.results if each.progress}
        if progress:
            self.master.workers.extend(reports.worker, progress, _checked(progress), session)
        accepted, stale = await self.master.workers.report(
            reports.worker, outcomes, batches, session
        )
        self.reply(ReportsReply(accepted, stale))


class Extends(WorkerHandler):
    BODY_BYTES_MAX = EXTEND_BYTES_MAX

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
        headers=SESSION_HEADER,
        replies={200: ExtendReply},
        errors=(403,),
    )
    def post(self) -> None:
        extend = self.body(_extend)
        count = len(extend.leases)
        if count > LEASES_MAX:
            raise TooLarge(f"too many leases in a request: {count} > {LEASES_MAX}")
        progress = _checked(extend.progress)
        workers = self.master.workers
        session = digest_of(self.shown_session, token_of(self.owner))
        extended, lost, stop = workers.extend(extend.worker, extend.leases, progress, session)
        self.when_closed(partial(workers.presence.disconnected, extend.worker, session))
        self.reply(ExtendReply(extended, lost, stop, self.master.settings.lease_s))


def _checked(progress: Mapping[int, Progress]) -> dict[int, tuple[float, str]]:
    """Progress by lease, with its text cut; raise `InvalidRequest` if a fraction is none."""
    checked = {}
    for number, reported in progress.items():
        fraction = reported.fraction
        if not isfinite(fraction) or not 0 <= fraction <= 1:
            raise InvalidRequest(f"progress of {number} must be from 0 to 1, not {fraction}")
        checked[number] = (fraction, reported.text[:PROGRESS_CHARS_MAX])
    return checked
