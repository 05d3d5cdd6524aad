"""The base of the routes that find jobs and answer with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from dte.core.errors import InvalidRequest, NotFound
from dte.core.graph.call import Call
from dte.core.graph.numbers import Number
from dte.core.jobs.job import Job
from dte.master.api.base import JsonHandler
from dte.wire.codec import encode
from dte.wire.current_call import CALL_HEADER
from dte.wire.messages.keys import KEY, KEY_CHARS_MAX, KEY_PATTERN

IDEMPOTENCY_KEY = Annotated[
    str,
    Meta(
        pattern=f"^{KEY_PATTERN}$",
        description="makes a repeat of this request harmless: it gets the first one's jobs",
    ),
]
NUMBER = re.compile("[0-9]{1,18}")
"""A job's id; one of more digits may not fit into the journal's 64 bits."""
NUMBER_CHARS_SHOWN = 50


class JobReply(msgspec.Struct):
    """A job.

    Its state is waiting, running, cancelling, succeeded, failed, timed_out or cancelled; the last
    four are final. `trace` is the stack trace of the handler by which it failed. `retry_of` is the
    job whose failed part it repeats.
    """

    job_id: int
    finished: bool
    answer: Any
    error: str | None
    state: str
    operations: int
    operations_done: int
    submitted_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    priority: int
    trace: str | None
    retry_of: int | None


class Accepted(msgspec.Struct):
    """A job that has been accepted."""

    job_id: int
    finished: bool


class AllAccepted(msgspec.Struct):
    """The jobs of many formulas, in the order of the formulas."""

    job_ids: list[int]


class AllReply(msgspec.Struct):
    """The jobs of many formulas, with their states, in the order of the formulas."""

    job_ids: list[int]
    jobs: list[JobReply]


class JobHandler(JsonHandler):
    """Base of the routes that find jobs and answer with them."""

    NOT_FOUND = "Job not found"
    """The error for an unknown job; ``{id}`` stands for the id."""

    def job_reply(self, job: Job) -> JobReply:
        return job_reply(job, self.master.clock.wall_time)

    async def find(self, number: str) -> Job:
        """Find a job by its id.

        Raises:
            NotFound: there is none.
            Busy: it is in the journal, and too many bytes of replies wait for their clients.
        """
        if NUMBER.fullmatch(number):
            with suppress(NotFound):
                return await self.find_by_number(int(number))
        raise NotFound(self.NOT_FOUND.format(id=number[:NUMBER_CHARS_SHOWN]))

    async def calls_of(self, job: Job) -> Sequence[Call]:
        """Return the calls of a job that was found."""
        if self.reading is None and job.is_terminal and job.calls is None:
            await self.enter_past(job.number)
        if self.reading is not None:
            self.reading.operations = job.operations
        read = partial(self.master.archive.calls_of, job)
        return await (read() if self.reading is None else self.reading.once("calls", read))

    async def until_ended(self, jobs: Iterable[Job], wait_s: float) -> None:
        """Return when the jobs have ended, the client has hung up, or the wait is over."""
        lease = self.call_lease() if wait_s else 0
        await self.master.waiters.wait(jobs, wait_s, self.gone, lease)

    async def reply_accepted(self, accepted: Job | Sequence[Job], wait_s: float) -> None:
        """Answer a submission of one job or of many; with a wait, when they end or it is over."""
        jobs = [accepted] if isinstance(accepted, Job) else accepted
        await self.until_ended(jobs, wait_s)
        numbers = [job.number for job in jobs]
        if isinstance(accepted, Job) and wait_s:
            self.reply(self.job_reply(accepted))
        elif isinstance(accepted, Job):
            self.reply(Accepted(accepted.number, accepted.is_terminal))
        elif wait_s:
            before = b'{"job_ids":' + encode(numbers) + b',"jobs":'
            await self.reply_list(map(self.job_reply, jobs), before, b"}")
        else:
            self.reply(AllAccepted(numbers))

    def call_lease(self) -> int:
        """The lease of the call that sends this request; 0 if it is sent by no call."""
        text = self.request.headers.get(CALL_HEADER, "")
        return int(text) if NUMBER.fullmatch(text) else 0

    def check_notify(self, urls: Iterable[str]) -> None:
        """Check that the ends of jobs can be posted to their URLs; "" for none.

        Raises:
            InvalidRequest: a URL cannot be posted to.
            Busy: too many webhook deliveries wait.
        """
        given = [url for url in urls if url]
        for url in given:
            self.master.webhooks.check(url)
        if given:
            self.master.webhooks.ensure_room(self.owner)

    def key(self) -> str:
        """The key that the client gave this submission; "" if it gave none."""
        keys = self.request.headers.get_list("Idempotency-Key")
        if not keys:
            return ""
        if len(keys) > 1 or not KEY.fullmatch(keys[0]):
            raise InvalidRequest(
                f"one Idempotency-Key of 1 to {KEY_CHARS_MAX} printable ASCII characters is "
                "expected"
            )
        return keys[0]


def shown_answer(answer: Number | bytes | None) -> Any:
    """An answer as a reply shows it: a number, or the JSON that a worker gave."""
    return msgspec.Raw(answer) if isinstance(answer, bytes) else answer


def job_reply(job: Job, wall_time: Callable[[float | None], datetime | None]) -> JobReply:
    """A job as a reply shows it."""
    return JobReply(
        job.number,
        job.is_terminal,
        shown_answer(job.answer),
        job.error,
        job.shown_state.value,
        job.operations,
        job.progress,
        wall_time(job.submitted_at),
        wall_time(job.started_at),
        wall_time(job.ended_at),
        job.priority,
        job.trace,
        job.retry_of,
    )
