"""Tasks: submitted, listed, looked at."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from dte.core.errors import Conflict, InvalidRequest, NotFound
from dte.core.jobs.job import Job
from dte.master.api.dialects.polling import quoted
from dte.master.api.dialects.rest.base import RestHandler, check_name
from dte.master.api.dialects.rest.payloads import decoded_base64, plan_arguments
from dte.master.api.dialects.rest.views import PENDING, Remembered, Task, job_id
from dte.master.api.openapi import TEXT, documented
from dte.master.plans import Node, Plan

TASKS_LISTED = 1000
DEPENDENCIES_MAX = 1000
NODE = "task"
BODY_BYTES_BESIDE = 100_000
"""What a body may have besides the arguments in base64."""

LIKE_ITS_OWN = re.compile(r"[0-9a-f]{16}(?:\..*)?", re.DOTALL | re.IGNORECASE | re.ASCII)
"""An id that a task without one may have, or a part of it."""

Base64 = Annotated[str, Meta(extra_json_schema={"contentEncoding": "base64"})]


class TaskSubmission(msgspec.Struct):
    """What `POST /tasks` takes; name and handler are required."""

    name: str = ""
    handler: str = ""
    args: Base64 | None = None
    dependencies: list[str] = []
    priority: int = 0
    id: str = ""
    metadata: dict[str, Any] = {}


class TaskAccepted(msgspec.Struct):
    """What is known of a task when it has been accepted."""

    id: str
    status: str


class Tasks(RestHandler):
    """``POST /tasks``: accept a task. ``GET /tasks``: the last ones."""

    def body_bytes_max(self) -> int:
        most = 2 * self.master.settings.value_bytes_max + BODY_BYTES_BESIDE
        return min(most, super().body_bytes_max())

    @documented(
        "Accept a task",
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
        errors_as=TEXT,
        description="With an `id` of its own a task is accepted once, however often it is sent. "
        "Ids of 16 hexadecimal digits are the master's.",
    )
    async def post(self) -> None:
        digest = self.body_digest()
        said = await self.read(TaskSubmission)
        self.release_body()
        plan = await self._plan(said)
        try:
            job = await self.master.calls.submit(
                plan, digest=digest if said.id else "", name=said.id
            )
        except (Conflict, NotFound):
            raise Conflict(f"the id {said.id!r} was used for another task before") from None
        self.created(TaskAccepted(said.id or job_id(job.number), PENDING))

    async def _plan(self, said: TaskSubmission) -> Plan:
        if not said.name or not said.handler:
            raise InvalidRequest("Task name and handler are required")
        check_name("name", said.name)
        check_name("id", said.id)
        if LIKE_ITS_OWN.fullmatch(said.id):
            raise InvalidRequest(
                "an id of 16 hexadecimal digits, or one that begins with these and a dot, is made "
                "up by the master alone"
            )
        try:
            sent = decoded_base64(said.args or "")
        except InvalidRequest as error:
            raise InvalidRequest(f"Invalid request body: args: {error}") from None
        node = Node(said.handler, quoted(plan_arguments(said.handler, sent)))
        after = await self._jobs(said.dependencies)
        about: dict[str, Any] = {"dialect": "rest", "id": said.id, "name": said.name}
        about |= {"args": said.args, "metadata": said.metadata, "dependencies": said.dependencies}
        return Plan({NODE: node}, after=after, priority=said.priority, about=about)

    async def _jobs(self, task_ids: list[str]) -> list[int]:
        if len(task_ids) > DEPENDENCIES_MAX:
            raise InvalidRequest(f"dependencies has more than {DEPENDENCIES_MAX} tasks")
        numbers = []
        for task_id in dict.fromkeys(task_ids):
            job, part = None, None
            with suppress(NotFound):
                job, part = await self.find_task(task_id)
            if job is None or part is not None:
                raise InvalidRequest(f"dependencies: there is no task {task_id[:200]!r}")
            numbers.append(job.number)
        return numbers

    @documented(
        "The last tasks, the newest first",
        replies={200: list[Task]},
        errors=(503,),
        errors_as=TEXT,
        description="Jobs of all dialects are among them.",
    )
    async def get(self) -> None:
        jobs = list(self.master.core.jobs.newest(TASKS_LISTED))
        async with self.room_for_list(len(jobs)):
            past = [job for job in jobs if is_past(job)]
            plans = await self.master.plans_of(past)
            remembered = {job.number: plan for job, plan in zip(past, plans, strict=True)}
            await self.reply_list(self.viewer.tasks(jobs, remembered))


class OneTask(RestHandler):
    """``GET /tasks/{id}``: how a task stands."""

    @documented("How a task stands", replies={200: Task}, errors=(404, 503), errors_as=TEXT)
    async def get(self, task_id: str) -> None:
        job, part = await self.find_task(task_id)
        if part is not None:
            self.reply(self.viewer.part(job, part))
            return
        remembered: Remembered = (job.plan, ())
        if is_past(job):
            remembered = await self.master.calls.plan_of(job)
        self.reply(self.viewer.task(job, remembered))


def is_past(job: Job) -> bool:
    """Whether only the journal has what became of a job's calls."""
    return job.is_terminal and job.calls is None
