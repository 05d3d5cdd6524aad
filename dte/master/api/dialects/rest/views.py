"""Jobs and workers as this dialect shows them, with Go's names for their fields.

A job of one call is a task. A formula is shown as a task of the handler ``formula``, and a graph of
calls as a task of ``graph``; a call of these jobs is a part, a task with an id of its own.
"""

from __future__ import annotations

import time
from base64 import b64decode
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec

from dte.core.graph.call import TERMINAL, Call, CallRecord, CallState
from dte.core.graph.json_template import JsonTemplate
from dte.core.graph.numbers import Number
from dte.core.jobs.job import Job, JobState
from dte.core.slices import at_once
from dte.core.workers.worker import Worker
from dte.master.api.dialects.long_bodies import LONG_BYTES
from dte.master.api.dialects.rest.payloads import given_result, sent_arguments
from dte.master.api.replies import REPLY_SLICE_S
from dte.master.arguments import compact
from dte.master.expected import id_of
from dte.master.master import Master
from dte.master.messages import known_json_of
from dte.master.plans import Node, Plan, read_plan
from dte.wire.codec import Decoder, Malformed, encode

DIALECT = "rest"
"""Marks the plans of jobs that were submitted here."""
ZERO_TIME = datetime(1, 1, 1, tzinfo=UTC)
"""Go's form of a time that is not set."""
PLAN_BYTES_MIN = 1_000_000
PENDING, RUNNING, COMPLETED, FAILED = "pending", "running", "completed", "failed"
LITERAL = b'"literal"'
GO_NAMES = {
    "id": "ID",
    "worker_id": "WorkerID",
    "cpu": "CPU",
    "created": "CreatedAt",
    "started": "StartedAt",
    "completed": "CompletedAt",
    "started_at": "started_at",
    "completed_at": "completed_at",
    "current_tasks": "CurrentTasks",
    "last_heartbeat": "LastHeartbeat",
}
"""Go's names of fields, unless they are just capitalized."""
HAD = (CallState.RUNNING, CallState.CANCELLING, CallState.ENDING)

KnownCall = Call | CallRecord | None
"""A call in memory or its record in the journal, if there is one."""
Remembered = tuple[str | None, Sequence[CallRecord]]
"""The text of a job's plan, and the records of its calls."""


def _go_name(field: str) -> str:
    return GO_NAMES.get(field, field.title())


class Task(msgspec.Struct, rename=_go_name):
    """A task; `started_at` and `completed_at` appear once they are known."""

    id: str
    name: str
    handler: str
    args: bytes | None
    dependencies: list[str] | None
    priority: int
    status: str
    result: bytes | None
    error: str
    worker_id: str
    created: datetime
    started: datetime | None
    completed: datetime | None
    metadata: dict[str, Any] | None
    started_at: datetime | msgspec.UnsetType = msgspec.UNSET
    completed_at: datetime | msgspec.UnsetType = msgspec.UNSET


class ShownResources(msgspec.Struct, rename=_go_name):
    """The resources that a worker reported."""

    cpu: Number = 0
    memory: Number = 0
    disk: Number = 0


class ShownWorker(msgspec.Struct, rename=_go_name):
    """A worker, and its current tasks by their ids."""

    id: str
    capabilities: list[str] | None
    current_tasks: dict[str, Task]
    last_heartbeat: datetime
    resources: ShownResources
    status: str


class _Head(msgspec.Struct):
    """A plan without its graph, which may be long."""

    after: list[int] = []
    formula: str | None = None


