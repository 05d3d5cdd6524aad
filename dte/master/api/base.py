"""The base of all routes: errors, jobs that the caller sees, and `wait` in the query."""

from __future__ import annotations

import re
import sys
from collections.abc import Generator, Hashable, Sequence
from difflib import get_close_matches
from functools import partial
from http import HTTPStatus
from math import nan
from types import TracebackType
from typing import Any

from tornado.escape import utf8
from tornado.web import HTTPError, RequestHandler

from dte.core.errors import (
    Busy,
    DteError,
    Forbidden,
    FormulaError,
    InvalidRequest,
    JournalDamaged,
    NotFound,
    TryAgain,
    Unauthorized,
    Unavailable,
    Unsupported,
    WaitTooLong,
)
from dte.core.jobs.job import Job
from dte.master.access.roles import NO_METHODS, May
from dte.master.api.bodies import UNKNOWN_PATH, HungUp
from dte.master.api.login import login_page
from dte.master.api.login import policy as login_policy
from dte.master.api.openapi import ErrorReply
from dte.master.api.replies import ReplyHandler
from dte.master.http.meters import PAST_SHARE, Budget
from dte.master.jobs import shutting_down
from dte.master.master import Master
from dte.master.past import Reading
from dte.wire.codec import encode

JOBS_IN_SLICE = 2_000
PATH_CHARS_COMPARED = 200
"""A longer path is like no route; to compare it takes milliseconds."""
ERROR_CHARS_MAX = 2_000
"""Longer error texts are cut; some quote what the client sent."""


