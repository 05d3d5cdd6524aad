"""The base of this dialect's routes: its workers, its bodies, its words for states and errors."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, TypeVar, cast

import msgspec

from dte.core.errors import DteError, InvalidRequest, NotFound
from dte.core.graph.handlers import HandlerPolicy
from dte.core.jobs.job import JobState
from dte.master.api.dialects.long_bodies import check_names, decoded, fields_decoder, is_long
from dte.master.api.dialects.polling import PollerHandler, Pollers
from dte.master.api.dialects.scheduler.arguments import DIALECT, PARAMETERS
from dte.master.api.dialects.scheduler.validation import (
    Invalid,
    Unprocessable,
    fault_at,
    fault_of,
    misfit_in,
    with_numbers,
)
from dte.wire.codec import Decoder, encode

T = TypeVar("T")

_any: Decoder[Any] = Decoder(Any, lenient=False)

ATTEMPTS_MAX = 3
"""Bound on the attempts of a task, and on the workers that it may lose."""
LONG_FIELDS = {"args": b"[", "kwargs": b"{", "result": b""}
"""The fields of bodies that may be long, with the beginning of their JSON where that matters."""
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
"""The status for each state that `task_state` gives."""


class Done(msgspec.Struct):
    """The reply to a request that was carried out."""

    message: str


class Refused(msgspec.Struct):
    """The reply to a request that was refused."""

    detail: str


class SchedulerHandler(PollerHandler):
    """Base of the routes of this dialect."""

    ERRORS_AS = Refused
    NOT_FOUND = "Task {id} not found"

    @property
    def pollers(self) -> Pollers:
        silence_s = self.master.settings.scheduler_dead_after_s
        return self.shared(
            DIALECT,
            lambda: Pollers(self.master, DIALECT, HANDLERS, silence_s, silence_s),
        )

    async def read(self, shape: type[T]) -> T:
        """Read the request's body.

        Raises:
            Unprocessable: it does not fit the type.
        """
        if self.is_long:
            return await self._read_long(shape)
        body: Any = None
        try:
            body = await self.body_in_slices(_any)
            if isinstance(body, dict):
                body = with_numbers(body)
            return msgspec.convert(body, shape)
        except InvalidRequest as error:
            raise Unprocessable(fault_of(str(error), body)) from None
        except msgspec.ValidationError as error:
            raise Unprocessable(misfit_in(body, shape) or fault_of(str(error), body)) from None

    async def _read_long(self, shape: type[T]) -> T:
        """Read a long body, whose long fields stay JSON."""
        check_names(self.body_count(b":"))
        body: dict[str, Any] = {}
        try:
            fields = await self.body_in_slices(fields_decoder)
            names = [field.encode_name for field in msgspec.structs.fields(cast(Any, shape))]
            body = decoded(fields, names, LONG_FIELDS)
            long = {name: body.pop(name) for name in LONG_FIELDS if is_long(body.get(name))}
            value = msgspec.convert(with_numbers(body), shape)
        except InvalidRequest as error:
            raise Unprocessable(fault_of(str(error), body)) from None
        except msgspec.ValidationError as error:
            raise Unprocessable(misfit_in(body, shape) or fault_of(str(error), body)) from None
        for name, raw in long.items():
            if not bytes(raw).lstrip().startswith(LONG_FIELDS[name]):
                raise Unprocessable(fault_at([name], f"{name} has another type", "type_error", {}))
            setattr(value, name, raw)
        return value

    def not_allowed(self) -> str:
        return HTTPStatus.METHOD_NOT_ALLOWED.phrase

    def error_body(self, text: str, error: DteError | None, status: int) -> str | bytes:
        if isinstance(error, Unprocessable):
            return encode(Invalid([error.fault]))
        return encode(Refused(text))


class UnknownPath(SchedulerHandler):
    """The handler of the paths below ``/scheduler`` without a route."""

    def get(self, *parameters: str) -> None:
        raise NotFound("Not Found")

    head = post = delete = patch = put = options = get
