"""What the routes of this dialect share: their state, ids of tasks and workers, bodies, times."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Literal, TypeVar

import msgspec

from dte.core.errors import DteError, InvalidRequest, NotFound
from dte.core.jobs.job import Job, JobState
from dte.master.api.base import JsonHandler
from dte.master.api.dialects.queue.state import DIALECT, QueueState
from dte.wire.codec import Decoder, encode

T = TypeVar("T")
Unset = msgspec.UnsetType
Status = Literal["pending", "in-progress", "completed", "failed"]

NUMBER = re.compile(r"\d{1,18}", re.ASCII)
"""A task's id; one of more digits may not fit into the journal's 64 bits."""
BEAT_BYTES_MAX = 20_000
"""Most bytes of what a worker says of itself."""
ALIVE = "alive"
"""What a worker is that says nothing else."""
NO_DATA = "No data provided"
NO_WORKER = "worker_id is required"
STATUS: dict[JobState, Status] = {
    JobState.WAITING: "pending",
    JobState.RUNNING: "in-progress",
    JobState.CANCELLING: "in-progress",
    JobState.SUCCEEDED: "completed",
    JobState.FAILED: "failed",
    JobState.TIMED_OUT: "failed",
    JobState.CANCELLED: "failed",
}
"""Of each state that `polling.standing` gives."""


class Missing(msgspec.Struct):
    """There is no such task."""

    status: Literal["error"]
    message: str


class QueueHandler(JsonHandler):
    """Base of the routes of this dialect."""

    @property
    def state(self) -> QueueState:
        # One to an application: its settings live as long as the master's routes.
        if DIALECT not in self.settings:
            self.settings[DIALECT] = QueueState(self.master)
        state: QueueState = self.settings[DIALECT]
        return state

    async def find(self, number: str) -> Job:
        """The job of a task.

        Raises:
            NotFound: there is none.
        """
        with suppress(NotFound):
            if NUMBER.fullmatch(number):
                (job,) = await self.master.find([int(number)])
                return job
        raise NotFound("Task not found")

    async def said(self, decoder: Decoder[T], missing: str) -> T:
        """The request's body.

        Args:
            missing: what an empty one is answered with.

        Raises:
            InvalidRequest: it is empty, or not of the decoder's shape.
        """
        is_empty = not self.body_count(b'"')  # Without a quote no field is in it.
        try:
            said = await self.body_in_slices(decoder)
        except InvalidRequest:
            if not is_empty:
                raise
            raise InvalidRequest(missing) from None
        if is_empty:
            raise InvalidRequest(missing)
        return said

    def worker_id(self, given: object) -> str:
        """The name by which a worker calls itself.

        Raises:
            InvalidRequest: it does not.
        """
        if not isinstance(given, str) or not given:
            raise InvalidRequest(NO_WORKER)
        return given

    def time(self, moment: float | None) -> str:
        """A moment as this dialect writes it: local time, without its zone; empty for none."""
        wall_time = self.master.wall_time(moment)
        return "" if wall_time is None else wall_time.astimezone().replace(tzinfo=None).isoformat()

    def error_body(self, text: str, error: DteError | None, status: int) -> str | bytes:
        if isinstance(error, NotFound):  # The one error that has a form of its own here.
            return encode(Missing("error", text))
        return super().error_body(text, error, status)
