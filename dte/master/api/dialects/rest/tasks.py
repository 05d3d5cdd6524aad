"""Tasks: submitted, listed and shown."""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from dte.core.errors import Conflict, InvalidRequest, NotFound
from dte.core.jobs.job import Job
from dte.core.shares import scoped
from dte.master.api.dialects.rest.base import RestHandler
from dte.master.api.dialects.rest.payloads import decoded_base64, plan_arguments
from dte.master.api.dialects.rest.views import DIALECT, PENDING, Task
from dte.master.api.dialects.tasks import TASK, quoted
from dte.master.api.openapi import documented
from dte.master.checks import check_name
from dte.master.expected import id_of
from dte.master.plans import Node, Plan

TASKS_LISTED = 1000
DEPENDENCIES_MAX = 1000
BODY_BYTES_BESIDE = 100_000
"""Allowance for the bytes of a body that are not arguments in base64."""

RESERVED_ID = re.compile(r"000000[0-9a-f]{10}(?:\..*)?", re.DOTALL | re.IGNORECASE | re.ASCII)
"""An id that the master may give to a task without one, or to a part of a task."""

Base64 = Annotated[str, Meta(extra_json_schema={"contentEncoding": "base64"})]


class TaskSubmission(msgspec.Struct):
    """The body of `POST /tasks`; name and handler are required."""

    name: str = ""
    handler: str = ""
    args: Base64 | None = None
    dependencies: list[str] = []
    priority: int = 0
    id: str = ""
    metadata: dict[str, Any] = {}


class TaskAccepted(msgspec.Struct):
    """A task that has been accepted."""

    id: str
    status: str


class Tasks(RestHandler):
    def body_bytes_max(self) -> int:
        most = 2 * self.master.settings.value_bytes_max + BODY_BYTES_BESIDE
        return min(most, super().body_bytes_max())

    @documented(
        "Submit a task",
        body=TaskSubmission,
        examples={
            "a task": {"name": "Fibonacci", "handler": "fibonacci", "args": "eyJuIjoxMH0="},
            "after another": {
                "id": "greeting",
                "name": "Greeting",
                "handler": "echo",
                "args": "aGVsbG8=",
                "dependencies": [],
                "priority": 10,
                "metadata": {"owner": "me"},
            },
        },
        replies={201: TaskAccepted},
        errors=(409, 503, 507),
        description="A task with an `id` is accepted once, however often it is sent. Ids of 16 "
        "hexadecimal digits that begin with 000000 are reserved for the master. A task runs once "
        "its dependencies have completed; they may be submitted after it.",
    )
    async def post(self) -> None:
        digest = await self.body_digest()
        body = await self.read(TaskSubmission)
        self.release_body()
        plan = await self._plan(body)
        try:
            job = await self.master.jobs.submit_plan(
                plan, digest=digest if body.id else "", name=body.id, caller=self.caller
            )
        except (Conflict, NotFound):
            raise Conflict(f"the id {body.id!r} was used for another task before") from None
        self.created(TaskAccepted(body.id or id_of(job.number), PENDING))

    async def _plan(self, body: TaskSubmission) -> Plan:
        if not body.name or not body.handler:
            raise InvalidRequest("Task name and handler are required")
        check_name("name", body.name)
        check_name("id", body.id)
        if RESERVED_ID.fullmatch(body.id):
            raise InvalidRequest(
                "ids of 16 hexadecimal digits that begin with 000000, alone or before a dot, are "
                "reserved for the master"
            )
        sent = decoded_base64(body.args or "", "args")
        await asyncio.sleep(0)  # This and what follows take some 50 ms each for 16 MB.
        node = Node(body.handler, quoted(plan_arguments(body.handler, sent)))
        after, expects = await self._dependencies(body)
        about: dict[str, Any] = {"dialect": DIALECT, "id": body.id, "name": body.name}
        about |= {"args": body.args, "metadata": body.metadata, "dependencies": body.dependencies}
        return Plan({TASK: node}, after=after, priority=body.priority, about=about, expects=expects)

    async def _dependencies(self, body: TaskSubmission) -> tuple[list[int], list[str]]:
        """The numbers of the jobs that a task waits for, and the ids that are not there yet."""
        task_ids = list(dict.fromkeys(body.dependencies))
        if len(task_ids) > DEPENDENCIES_MAX:
            raise InvalidRequest(f"dependencies has more than {DEPENDENCIES_MAX} tasks")
        awaited: list[Job] = []
        expects: list[str] = []
        for task_id in task_ids:
            try:
                job, part = await self.find_task(task_id)
            except NotFound:
                check_name("dependencies", task_id)
                if not task_id:
                    raise InvalidRequest("dependencies has an empty id") from None
                expects.append(scoped(self.owner, task_id))
                continue
            if part is not None:
                raise InvalidRequest(f"dependencies: {task_id!r} is a part of a task, not a task")
            awaited.append(job)
        if body.id and scoped(self.owner, body.id) in expects:
            raise InvalidRequest(f"dependencies: task {body.id!r} cannot wait for itself")
        self.master.expected.ensure_room(len(expects), self.owner)
        if body.id:
            await self.master.expected.ensure_no_cycle(scoped(self.owner, body.id), awaited)
        return [job.number for job in awaited], expects

    @documented(
        "List the last tasks, the newest first",
        replies={200: list[Task]},
        errors=(503,),
        description="The list includes jobs of all dialects.",
    )
    async def get(self) -> None:
        jobs = await self.newest_jobs(TASKS_LISTED)
        async with self.room_for_list(len(jobs)):
            past = [job for job in jobs if is_past(job)]
            plans = await self.master.archive.plans_of(past)
            remembered = {job.number: plan for job, plan in zip(past, plans, strict=True)}
            write = self.viewer.writing
            await self.reply_list(write(job, remembered.get(job.number)) for job in jobs)


class OneTask(RestHandler):
    @documented("Get a task", replies={200: Task}, errors=(404, 503))
    async def get(self, task_id: str) -> None:
        job, part = await self.find_task(task_id)
        if part is not None:
            self.reply(self.viewer.part(job, part))
            return
        remembered = await self.master.archive.plan_of(job) if is_past(job) else None
        await self.reply_written(self.viewer.writing(job, remembered))


def is_past(job: Job) -> bool:
    """True if only the journal still has the calls of a job."""
    return job.is_terminal and job.calls is None
