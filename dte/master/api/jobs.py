"""Jobs: submitted as graphs, calls or formulas; shown, explained, cancelled and retried."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import datetime
from difflib import get_close_matches
from itertools import islice
from typing import Annotated, Any

import msgspec

from dte.core.errors import Conflict, InvalidRequest, TooLarge
from dte.core.graph.call import Call
from dte.core.jobs.job import Job
from dte.core.why import Reason, reasons
from dte.master.api.job_handler import (
    IDEMPOTENCY_KEY,
    NUMBER,
    Accepted,
    AllAccepted,
    AllReply,
    JobHandler,
    JobReply,
    shown_answer,
)
from dte.master.api.openapi import WAIT, documented
from dte.master.api.submission import JobSubmission, SubmissionDecoder
from dte.master.plans import Plan
from dte.master.slices import collected
from dte.wire.pieces import PIECE_BYTES

JOBS_LISTED = 100
REASONS_MAX = 1_000
SIMILAR_MAX, SIMILAR_CHARS, SIMILAR_CHARS_MAX = 100, 5, 50
"""Names of handlers that are compared with an unknown one: so many, whose lengths differ by so much
at most; and the longest name that is compared. A comparison may take 0.2 ms."""
RANGE = re.compile(rf"({NUMBER.pattern})(?:-({NUMBER.pattern}))?")
IDS = Annotated[str, msgspec.Meta(description="ids and ranges of ids", examples=["1-50,70"])]


class JobListed(msgspec.Struct):
    """A job in the list of the last ones."""

    job_id: int
    task: str
    finished: bool
    answer: Any
    error: str | None
    state: str
    retry_of: int | None


class ProgressReply(msgspec.Struct):
    """The progress that a handler reported last."""

    fraction: float
    text: str


class NodeReply(msgspec.Struct):
    """A call of a job; `error` and `trace` are those of its last attempt."""

    node: str
    handler: str
    state: str
    attempts: int
    failures: int
    worker: str
    result: Any
    error: str | None
    started_at: datetime | None
    ended_at: datetime | None
    progress: ProgressReply | None
    trace: str | None


class ReasonReply(msgspec.Struct):
    """A reason why an operation waits; `node` is empty for the job itself and its arithmetic."""

    node: str
    state: str
    waits_for: str
    text: str
    names: list[str]
    place: int | None
    until: datetime | None


class WhyReply(msgspec.Struct):
    """The reasons why the operations of a job wait; `more` counts those left out."""

    job_id: int
    state: str
    reasons: list[ReasonReply]
    more: int


class Retried(msgspec.Struct):
    """A job that runs the failed part of another again."""

    job_id: int
    retry_of: int


_submission = SubmissionDecoder()


class OneJob(JobHandler):
    @documented(
        "Get a job, now or when it ends",
        query={"wait": WAIT},
        replies={200: JobReply},
        errors=(404, 503),
    )
    async def get(self, number: str) -> None:
        wait_s = self.wait_s()
        job = await self.find(number)
        await self.until_ended([job], wait_s)
        self.reply(self.job_reply(job))


class Jobs(JobHandler):
    @documented(
        "Submit a graph of calls, one call, or a formula",
        body=JobSubmission,
        examples={
            "one call": {"handler": "echo", "args": ["hello"]},
            "a graph": {
                "graph": {
                    "small": {"handler": "primes", "args": {"limit": 100}},
                    "copy": {"handler": "echo", "args": [{"ref": "small"}], "priority": 5},
                },
                "answer": "copy",
            },
            "a formula": {"formula": "fibonacci(30) + 2*3"},
            "many": {"jobs": [{"handler": "echo", "args": [1]}, {"formula": "1+2"}]},
        },
        query={"wait": WAIT},
        headers={"Idempotency-Key": IDEMPOTENCY_KEY},
        replies={201: Accepted | JobReply | AllAccepted | AllReply},
        errors=(409, 503, 507),
        description="With `wait`, the reply is the whole job, when it ends or the time is over.",
    )
    async def post(self) -> None:
        wait_s = self.wait_s()
        key = self.key()
        digest = await self.body_digest() if key else ""
        decoder = _submission
        if self.body_size > PIECE_BYTES:
            bounds = self.master.settings
            decoder = decoder.bounded(bounds.formulas_max, bounds.calls_max)
        submission = await self.body_in_slices(decoder)
        is_many = isinstance(submission.jobs, list)
        plans = submission.plans() if is_many else [submission.plan()]
        del submission
        self._check(plans)
        if is_many and wait_s:
            self.ensure_room_for_reply()
        jobs = await self.master.jobs.submit_plans(plans, key, digest, self.caller)
        del plans
        self.release_body()
        self.set_status(201)
        await self.reply_accepted(jobs if is_many else jobs[0], wait_s)

    def _check(self, plans: Sequence[Plan]) -> None:
        jobs_max = self.master.settings.formulas_max
        if len(plans) > jobs_max:
            raise TooLarge(f"too many jobs in a request: {len(plans)} > {jobs_max} (formulas_max)")
        self.check_notify(plan.notify for plan in plans)

    @documented(
        "List the last jobs, or jobs by id",
        query={"ids": IDS, "wait": WAIT},
        replies={200: list[JobListed] | list[JobReply]},
        errors=(404, 413, 503),
        description="With `ids`, the jobs come in that order; with `wait`, when they have ended.",
    )
    async def get(self) -> None:
        ids = self.get_query_argument("ids", None)
        if ids is not None:
            await self._get_by_ids(ids, self.wait_s())
            return
        if "wait" in self.request.query_arguments:
            raise InvalidRequest("wait applies to jobs by id: GET /jobs?ids=1-50&wait=20")
        newest = await self.newest_jobs(JOBS_LISTED)
        await self.reply_list(self._listed(job) for job in newest)

    def _listed(self, job: Job) -> JobListed:
        answer, state = shown_answer(job.answer), job.shown_state.value
        return JobListed(
            job.number, job.task, job.is_terminal, answer, job.error, state, job.retry_of
        )

    async def _get_by_ids(self, ids: str, wait_s: float) -> None:
        # Ten thousand numbers take half a megabyte, so none are kept while this request waits.
        count = len(self._numbers(ids))
        async with self.room_for_list(count):
            jobs = await self.master.archive.find(self._numbers(ids), self.caller)
            waiting = [job for job in jobs if not job.is_terminal] if wait_s else []
            if not waiting:
                await self.reply_list(map(self.job_reply, jobs))
                return
            del jobs  # Many of the ended ones may come from the journal.
        self.count_waited_jobs(len(waiting))
        await self.until_ended(waiting, wait_s)
        async with self.room_for_list(count):
            known = {job.number: job for job in waiting}
            numbers = self._numbers(ids)
            ended = [number for number in numbers if number not in known]
            known |= {job.number: job for job in await self.master.archive.find(ended, self.caller)}
            await self.reply_list(self.job_reply(known[number]) for number in numbers)

    def _numbers(self, ids: str) -> list[int]:
        formulas_max = self.master.settings.formulas_max
        numbers: list[int] = []
        for part in ids.split(","):
            match = RANGE.fullmatch(part.strip())
            first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
            if last < first:
                raise InvalidRequest(f"ids={part}: ids like 7 or 1-50 are expected")
            if last - first + 1 + len(numbers) > formulas_max:
                raise TooLarge(f"ids: more than {formulas_max} jobs (formulas_max)")
            numbers += range(first, last + 1)
        return numbers


class Cancel(JobHandler):
    @documented(
        "Cancel a job",
        replies={200: JobReply},
        errors=(404, 409, 503, 507),
        description="Waiting calls never start. Running calls are stopped; the job is `cancelling` "
        "until their workers confirm it, and then ends as cancelled.",
    )
    async def post(self, number: str) -> None:
        job = await self.find(number)
        if job.is_terminal or not await self.master.jobs.cancel(job, self.caller):
            raise Conflict(f"job {job.number} has ended: {job.state.value}")
        self.reply(self.job_reply(job))


class Retry(JobHandler):
    @documented(
        "Run the failed part of a job again",
        headers={"Idempotency-Key": IDEMPOTENCY_KEY},
        replies={201: Retried},
        errors=(404, 409, 503, 507),
        description="The new job takes over the results of calls that succeeded. The failed job "
        "stays as it is.",
    )
    async def post(self, number: str) -> None:
        job = await self.find(number)
        again = await self.master.jobs.retry(job, self.key(), self.caller)
        self.created(Retried(again.number, job.number))


class Why(JobHandler):
    @documented(
        "Explain why the operations of a job wait", replies={200: WhyReply}, errors=(404, 503)
    )
    async def get(self, number: str) -> None:
        job = await self.find(number)
        master = self.master
        held = master.waiters.of_calls
        found = reasons(master.core, master.clock.now(), job, held, _similar)
        shown = await master.slices.run(collected(map(self._reply, islice(found, REASONS_MAX))))
        more = 0
        if len(shown) == REASONS_MAX and job.calls is not None:
            more = max(0, job.calls.remaining - sum(bool(reason.node) for reason in shown))
        self.reply(WhyReply(job.number, job.shown_state.value, shown, more))

    def _reply(self, reason: Reason) -> ReasonReply:
        return ReasonReply(
            reason.node,
            reason.state,
            reason.waits_for,
            reason.text,
            list(reason.names),
            reason.position,
            self.master.clock.wall_time(reason.until),
        )


def _similar(name: str, names: Collection[str]) -> str:
    """Return the name that is most like a name, if one is."""
    near = (other for other in names if abs(len(other) - len(name)) <= SIMILAR_CHARS)
    if len(name) > SIMILAR_CHARS_MAX:
        return ""
    return next(iter(get_close_matches(name, list(islice(near, SIMILAR_MAX)), 1)), "")


class Nodes(JobHandler):
    @documented(
        "List the calls of a job, with their results",
        replies={200: list[NodeReply]},
        errors=(404, 413, 503),
    )
    async def get(self, number: str) -> None:
        job = await self.find(number)
        calls = await self.calls_of(job)
        async with self.room_for_list(len(calls)):
            self.ensure_room_for(sum(len(call.record.value or b"") for call in calls))
            await self.reply_list(map(self._reply, calls))

    def _reply(self, call: Call) -> NodeReply:
        wall_time, state, record = self.master.clock.wall_time, call.shown_state, call.record
        ended = call.is_terminal and state is call.state
        told = call.until_recorded is None or ended
        return NodeReply(
            call.name,
            call.handler,
            state.value,
            record.attempts,
            record.failures,
            record.worker,
            shown_answer(record.value) if ended else None,
            record.error if told else None,
            wall_time(record.started_at),
            wall_time(record.ended_at) if ended else None,
            ProgressReply(*call.progress) if call.progress is not None else None,
            record.trace if told else None,
        )
