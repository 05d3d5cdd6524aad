"""Jobs and workers as this dialect shows them, with the names that Go gives to fields.

A job of one call is a task. So is any other job: a formula is a task of the handler ``formula``, a
graph of calls one of ``graph``. What a worker has of those is a part, a task with an id of its own.
"""

from __future__ import annotations

import time
from base64 import b64decode
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import msgspec

from dte.core.graph.call import Call, CallRecord, CallState, filled
from dte.core.graph.numbers import Number
from dte.core.jobs.job import Job, JobState
from dte.core.workers.worker import Worker
from dte.master.api.base import REPLY_SLICE_S
from dte.master.api.dialects.rest.payloads import given_result, sent_arguments
from dte.master.master import Master
from dte.master.plans import Node, Plan, read_plan
from dte.wire.codec import Decoder, Malformed, encode

ZERO_TIME = datetime(1, 1, 1, tzinfo=UTC)
"""What Go shows of a time that is not set."""
PLAN_BYTES_MIN = 1_000_000
PENDING, RUNNING, COMPLETED, FAILED = "pending", "running", "completed", "failed"
LITERAL = b'"literal"'
HAD = (CallState.RUNNING, CallState.CANCELLING, CallState.ENDING)

Remembered = tuple[str | None, Sequence[CallRecord]]
"""The text of a job's plan, and what is known of its calls."""


class Task(
    msgspec.Struct,
    rename={
        "id": "ID",
        "name": "Name",
        "handler": "Handler",
        "args": "Args",
        "dependencies": "Dependencies",
        "priority": "Priority",
        "status": "Status",
        "result": "Result",
        "error": "Error",
        "worker_id": "WorkerID",
        "created": "CreatedAt",
        "started": "StartedAt",
        "completed": "CompletedAt",
        "metadata": "Metadata",
    },
):
    """How a task stands; `started_at` and `completed_at` are there once that has happened."""

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
    started: datetime
    completed: datetime
    metadata: dict[str, Any] | None
    started_at: datetime | msgspec.UnsetType = msgspec.UNSET
    completed_at: datetime | msgspec.UnsetType = msgspec.UNSET


class ShownResources(msgspec.Struct, rename={"cpu": "CPU", "memory": "Memory", "disk": "Disk"}):
    """What a worker said that it has."""

    cpu: Number = 0
    memory: Number = 0
    disk: Number = 0


class ShownWorker(
    msgspec.Struct,
    rename={
        "id": "ID",
        "capabilities": "Capabilities",
        "current_tasks": "CurrentTasks",
        "last_heartbeat": "LastHeartbeat",
        "resources": "Resources",
        "status": "Status",
    },
):
    """How a worker is, and what it has to do, by the ids of the tasks."""

    id: str
    capabilities: list[str] | None
    current_tasks: dict[str, Task]
    last_heartbeat: datetime
    resources: ShownResources
    status: str


class _Head(msgspec.Struct):
    """Of a plan whose graph may be long, what else there is."""

    after: list[int] = []
    formula: str | None = None


class _Literal(msgspec.Struct, forbid_unknown_fields=True):
    """Arguments that are not to be looked into."""

    literal: msgspec.Raw


_head: Decoder[_Head] = Decoder(_Head, lenient=False)
_literal: Decoder[_Literal] = Decoder(_Literal, lenient=False)


def job_id(number: int) -> str:
    """The id of a job that has no name."""
    return f"{number:016x}"


def part_of(job: Job, name: str) -> Call | None:
    """The call of a job that the id of a part names, as it is or as URLs quote it."""
    calls = job.calls.calls if job.calls is not None else {}
    if name in calls:
        return calls[name]
    return next((call for call in calls.values() if quote(call.name, safe="") == name), None)


