"""The base of this dialect's routes: its workers, its bodies, its words for states and errors."""

from __future__ import annotations

from typing import Literal, TypeVar

import msgspec

from dte.core.errors import DteError, InvalidRequest, NotFound
from dte.core.jobs.job import JobState
from dte.master.api.dialects.long_bodies import check_names
from dte.master.api.dialects.polling import PollerHandler
from dte.master.api.dialects.queue.pollers import DIALECT, QueuePollers
from dte.wire.codec import Decoder, encode

T = TypeVar("T")
Unset = msgspec.UnsetType
Status = Literal["pending", "in-progress", "completed", "failed"]

BEAT_BYTES_MAX = 20_000
"""Bound on the bodies of polls and heartbeats."""
ALIVE = "alive"
"""The status of a worker that gives none."""
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
"""The status for each state that `task_state` gives."""


class Missing(msgspec.Struct):
    """The error for an unknown task."""

    status: Literal["error"]
    message: str


class QueueHandler(PollerHandler):
    """Base of the routes of this dialect."""

    NOT_FOUND = "Task not found"

    @property
    def pollers(self) -> QueuePollers:
        return self.shared(DIALECT, lambda: QueuePollers(self.master))

    async def read(self, decoder: Decoder[T], missing: str) -> T:
        """Read the request's body.

        Args:
            missing: the error for an empty body.

        Raises:
            InvalidRequest: it is empty, or does not fit the decoder's type.
        """
        if self.is_long:
            check_names(self.body_count(b":"))
        is_empty = not self.body_count(b'"')  # Without a quote no field is in it.
        try:
            body = await self.body_in_slices(decoder)
        except InvalidRequest:
            if not is_empty:
                raise
            raise InvalidRequest(missing) from None
        if is_empty:
            raise InvalidRequest(missing)
        return body

    def worker_id(self, given: object) -> str:
        """Check that a worker gives its id, and return it."""
        if not isinstance(given, str) or not given:
            raise InvalidRequest(NO_WORKER)
        return given

    def error_body(self, text: str, error: DteError | None, status: int) -> str | bytes:
        if isinstance(error, NotFound):  # The only error with a form of its own here.
            return encode(Missing("error", text))
        return super().error_body(text, error, status)
