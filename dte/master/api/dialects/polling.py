"""Workers that poll: they ask again and again for one call, and name its job when they give back.

What the dialects share that have such workers. One of these does one call after the other, never
says which lease it has, and cannot be told to stop.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Generator, Mapping
from itertools import islice
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from dte.core.calls.attempts import Outcome
from dte.core.calls.lease import CallLease
from dte.core.errors import InvalidRequest, TooLarge
from dte.core.graph.call import Call, CallState
from dte.core.graph.handlers import HandlerPolicy
from dte.core.jobs.job import Job, JobState
from dte.core.jobs.table import JobTable
from dte.core.workers.worker import PULLS, Announcement, Delivery, Worker
from dte.master.master import Master
from dte.master.plans import READ_MARKS, Plan
from dte.wire.codec import Decoder, Malformed, encode

TASK = "task"
"""The name of the one node of a job that such a dialect submits."""
NAME_CHARS_MAX = 200
COUNTED_IN_SLICE = 2_000
NOT_BEGUN = (CallState.WAITING, CallState.PAUSED, CallState.READY)
MARGIN = 600
"""Arguments that cannot be read so many levels deeper nest too deep: in a plan they do so."""

_raw: Decoder[msgspec.Raw] = Decoder(msgspec.Raw, lenient=False)


def poller(
    name: str, handlers: Mapping[str, HandlerPolicy], lease_s: float, dead_after_s: float
) -> Announcement:
    """What a worker that polls would say of itself.

    Args:
        lease_s: how long a call is its own without a sign of life.
        dead_after_s: after which silence it is gone.

    Raises:
        InvalidRequest: the name cannot be shown, or is too long.
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
    )


def polls(worker: Worker) -> bool:
    """Whether a worker is one of these."""
    return worker.announcement.delivery is Delivery.PULL and not worker.announcement.can_stop


class Polling:
    """What workers that poll ask of a master.

    Args:
        handlers: what every worker of the dialect can call, and none of another has all of.
    """

    def __init__(self, master: Master, handlers: Mapping[str, HandlerPolicy]) -> None:
        self._master = master
        self._handlers = handlers.keys()
        self._polls: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def beat(self, announcement: Announcement) -> Worker:
        """A worker is there, and at work on what it has.

        Raises:
            Busy: too many workers are known.
        """
        worker = self._master.core.announce(self._master.now(), announcement)
        self._master.calls.heard(worker)
        self._master.wake()
        return worker

    async def submit(self, plan: Plan) -> Job:
        """Accept a plan of one node, see `CallDesk.submit`; errors do not speak of nodes."""
        try:
            return await self._master.calls.submit(plan)
        except (InvalidRequest, TooLarge) as error:
            raise type(error)(str(error).removeprefix(f"node {TASK!r}: ")) from None

    async def poll(
        self, announcement: Announcement, gone: asyncio.Future[None]
    ) -> CallLease | None:
        """A call for a worker, if there is one for it now.

        What it had before it has forgotten: it would not ask otherwise.

        Args:
            gone: done when the worker has hung up.

        Raises:
            Busy: too many workers are known.
        """
        # Workers may share a name. Of two polls at a time the second would end the first.
        lock = self._polls.setdefault(announcement.identity, asyncio.Lock())
        async with lock:
            worker = self._master.core.worker(announcement.identity)
            if worker is not None:
                self._master.core.calls.asks_again(worker)
            leases, _ = await self._master.calls.claim(announcement, 1, 0.0, gone)
        return leases[0] if leases else None

    def held(self, job: Job, announcement: Announcement) -> CallLease | None:
        """The lease under which a worker has a call of a job, the last if there are several."""
        leases = self._master.core.calls.leases.sent_to(self.beat(announcement))
        return max(
            (lease for lease in leases if lease.call.job == job.number),
            key=lambda lease: lease.number,
            default=None,
        )

    def unnamed(self, job: Job) -> str:
        """Who gives back a job without its own name: who has it, or had it last.

        Returns:
            The worker's name; empty if nobody of this dialect has it, or had it last.
        """
        call = only_call(job)
        if call is None:
            return ""
        core, name = self._master.core, call.record.worker
        lease = core.calls.leases.get(call.record.lease)
        worker = lease.worker if lease is not None else None
        worker = worker or core.worker(f"{PULLS}{name}")
        if (
            worker is None
            or not polls(worker)
            or not self._handlers <= worker.announcement.handlers.keys()
        ):
            return ""
        return name

    async def settle(self, job: Job, announcement: Announcement, outcome: Outcome) -> bool:
        """Take in what a worker says of a job of which it had a call.

        Returns:
            Whether it counts: the worker has the call, or had it and nobody else has.

        Raises:
            Unavailable: the journal cannot be written.
        """
        master, lease = self._master, self.held(job, announcement)
        if lease is not None:
            fact = master.core.calls.report(master.now(), lease.number, outcome)
        else:
            call = _had(job, announcement.name)
            if call is None:
                master.core.calls.stale_results += 1
                return False
            fact = master.core.calls.report_unleased(master.now(), call, announcement.name, outcome)
        if isinstance(fact, bool):
            return False
        await master.calls.until_recorded([fact] if fact is not None else [])
        return True


