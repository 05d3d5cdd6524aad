"""Jobs: graphs of calls in; how jobs stand, and what can be done about them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Annotated, Any

import msgspec

from dte.core.errors import Conflict, InvalidRequest, TooLarge
from dte.core.graph.call import Call
from dte.core.jobs.job import Job
from dte.core.why import Reason, reasons
from dte.master.api.job_handler import (
    Accepted,
    AllAccepted,
    AllReply,
    JobHandler,
    JobReply,
    shown_answer,
)
from dte.master.api.openapi import IDEMPOTENCY_KEY, WAIT, documented
from dte.master.plans import NO_ARGS, Node, Plan, When
from dte.master.webhooks import check_notify
from dte.wire.codec import Decoder, Malformed

JOBS_LISTED = 100
REASONS_MAX = 1_000
CALL = "call"
"""The name of the node of a job that is one call."""
RANGE = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?", re.ASCII)
IDS = Annotated[str, msgspec.Meta(description="as `1-50,70`", examples=["1-50,70"])]


class OneSubmission(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A job: a graph of calls, or one call, or a formula."""

    graph: dict[str, Node] | msgspec.UnsetType = msgspec.UNSET
    formula: str | msgspec.UnsetType = msgspec.UNSET
    handler: str | msgspec.UnsetType = msgspec.UNSET
    args: msgspec.Raw = msgspec.field(default_factory=lambda: NO_ARGS)
    timeout: float | None = None
    retries: int | None = None
    delay: float = 0.0
    not_before: datetime | None = None
    answer: str | None = None
    after: list[int] = []
    when: When = "success"
    priority: int = 0
    notify: str = ""

    def plan(self) -> Plan:
        """The plan that it stands for.

        Raises:
            InvalidRequest: it is not one of the three.
        """
        given = [
            name
            for name in ("graph", "formula", "handler")
            if getattr(self, name) is not msgspec.UNSET
        ]
        if len(given) != 1:
            raise InvalidRequest(
                'one of graph, formula and handler is expected: {"handler": "echo", "args": ["hi"]}'
            )
        if given != ["handler"] and (
            bytes(self.args) != bytes(NO_ARGS)
            or self.timeout is not None
            or self.retries is not None
            or self.delay
            or self.not_before is not None
        ):
            raise InvalidRequest(
                "args, timeout, retries, delay and not_before go with handler; in a graph, with "
                "its nodes"
            )
        plan = Plan(
            answer=self.answer,
            after=self.after,
            when=self.when,
            priority=self.priority,
            notify=self.notify,
        )
        if isinstance(self.graph, dict):
            plan.graph = self.graph
            if not self.graph:
                raise InvalidRequest("the graph has no nodes")
        elif isinstance(self.formula, str):
            plan.formula = self.formula
            if self.answer is not None:
                raise InvalidRequest("answer goes with graph")
        else:
            assert isinstance(self.handler, str)
            plan.graph = {
                CALL: Node(
                    self.handler,
                    self.args,
                    timeout=self.timeout,
                    retries=self.retries,
                    delay=self.delay,
                    not_before=self.not_before,
                )
            }
            if self.answer is not None:
                raise InvalidRequest("answer goes with graph")
        return plan


class JobListed(msgspec.Struct):
    """A job among the last ones."""

    job_id: int
    task: str
    finished: bool
    answer: Any
    error: str | None
    state: str


class JobSubmission(OneSubmission, forbid_unknown_fields=True, omit_defaults=True):
    """What `POST /jobs` takes: a job, or many as `jobs`, which are accepted all or none."""

    jobs: list[OneSubmission] | msgspec.UnsetType = msgspec.UNSET

    def plans(self) -> list[Plan]:
        """The plans of many jobs.

        Raises:
            InvalidRequest: one of them is none; the message says which.
        """
        assert isinstance(self.jobs, list)
        if self != JobSubmission(jobs=self.jobs):
            raise InvalidRequest("jobs stands alone: each of them says the rest for itself")
        plans = []
        for index, job in enumerate(self.jobs):
            try:
                plans.append(job.plan())
            except InvalidRequest as error:
                raise InvalidRequest(f"job {index} of the request: {error}") from None
        return plans