class JsonHandler(ReplyHandler):
    """Base of every route. When a subclass raises a `DteError`, the client gets it as JSON."""

    ERRORS_AS: Any = ErrorReply
    """The type that `error_body` gives, or a `Content` like `TEXT`."""

    def initialize(
        self, master: Master, bodies: Budget, path: str = UNKNOWN_PATH, may: May = NO_METHODS
    ) -> None:
        super().initialize(master, bodies, path, may)
        self.reading: Reading | None = None

    def head(self, *parameters: str) -> Any:
        """Answer like GET, without the body."""
        return self.get(*parameters)

    def options(self, *parameters: str) -> None:
        """Name the methods of the route; other origins are granted nothing."""
        self.set_header("Allow", ", ".join(self._allowed()))
        self.reply_nothing()

    def on_finish(self) -> None:
        super().on_finish()
        self.leave_past()

    async def enter_past(self, key: Hashable) -> Reading:
        """Wait for this request's turn to read a job of the journal; it lasts until the reply.

        Raises:
            Busy: too many bytes of other replies wait for their clients.
        """
        self._replies.ensure_room(owner=self.owner)
        self.reading = await self.master.past_jobs.enter(key)
        try:
            self._replies.ensure_room(owner=self.owner, part=PAST_SHARE)
        except Busy:
            self.leave_past()
            raise
        return self.reading

    async def find_by_number(self, number: int) -> Job:
        """Find a job; one of the journal when it is this request's turn to read it.

        Raises:
            NotFound, Busy: as `find`.
        """
        archive = self.master.archive
        if (job := archive.in_memory(number, self.caller)) is not None:
            return job
        reading = await self.enter_past(number)
        (job,) = await reading.once("job", partial(archive.find, [number]))
        if not self.caller.sees(job.owner):
            raise NotFound("Job not found")
        return job

    async def newest_jobs(self, count: int) -> list[Job]:
        """The newest jobs in memory that the caller sees."""
        newest = self.master.core.jobs.newest
        if self.caller.sees_all:
            return list(newest(count))
        return await self.master.slices.run(self._own_jobs(list(newest(sys.maxsize)), count))

    def _own_jobs(self, jobs: Sequence[Job], count: int) -> Generator[None, None, list[Job]]:
        own: list[Job] = []
        for index, job in enumerate(jobs, 1):
            if self.caller.sees(job.owner):
                own.append(job)
                if len(own) == count:
                    break
            if not index % JOBS_IN_SLICE:
                yield
        return own

    def leave_past(self) -> None:
        """End this request's turn, if it has one."""
        if self.reading is not None:
            self.master.past_jobs.leave(self.reading)
            self.reading = None

    def wait_s(self) -> float:
        """The query's ``wait=SECONDS`` as `checked_wait_s`; 0 if there is none."""
        return self.checked_wait_s(self.get_query_argument("wait", "0"))

    def checked_wait_s(self, wait: str | float) -> float:
        """Check the seconds that a client asks to wait for.

        Raises:
            InvalidRequest: they are no number, or negative.
            WaitTooLong: they exceed the bound.
        """
        wait_max_s = self.master.settings.wait_max_s
        try:
            wait_s = float(wait)
        except ValueError:
            wait_s = nan
        if wait_s > wait_max_s:
            raise WaitTooLong(str(wait), wait_max_s)
        if not wait_s >= 0:
            raise InvalidRequest(f"wait={wait}: expected 0 to {wait_max_s:g} seconds (wait_max_s)")
        return wait_s

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        raised = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        error = raised if isinstance(raised, DteError) else None
        if isinstance(error, TryAgain) and not isinstance(error, JournalDamaged):
            self.set_header("Retry-After", str(error.retry_after_s))
        if isinstance(error, Unsupported):
            self.set_header("Accept-Encoding", "identity")
        if isinstance(error, Unauthorized):
            self.set_header("WWW-Authenticate", "Bearer")
        if status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            self.set_header("Allow", ", ".join(self._allowed()))
        text = self._text(status_code) if error is None else str(error)
        method, path = str(self.request.method), self.request.path
        if isinstance(error, HungUp):
            self.master.incidents.hung_up(method, path)
        # What a failing journal means for requests is logged once, by the recorder.
        elif self.master.recorder.failure is None or not isinstance(error, Unavailable):
            why = text
            if isinstance(error, Unauthorized | Forbidden):
                why = f"{text} (it came from {self.request.remote_ip})"
            self.master.incidents.refused(method, path, status_code, error, why)
        if isinstance(error, Unauthorized) and method == "GET" and self.wants_html:
            wanted = str(self.request.uri)[1:]
            self.show_page(login_page(path, wanted), login_policy())
            return
        body = utf8(self.error_body(_cut(text), error, status_code))
        self.finish(body if body.endswith(b"\n") else body + b"\n")

    def error_body(self, text: str, error: DteError | None, status: int) -> str | bytes:
        """The body of a reply with an error, in the form of the dialect.

        Args:
            text: the error for people, cut to a bound.
            error: None if the request failed before or outside the route.
        """
        reply: dict[str, Any] = {"error": text, "code": error.code if error else "http"}
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            reply["code"] = "method"
        if isinstance(error, FormulaError):
            reply |= {"reason": error.reason, "column": error.column, "caret": error.caret}
            if error.index is not None:
                reply["index"] = error.index
        if isinstance(error, WaitTooLong):
            reply["wait_max_s"] = error.wait_max_s
        return encode(reply)

    def _text(self, status: int) -> str:
        """The error of a request that failed before or outside the route, for people."""
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            return self.not_allowed()
        return HTTPStatus(status).phrase

    def not_allowed(self) -> str:
        """The error of a request whose method the route has not, in the words of the dialect."""
        path, method = _cut(self.request.path), _cut(str(self.request.method))
        return f"{method} is not allowed on {path}; use {' or '.join(self._methods())}"

    def _methods(self) -> list[str]:
        """The methods that the route is made for."""
        others = ("HEAD", "OPTIONS")
        return [
            method
            for method in self.SUPPORTED_METHODS
            if method not in others
            and getattr(type(self), method.lower()) is not getattr(RequestHandler, method.lower())
        ]

    def _allowed(self) -> list[str]:
        """All methods of the route."""
        methods = self._methods()
        return [*methods, *(["HEAD"] if "GET" in methods else []), "OPTIONS"]

    def send_error(self, status_code: int = 500, **kwargs: Any) -> None:
        if status_code == HTTPStatus.INTERNAL_SERVER_ERROR and "exc_info" not in kwargs:
            ending = shutting_down()  # A request is cancelled only as the master ends.
            kwargs["exc_info"] = (type(ending), ending, None)
        error = kwargs["exc_info"][1] if "exc_info" in kwargs else None
        super().send_error(error.status if isinstance(error, DteError) else status_code, **kwargs)

    def log_exception(
        self, typ: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        """Log the master's faults; a client sees its own in the reply."""
        if value is not None and not isinstance(value, (DteError, HTTPError)):
            method, uri = self.request.method or "", self.request.uri or ""
            self.master.incidents.fault(method, uri, value)


def _cut(text: str) -> str:
    return text if len(text) <= ERROR_CHARS_MAX else text[:ERROR_CHARS_MAX] + "…"


class UnknownPath(JsonHandler):
    """The handler of every path without a route."""

    def get(self, *parameters: str) -> None:
        path = self.request.path
        close = self._close(path) if len(path) <= PATH_CHARS_COMPARED else []
        advice = f"did you mean {close[0]}?" if close else "all routes are at /docs"
        raise NotFound(f"no such route: {_cut(path)}; {advice}")

    def _close(self, path: str) -> list[str]:
        """Return the routes that are most like a path."""
        tidy = "/" + "/".join(filter(None, path.lower().split("/")))
        close = [tidy] if any(re.fullmatch(known, tidy) for known in self._known()) else []
        return close + get_close_matches(path, self._known(), 1)

    head = post = delete = patch = put = get

    def options(self, *parameters: str) -> None:
        if self.request.path != "*":  # The asterisk stands for the server as a whole.
            self.get()
        super().options()

    def _known(self) -> Sequence[str]:
        """The paths of all routes, as regular expressions."""
        known: Sequence[str] = self.settings["patterns"]
        return known
