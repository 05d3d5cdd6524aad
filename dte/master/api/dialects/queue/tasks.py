"""Tasks: submitted, looked at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from dte.core.errors import InvalidRequest
from dte.core.graph.call import Call
from dte.core.graph.handlers import check_handler
from dte.core.jobs.job import Job, JobState
from dte.master.api.dialects.polling import TASK, quoted, standing
from dte.master.api.dialects.queue.base import NO_DATA, STATUS, Missing, QueueHandler, Status, Unset
from dte.master.api.dialects.queue.state import DIALECT
from dte.master.api.openapi import documented
from dte.master.plans import Node, Plan
from dte.wire.codec import Decoder, Malformed

SHOWN_OF_PRIMES = ("primes", "computation_time", "method", "warning", "requested_limit")
"""What of a result that has primes is shown, each beside the others."""


class TaskSubmission(msgspec.Struct):
    """What `POST /submit-task` takes."""

    task_type: str | Unset = msgspec.UNSET
    task_data: Any = {}


class TaskAccepted(msgspec.Struct):
    """A task that has been accepted."""

    task_id: int
    task_type: str
    status: Status
    max_attempts: int


class SubmissionReply(msgspec.Struct):
    """The reply to a submission."""

    status: Literal["success"]
    message: str
    data: TaskAccepted
    task_id: int


class TaskShown(msgspec.Struct, omit_defaults=True):
    """A task; the last fields are there when it has ended.

    `result` is that of a task which gave no primes.
    """

    task_id: int
    task_type: str
    status: Status
    attempts: int
    max_attempts: int
    assigned_to: str | None
    primes: list[int] | Unset = msgspec.UNSET
    computation_time: float | Unset | None = msgspec.UNSET
    method: str | Unset | None = msgspec.UNSET
    warning: str | Unset = msgspec.UNSET
    requested_limit: int | Unset = msgspec.UNSET
    result: Any = msgspec.UNSET
    error: str | Unset = msgspec.UNSET
    result_ts: str | Unset = msgspec.UNSET


class TaskReply(msgspec.Struct):
    """How a task stands."""

    status: Literal["success"]
    data: TaskShown


_submission: Decoder[TaskSubmission] = Decoder(TaskSubmission, lenient=False)
_fields: Decoder[dict[str, msgspec.Raw]] = Decoder(dict[str, msgspec.Raw])


class SubmitTask(QueueHandler):
    """``POST /submit-task``."""

    @documented(
        "Submit a task",
        body=TaskSubmission,
        examples={
            "primes": {
                "task_type": "compute",
                "task_data": {"limit": 100_000, "method": "sieve"},
            }
        },
        replies={201: SubmissionReply},
        errors=(503, 507),
    )
    async def post(self) -> None:
        said = await self.said(_submission, NO_DATA)
        if not isinstance(said.task_type, str) or not said.task_type:
            raise InvalidRequest("task_type is required")
        check_handler(said.task_type, "task_type: ")
        data = said.task_data
        attempts = self.master.settings.queue_attempts_max
        node = Node(
            said.task_type,
            # Handlers take a list or named arguments; what is neither is their only argument.
            quoted(data if isinstance(data, dict) else [data]),
            retries=0,
            lost_max=attempts,
        )
        job = await self.state.polling.submit(Plan({TASK: node}, about={"dialect": DIALECT}))
        self.state.submitted(said.task_type)
        self.set_status(201)
        self.reply(
            SubmissionReply(
                "success",
                "Task submitted successfully",
                TaskAccepted(job.number, said.task_type, "pending", attempts),
                job.number,
            )
        )


class Task(QueueHandler):
    """``GET /task/{id}``."""

    @documented(
        "How a task stands",
        replies={200: TaskReply, 404: Missing},
        errors=(503,),
        description="Of a job with several calls `task_type` is `graph` or `formula`.",
    )
    async def get(self, number: str) -> None:
        job = await self.find(number)
        calls = await self.master.calls.calls_of(job)
        # A formula with one call and arithmetic around it is not that call.
        call = calls[0] if len(calls) == 1 and job.operations == 1 else None
        task_type = "graph" if calls else "formula"
        worker = ""
        state = standing(job)
        if call is not None:
            task_type = call.handler
            if state is not JobState.WAITING:  # Else it is of an attempt that is over.
                worker = call.record.worker
        shown = TaskShown(
            task_id=job.number,
            task_type=task_type,
            status=STATUS[state],
            attempts=max((each.record.attempts for each in calls), default=0),
            max_attempts=self._attempts_max(call),
            assigned_to=worker or None,
        )
        if job.is_terminal:
            self._show_end(shown, job)
        self.reply(TaskReply("success", shown))

    def _attempts_max(self, call: Call | None) -> int:
        lost_max = call.terms.lost_max if call is not None else None
        return lost_max or self.master.settings.queue_attempts_max

    def _show_end(self, shown: TaskShown, job: Job) -> None:
        shown.result_ts = self.time(job.ended_at)
        if job.state is not JobState.SUCCEEDED:
            shown.error = job.error or job.state.value
            return
        answer: Any = job.answer
        if isinstance(answer, bytes):  # The JSON that a handler gave; else a formula's number.
            fields = _fields_of(answer)
            if "primes" in fields:
                for name in SHOWN_OF_PRIMES:
                    if name in fields:
                        setattr(shown, name, fields[name])  # As it was given, unread.
                return
            answer = msgspec.Raw(answer)
        shown.result = answer


def _fields_of(answer: bytes) -> Mapping[str, msgspec.Raw]:
    """The fields of an answer; none if it is no object."""
    try:
        return _fields.decode(answer)
    except Malformed:
        return {}
