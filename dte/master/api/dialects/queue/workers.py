"""Workers that poll: what they get, what they give back, and that they are there."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from dte.core.calls.attempts import Outcome
from dte.core.calls.lease import CallLease
from dte.core.errors import InvalidRequest
from dte.core.graph.call import CallState
from dte.core.jobs.job import Job, JobState
from dte.master.api.dialects.polling import only_call, standing, succeeded, too_long
from dte.master.api.dialects.queue.base import (
    ALIVE,
    BEAT_BYTES_MAX,
    NO_DATA,
    NO_WORKER,
    STATUS,
    Missing,
    QueueHandler,
    Unset,
)
from dte.master.api.dialects.queue.state import HANDLERS
from dte.master.api.openapi import documented
from dte.master.dispatch.calls import arguments
from dte.wire.codec import Decoder, encode

PARAMETERS = ("limit", "method")
"""Of the handlers that every worker of this dialect has, in their order."""


class Poll(msgspec.Struct):
    """What `POST /get-task` takes."""

    worker_id: str | Unset = msgspec.UNSET


class TaskGiven(msgspec.Struct):
    """A task for a worker; `payload` is the text of its data's JSON."""

    task_id: int
    task_type: str
    payload: str


class NoTask(msgspec.Struct):
    """There is nothing to do."""

    task: None = None


class Result(msgspec.Struct):
    """What `POST /submit-result` takes; what else it has is kept with the result."""

    task_id: int
    worker_id: str | None = None
    status: Literal["completed", "failed"] = "completed"
    primes: list[int] | None = []
    computation_time: float | None = None
    method: str | None = None
    error: str | None = None


class ResultSaved(msgspec.Struct, omit_defaults=True):
    """What became of a result; one that is not `saved` changes nothing."""

    task_id: int
    status: str
    saved: bool
    timestamp: str
    message: str | Unset = msgspec.UNSET


class ResultReply(msgspec.Struct):
    """The reply to a result."""

    status: Literal["success"]
    message: str
    data: ResultSaved


class Heartbeat(msgspec.Struct):
    """What `POST /heartbeat` takes."""

    worker_id: str | Unset = msgspec.UNSET
    status: str = ALIVE
    metadata: Any = None


class Beat(msgspec.Struct):
    """What is known of a worker that was heard of."""

    worker_id: str
    status: str
    last_heartbeat: str


class BeatReply(msgspec.Struct):
    """The reply to a heartbeat."""

    status: Literal["success"]
    message: str
    data: Beat


_poll: Decoder[Poll] = Decoder(Poll, lenient=False)
# Not a `Result`, which would drop the fields that it does not know.
_result: Decoder[dict[str, Any]] = Decoder(dict[str, Any], lenient=False)
_heartbeat: Decoder[Heartbeat] = Decoder(Heartbeat, lenient=False)


class GetTask(QueueHandler):
    """``POST /get-task``: a worker polls."""

    def body_bytes_max(self) -> int:
        return min(BEAT_BYTES_MAX, super().body_bytes_max())

    @documented(
        "Claim a task",
        body=Poll,
        examples={"a worker": {"worker_id": "worker-1"}},
        replies={200: TaskGiven | NoTask},
        errors=(503,),
        description="A worker does one task at a time: what it had before is not kept for it, once "
        "its lease runs out.",
    )
    async def post(self) -> None:
        said = await self.said(_poll, NO_WORKER)
        worker_id = self.worker_id(said.worker_id)
        lease = await self.state.polling.poll(self.state.said(worker_id), self.gone)
        self.reply(_given(lease) if lease is not None else NoTask())


