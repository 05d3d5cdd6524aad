"""The routes of workers: register, show, beat, and report.

Such a worker looks for its tasks among its own `CurrentTasks`; there are up to one for each slot.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

import msgspec

from dte.core.calls.attempts import Outcome
from dte.core.errors import DteError, InvalidRequest, NotFound, TooLarge
from dte.core.graph.call import Call, CallRecord, CallState
from dte.core.graph.handlers import HandlerPolicy
from dte.core.graph.numbers import Number
from dte.core.jobs.job import Job
from dte.core.workers.worker import DIALECTS, PULLS, Announcement, Delivery, Worker
from dte.master.access.seeds import is_seed
from dte.master.api.dialects.rest.base import RestHandler
from dte.master.api.dialects.rest.payloads import decoded_base64, kept_result
from dte.master.api.dialects.rest.tasks import Base64
from dte.master.api.dialects.rest.views import (
    COMPLETED,
    DIALECT,
    FAILED,
    ShownResources,
    ShownWorker,
)
from dte.master.api.dialects.tasks import succeeded
from dte.master.api.openapi import documented
from dte.master.checks import check_name, check_range

OFFLINE_S = 30.0
"""A worker is offline after this silence; workers beat every 10 seconds."""
SLOTS_MAX = 64
CAPABILITIES_MAX = 1000
REGISTRATION_BYTES_MAX = 300_000
HEARTBEAT_BYTES_MAX = 10_000
ANY_POLICY = HandlerPolicy()


class Resources(msgspec.Struct, frozen=True):
    """The resources of a worker, which are only shown."""

    cpu: Number = 0
    memory: Number = 0
    disk: Number = 0


class Registration(msgspec.Struct):
    """The body of `POST /workers`.

    Attributes:
        id: the master makes one up if it is empty.
        capabilities: names of handlers whose calls it takes, besides every task of this dialect.
        slots: the tasks that the worker runs at once.
    """

    id: str = ""
    capabilities: list[str] = []
    resources: Resources = Resources()
    slots: int = 1


class WorkerRegistered(msgspec.Struct):
    """The reply to a registration."""

    id: str
    status: str


class Completion(msgspec.Struct):
    """The end of a task: `completed` with a result, or `failed` with an error."""

    status: str
    result: Base64 | None = None
    error: str = ""


class NotAssigned(DteError):
    """A worker reports on a task that it does not have, or no longer has."""

    status = 403
    code = "not_assigned"


class WorkersHandler(RestHandler):
    """Base of the routes of workers."""

    def known(self, worker_id: str) -> Worker:
        """Find a worker of this dialect, or one of dte's own, by its name.

        Raises:
            NotFound: there is none.
        """
        core = self.master.core
        for prefix in (f"{DIALECTS}{DIALECT}:", PULLS):
            if (worker := core.worker(f"{prefix}{worker_id}")) is not None:
                return worker
        for worker in core.workers():
            announcement = worker.announcement
            if announcement.name == worker_id and not announcement.dialect:
                return worker
        raise NotFound("Worker not found")

    def own(self, worker_id: str) -> Worker:
        """Find a worker, for that worker itself or for those who see all workers.

        Raises:
            Forbidden: the name is for other tokens.
            NotFound: there is none.
            Conflict: it is another's.
        """
        self.master.admission.check_name(self.owner, worker_id)
        worker = self.known(worker_id)
        self.master.admission.check_own(self.owner, worker)
        return worker

    async def beat(
        self, announcement: Announcement, info: Mapping[str, object] | None = None
    ) -> None:
        """Note a sign of life of a worker, which also keeps its leases."""
        await self.master.workers.announce(self.master.admission.admit(announcement))
        self.master.workers.seen(self.known(announcement.name), info)


class Workers(WorkersHandler):
    BODY_BYTES_MAX = REGISTRATION_BYTES_MAX

    @documented(
        "Register a worker",
        body=Registration,
        examples={
            "a worker": {
                "id": "worker1",
                "capabilities": ["echo", "fibonacci"],
                "resources": {"cpu": 4, "memory": 8192, "disk": 100000},
            }
        },
        replies={201: WorkerRegistered},
        description="The worker finds its tasks in `GET /workers/{id}`: any task of this dialect, "
        "and calls of other clients if a capability names their handler. To register again means "
        "to have restarted: the tasks of the worker go to others.",
    )
    async def post(self) -> None:
        body = await self.read(Registration)
        check_name("id", body.id)
        if len(body.capabilities) > CAPABILITIES_MAX:
            raise InvalidRequest(f"capabilities has more than {CAPABILITIES_MAX} names")
        for name in body.capabilities:
            check_name("capabilities", name)
        check_range("slots", body.slots, 1, SLOTS_MAX)
        announcement = Announcement(
            name=body.id or self.master.admission.name_of(self.owner, secrets.token_hex(8)),
            address="",
            incarnation=secrets.token_hex(8),
            handlers=dict.fromkeys(body.capabilities, ANY_POLICY),
            handler_slots=body.slots,
            arithmetic=False,
            delivery=Delivery.MAILBOX,
            can_stop=False,
            lease_s=OFFLINE_S,
            dead_after_s=OFFLINE_S,
            dialect=DIALECT,
            tasks=None,
            owner=self.owner,
        )
        has = body.resources
        await self.beat(announcement, {"resources": ShownResources(has.cpu, has.memory, has.disk)})
        self.created(WorkerRegistered(announcement.name, "idle"))

    @documented("List the known workers", replies={200: list[ShownWorker]})
    async def get(self) -> None:
        workers = self.master.core.workers()
        async with self.room_for_list(len(workers)):
            await self.reply_list(await self.master.slices.run(self.viewer.workers(workers)))


class OneWorker(WorkersHandler):
    @documented("Get a worker and its current tasks", replies={200: ShownWorker}, errors=(404,))
    async def get(self, worker_id: str) -> None:
        workers = [self.own(worker_id)]
        (shown,) = await self.master.slices.run(self.viewer.workers(workers))
        self.reply(shown)


class Heartbeat(WorkersHandler):
    BODY_BYTES_MAX = HEARTBEAT_BYTES_MAX

    @documented("Send a heartbeat", replies={204: None}, errors=(404, 413))
    async def put(self, worker_id: str) -> None:
        worker = self.own(worker_id)
        # Workers of other dialects have their own signs of life.
        if worker.announcement.delivery is Delivery.MAILBOX:
            await self.beat(worker.announcement)
        self.reply_nothing()


class Complete(WorkersHandler):
    @documented(
        "Report the end of a task",
        body=Completion,
        examples={
            "done": {"status": "completed", "result": "NTU="},
            "failed": {"status": "failed", "error": "the disk is full"},
        },
        replies={204: None},
        errors=(403, 404, 503, 507),
        description="The reply comes when the end is recorded. A repeat changes nothing. It is 403 "
        "if the task has gone to another worker.",
    )
    async def post(self, worker_id: str, task_id: str) -> None:
        body = await self.read(Completion)
        self.release_body()
        if is_seed(self.owner):
            self.own(worker_id)
        self.master.admission.check_name(self.owner, worker_id)
        if body.status not in (COMPLETED, FAILED):
            raise InvalidRequest(
                f"status is {body.status[:50]!r}; {COMPLETED} or {FAILED} is expected"
            )
        job, call = await self.find_task(task_id)
        if call is None and job.calls is not None and len(job.calls.calls) == 1:
            (call,) = job.calls.calls.values()
        outcome = self._outcome(body, job, call)
        if not await self.master.workers.settle(job, worker_id, DIALECT, outcome, call):
            if await self._has_reported(job, call, worker_id):
                self.reply_nothing()
                return
            self.known(worker_id)
            raise NotAssigned("Task not assigned to this worker")
        if body.status == COMPLETED and outcome.state is CallState.FAILED:
            raise TooLarge(str(outcome.error))
        self.reply_nothing()

    async def _has_reported(self, job: Job, call: Call | None, worker_id: str) -> bool:
        """True if a task has ended by a report of this worker."""
        records: Sequence[CallRecord] = [call.record] if call is not None else ()
        if call is None and job.is_terminal:
            _, records = await self.master.archive.plan_of(job)
        return len(records) == 1 and all(
            each.state in (CallState.SUCCEEDED, CallState.FAILED)
            and each.worker == worker_id
            and each.is_of(DIALECT)
            for each in records
        )

    def _outcome(self, body: Completion, job: Job, call: Call | None) -> Outcome:
        if body.status == FAILED:
            return Outcome(CallState.FAILED, None, body.error or "failed without a reason")
        given = None if body.result is None else decoded_base64(body.result, "result")
        value = b"null"
        if call is not None:
            value = kept_result(call.handler, self.viewer.sent_for(job, call), given)
        return succeeded(msgspec.Raw(value), self.master.settings.value_bytes_max)
