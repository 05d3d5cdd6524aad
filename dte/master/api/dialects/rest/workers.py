"""Workers that look for their work: registered, looked at, heard of, and what they give back.

Such a worker finds among its `CurrentTasks` what it is to do: as many tasks as it has slots.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import replace

import msgspec

from dte.core.calls.attempts import Outcome
from dte.core.errors import DteError, InvalidRequest, NotFound, TooLarge
from dte.core.graph.call import Call, CallState
from dte.core.graph.handlers import HandlerPolicy
from dte.core.graph.numbers import Number
from dte.core.jobs.job import Job
from dte.core.workers.worker import PULLS, Announcement, Delivery, Worker
from dte.master.api.dialects.rest.base import RestHandler, check_name
from dte.master.api.dialects.rest.payloads import decoded_base64, kept_result
from dte.master.api.dialects.rest.tasks import Base64
from dte.master.api.dialects.rest.views import COMPLETED, FAILED, ShownResources, ShownWorker
from dte.master.api.openapi import TEXT, documented

OFFLINE_S = 30.0
"""Silence after which a worker is offline; it beats every 10 seconds."""
SLOTS_MAX = 64
CAPABILITIES_MAX = 1000
REGISTRATION_BYTES_MAX = 300_000
HEARTBEAT_BYTES_MAX = 10_000
ANY_POLICY = HandlerPolicy()


class Resources(msgspec.Struct, frozen=True):
    """What a worker has; it is only shown."""

    cpu: Number = 0
    memory: Number = 0
    disk: Number = 0


class Registration(msgspec.Struct):
    """What `POST /workers` takes.

    Attributes:
        id: made up if there is none.
        capabilities: names of handlers.
        slots: how many tasks it takes at a time.
    """

    id: str = ""
    capabilities: list[str] = []
    resources: Resources = Resources()
    slots: int = 1


class WorkerRegistered(msgspec.Struct):
    """The reply to a worker that registers."""

    id: str
    status: str


class Completion(msgspec.Struct):
    """What became of a task: `completed` with a result, or `failed` with an error."""

    status: str
    result: Base64 | None = None
    error: str = ""


class NotAssigned(DteError):
    """A task is not, or no more, the affair of the worker that gives something back for it."""

    status = 403
    code = "not_assigned"


class WorkersHandler(RestHandler):
    """Base of the routes of workers."""

    def known(self, worker_id: str) -> Worker:
        """A worker by its name, rather one that looks for its work than one that is called.

        Raises:
            NotFound: there is none.
        """
        worker = self.master.core.worker(f"{PULLS}{worker_id}")
        if worker is None:
            worker = next(
                (
                    each
                    for each in self.master.core.workers()
                    if each.announcement.name == worker_id
                ),
                None,
            )
        if worker is None:
            raise NotFound("Worker not found")
        return worker

    def policies(self, capabilities: Iterable[str]) -> dict[str, HandlerPolicy]:
        """Handlers with what other workers say of them, as workers of this dialect say nothing."""
        found = dict.fromkeys(capabilities, ANY_POLICY)
        for worker in self.master.core.workers():
            for name, policy in worker.announcement.handlers.items():
                if policy != ANY_POLICY and name in found:
                    found[name] = policy
        return found

    async def heard(self, said: Announcement) -> Worker:
        """Note that a worker is there, and at work on what it has."""
        said = replace(said, handlers=self.policies(said.handlers))
        await self.master.announce(said)
        worker = self.known(said.name)
        self.master.calls.heard(worker)
        return worker


class Workers(WorkersHandler):
    """``POST /workers``: register a worker. ``GET /workers``: the known ones, of all dialects."""

    def body_bytes_max(self) -> int:
        return min(REGISTRATION_BYTES_MAX, super().body_bytes_max())

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
        errors_as=TEXT,
        description="It finds its tasks with `GET /workers/{id}`. Who registers again has started "
        "again: what it had goes to whoever is free.",
    )
    async def post(self) -> None:
        said = await self.read(Registration)
        check_name("id", said.id)
        if len(said.capabilities) > CAPABILITIES_MAX:
            raise InvalidRequest(f"capabilities has more than {CAPABILITIES_MAX} names")
        for name in said.capabilities:
            check_name("capabilities", name)
        if not 1 <= said.slots <= SLOTS_MAX:
            raise InvalidRequest(f"slots is {said.slots}; 1 to {SLOTS_MAX} is expected")
        worker = await self.heard(
            Announcement(
                name=said.id or secrets.token_hex(8),
                address="",
                incarnation=secrets.token_hex(8),
                handlers=dict.fromkeys(said.capabilities, ANY_POLICY),
                handler_slots=said.slots,
                arithmetic=False,
                delivery=Delivery.MAILBOX,
                can_stop=False,
                lease_s=OFFLINE_S,
                dead_after_s=OFFLINE_S,
            )
        )
        has = said.resources
        worker.info = {"resources": ShownResources(has.cpu, has.memory, has.disk)}
        self.created(WorkerRegistered(worker.announcement.name, "idle"))

    @documented("The known workers", replies={200: list[ShownWorker]}, errors_as=TEXT)
    async def get(self) -> None:
        workers = self.master.core.workers()
        async with self.room_for_list(len(workers)):
            await self.reply_list(await self.master.slices.run(self.viewer.workers(workers)))


class OneWorker(WorkersHandler):
    """``GET /workers/{id}``: how a worker is, and what it has to do."""

    @documented(
        "How a worker is, and what it has to do",
        replies={200: ShownWorker},
        errors=(404,),
        errors_as=TEXT,
    )
    async def get(self, worker_id: str) -> None:
        workers = [self.known(worker_id)]
        (shown,) = await self.master.slices.run(self.viewer.workers(workers))
        self.reply(shown)


class Heartbeat(WorkersHandler):
    """``PUT /workers/{id}/heartbeat``: a worker is there."""

    def body_bytes_max(self) -> int:
        return min(HEARTBEAT_BYTES_MAX, super().body_bytes_max())

    @documented(
        "Say that a worker is there", replies={204: None}, errors=(404, 413), errors_as=TEXT
    )
    async def put(self, worker_id: str) -> None:
        worker = self.known(worker_id)
        if (
            worker.announcement.delivery is Delivery.MAILBOX
        ):  # The others have signs of life of their own.
            await self.heard(worker.announcement)
        self.done()


class Complete(WorkersHandler):
    """``POST /workers/{id}/tasks/{taskId}/complete``: what became of a task."""

    @documented(
        "Say what became of a task",
        body=Completion,
        examples={
            "done": {"status": "completed", "result": "NTU="},
            "failed": {"status": "failed", "error": "the disk is full"},
        },
        replies={204: None},
        errors=(403, 404, 503, 507),
        errors_as=TEXT,
        description="Answered when it is recorded. A worker whose task has gone to another hears "
        "403, and so does one that says it twice.",
    )
    async def post(self, worker_id: str, task_id: str) -> None:
        said = await self.read(Completion)
        self.release_body()
        if said.status not in (COMPLETED, FAILED):
            raise InvalidRequest(
                f"status is {said.status[:50]!r}; {COMPLETED} or {FAILED} is expected"
            )
        job, call = await self.find_task(task_id)
        if call is None and job.calls is not None and len(job.calls.calls) == 1:
            (call,) = job.calls.calls.values()
        refusal: TooLarge | None = None
        try:
            outcome = self._outcome(said, job, call)
        except TooLarge as error:
            refusal = error
            outcome = Outcome(CallState.FAILED, None, str(error), retry=False)
        if not await self.master.calls.settle(job, worker_id, outcome, call):
            self.known(worker_id)
            raise NotAssigned("Task not assigned to this worker")
        if refusal is not None:
            raise refusal
        self.done()

    def _outcome(self, said: Completion, job: Job, call: Call | None) -> Outcome:
        if said.status == FAILED:
            return Outcome(CallState.FAILED, None, said.error or "failed, without a reason")
        try:
            given = None if said.result is None else decoded_base64(said.result)
        except InvalidRequest as error:
            raise InvalidRequest(f"Invalid request body: result: {error}") from None
        value = b"null"
        if call is not None:
            value = kept_result(call.handler, self.viewer.sent_for(job, call), given)
        value_bytes_max = self.master.settings.value_bytes_max
        if len(value) > value_bytes_max:
            raise TooLarge(
                f"its result has {len(value)} bytes; this master takes up to {value_bytes_max} "
                "(value_bytes_max)"
            )
        return Outcome(CallState.SUCCEEDED, value)
