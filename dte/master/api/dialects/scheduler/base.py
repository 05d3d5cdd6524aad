"""What the routes of this dialect share: their polls, ids of tasks, errors as ``detail``."""

from __future__ import annotations

import re
from contextlib import suppress
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec

from dte.core.errors import DteError, InvalidRequest, NotFound, TryAgain
from dte.core.graph.handlers import HandlerPolicy
from dte.core.jobs.job import Job, JobState
from dte.core.workers.worker import Announcement
from dte.master.api.base import ERROR_CHARS_MAX, JsonHandler
from dte.master.api.dialects.polling import Polling, poller
from dte.master.api.dialects.scheduler.arguments import DIALECT, PARAMETERS
from dte.master.api.dialects.scheduler.validation import Invalid, Unprocessable, fault_of
from dte.wire.codec import Decoder, encode

T = TypeVar("T")

NUMBER = re.compile(r"\d{1,18}", re.ASCII)
"""A task's id; one of more digits may not fit into the journal's 64 bits."""
ID_CHARS_SHOWN = 50
"""Where an id is cut that an error quotes."""
ATTEMPTS_MAX = 3
"""How often a task is begun, and how many workers it may lose."""
HANDLERS = dict.fromkeys(PARAMETERS, HandlerPolicy())
STATUS = {
    JobState.WAITING: "PENDING",
    JobState.RUNNING: "RUNNING",
    JobState.CANCELLING: "CANCELED",
    JobState.SUCCEEDED: "COMPLETED",
    JobState.FAILED: "FAILED",
    JobState.TIMED_OUT: "TIMED_OUT",
    JobState.CANCELLED: "CANCELED",
}
"""Of each state that `polling.standing` gives."""


class Done(msgspec.Struct):
    """What was done."""

    message: str


class Refused(msgspec.Struct):
    """Why a request was refused."""

    detail: str


class SchedulerHandler(JsonHandler):
    """Base of the routes of this dialect."""

    @property
    def polling(self) -> Polling:
        # One to an application: its settings live as long as the master's routes.
        if DIALECT not in self.settings:
            self.settings[DIALECT] = Polling(self.master, HANDLERS)
        polling: Polling = self.settings[DIALECT]
        return polling

    def said(self, worker_id: str) -> Announcement:
        """What a worker of this dialect would say of itself.

        Raises:
            InvalidRequest: its id cannot be shown.
        """
        silence_s = self.master.settings.scheduler_dead_after_s
        return poller(worker_id, HANDLERS, silence_s, silence_s)

    async def find(self, task_id: str) -> Job:
        """The job of a task.

        Raises:
            NotFound: there is none.
        """
        with suppress(NotFound):
            if NUMBER.fullmatch(task_id):
                (job,) = await self.master.find([int(task_id)])
                return job
        raise NotFound(f"Task {task_id[:ID_CHARS_SHOWN]} not found")

    async def checked(self, decoder: Decoder[T]) -> T:
        """The request's body.

        Raises:
            Unprocessable: it is not of the decoder's shape.
        """
        try:
            return await self.body_in_slices(decoder)
        except InvalidRequest as error:
            raise Unprocessable(fault_of(str(error))) from None

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        if isinstance(error, Unprocessable):
            self.finish(encode(Invalid([error.fault])))
            return
        if isinstance(error, TryAgain):
            self.set_header("Retry-After", str(error.retry_after_s))
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", ", ".join(self._methods()))
        text = str(error) if isinstance(error, DteError) else HTTPStatus(status_code).phrase
        self.finish(encode(Refused(text[:ERROR_CHARS_MAX])))
