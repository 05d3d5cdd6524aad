"""Workers that poll: they ask for one call after another, and report by the job's id.

Such a worker runs one call at a time, never names a lease, and cannot be told to stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar
from weakref import WeakValueDictionary

from dte.core.calls.attempts import Outcome
from dte.core.calls.lease import CallLease
from dte.core.errors import InvalidRequest, TooLarge
from dte.core.graph.call import Call, CallState
from dte.core.graph.handlers import NAME_CHARS_MAX, HandlerPolicy
from dte.core.jobs.job import Job
from dte.core.shares import OWN_USER
from dte.core.workers.worker import Announcement, Delivery, Worker
from dte.master.access.caller import Caller
from dte.master.api.dialects.long_bodies import LONG_BYTES
from dte.master.api.dialects.tasks import TASK, only_call
from dte.master.api.job_handler import JobHandler
from dte.master.master import Master
from dte.master.plans import Plan

P = TypeVar("P", bound="Pollers")


def poller(
    name: str,
    dialect: str,
    handlers: Mapping[str, HandlerPolicy],
    lease_s: float,
    dead_after_s: float,
    owner: str = OWN_USER,
) -> Announcement:
    """The announcement that a worker would make if it announced itself.

    Raises:
        InvalidRequest: the name is empty, too long, or cannot be printed.
    """
    if not name or len(name) > NAME_CHARS_MAX or not name.isprintable():
        raise InvalidRequest(
            f"a worker's id of 1 to {NAME_CHARS_MAX} printable characters is expected"
        )
    return Announcement(
        name,
        "",
        handlers=handlers,
        handler_slots=1,
        arithmetic=False,
        delivery=Delivery.PULL,
        can_stop=False,
        lease_s=lease_s,
        dead_after_s=dead_after_s,
        dialect=dialect,
        owner=owner,
    )


def polls(worker: Worker) -> bool:
    """True if a worker polls, in any dialect."""
    return worker.announcement.delivery is Delivery.PULL and not worker.announcement.can_stop


class Pollers:
    """The polling workers of one dialect, by their ids.

    Args:
        dialect: its name.
        handlers: the handlers that every worker of the dialect has.
        lease_s: a call goes to another worker after this silence.
        dead_after_s: a worker is gone after this silence.
    """

    def __init__(
        self,
        master: Master,
        dialect: str,
        handlers: Mapping[str, HandlerPolicy],
        lease_s: float,
        dead_after_s: float,
    ) -> None:
        self._master = master
        self._dialect = dialect
        self._handlers = handlers
        self._lease_s = lease_s
        self._dead_after_s = dead_after_s
        self._polls: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def announcement(self, worker_id: str, owner: str = OWN_USER) -> Announcement:
        """The announcement of a worker of the dialect."""
        times = (self._lease_s, self._dead_after_s)
        said = poller(worker_id, self._dialect, self._handlers, *times, owner)
        return self._master.admission.admit(said)

    def beat(self, worker_id: str, owner: str, info: Mapping[str, object] | None = None) -> Worker:
        """Note a sign of life, which also keeps the worker's lease.

        Args:
            owner: whose worker it is.
            info: what the worker says of itself; None if it says nothing.

        Raises:
            Busy: too many workers are known.
        """
        now = self._master.clock.now()
        worker = self._master.core.announce(now, self.announcement(worker_id, owner))
        self._master.workers.log_joined(worker, now)
        self._master.workers.seen(worker, info)
        self._master.wake()
        return worker

    async def submit(self, plan: Plan, caller: Caller) -> Job:
        """Accept the plan of a task; errors do not mention its node."""
        try:
            return await self._master.jobs.submit_plan(plan, caller=caller)
        except (InvalidRequest, TooLarge) as error:
            raise type(error)(str(error).removeprefix(f"node {TASK!r}: ")) from None

    async def poll(
        self, worker_id: str, owner: str, gone: asyncio.Future[None]
    ) -> CallLease | None:
        """Give a worker a call, if one is ready.

        The worker has forgotten an earlier call: it would not ask otherwise.

        Args:
            owner: whose worker it is.
            gone: done when the worker has hung up.

        Raises:
            Busy: too many workers are known.
        """
        announcement = self.announcement(worker_id, owner)
        # Workers may share a name. A second poll would end the first if they overlapped.
        lock = self._polls.setdefault(announcement.identity, asyncio.Lock())
        async with lock:
            worker = self._master.core.worker(announcement.identity)
            if worker is not None:
                self._master.core.calls.asks_again(worker)
            leases, _ = await self._master.workers.claim(announcement, 1, 0.0, gone)
        return leases[0] if leases else None

    def lease(self, job: Job, worker_id: str, owner: str) -> CallLease | None:
        """A worker's lease of a call of a job, the newest if it has several; a sign of life."""
        leases = self._master.core.calls.leases.sent_to(self.beat(worker_id, owner))
        return max(
            (lease for lease in leases if lease.call.job == job.number),
            key=lambda lease: lease.number,
            default=None,
        )

    def holder(self, job: Job) -> str | None:
        """The id of the worker that has a task, or had it last.

        Returns:
            "" if no worker has had the job, or it is not a task; None if the worker is of another
            dialect.
        """
        call = only_call(job)
        if call is None or not call.record.worker:
            return ""
        return call.record.worker if call.record.is_of(self._dialect) else None

    async def settle(self, job: Job, worker_id: str, owner: str, outcome: Outcome) -> bool:
        """Take in a worker's report on a job, and return when it is recorded.

        Returns:
            Whether the report counts: the worker has a call of the job, or had one that no other
            worker has now.

        Raises:
            Unavailable: the journal cannot be written, or has not been read as far as this job.
        """
        lease = self.lease(job, worker_id, owner)
        call = lease.call if lease is not None else self._call_of(job, worker_id)
        return await self._master.workers.settle(job, worker_id, self._dialect, outcome, call)

    def _call_of(self, job: Job, worker_id: str) -> Call | None:
        """The call of a job that a worker had last, and no worker has now."""
        for call in job.each_call():
            record = call.record
            waits = call.state in (CallState.READY, CallState.PAUSED)
            if waits and record.worker == worker_id and record.is_of(self._dialect):
                return call
        return None


class PollerHandler(JobHandler):
    """Base of the routes of a dialect whose workers poll."""

    NAMES_DEPTH = 0
    IS_STRICT = False

    @property
    def is_long(self) -> bool:
        """True if the request's body is not decoded as a whole."""
        return self.body_size > LONG_BYTES

    def shared(self, dialect: str, make: Callable[[], P]) -> P:
        """The pollers of a dialect, made for its first request and kept for the application."""
        if dialect not in self.settings:
            self.settings[dialect] = make()
        pollers: P = self.settings[dialect]
        return pollers

    def local_time(self, wall_s: float | None) -> str | None:
        """Seconds since 1970 as local time in ISO 8601, without its zone."""
        wall_time = self.master.clock.wall_time(wall_s)
        if wall_time is None:
            return None
        return wall_time.astimezone().replace(tzinfo=None).isoformat()
