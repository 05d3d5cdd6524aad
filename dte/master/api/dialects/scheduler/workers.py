"""The routes of workers: register, beat, poll, report, and leave."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from dte.core.calls.attempts import Outcome
from dte.core.calls.lease import CallLease
from dte.core.graph.call import CallState
from dte.core.jobs.job import Job, JobState
from dte.master.api.dialects.scheduler.arguments import handed_out
from dte.master.api.dialects.scheduler.base import ATTEMPTS_MAX, Done, SchedulerHandler
from dte.master.api.dialects.scheduler.validation import Invalid
from dte.master.api.dialects.tasks import only_call, succeeded
from dte.master.api.openapi import documented

FAILURES = {"FAILED": CallState.FAILED, "TIMED_OUT": CallState.TIMED_OUT}
"""The state of a call for each reported status of a failure."""


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
    """The body of `POST /task_status`."""

    task_id: str
    status: Literal["COMPLETED", "FAILED", "TIMED_OUT", "CANCELED"]
    result: Any = None
    error_message: str | None = None
    worker_id: str | None = None


class RegisterWorker(SchedulerHandler):
    @documented("Register a worker", replies={200: Done})
    def post(self, worker_id: str) -> None:
        self.pollers.beat(worker_id, self.owner)
        self.reply(Done(f"Worker {worker_id} registered"))


class Heartbeat(SchedulerHandler):
    @documented(
        "Send a heartbeat",
        replies={200: Done},
        description="Registers the worker, and keeps the lease of its task.",
    )
    def put(self, worker_id: str) -> None:
        self.pollers.beat(worker_id, self.owner)
        self.reply(Done(f"Heartbeat of {worker_id} received"))


class GetTask(SchedulerHandler):
    @documented(
        "Claim a task",
        replies={200: TaskGiven, 204: None},
        errors=(503,),
        description="A worker runs one task at a time. An earlier task without a report goes to "
        "another worker once its lease runs out.",
    )
    async def get(self, worker_id: str) -> None:
        lease = await self.pollers.poll(worker_id, self.owner, self.gone)
        if lease is not None:
            self.reply(self._given(lease))
        else:
            self.reply_nothing()

    def head(self, *worker_id: str) -> None:
        """Answer like GET without a task: a task that nobody reads would be lost for a while."""
        self.reply_nothing()

    def _given(self, lease: CallLease) -> TaskGiven:
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
            created_at=self.local_time(job.submitted_at),
            started_at=self.local_time(call.record.started_at),
            completed_at=None,
            worker_id=lease.worker_name,
            timeout=timeout_s,
            retries=call.record.failures,
            max_retries=ATTEMPTS_MAX if retries is None else retries + 1,
        )


class ReportStatus(SchedulerHandler):
    @documented(
        "Report the status of a task",
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
        description="The reply comes when the status is recorded. A report changes nothing if the "
        "task has ended or another worker has it.",
    )
    async def post(self) -> None:
        update = await self.read(TaskStatus)
        job = await self.find(update.task_id)
        worker_id = update.worker_id or self.pollers.holder(job)
        if worker_id is not None and await self._settle(job, worker_id, update):
            text = f"Task {job.number} is {update.status}"
        else:
            text = _unchanged(job, worker_id)
        self.reply(Done(text))

    async def _settle(self, job: Job, worker_id: str, update: TaskStatus) -> bool:
        error = update.error_message or f"its worker says {update.status}"
        if update.status == "COMPLETED":
            outcome = succeeded(update.result, self.master.settings.value_bytes_max)
        elif update.status in FAILURES:
            outcome = Outcome(FAILURES[update.status], None, error)
        elif only_call(job) is not None:
            # Cancel the job: a call that is only returned as cancelled would be handed out again.
            has_it = self.pollers.lease(job, worker_id, self.owner) is not None
            return has_it and await self.master.jobs.cancel(job, self.caller)
        else:
            # One worker does not cancel the other calls of a job.
            outcome = Outcome(CallState.FAILED, None, error, retry=False)
        return await self.pollers.settle(job, worker_id, self.owner, outcome)


class UnregisterWorker(SchedulerHandler):
    @documented(
        "Unregister a worker",
        replies={200: Done},
        description="Its task goes to another worker at once.",
    )
    def delete(self, worker_id: str) -> None:
        announcement = self.pollers.announcement(worker_id, self.owner)
        worker = self.master.core.worker(announcement.identity)
        if worker is not None:
            self.master.workers.leave(worker)
        self.reply(Done(f"Worker {worker_id} unregistered"))


def _unchanged(job: Job, worker_id: str | None) -> str:
    """The reply to a report that changed nothing; None stands for a worker of another dialect."""
    if job.is_terminal or job.state is JobState.ENDING:
        return f"Task {job.number} has ended before; nothing is changed"
    who = "a worker that polls here" if worker_id is None else f"worker {worker_id}"
    return f"Task {job.number} is not with {who}; nothing is changed"
