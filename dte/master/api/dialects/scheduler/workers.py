"""Workers that poll: registered, heard of, what they get, what they say of it, and their end."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, Literal

import msgspec

from dte.core.calls.attempts import Outcome
from dte.core.calls.lease import CallLease
from dte.core.graph.call import CallState
from dte.core.jobs.job import Job, JobState
from dte.core.workers.worker import Announcement
from dte.master.api.dialects.polling import only_call, succeeded
from dte.master.api.dialects.scheduler.arguments import handed_out
from dte.master.api.dialects.scheduler.base import ATTEMPTS_MAX, Done, Refused, SchedulerHandler
from dte.master.api.dialects.scheduler.validation import Invalid
from dte.master.api.openapi import documented
from dte.wire.codec import Decoder

ENDS = {"FAILED": CallState.FAILED, "TIMED_OUT": CallState.TIMED_OUT}
"""How a call ends by what its worker says of it, where that follows from the word alone."""


class TaskGiven(msgspec.Struct):
    """A task for a worker; times are local, without their zone."""

    task_id: str
    func: str
    args: list[Any]
    kwargs: dict[str, Any]
    priority: int
    dependencies: list[str]
    status: Literal["RUNNING"]
    created_at: str | None
    started_at: str | None
    completed_at: None
    worker_id: str
    timeout: float | int | None
    retries: int
    max_retries: int


class TaskStatus(msgspec.Struct):
    """What `POST /task_status` takes."""

    task_id: str
    status: Literal["COMPLETED", "FAILED", "TIMED_OUT", "CANCELED"]
    result: Any = None
    error_message: str | None = None
    worker_id: str | None = None


_status: Decoder[TaskStatus] = Decoder(TaskStatus, lenient=False)


class RegisterWorker(SchedulerHandler):
    """``POST /register_worker/{worker_id}``."""

    @documented("Register a worker", replies={200: Done}, errors_as=Refused)
    def post(self, worker_id: str) -> None:
        self.polling.beat(self.said(worker_id))
        self.reply(Done(f"Worker {worker_id} registered"))


class Heartbeat(SchedulerHandler):
    """``PUT /heartbeat/{worker_id}``."""

    @documented(
        "Say that a worker is there",
        replies={200: Done},
        errors_as=Refused,
        description="Registers the worker, and keeps the lease of what it has.",
    )
    def put(self, worker_id: str) -> None:
        self.polling.beat(self.said(worker_id))
        self.reply(Done(f"Heartbeat of {worker_id} received"))


class GetTask(SchedulerHandler):
    """``GET /get_task/{worker_id}``: a worker polls."""

    @documented(
        "Claim a task",
        replies={200: TaskGiven, 204: None},
        errors=(503,),
        errors_as=Refused,
        description="A worker does one task at a time: what it had before goes to another, once "
        "its lease runs out.",
    )
    async def get(self, worker_id: str) -> None:
        lease = await self.polling.poll(self.said(worker_id), self.gone)
        if lease is not None:
            self.reply(self._given(lease))
            return
        self.set_status(HTTPStatus.NO_CONTENT)
        self.clear_header("Content-Type")

    def _given(self, lease: CallLease) -> TaskGiven:
        """A call as a worker of this dialect gets it."""
        call = lease.call
        job = self.master.core.jobs.job(call.job)
        args, kwargs = handed_out(lease, job)
        timeout_s, retries = lease.timeout_s, call.terms.retries
        if timeout_s is not None and timeout_s.is_integer():
            timeout_s = int(timeout_s)  # As 30, not as 30.0.
        return TaskGiven(
            task_id=str(job.number),
            func=call.handler,
            args=args,
            kwargs=kwargs,
            priority=call.priority,
            dependencies=[str(other.number) for other in job.awaited],
            status="RUNNING",
            created_at=self._time(job.submitted_at),
            started_at=self._time(call.record.started_at),
            completed_at=None,
            worker_id=lease.worker_name,
            timeout=timeout_s,
            retries=call.record.failures,
            max_retries=ATTEMPTS_MAX if retries is None else retries + 1,
        )

    def _time(self, moment: float | None) -> str | None:
        wall_time = self.master.wall_time(moment)
        if wall_time is None:
            return None
        return wall_time.astimezone().replace(tzinfo=None).isoformat()


class ReportStatus(SchedulerHandler):
    """``POST /task_status``."""

    @documented(
        "Report what became of a task",
        body=TaskStatus,
        examples={
            "a sum": {
                "task_id": "1",
                "status": "COMPLETED",
                "result": 3,
                "error_message": None,
                "worker_id": "worker-1",
            }
        },
        replies={200: Done, 422: Invalid},
        errors=(404, 503),
        errors_as=Refused,
        description="Answered when it is recorded. What does not count any more changes nothing: "
        "the task has ended, or another worker has it.",
    )
    async def post(self) -> None:
        update = await self.checked(_status)
        job = await self.find(update.task_id)
        call = only_call(job)
        worker_id = update.worker_id
        if not worker_id and call is not None and call.record.worker:
            worker_id = self.polling.unnamed(job)
            if not worker_id:  # Who has it, or had it last, speaks another dialect.
                self.reply(Done(_unchanged(job)))
                return
        said = self.said(worker_id or "")
        if await self._settle(job, said, update):
            text = f"Task {job.number} is {update.status}"
        else:
            text = _unchanged(job, said.name)
        self.reply(Done(text))

    async def _settle(self, job: Job, said: Announcement, update: TaskStatus) -> bool:
        """Take in what a worker says; give whether it counts."""
        error = update.error_message or f"its worker says {update.status}"
        if update.status == "COMPLETED":
            outcome = succeeded(update.result, self.master.settings.value_bytes_max)
        elif update.status in ENDS:
            outcome = Outcome(ENDS[update.status], None, error)
        elif only_call(job) is not None:
            # The job is cancelled: a call alone, given back as cancelled, would go out again.
            held = self.polling.held(job, said) is not None
            return held and await self.master.calls.cancel(job)
        else:
            # Of a job with other calls, one worker's word does not cancel them all.
            outcome = Outcome(CallState.FAILED, None, error, retry=False)
        return await self.polling.settle(job, said, outcome)


class UnregisterWorker(SchedulerHandler):
    """``DELETE /unregister_worker/{worker_id}``, or ``/unregister/{worker_id}``."""

    @documented(
        "Say that a worker has ended",
        replies={200: Done},
        errors_as=Refused,
        description="What it had goes to another at once.",
    )
    def delete(self, worker_id: str) -> None:
        worker = self.master.core.worker(self.said(worker_id).identity)
        if worker is not None:
            self.master.calls.leave(worker)
        self.reply(Done(f"Worker {worker_id} unregistered"))


def _unchanged(job: Job, worker: str = "") -> str:
    """What somebody hears whose word does not count; nameless if he does not say who he is."""
    if job.is_terminal or job.state is JobState.ENDING:
        return f"Task {job.number} has ended before; nothing is changed"
    who = f"worker {worker}" if worker else "a worker that polls here"
    return f"Task {job.number} is not with {who}; nothing is changed"