class ProgressReply(msgspec.Struct):
    """How far a handler said that it is."""

    fraction: float
    text: str


class NodeReply(msgspec.Struct):
    """How a call stands."""

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


class ReasonReply(msgspec.Struct):
    """What an operation waits for; `node` is empty for the job itself, or its arithmetic."""

    node: str
    state: str
    waits_for: str
    text: str
    names: list[str]
    place: int | None
    until: datetime | None


class WhyReply(msgspec.Struct):
    """What the unfinished operations of a job wait for; `more` of them are not told."""

    job_id: int
    state: str
    reasons: list[ReasonReply]
    more: int


class Retried(msgspec.Struct):
    """The job that does the failed part of another again."""

    job_id: int
    retry_of: int


class _Nodes(msgspec.Struct):
    """A job whose nodes are read one by one."""

    graph: dict[str, msgspec.Raw] = {}


class _JobsOfNodes(_Nodes):
    """What `POST /jobs` takes, whose nodes are read one by one."""

    jobs: list[_Nodes] = []


class SubmissionDecoder(Decoder[JobSubmission]):
    """Reads submissions; an error within a node of a graph tells the node's name."""

    def __init__(self) -> None:
        # Not lenient: what clients send may be large, and the slow reader takes seconds for it.
        super().__init__(JobSubmission, lenient=False)
        self._whole: Decoder[_JobsOfNodes] = Decoder(_JobsOfNodes, lenient=False)
        self._node: Decoder[Node] = Decoder(Node, lenient=False)

    def decode(self, raw: bytes) -> JobSubmission:
        try:
            return super().decode(raw)
        except Malformed as error:
            if ".graph[...]" in str(error):
                self._tell_node(raw)
            raise

    def _tell_node(self, raw: bytes) -> None:
        """Fail with the first node that is none."""
        try:
            whole = self._whole.decode(raw)
        except Malformed:
            return  # There is more that is wrong.
        self._check_nodes(whole.graph, "")
        for index, job in enumerate(whole.jobs):
            self._check_nodes(job.graph, f"job {index} of the request: ")

    def _check_nodes(self, graph: dict[str, msgspec.Raw], place: str) -> None:
        for name, node in graph.items():
            try:
                self._node.decode(bytes(node))
            except Malformed as error:
                raise Malformed(f"{place}node {name[:50]!r}: {error}") from None


_submission = SubmissionDecoder()


class OneJob(JobHandler):
    """``GET /job/{id}``: how a job stands, now or when it ends."""

    @documented(
        "How a job stands, now or when it ends",
        query={"wait": WAIT},
        replies={200: JobReply},
        errors=(404, 503),
    )
    async def get(self, number: str) -> None:
        wait_s = self.wait_s()
        job = await self.find(number)
        await self.master.waiters.wait([job], wait_s, self.gone)
        self.reply(self.job_reply(job))