class SubmitResult(QueueHandler):
    """``POST /submit-result``."""

    @documented(
        "Report a result",
        body=Result,
        examples={
            "primes": {
                "task_id": 1,
                "worker_id": "worker-1",
                "status": "completed",
                "primes": [2, 3, 5, 7],
                "computation_time": 0.01,
                "method": "sieve",
            }
        },
        replies={200: ResultReply, 404: Missing},
        errors=(503,),
        description="Answered when it is recorded. A result that does not count is not `saved`: "
        "the task has ended, or another worker has it.",
    )
    async def post(self) -> None:
        size = self._size  # Taken now: when the worker hangs up it is set to 0.
        fields = await self.said(_result, NO_DATA)
        if "task_id" not in fields:
            raise InvalidRequest("task_id is required")
        job = await self.find(_digits(fields.pop("task_id")))
        status = fields.setdefault("status", "completed")
        if status not in ("completed", "failed"):
            raise InvalidRequest("status must be 'completed' or 'failed'")
        worker_id = fields.pop("worker_id", None)
        call = only_call(job)
        if worker_id is None and call is not None and call.record.worker:
            worker_id = self.state.polling.unnamed(job)
            if not worker_id:  # Who has it, or had it last, speaks another dialect.
                self.reply(self._saved(job, status, False))
                return
        said = self.state.said(self.worker_id(worker_id))
        saved = await self.state.polling.settle(job, said, self._outcome(fields, size))
        self.reply(self._saved(job, status, saved))

    def _outcome(self, fields: dict[str, Any], size: int) -> Outcome:
        """What a result stands for.

        Args:
            fields: all of it but who has done which task.
            size: how many bytes its body has.
        """
        bytes_max = self.master.settings.value_bytes_max
        if fields["status"] == "failed":
            error = fields.get("error")
            text = error if isinstance(error, str) and error else "its worker says that it failed"
            return Outcome(CallState.FAILED, None, text)
        if size > 2 * bytes_max:
            return too_long(bytes_max)  # To count it exactly, it would all be encoded again.
        return succeeded(fields, bytes_max)

    def _saved(self, job: Job, status: str, saved: bool) -> ResultReply:
        data = ResultSaved(job.number, status, saved, self.time(self.master.now()))
        message = "Result saved successfully"
        if not saved:
            has_ended = job.is_terminal or job.state is JobState.ENDING
            message = (
                "Task already completed" if has_ended else "Task is not assigned to this worker"
            )
            data.status = STATUS[standing(job)]
            data.message = message
        return ResultReply("success", message, data)


class Heartbeats(QueueHandler):
    """``POST /heartbeat``."""

    def body_bytes_max(self) -> int:
        return min(BEAT_BYTES_MAX, super().body_bytes_max())

    @documented(
        "Say that a worker is there",
        body=Heartbeat,
        examples={"a worker": {"worker_id": "worker-1", "status": "alive", "metadata": {}}},
        replies={200: BeatReply},
        description="Registers the worker, and keeps the lease of what it has.",
    )
    async def post(self) -> None:
        said = await self.said(_heartbeat, NO_WORKER)
        worker_id = self.worker_id(said.worker_id)
        worker = self.state.polling.beat(self.state.said(worker_id))
        metadata = encode(said.metadata).decode() if said.metadata else None
        worker.info = {"status": said.status, "metadata": metadata}
        self.reply(
            BeatReply(
                "success",
                "Heartbeat received",
                Beat(worker_id, said.status, self.time(worker.last_seen_at)),
            )
        )


def _given(lease: CallLease) -> TaskGiven:
    """A call as a worker of this dialect gets it."""
    call = lease.call
    data = arguments(call)
    # Workers here look for named arguments; clients of other dialects may give a list.
    if isinstance(data, list):
        if call.handler in HANDLERS:
            data = dict(zip(PARAMETERS, data, strict=False))
        elif len(data) == 1:
            data = data[0]
    return TaskGiven(call.job, call.handler, encode(data).decode())


def _digits(given: object) -> str:
    """A task's id as text, which some send it as; empty if it can be none."""
    return str(given) if isinstance(given, int | str) and not isinstance(given, bool) else ""
