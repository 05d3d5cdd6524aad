"""The formula dialect: jobs for clients, registration for workers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

import msgspec

from dte.core.availability import Announcement
from dte.core.errors import InvalidRequest, NotFound, TooLarge
from dte.core.job import Job, JobState
from dte.core.operations import Number
from dte.master.api.base import JsonHandler
from dte.wire.codec import Decoder, encode
from dte.wire.messages import Announce

JOBS_LISTED = 100
NAME_CHARS_MAX = 200
QUOTES_BESIDE = 100
"""Quotes that a body may have besides those of its formulas."""
ANNOUNCE_BYTES_MAX = 10_000
SLOTS_MAX = 64
KEY_CHARS_MAX = 200
KEY = re.compile(rf"[ -~]{{1,{KEY_CHARS_MAX}}}", re.ASCII)
RANGE = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?", re.ASCII)


class Submission(msgspec.Struct, forbid_unknown_fields=True):
    """What `POST /submit` takes: one formula, or many."""

    task: str | msgspec.UnsetType = msgspec.UNSET
    tasks: list[str] | msgspec.UnsetType = msgspec.UNSET


class JobReply(msgspec.Struct):
    """How a job stands."""

    job_id: int
    finished: bool
    answer: Number | None
    error: str | None
    state: str
    operations: int
    operations_done: int
    submitted_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None


class JobListed(msgspec.Struct):
    """A job among the last ones."""

    job_id: int
    task: str
    finished: bool
    answer: Number | None
    error: str | None


class WorkerListed(msgspec.Struct):
    """A worker among the known ones."""

    worker_name: str
    address: str
    state: str
    slots: int
    leases: int
    batch: int
    operations_done: int
    failures: int
    last_failure: str | None
    heard_at: datetime | None


# Not lenient: what clients send may be large, and the slow reader takes seconds for it.
_submission: Decoder[Submission] = Decoder(Submission, lenient=False)
_announce: Decoder[Announce] = Decoder(Announce, lenient=False)


class JobHandler(JsonHandler):
    """Base of the routes that answer with jobs."""

    def job_reply(self, job: Job) -> JobReply:
        wall_time = self.master.wall_time
        return JobReply(
            job.number,
            job.finished,
            job.answer,
            job.error,
            # That it ends is no news before how it ended is.
            "running" if job.state is JobState.ENDING else job.state.value,
            job.operations,
            job.progress,
            wall_time(job.submitted_at),
            wall_time(job.started_at),
            wall_time(job.ended_at),
        )


class Submit(JobHandler):
    """``POST /submit``: accept a formula, or many at once."""

    async def post(self) -> None:
        wait_s = self.wait_s()
        accepted = await self._submit(wait_s)
        self.release_body()
        jobs: Sequence[Job] = [accepted] if isinstance(accepted, Job) else accepted
        await self.master.waiters.wait(jobs, wait_s, self.gone)
        if isinstance(accepted, Job):
            if wait_s:
                self.reply(self.job_reply(accepted))
            else:
                self.reply({"job_id": accepted.number, "finished": accepted.finished})
            return
        numbers = [job.number for job in jobs]
        if wait_s:
            before = b'{"job_ids":' + encode(numbers) + b',"jobs":'
            await self.reply_list(map(self.job_reply, jobs), before, b"}")
        else:
            self.reply({"job_ids": numbers})

    async def _submit(self, wait_s: float) -> Job | Sequence[Job]:
        """Accept what the body has; its texts are gone when this returns, before any wait."""
        formulas_max = self.master.settings.formulas_max
        # Millions of texts would take a second to decode, only to be refused.
        if self.body_count(b'"') > 2 * formulas_max + QUOTES_BESIDE:
            raise TooLarge(f"more than {formulas_max} formulas in a request (formulas_max)")
        key = self._key()
        digest = self.body_digest() if key else ""
        submission = await self.body_in_slices(_submission)
        task, tasks = submission.task, submission.tasks
        if isinstance(task, str) and isinstance(tasks, list):
            raise InvalidRequest("give task or tasks, not both")
        if isinstance(task, str):
            return await self.master.submit(task, key, digest)
        if not isinstance(tasks, list):
            raise InvalidRequest('"task" is missing: {"task": "1+(2*3)/4-5"} is expected')
        if len(tasks) > formulas_max:
            raise TooLarge(
                f"{len(tasks)} formulas in a request; up to {formulas_max} are taken (formulas_max)"
            )
        if wait_s:
            self.ensure_room_for_reply()
        return await self.master.submit_all(tasks, key, digest)

    def _key(self) -> str:
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


class OneJob(JobHandler):
    """``GET /job/{id}``: how a job stands, now or when it ends."""

    async def get(self, number: str) -> None:
        wait_s = self.wait_s()
        if not RANGE.fullmatch(number) or "-" in number:
            raise NotFound("Job not found")
        (job,) = await self.master.find([int(number)])
        await self.master.waiters.wait([job], wait_s, self.gone)
        self.reply(self.job_reply(job))


class Jobs(JobHandler):
    """``GET /jobs``: the last jobs, or with ``ids=1-50,70`` those, in that order."""

    async def get(self) -> None:
        ids = self.get_query_argument("ids", None)
        if ids is not None:
            await self._get_these(ids, self.wait_s())
            return
        newest = list(self.master.core.jobs.newest(JOBS_LISTED))
        await self.reply_list(
            JobListed(job.number, job.task, job.finished, job.answer, job.error) for job in newest
        )

    async def _get_these(self, ids: str, wait_s: float) -> None:
        # Ten thousand numbers take half a megabyte, so none are kept while this waits.
        count = len(self._numbers(ids))
        async with self.room_for_list(count):
            jobs = await self.master.find(self._numbers(ids))
            waiting = [job for job in jobs if not job.finished] if wait_s else []
            if not waiting:
                await self.reply_list(map(self.job_reply, jobs))
                return
            del jobs  # Of what has ended, much may have been read from the journal.
        self.count_held(len(waiting))
        await self.master.waiters.wait(waiting, wait_s, self.gone)
        async with self.room_for_list(count):
            known = {job.number: job for job in waiting}
            numbers = self._numbers(ids)
            ended = [number for number in numbers if number not in known]
            known |= {job.number: job for job in await self.master.find(ended)}
            await self.reply_list(self.job_reply(known[number]) for number in numbers)

    def _numbers(self, ids: str) -> list[int]:
        formulas_max = self.master.settings.formulas_max
        numbers: list[int] = []
        for part in ids.split(","):
            match = RANGE.fullmatch(part.strip())
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if last < first:
                raise InvalidRequest(f"ids={part}: job ids like 7 or 1-50 are expected")
            if last - first + 1 + len(numbers) > formulas_max:
                raise TooLarge(f"up to {formulas_max} jobs are given in one reply (formulas_max)")
            numbers += range(first, last + 1)
        return numbers


class Workers(JsonHandler):
    """``POST /worker``: a worker announces itself. ``GET /worker``: the known ones."""

    def body_bytes_max(self) -> int:
        return min(ANNOUNCE_BYTES_MAX, super().body_bytes_max())

    async def post(self) -> None:
        try:
            announce = self.body(_announce)
        except InvalidRequest as error:
            raise InvalidRequest(
                "Worker name required" if "worker_name" in str(error) else str(error)
            ) from None
        if not announce.worker_name:
            raise InvalidRequest("Worker name required")
        for field, text in (
            ("worker_name", announce.worker_name),
            ("incarnation", announce.incarnation),
        ):
            if len(text) > NAME_CHARS_MAX:
                raise InvalidRequest(f"{field} has more than {NAME_CHARS_MAX} characters")
            if not text.isprintable():
                raise InvalidRequest(f"{field} has characters that cannot be printed")
        for field, value, most in (
            ("port", announce.port, 65_535),
            ("slots", announce.slots, SLOTS_MAX),
            ("batch_max", announce.batch_max, 100_000),
        ):
            if not 1 <= value <= most:
                raise InvalidRequest(f"{field} is {value}; 1 to {most} is expected")
        await self.master.announce(
            Announcement(
                announce.worker_name,
                f"{self.request.remote_ip}:{announce.port}",
                announce.slots,
                announce.batch_max,
                announce.incarnation,
                announce.draining,
            )
        )
        self.reply({"status": "Worker registered"})

    def get(self) -> None:
        self.reply(
            [
                WorkerListed(
                    worker.said.name,
                    worker.said.address,
                    worker.state,
                    worker.said.slots,
                    len(worker.leases),
                    worker.batch,
                    worker.operations_done,
                    worker.failures,
                    worker.last_failure,
                    self.master.wall_time(worker.heard_at),
                )
                for worker in self.master.core.workers()
            ]
        )
