"""Tasks: added, cancelled."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import msgspec

from dte.core.errors import InvalidRequest, NotFound
from dte.core.graph.handlers import check_handler
from dte.master.api.dialects.polling import TASK, quoted, standing
from dte.master.api.dialects.scheduler.arguments import PARAMETERS, arguments
from dte.master.api.dialects.scheduler.base import (
    ATTEMPTS_MAX,
    HANDLERS,
    ID_CHARS_SHOWN,
    NUMBER,
    STATUS,
    Done,
    Refused,
    SchedulerHandler,
)
from dte.master.api.dialects.scheduler.validation import Invalid
from dte.master.api.openapi import documented
from dte.master.plans import Node, Plan
from dte.wire.codec import Decoder


class TaskSubmission(msgspec.Struct):
    """What `POST /add_task` takes; `timeout` is in seconds."""

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


_submission: Decoder[TaskSubmission] = Decoder(TaskSubmission, lenient=False)


class AddTask(SchedulerHandler):
    """``POST /add_task``."""

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
        errors_as=Refused,
        description="`func_name` is `process_data`, `send_email`, `calculate_pi`, or a handler "
        "that a worker has announced.",
    )
    async def post(self) -> None:
        said = await self.checked(_submission)
        check_handler(said.func_name, "func_name: ")
        if not self._is_known(said.func_name):
            raise InvalidRequest(
                f"Function {said.func_name!r} is not known: it is none of {', '.join(PARAMETERS)}, "
                "and no worker has announced it"
            )
        args, about = arguments(said.func_name, said.args or [], said.kwargs or {})
        after = await self._jobs_of(said.dependencies or [])
        node = Node(
            said.func_name,
            quoted(args),
            timeout=said.timeout,
            retries=ATTEMPTS_MAX - 1,
            lost_max=ATTEMPTS_MAX,
        )
        plan = Plan({TASK: node}, after=after, priority=said.priority, about=about)
        job = await self.polling.submit(plan)
        self.set_status(HTTPStatus.CREATED)
        self.reply(TaskAdded("Task added successfully", str(job.number)))

    async def _jobs_of(self, dependencies: list[str | int]) -> list[int]:
        """The numbers of the jobs of tasks.

        Raises:
            InvalidRequest: there is no such task.
        """
        numbers = [_number(each) for each in dependencies]
        try:
            await self.master.find(numbers)
        except NotFound:  # It does not say which: look for them one by one.
            for number in numbers:
                try:
                    await self.master.find([number])
                except NotFound:
                    raise InvalidRequest(f"dependencies: there is no task '{number}'") from None
        return numbers

    def _is_known(self, function: str) -> bool:
        return function in HANDLERS or any(
            function in worker.announcement.handlers for worker in self.master.core.workers()
        )


class CancelTask(SchedulerHandler):
    """``POST /cancel_task/{task_id}``."""

    @documented(
        "Cancel a task",
        replies={200: Done},
        errors=(404, 503, 507),
        errors_as=Refused,
        description="One that waits never starts; of one that runs the result will not count.",
    )
    async def post(self, task_id: str) -> None:
        job = await self.find(task_id)
        if not job.is_terminal and await self.master.calls.cancel(job):
            self.reply(Done(f"Cancellation of task {job.number} requested"))
        else:
            self.reply(Done(f"Task {job.number} has ended before: {STATUS[standing(job)]}"))


def _number(task_id: str | int) -> int:
    """The job's number of a dependency.

    Raises:
        InvalidRequest: it can be none.
    """
    text = str(task_id)
    if not NUMBER.fullmatch(text):
        raise InvalidRequest(f"dependencies: there is no task {text[:ID_CHARS_SHOWN]!r}")
    return int(text)