class Jobs(JobHandler):
    """``POST /jobs``: accept a job. ``GET /jobs``: the last, or with ``ids=1-50,70`` those."""

    @documented(
        "Accept a graph of calls, one call, or a formula",
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
        description="With `wait`, the reply says how the job stands, when it has ended or then.",
    )
    async def post(self) -> None:
        wait_s = self.wait_s()
        key = self.key()
        digest = self.body_digest() if key else ""
        submission = await self.body_in_slices(_submission)
        is_many = isinstance(submission.jobs, list)
        plans = submission.plans() if is_many else [submission.plan()]
        del submission
        self._check(plans)
        if is_many and wait_s:
            self.ensure_room_for_reply()
        jobs = await self.master.calls.submit_all(plans, key, digest)
        del plans
        self.release_body()
        await self.master.waiters.wait(jobs, wait_s, self.gone)
        self.set_status(201)
        if is_many:
            await self.reply_all(jobs, with_state=wait_s > 0)
        elif wait_s:
            self.reply(self.job_reply(jobs[0]))
        else:
            self.reply(Accepted(jobs[0].number, jobs[0].is_terminal))

    def _check(self, plans: Sequence[Plan]) -> None:
        jobs_max = self.master.settings.formulas_max
        if len(plans) > jobs_max:
            raise TooLarge(f"{len(plans)} jobs in a request; up to {jobs_max} (formulas_max)")
        for plan in plans:
            if plan.notify:
                check_notify(plan.notify)
                self.master.notices.ensure_room()

    @documented(
        "The last jobs, or those that are asked for",
        query={"ids": IDS, "wait": WAIT},
        replies={200: list[JobListed] | list[JobReply]},
        errors=(404, 413, 503),
        description="With `ids`, those jobs in that order; with `wait`, when they have ended.",
    )
    async def get(self) -> None:
        ids = self.get_query_argument("ids", None)
        if ids is not None:
            await self._get_these(ids, self.wait_s())
            return
        newest = list(self.master.core.jobs.newest(JOBS_LISTED))
        await self.reply_list(self._listed(job) for job in newest)

    def _listed(self, job: Job) -> JobListed:
        answer, state = shown_answer(job.answer), job.shown_state.value
        return JobListed(job.number, job.task, job.is_terminal, answer, job.error, state)

    async def _get_these(self, ids: str, wait_s: float) -> None:
        # Ten thousand numbers take half a megabyte, so none are kept while this waits.
        count = len(self._numbers(ids))
        async with self.room_for_list(count):
            jobs = await self.master.find(self._numbers(ids))
            waiting = [job for job in jobs if not job.is_terminal] if wait_s else []
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


class Cancel(JobHandler):
    """``POST /job/{id}/cancel``."""

    @documented(
        "Cancel a job",
        replies={200: JobReply},
        errors=(404, 409, 503, 507),
        description="What waits never starts; what runs is stopped, and the job is `cancelling` "
        "until its workers say so.",
    )
    async def post(self, number: str) -> None:
        job = await self.find(number)
        if job.is_terminal or not await self.master.calls.cancel(job):
            raise Conflict(f"job {job.number} has ended: {job.state.value}")
        self.reply(self.job_reply(job))


class Retry(JobHandler):
    """``POST /job/{id}/retry``."""

    @documented(
        "Do the failed part of a job again",
        headers={"Idempotency-Key": IDEMPOTENCY_KEY},
        replies={201: Retried},
        errors=(404, 409, 503, 507),
        description="As a new job, which takes over the results that there are: an end is an end.",
    )
    async def post(self, number: str) -> None:
        job = await self.find(number)
        again = await self.master.calls.retry(job, self.key())
        self.set_status(201)
        self.reply(Retried(again.number, job.number))


class Why(JobHandler):
    """``GET /job/{id}/why``."""

    @documented(
        "What the unfinished operations of a job wait for",
        replies={200: WhyReply},
        errors=(404, 503),
    )
    async def get(self, number: str) -> None:
        job = await self.find(number)
        found = reasons(self.master.core, self.master.now(), job)
        told = [self._reply(reason) for reason in islice(found, REASONS_MAX)]
        self.reply(WhyReply(job.number, self.job_reply(job).state, told, sum(1 for _ in found)))

    def _reply(self, reason: Reason) -> ReasonReply:
        return ReasonReply(
            reason.node,
            reason.state,
            reason.waits_for,
            reason.text,
            list(reason.names),
            reason.position,
            self.master.wall_time(reason.until),
        )


class Nodes(JobHandler):
    """``GET /job/{id}/nodes``."""

    @documented(
        "The calls of a job, with their results",
        replies={200: list[NodeReply]},
        errors=(404, 503),
    )
    async def get(self, number: str) -> None:
        job = await self.find(number)
        calls = await self.master.calls.calls_of(job)
        async with self.room_for_list(len(calls)):
            await self.reply_list(map(self._reply, calls))

    def _reply(self, call: Call) -> NodeReply:
        wall_time, state, record = self.master.wall_time, call.shown_state, call.record
        ended = call.is_terminal and state is call.state
        return NodeReply(
            call.name,
            call.handler,
            state.value,
            record.attempts,
            record.failures,
            record.worker,
            shown_answer(record.value) if ended else None,
            record.error,
            wall_time(record.started_at),
            wall_time(record.ended_at) if ended else None,
            ProgressReply(*call.progress) if call.progress is not None else None,
        )
