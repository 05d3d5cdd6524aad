"""The base of this dialect's routes: errors as text, keys in any case, ids of tasks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec

from dte.core.errors import DteError, InvalidRequest, NotFound
from dte.core.graph.call import Call
from dte.core.graph.handlers import NAME_CHARS_MAX
from dte.core.jobs.job import Job
from dte.master.api.base import JsonHandler
from dte.master.api.dialects.long_bodies import (
    LONG_BYTES,
    check_names,
    decoded,
    fields_decoder,
    is_long,
)
from dte.master.api.dialects.rest.views import Viewer, part_of
from dte.master.api.openapi import TEXT
from dte.wire.codec import Decoder
from dte.wire.faults import plain
from dte.wire.misfits import misfit_of, sentence_of

T = TypeVar("T")

PART_ID = re.compile(r"([0-9a-f]{16})\.(.+)", re.DOTALL)

LONG_FIELDS = ("args", "result")
"""The fields of bodies that are texts in base64."""

_object: Decoder[dict[str, Any]] = Decoder(dict[str, Any], lenient=False)


class RestHandler(JsonHandler):
    """Base of the routes of this dialect."""

    NAMES_DEPTH = 0
    IS_STRICT = False
    ERRORS_AS = TEXT

    @property
    def viewer(self) -> Viewer:
        return Viewer(self.master)

    async def read(self, shape: type[T]) -> T:
        """Read the request's body: keys match in any case, and unknown keys are ignored.

        Raises:
            InvalidRequest: it is not JSON, or does not fit the type.
        """
        if self.body_size > LONG_BYTES:
            return await self._read_long(shape)
        body: dict[str, Any] = {}
        try:
            given = await self.body_in_slices(_object)
            body = with_known_keys(given, shape)
            return msgspec.convert(body, shape)
        except InvalidRequest as error:
            raise InvalidRequest(f"Invalid request body: {error}") from None
        except msgspec.ValidationError as error:
            found = misfit_of(body, shape)
            text = sentence_of(found) if found is not None else str(error)
            raise InvalidRequest(f"Invalid request body: {text}") from None

    async def _read_long(self, shape: type[T]) -> T:
        """Read a long body; of its fields only texts in base64 may be long."""
        check_names(self.body_count(b":"))
        body: dict[str, Any] = {}
        try:
            given = await self.body_in_slices(fields_decoder)
            fields = with_known_keys(given, shape)
            body = decoded(fields, fields, LONG_FIELDS)
            for name, value in body.items():
                if is_long(value):
                    body[name] = msgspec.json.decode(value, type=str)
            return msgspec.convert(with_known_keys(body, shape), shape)
        except InvalidRequest as error:
            raise InvalidRequest(f"Invalid request body: {error}") from None
        except msgspec.DecodeError as error:
            found = misfit_of(body, shape)
            text = sentence_of(found) if found is not None else plain(error)
            raise InvalidRequest(f"Invalid request body: {text}") from None

    async def find_task(self, task_id: str) -> tuple[Job, Call | None]:
        """Find a task's job, and the call if the task is a part of a job.

        Args:
            task_id: the id that a client gave it, or the job's number in 16 hexadecimal digits. The
                id of a part is such a number, a dot, and the name of a call of an unfinished job.

        Raises:
            NotFound: there is no such task.
        """
        if len(task_id) > NAME_CHARS_MAX or not task_id.isprintable():
            raise NotFound("Task not found")
        with suppress(NotFound):
            return await self.master.expected.find(task_id, self.caller), None
        with suppress(NotFound):
            if match := PART_ID.fullmatch(task_id):
                job = await self.find_by_number(int(match[1], 16))
                if (call := part_of(job, match[2])) is not None:
                    return job, call
        raise NotFound("Task not found")

    def not_allowed(self) -> str:
        return HTTPStatus.METHOD_NOT_ALLOWED.phrase

    def error_body(self, text: str, error: DteError | None, status: int) -> str | bytes:
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        return f"{text}\n"


class UnknownPath(RestHandler):
    """The handler of the paths below ``/tasks`` and ``/workers`` without a route."""

    def get(self, *parameters: str) -> None:
        raise NotFound("404 page not found")

    head = post = delete = patch = put = options = get


def with_known_keys(whole: Mapping[str, Any], shape: Any) -> dict[str, Any]:
    """The fields of a struct in an object: keys match in any case, and null counts as missing."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(shape)}
    found: dict[str, Any] = {}
    for key, value in whole.items():
        name = key.lower()
        if name in fields and value is not None:
            inner = fields[name]
            is_struct = isinstance(inner, type) and issubclass(inner, msgspec.Struct)
            nested = is_struct and isinstance(value, dict)
            found[name] = with_known_keys(value, inner) if nested else value
    return found