class _Literal(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments without references to results."""

    literal: msgspec.Raw


_head: Decoder[_Head] = Decoder(_Head, lenient=False)
_literal: Decoder[_Literal] = Decoder(_Literal, lenient=False)


def part_of(job: Job, name: str) -> Call | None:
    """The call of a job that a part's id names, plain or quoted as in a URL."""
    calls = job.calls.calls if job.calls is not None else {}
    if name in calls:
        return calls[name]
    return next((call for call in calls.values() if quote(call.name, safe="") == name), None)


class Viewer:
    """Shows jobs and calls as tasks, and workers."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._plan_bytes_max = PLAN_BYTES_MIN + 4 * master.settings.value_bytes_max

    def task(self, job: Job, remembered: Remembered | None = None) -> Task:
        """A job as a task; `remembered` comes from the journal if the job ended long ago."""
        return at_once(self._making(job, remembered))

    def writing(
        self, job: Job, remembered: Remembered | None = None
    ) -> Generator[None, None, list[bytes]]:
        """The JSON of what `task` returns, a long one in pieces made in slices."""
        task = yield from self._making(job, remembered)
        if len(task.args or b"") + len(task.result or b"") <= LONG_BYTES:
            return [encode(task)]
        pieces: list[bytes] = []
        before = b"{"
        for field in msgspec.structs.fields(task):
            value = getattr(task, field.name)
            if value is msgspec.UNSET:
                continue
            if isinstance(value, bytes):  # Megabytes of base64 take long.
                yield
            pieces += before + encode(field.encode_name) + b":", encode(value)
            before = b","
        return [*pieces, b"}"]

    def _making(self, job: Job, remembered: Remembered | None) -> Generator[None, None, Task]:
        text, records = remembered or (job.plan, ())
        plan = self._plan_of_one_call(job, text)
        if plan is None:
            return self._whole(job, text)
        if text is not None and len(text) > LONG_BYTES:
            yield
        ((name, node),) = plan.graph.items()
        call = job.calls.calls.get(name) if job.calls is not None else None
        record = next((each for each in records if each.name == name), None)
        return (yield from self._single(job, plan, node, call or record))

    def part(self, job: Job, call: Call) -> Task:
        """A call as a task: its whole job if that has no other call."""
        plan = self._plan_of_one_call(job, job.plan)
        if plan is not None:
            return self.task(job)
        sent = _sent(call)
        status = _status_of_call(call)
        value = call.record.value if status == COMPLETED else None
        return Task(
            id=f"{id_of(job.number)}.{quote(call.name, safe='')}",
            name=call.name,
            handler=call.handler,
            args=sent,
            dependencies=None,
            priority=call.priority,
            result=None if value is None else given_result(call.handler, sent, value),
            metadata=None,
            **self._course(status, call.record.error, job, call.record, call.record.ended_at),
        )

    def sent_for(self, job: Job, call: Call) -> bytes:
        """The arguments of a call of an unfinished job, in the form of this dialect."""
        plan = self._plan_of_one_call(job, job.plan)
        about = plan.about if plan is not None else {}
        sent = _sent_here(about)
        return _sent(call) if sent is None and about.get("dialect") != DIALECT else sent or b""

    def workers(self, workers: Iterable[Worker]) -> Generator[None, None, list[ShownWorker]]:
        """Workers with their current tasks, made in slices."""
        shown = []
        began = time.monotonic()
        for worker in workers:
            tasks: dict[str, Task] = {}
            core = self._master.core
            for lease in core.calls.leases.sent_to(worker):
                if not core.calls.leases.is_on(lease):
                    continue  # It has ended since the last slice.
                task = self.part(core.jobs.job(lease.call.job), lease.call)
                tasks[task.id] = task
                if time.monotonic() - began > REPLY_SLICE_S:
                    yield
                    began = time.monotonic()
            shown.append(self._worker(worker, tasks))
        return shown

    def _worker(self, worker: Worker, tasks: dict[str, Task]) -> ShownWorker:
        resources = worker.info.get("resources")
        status = "busy" if tasks or worker.lease_count else "idle"
        return ShownWorker(
            worker.announcement.name,
            list(worker.announcement.handlers) or None,
            tasks,
            self._time(self._master.clock.wall_s(worker.last_seen_at)),
            resources if isinstance(resources, ShownResources) else ShownResources(),
            "offline" if worker.gone else status,
        )

    def _plan_of_one_call(self, job: Job, text: str | None) -> Plan | None:
        """The plan of a job of one call; other plans may be long, and are not decoded."""
        if text is None or job.operations != 1 or len(text) > self._plan_bytes_max:
            return None
        with suppress(Malformed):
            plan = read_plan(text)
            if plan.formula is None and len(plan.graph) == 1:
                return plan
        return None

    def _single(
        self, job: Job, plan: Plan, node: Node, call: KnownCall
    ) -> Generator[None, None, Task]:
        """A job of one call."""
        about = plan.about if plan.about.get("dialect") == DIALECT else {}
        sent = _sent_here(about)
        if not about:
            sent = _sent(call) if isinstance(call, Call) else _sent_of_node(node)
        if sent is not None and len(sent) > LONG_BYTES:
            yield
        status = _status_of_job(job, call)
        value = _answer(job) if status == COMPLETED else None
        result = None if value is None else given_result(node.handler, sent or b"", value)
        record = call.record if isinstance(call, Call) else call
        error = record.error if record is not None and record.error else job.error
        # A task that is retried as a new job leaves its id to the first.
        given_id = plan.retry_of is None and about.get("id")
        awaited = about.get("dependencies") or [id_of(number) for number in plan.after]
        return Task(
            id=str(given_id or id_of(job.number)),
            name=str(about.get("name") or job.task),
            handler=node.handler,
            args=sent,
            dependencies=awaited or None,
            priority=plan.priority if node.priority is None else node.priority,
            result=result,
            metadata=about.get("metadata") or None,
            **self._course(status, error, job, record, job.ended_at),
        )

    def _whole(self, job: Job, text: str | None) -> Task:
        """A job that is not one call."""
        status = _status_of_job(job, None)
        head = self._head(text)
        return Task(
            id=id_of(job.number),
            name=job.task,
            handler="formula" if text is None or head.formula is not None else "graph",
            args=None,
            dependencies=[id_of(number) for number in head.after] or None,
            priority=job.priority,
            result=_answer(job) if status == COMPLETED else None,
            metadata=None,
            **self._course(status, job.error, job, None, job.ended_at),
        )

    def _head(self, text: str | None) -> _Head:
        if text is not None and len(text) <= self._plan_bytes_max:
            with suppress(Malformed):
                return _head.decode(text.encode())
        return _Head()

    def _course(
        self,
        status: str,
        error: str | None,
        job: Job,
        record: CallRecord | None,
        ended_at: float | None,
    ) -> dict[str, Any]:
        """The fields of a task that show its status, its error, its worker and its moments."""
        shown: dict[str, Any] = {"status": status, "error": "", "worker_id": ""}
        shown["created"] = self._time(job.submitted_at)
        shown["started"] = shown["completed"] = None
        if status == FAILED:
            shown["error"] = error or ""
        if status != PENDING:
            shown["worker_id"] = record.worker if record is not None else ""
            if (started_at := (record or job).started_at) is not None:
                shown["started"] = shown["started_at"] = self._time(started_at)
        if status in (COMPLETED, FAILED) and ended_at is not None:
            shown["completed"] = shown["completed_at"] = self._time(ended_at)
        return shown

    def _time(self, wall_s: float | None) -> datetime:
        return self._master.clock.wall_time(wall_s) or ZERO_TIME


def _sent_here(about: Mapping[str, Any]) -> bytes | None:
    """The arguments that a client of this dialect sent; None if it sent none."""
    args = about.get("args")
    return b64decode(args) if isinstance(args, str) else None


def _sent(call: Call) -> bytes:
    """The arguments of a call in memory, with the results that are known filled in."""
    args = known_json_of(call, lambda name: encode({"ref": name}))
    if isinstance(call.args, JsonTemplate):
        args = msgspec.Raw(compact(bytes(args)))
    return sent_arguments(call.handler, args)


def _sent_of_node(node: Node) -> bytes:
    """The arguments of a plan's only node."""
    raw = bytes(node.args)
    if LITERAL in raw:
        with suppress(Malformed):
            raw = bytes(_literal.decode(raw).literal)
    return sent_arguments(node.handler, msgspec.Raw(raw))


def _status_of_job(job: Job, call: KnownCall) -> str:
    if job.is_terminal:
        return COMPLETED if job.state is JobState.SUCCEEDED else FAILED
    if not isinstance(call, Call):
        return PENDING if job.state is JobState.WAITING else RUNNING
    # The end of the call is shown with the end of the job.
    state = call.shown_state
    return RUNNING if state in HAD or call.is_terminal else PENDING


def _status_of_call(call: Call) -> str:
    state = call.shown_state
    if state in HAD:
        return RUNNING
    if state is CallState.SUCCEEDED:
        return COMPLETED
    return FAILED if state in TERMINAL else PENDING


def _answer(job: Job) -> bytes | None:
    return job.answer if job.answer is None or isinstance(job.answer, bytes) else encode(job.answer)
