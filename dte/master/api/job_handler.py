"""What the routes share that answer with jobs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

import msgspec

from dte.core.errors import InvalidRequest, NotFound
from dte.core.graph.numbers import Number
from dte.core.jobs.job import Job
from dte.master.api.base import JsonHandler
from dte.wire.codec import encode

KEY_CHARS_MAX = 200
KEY = re.compile(rf"[ -~]{{1,{KEY_CHARS_MAX}}}", re.ASCII)
NUMBER = re.compile(r"\d{1,18}", re.ASCII)


class JobReply(msgspec.Struct):
    """How a job stands.

    Its state is waiting, running, cancelling, succeeded, failed, timed_out or cancelled; the last
    four are ends.
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


class Accepted(msgspec.Struct):
    """What is known of a job when it has been accepted."""

    job_id: int
    finished: bool


class AllAccepted(msgspec.Struct):
    """The jobs of many formulas, in their order."""

    job_ids: list[int]


class AllReply(msgspec.Struct):
    """How the jobs of many formulas stand, in their order."""

    job_ids: list[int]
    jobs: list[JobReply]


class JobHandler(JsonHandler):
    """Base of the routes that answer with jobs."""

    def job_reply(self, job: Job) -> JobReply:
        return job_reply(job, self.master.wall_time)

    async def find(self, number: str) -> Job:
        """The job that a path names.

        Raises:
            NotFound: there is none.
        """
        if not NUMBER.fullmatch(number):
            raise NotFound("Job not found")
        return (await self.master.find([int(number)]))[0]

    async def reply_all(self, jobs: Sequence[Job], *, with_state: bool) -> None:
        """Answer with the numbers of jobs, and how they stand if that was asked for."""
        numbers = [job.number for job in jobs]
        if with_state:
            before = b'{"job_ids":' + encode(numbers) + b',"jobs":'
            await self.reply_list(map(self.job_reply, jobs), before, b"}")
        else:
            self.reply(AllAccepted(numbers))

    def key(self) -> str:
        """What the client calls this submission; "" if it does not."""
        keys = self.request.headers.get_list("Idempotency-Key")
        if not keys:
            return ""
        key = keys[0]
        if len(keys) > 1 or not KEY.fullmatch(key):
            raise InvalidRequest(
                f"one Idempotency-Key of 1 to {KEY_CHARS_MAX} printable ASCII characters is "
                "expected"
            )
        return key


def shown_answer(answer: Number | bytes | None) -> Any:
    """An answer as it goes into a reply: a number, or the JSON that a worker gave."""
    return msgspec.Raw(answer) if isinstance(answer, bytes) else answer


def job_reply(job: Job, wall_time: Callable[[float | None], datetime | None]) -> JobReply:
    """How a job stands, as it goes into a reply."""
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
    )
