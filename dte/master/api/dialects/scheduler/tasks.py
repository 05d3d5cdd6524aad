"""Tasks: added and cancelled."""

from __future__ import annotations

from typing import Any

import msgspec

from dte.core.errors import InvalidRequest, NotFound
from dte.core.graph.handlers import check_handler
from dte.master.api.dialects.scheduler.arguments import PARAMETERS, arguments
from dte.master.api.dialects.scheduler.base import (
    ATTEMPTS_MAX,
    HANDLERS,
    STATUS,
    Done,
    SchedulerHandler,
)
from dte.master.api.dialects.scheduler.validation import Invalid
from dte.master.api.dialects.tasks import TASK, quoted, task_state
from dte.master.api.job_handler import NUMBER, NUMBER_CHARS_SHOWN
from dte.master.api.openapi import documented
from dte.master.plans import Node, Plan


class TaskSubmission(msgspec.Struct):
    """The body of `POST /add_task`; `timeout` is in seconds."""

    func_name: str
    args: list[Any] | None = []
    kwargs: dict[str, Any] | None = {}
    priority: int = 0
    dependencies: list[str | int] | None = []
    timeout: float | None = None


class TaskAdded(msgspec.Struct):
    """A task that has been accepted."""

    message: str
    task_id: str


class AddTask(SchedulerHandler):
    @documented(
        "Add a task",
        body=TaskSubmission,
        examples={
            "a sum": {"func_name": "process_data", "args": [1, 2], "priority": 5},
            "one after another": {
                "func_name": "calculate_pi",
                "kwargs": {"n_digits": 10},
                "dependencies": ["1"],
            },
        },
        replies={201: TaskAdded, 422: Invalid},
        errors=(503, 507),
        description="`func_name` is `process_data`, `send_email`, `calculate_pi`, or a handler "
        "announced by a worker.",
    )
    async def post(self) -> None:
        body = await self.read(TaskSubmission)
        check_handler(body.func_name, "func_name: ")
        if not self._is_known(body.func_name):
            raise InvalidRequest(
                f"Function {body.func_name!r} is not known: it is none of {', '.join(PARAMETERS)}, "
                "and no worker has announced it"
            )
        args, about = arguments(body.func_name, body.args or [], body.kwargs or {})
        after = await self._jobs_of(body.dependencies or [])
        node = Node(
            body.func_name,
            quoted(args),
            timeout=body.timeout,
            retries=ATTEMPTS_MAX - 1,
            lost_max=ATTEMPTS_MAX,
        )
        plan = Plan({TASK: node}, after=after, priority=body.priority, about=about)
        job = await self.pollers.submit(plan, self.caller)
        self.created(TaskAdded("Task added successfully", str(job.number)))

    async def _jobs_of(self, dependencies: list[str | int]) -> list[int]:
        numbers = [_number(each) for each in dependencies]
        try:
            await self.master.archive.find(numbers, self.caller)
        except NotFound:  # The error does not name the task, so look for one after another.
            for number in numbers:
                try:
                    await self.master.archive.find([number], self.caller)
                except NotFound:
                    raise InvalidRequest(f"dependencies: there is no task '{number}'") from None
        return numbers

    def _is_known(self, function: str) -> bool:
        return function in HANDLERS or any(
            function in worker.announcement.handlers for worker in self.master.core.workers()
        )


class CancelTask(SchedulerHandler):
    @documented(
        "Cancel a task",
        replies={200: Done},
        errors=(404, 503, 507),
        description="A waiting task never starts. The result of a running task will not count.",
    )
    async def post(self, task_id: str) -> None:
        job = await self.find(task_id)
        if not job.is_terminal and await self.master.jobs.cancel(job, self.caller):
            self.reply(Done(f"Cancellation of task {job.number} requested"))
        else:
            self.reply(Done(f"Task {job.number} has ended before: {STATUS[task_state(job)]}"))


def _number(task_id: str | int) -> int:
    """The number of a dependency's job."""
    text = str(task_id)
    if not NUMBER.fullmatch(text):
        raise InvalidRequest(f"dependencies: there is no task {text[:NUMBER_CHARS_SHOWN]!r}")
    return int(text)
