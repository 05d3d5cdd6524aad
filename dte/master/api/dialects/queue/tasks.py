"""Tasks: submitted and shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from dte.core.errors import InvalidRequest
from dte.core.graph.handlers import check_handler
from dte.core.jobs.job import Job, JobState
from dte.master.api.dialects.long_bodies import (
    NAMES_MAX,
    as_list,
    fields_decoder,
    is_object,
)
from dte.master.api.dialects.queue.base import NO_DATA, STATUS, Missing, QueueHandler, Status, Unset
from dte.master.api.dialects.queue.pollers import DIALECT
from dte.master.api.dialects.tasks import TASK, quoted, task_state
from dte.master.api.openapi import documented
from dte.master.plans import Node, Plan
from dte.wire.codec import Decoder, Malformed

SHOWN_OF_PRIMES = ("primes", "computation_time", "method", "warning", "requested_limit")
"""The fields of a result with primes; each is shown as a field of its task."""


class TaskSubmission(msgspec.Struct):
    """The body of `POST /submit-task`."""

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
    """A task; the fields from `primes` on are set once it has ended.

    `result` is set instead of `primes` where a result has none.
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
    """The reply with a task."""

    status: Literal["success"]
    data: TaskShown


class LongSubmission(TaskSubmission):
    """A `TaskSubmission` whose data stays JSON."""

    task_data: msgspec.Raw = msgspec.Raw(b"{}")


_submission: Decoder[TaskSubmission] = Decoder(TaskSubmission, lenient=False)
_long_submission: Decoder[TaskSubmission] = Decoder(LongSubmission, lenient=False)


class SubmitTask(QueueHandler):
    @documented(
        "Submit a task",
        body=TaskSubmission,
        examples={
            "primes": {"task_type": "compute", "task_data": {"limit": 100_000, "method": "sieve"}}
        },
        replies={201: SubmissionReply},
        errors=(503, 507),
    )
    async def post(self) -> None:
        body = await self.read(_long_submission if self.is_long else _submission, NO_DATA)
        task_type, data = body.task_type, body.task_data
        if not isinstance(task_type, str) or not task_type:
            raise InvalidRequest("task_type is required")
        check_handler(task_type, "task_type: ")
        attempts = self.master.settings.queue_attempts_max
        node = Node(
            task_type,
            # Handlers take a list or named arguments; any other value is their only argument.
            quoted(data if isinstance(data, dict) else _listed(data)),
            retries=0,
            lost_max=attempts,
        )
        job = await self.pollers.submit(Plan({TASK: node}, about={"dialect": DIALECT}), self.caller)
        accepted = TaskAccepted(job.number, task_type, "pending", attempts)
        message = "Task submitted successfully"
        self.created(SubmissionReply("success", message, accepted, job.number))


class Task(QueueHandler):
    @documented(
        "Get a task",
        replies={200: TaskReply, 404: Missing},
        errors=(503,),
        description="The `task_type` of a job with several calls is `graph` or `formula`.",
    )
    async def get(self, number: str) -> None:
        job = await self.find(number)
        calls = await self.calls_of(job)
        # A formula with one call and arithmetic around it is not that call.
        call = calls[0] if len(calls) == 1 and job.operations == 1 else None
        task_type = "graph" if calls else "formula"
        worker, lost_max = "", None
        state = task_state(job)
        if call is not None:
            task_type, lost_max = call.handler, call.terms.lost_max
            if state is not JobState.WAITING:  # A waiting task names the worker of an old attempt.
                worker = call.record.worker
        shown = TaskShown(
            task_id=job.number,
            task_type=task_type,
            status=STATUS[state],
            attempts=max((each.record.attempts for each in calls), default=0),
            max_attempts=lost_max or self.master.settings.queue_attempts_max,
            assigned_to=worker or None,
        )
        if job.is_terminal:
            self._show_end(shown, job)
        self.reply(TaskReply("success", shown))

    def _show_end(self, shown: TaskShown, job: Job) -> None:
        shown.result_ts = self.local_time(job.ended_at) or ""
        if job.state is not JobState.SUCCEEDED:
            shown.error = job.error or job.state.value
            return
        answer: Any = job.answer
        if isinstance(answer, bytes):  # The JSON of a handler, not the number of a formula.
            fields = _fields_of(answer)
            if "primes" in fields:
                for name in SHOWN_OF_PRIMES:
                    if name in fields:
                        setattr(shown, name, fields[name])  # As it was sent, undecoded.
                return
            answer = msgspec.Raw(answer)
        shown.result = answer


def _listed(data: Any) -> Any:
    """The arguments of a handler for data that is no object with decoded values."""
    if isinstance(data, msgspec.Raw):
        return data if is_object(data) else as_list(bytes(data))
    return [data]


def _fields_of(answer: bytes) -> Mapping[str, msgspec.Raw]:
    """The fields of an answer with primes; none if it is another."""
    if b'"primes"' not in answer or answer.count(b":") > NAMES_MAX:
        return {}
    try:
        return fields_decoder.decode(answer)
    except Malformed:
        return {}
