"""The routes of workers: poll, report, and beat."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from dte.core.calls.attempts import Outcome
from dte.core.calls.lease import CallLease
from dte.core.errors import InvalidRequest
from dte.core.graph.call import CallState
from dte.core.jobs.job import Job, JobState
from dte.master.api.dialects.long_bodies import decoded, fields_decoder, only_item
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
from dte.master.api.dialects.queue.pollers import HANDLERS
from dte.master.api.dialects.tasks import succeeded, task_state, too_long
from dte.master.api.openapi import documented
from dte.master.messages import arguments
from dte.wire.codec import Decoder, encode

SHORT_FIELDS = ("task_id", "worker_id", "status", "error")
"""The fields of a result that are not a part of it, or say that there is none."""
PARAMETERS = ("limit", "method")
"""Parameters of the handlers that every worker of this dialect has, in their order."""


class Poll(msgspec.Struct):
    """The body of `POST /get-task`."""

    worker_id: str | Unset = msgspec.UNSET


class TaskGiven(msgspec.Struct):
    """A task for a worker; `payload` is the text of its data's JSON."""

    task_id: int
    task_type: str
    payload: str


class NoTask(msgspec.Struct):
    """The reply to a poll when no task is ready."""

    task: None = None


class Result(msgspec.Struct):
    """The body of `POST /submit-result`; its other fields are kept with the result."""

    task_id: int
    worker_id: str | None = None
    status: Literal["completed", "failed"] = "completed"
    primes: list[int] | None = []
    computation_time: float | None = None
    method: str | None = None
    error: str | None = None


class ResultSaved(msgspec.Struct, omit_defaults=True):
    """The receipt of a result; a result that is not `saved` changed nothing."""

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
    """The body of `POST /heartbeat`."""

    worker_id: str | Unset = msgspec.UNSET
    status: str = ALIVE
    metadata: Any = None


class Beat(msgspec.Struct):
    """The receipt of a heartbeat."""

    worker_id: str
    status: str
    last_heartbeat: str


class BeatReply(msgspec.Struct):
    """The reply to a heartbeat."""

    status: Literal["success"]
    message: str
    data: Beat


_poll: Decoder[Poll] = Decoder(Poll, lenient=False)
# A `Result` would drop the fields that it does not know.
_result: Decoder[dict[str, Any]] = Decoder(dict[str, Any], lenient=False)
_heartbeat: Decoder[Heartbeat] = Decoder(Heartbeat, lenient=False)


class GetTask(QueueHandler):
    BODY_BYTES_MAX = BEAT_BYTES_MAX

    @documented(
        "Claim a task",
        body=Poll,
        examples={"a worker": {"worker_id": "worker-1"}},
        replies={200: TaskGiven | NoTask},
        errors=(503,),
        description="A worker runs one task at a time. An earlier task without a report goes to "
        "another worker once its lease runs out.",
    )
    async def post(self) -> None:
        body = await self.read(_poll, NO_WORKER)
        lease = await self.pollers.poll(self.worker_id(body.worker_id), self.owner, self.gone)
        self.reply(_given(lease) if lease is not None else NoTask())


class SubmitResult(QueueHandler):
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
        description="The reply comes when the result is recorded. A result is not `saved` if the "
        "task has ended or another worker has it.",
    )
    async def post(self) -> None:
        size = self.body_size  # It becomes 0 when the worker hangs up.
        fields = await self._read_fields()
        if "task_id" not in fields:
            raise InvalidRequest("task_id is required")
        job = await self.find(_digits(fields.pop("task_id")))
        status = fields.setdefault("status", "completed")
        if status not in ("completed", "failed"):
            raise InvalidRequest("status must be 'completed' or 'failed'")
        worker_id = fields.pop("worker_id", None)
        if worker_id is None:
            worker_id = self.pollers.holder(job)
        saved = worker_id is not None and await self.pollers.settle(
            job, self.worker_id(worker_id), self.owner, self._outcome(fields, size)
        )
        self.reply(self._saved(job, status, saved))

    async def _read_fields(self) -> dict[str, Any]:
        """The fields of the body; of a long one, those with the result alone stay JSON."""
        if not self.is_long:
            return await self.read(_result, NO_DATA)
        fields = await self.read(fields_decoder, NO_DATA)
        return {**fields, **decoded(fields, SHORT_FIELDS, ())}

    def _outcome(self, fields: dict[str, Any], size: int) -> Outcome:
        """The outcome of a call by the fields of a result's body, which has `size` bytes."""
        bytes_max = self.master.settings.value_bytes_max
        if fields["status"] == "failed":
            error = fields.get("error")
            text = error if isinstance(error, str) and error else "its worker says that it failed"
            return Outcome(CallState.FAILED, None, text)
        if size > 2 * bytes_max:
            return too_long(bytes_max)  # Without encoding it all again only to measure it.
        return succeeded(fields, bytes_max)

    def _saved(self, job: Job, status: str, saved: bool) -> ResultReply:
        clock = self.master.clock
        now = self.local_time(clock.wall_s(clock.now())) or ""
        if saved:
            data = ResultSaved(job.number, status, True, now)
            return ResultReply("success", "Result saved successfully", data)
        message = "Task is not assigned to this worker"
        if job.is_terminal or job.state is JobState.ENDING:
            message = "Task already completed"
        data = ResultSaved(job.number, STATUS[task_state(job)], False, now, message)
        return ResultReply("success", message, data)


class Heartbeats(QueueHandler):
    BODY_BYTES_MAX = BEAT_BYTES_MAX

    @documented(
        "Send a heartbeat",
        body=Heartbeat,
        examples={"a worker": {"worker_id": "worker-1", "status": "alive", "metadata": {}}},
        replies={200: BeatReply},
        description="Registers the worker, and keeps the lease of its task.",
    )
    async def post(self) -> None:
        body = await self.read(_heartbeat, NO_WORKER)
        worker_id = self.worker_id(body.worker_id)
        metadata = encode(body.metadata).decode() if body.metadata else None
        info = {"status": body.status, "metadata": metadata}
        worker = self.pollers.beat(worker_id, self.owner, info)
        seen_at = self.local_time(self.master.clock.wall_s(worker.last_seen_at))
        beat = Beat(worker_id, body.status, seen_at or "")
        self.reply(BeatReply("success", "Heartbeat received", beat))


def _given(lease: CallLease) -> TaskGiven:
    call = lease.call
    data = arguments(call)
    if isinstance(data, msgspec.Raw):
        only = only_item(bytes(data))
        return TaskGiven(call.job, call.handler, bytes(data if only is None else only).decode())
    # These workers expect named arguments; clients of other dialects may give a list.
    if isinstance(data, list):
        if call.handler in HANDLERS:
            data = dict(zip(PARAMETERS, data, strict=False))
        elif len(data) == 1:
            data = data[0]
    return TaskGiven(call.job, call.handler, encode(data).decode())


def _digits(given: object) -> str:
    """A task's id as text, as some workers send it; empty if it is not an id."""
    return str(given) if isinstance(given, int | str) and not isinstance(given, bool) else ""