def _had(job: Job, worker: str) -> Call | None:
    """The call of a job that a worker had last, and nobody has now."""
    had = (
        call
        for call in job.each_call()
        if call.record.worker == worker and call.state in (CallState.READY, CallState.PAUSED)
    )
    return next(had, None)


def succeeded(value: Any, bytes_max: int) -> Outcome:
    """The outcome that a result stands for; one that is too long is a failure.

    Args:
        value: made of what JSON has.
        bytes_max: most bytes of its JSON.
    """
    text = encode(value)
    return Outcome(CallState.SUCCEEDED, text) if len(text) <= bytes_max else too_long(bytes_max)


def too_long(bytes_max: int) -> Outcome:
    """The outcome of a call whose result is too long."""
    error = f"its result has more than {bytes_max} bytes (value_bytes_max)"
    return Outcome(CallState.FAILED, None, error, retry=False)


def quoted(value: Any) -> msgspec.Raw:
    """Arguments such that nothing in them is taken for a reference to another node.

    Raises:
        InvalidRequest: they nest too deep.
    """
    try:
        raw = encode(value)
        _raw.decode(MARGIN * b"[" + raw + MARGIN * b"]")
    except (Malformed, RecursionError):
        raise InvalidRequest("the arguments nest too deep") from None
    if READ_MARKS.search(raw):
        raw = b'{"literal":' + raw + b"}"
    return msgspec.Raw(raw)


def only_call(job: Job) -> Call | None:
    """The call of a job that is just one; None if there are others, or arithmetic, or no more."""
    if job.calls is None or job.calls.is_formula or len(job.calls.calls) != 1:
        return None
    return next(iter(job.calls.calls.values()))


def standing(job: Job) -> JobState:
    """How a job stands for who knows no graphs: a call that goes back to the queue waits again."""
    if job.is_terminal:
        return job.state
    if job.cancelled:  # That is recorded, and how it ends soon will be.
        return JobState.CANCELLING
    call = only_call(job)
    if call is None or call.is_terminal:  # That it ends is no news yet.
        return JobState.WAITING if job.started_at is None else JobState.RUNNING
    return JobState.WAITING if call.shown_state in NOT_BEGUN else JobState.RUNNING


def count_by_state(book: JobTable) -> Generator[None, None, Counter[JobState]]:
    """How many of the jobs in memory stand how, counted in slices."""
    jobs = iter(list(book.newest(sys.maxsize)))
    found: Counter[JobState] = Counter()
    while some := list(islice(jobs, COUNTED_IN_SLICE)):
        found.update(map(standing, some))
        yield
    return found