class Viewer:
    """Makes tasks of jobs and calls, and shows workers."""

    def __init__(self, master: Master) -> None:
        self._master = master
        self._plan_bytes_max = PLAN_BYTES_MIN + 4 * master.settings.value_bytes_max

    def tasks(self, jobs: Sequence[Job], remembered: Mapping[int, Remembered]) -> Iterator[Task]:
        """Jobs as tasks, one after the other.

        Args:
            remembered: of those that ended long ago, by their numbers.
        """
        for job in jobs:
            yield self.task(job, remembered.get(job.number, (job.plan, ())))

    def task(self, job: Job, remembered: Remembered) -> Task:
        """A job as a task."""
        text, records = remembered
        plan = self._plan_of_one_call(job, text)
        if plan is None:
            return self._whole(job, text)
        ((name, node),) = plan.graph.items()
        call = job.calls.calls.get(name) if job.calls is not None else None
        record = next((each for each in records if each.name == name), None)
        return self._single(job, plan, node, call or record)

    def part(self, job: Job, call: Call) -> Task:
        """A call of a job as a task: the job itself if it has no other."""
        plan = self._plan_of_one_call(job, job.plan)
        if plan is not None:
            return self.task(job, (job.plan, ()))
        sent = _sent(call)
        status = _status_of_call(call)
        value = call.record.value if status == COMPLETED else None
        return self._task(
            job,
            f"{job_id(job.number)}.{quote(call.name, safe='')}",
            call.name,
            call.handler,
            sent,
            [],
            call.priority,
            status,
            None if value is None else given_result(call.handler, sent, value),
            call.record,
            call.record.error if status == FAILED else None,
            call.record.ended_at,
            {},
        )

    def sent_for(self, job: Job, call: Call) -> bytes:
        """The arguments of a call of a job that goes on, as in this dialect."""
        plan = self._plan_of_one_call(job, job.plan)
        about = plan.about if plan is not None else {}
        sent = _sent_here(about)
        return _sent(call) if sent is None and about.get("dialect") != "rest" else sent or b""

    def workers(self, workers: Iterable[Worker]) -> Generator[None, None, list[ShownWorker]]:
        """Workers with what they have to do, in slices."""
        shown = []
        began = time.monotonic()
        for worker in workers:
            tasks: dict[str, Task] = {}
            leases = self._master.core.calls.leases
            for lease in leases.sent_to(worker):
                if not leases.is_on(lease):
                    continue  # It has ended since the slice before.
                task = self.part(self._master.core.jobs.job(lease.call.job), lease.call)
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
            self._time(worker.last_seen_at),
            resources if isinstance(resources, ShownResources) else ShownResources(),
            "offline" if worker.gone else status,
        )

    def _plan_of_one_call(self, job: Job, text: str | None) -> Plan | None:
        """The plan of a job that has one call; those of others may be long, and are not read."""
        if text is None or job.operations != 1 or len(text) > self._plan_bytes_max:
            return None
        with suppress(Malformed):
            plan = read_plan(text)
            if plan.formula is None and len(plan.graph) == 1:
                return plan
        return None

    def _single(self, job: Job, plan: Plan, node: Node, call: Call | CallRecord | None) -> Task:
        about = plan.about if plan.about.get("dialect") == "rest" else {}
        sent = _sent_here(about)
        record = call.record if isinstance(call, Call) else call
        if not about:
            sent = _sent(call) if isinstance(call, Call) else _sent_of_node(node)
        status = _status_of_job(job, call)
        value = _answer(job) if status == COMPLETED else None
        error = None
        if status == FAILED:
            error = (record.error if record is not None else None) or job.error
        # What is tried again as another job leaves its name to the first.
        named = plan.retry_of is None and about.get("id")
        awaited = about.get("dependencies") or [job_id(number) for number in plan.after]
        return self._task(
            job,
            str(named or job_id(job.number)),
            str(about.get("name") or job.task),
            node.handler,
            sent,
            awaited,
            plan.priority if node.priority is None else node.priority,
            status,
            None if value is None else given_result(node.handler, sent or b"", value),
            record,
            error,
            job.ended_at,
            about.get("metadata") or {},
        )

    def _whole(self, job: Job, text: str | None) -> Task:
        """A job that is not one call."""
        status = _status_of_job(job, None)
        head = self._head(text)
        return self._task(
            job,
            job_id(job.number),
            job.task,
            "formula" if text is None or head.formula is not None else "graph",
            None,
            [job_id(number) for number in head.after],
            job.priority,
            status,
            _answer(job) if status == COMPLETED else None,
            None,
            job.error if status == FAILED else None,
            job.ended_at,
            {},
        )

    def _head(self, text: str | None) -> _Head:
        if text is not None and len(text) <= self._plan_bytes_max:
            with suppress(Malformed):
                return _head.decode(text.encode())
        return _Head()

    def _task(
        self,
        job: Job,
        task_id: str,
        name: str,
        handler: str,
        args: bytes | None,
        dependencies: list[str],
        priority: int,
        status: str,
        result: bytes | None,
        record: CallRecord | None,
        error: str | None,
        ended_at: float | None,
        metadata: dict[str, Any],
    ) -> Task:
        started_at = job.started_at if record is None else record.started_at
        is_over = status in (COMPLETED, FAILED)
        started = self._time(started_at if status != PENDING else None)
        completed = self._time(ended_at if is_over else None)
        return Task(
            task_id,
            name,
            handler,
            args,
            dependencies or None,
            priority,
            status,
            result,
            error or "",
            record.worker if record is not None and status != PENDING else "",
            self._time(job.submitted_at),
            started,
            completed,
            metadata or None,
            msgspec.UNSET if started is ZERO_TIME else started,
            msgspec.UNSET if completed is ZERO_TIME else completed,
        )

    def _time(self, moment: float | None) -> datetime:
        return self._master.wall_time(moment) or ZERO_TIME


def _sent_here(about: Mapping[str, Any]) -> bytes | None:
    """What a client of this dialect sent as arguments; None for nothing."""
    args = about.get("args")
    return b64decode(args) if isinstance(args, str) else None


def _sent(call: Call) -> bytes:
    """The arguments of a call that is known, with the results that went in as far as there are."""
    args: Any = call.args
    if not isinstance(args, msgspec.Raw):
        values: dict[str, Any] = {name: {"ref": name} for name in call.refs}
        values |= {name: msgspec.Raw(value) for name, value in call.operands.items()}
        args = filled(args, values) if values else args
    return sent_arguments(call.handler, args)


def _sent_of_node(node: Node) -> bytes:
    """The arguments of a plan's only node."""
    raw = bytes(node.args)
    if LITERAL in raw:
        with suppress(Malformed):
            raw = bytes(_literal.decode(raw).literal)
    return sent_arguments(node.handler, msgspec.Raw(raw))


def _status_of_job(job: Job, call: Call | CallRecord | None) -> str:
    if job.is_terminal:
        return COMPLETED if job.state is JobState.SUCCEEDED else FAILED
    if not isinstance(call, Call):
        return PENDING if job.state is JobState.WAITING else RUNNING
    # What has ended is shown with the job's end.
    state = call.shown_state
    return RUNNING if state in HAD or call.is_terminal else PENDING


def _status_of_call(call: Call) -> str:
    state = call.shown_state
    if state in HAD:
        return RUNNING
    if state is CallState.SUCCEEDED:
        return COMPLETED
    ends = (CallState.FAILED, CallState.TIMED_OUT, CallState.CANCELLED)
    return FAILED if state in ends else PENDING


def _answer(job: Job) -> bytes | None:
    """A job's answer as JSON."""
    return job.answer if job.answer is None or isinstance(job.answer, bytes) else encode(job.answer)
