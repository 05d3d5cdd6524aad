"""The OpenAPI 3.1 document of a master's routes, made from the types that serve them.

A route is written once, as a `Route` in the table (`routes.py`). The decorator `documented` names
the types that a method takes and gives, and the schemas follow from the types. `document` puts
both together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from http import HTTPStatus
from types import UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta
from tornado.web import RequestHandler

from dte import __version__
from dte.core.errors import (
    Busy,
    Forbidden,
    InvalidRequest,
    StorageFull,
    TooLarge,
    Unauthorized,
    Unavailable,
    Unsupported,
)
from dte.master.access.logins import COOKIE
from dte.master.access.roles import KNOWN, NO_METHODS, May

Method = TypeVar("Method", bound=Callable[..., Any])

ATTRIBUTE = "documented"
FOLLOWING = ("head", "options")
"""Methods that follow from the others."""
PARAMETER = re.compile(r"\{(?P<name>\w+)(?P<type>:int)?\}")
PATH_NUMBER = {"type": "integer", "minimum": 0}
PATH_TEXT = {"type": "string", "minLength": 1}
REF = "#/components/schemas/{name}"
SCHEMES = {
    "token": {"type": "http", "scheme": "bearer"},
    "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
}
"""The ways to show a token: itself, or the cookie of a browser that has logged in."""
RETRIED = (Busy.status, Unavailable.status, StorageFull.status)
"""Statuses of replies with the header Retry-After."""

SECTIONS = {
    "formula": "Arithmetic formulas in, answers out.",
    "jobs": "Graphs of calls, and their progress.",
    "workers": "For workers: announce, claim, report.",
    "queue": "The dialect of a task queue that workers poll.",
    "scheduler": "The dialect of a function scheduler; each route is also served under /scheduler.",
    "rest": "The dialect of tasks and workers as resources; errors are plain text.",
    "operations": "For operators of a master.",
}
"""The sections of the document, in their order."""

DESCRIPTION = """\
One master serves the same jobs in several dialects. An error is JSON with `error` for people and \
`code` for programs, unless its dialect has another form. After a reply with 429, 503 or 507, wait \
the number of seconds in `Retry-After` and try again. Each route that answers GET also answers \
HEAD, and each answers OPTIONS with its methods. A \
master with tokens serves a request only to the roles in its `x-roles`; `dte token new` makes \
tokens.\
"""


# Types shared by many routes


class ErrorReply(msgspec.Struct):
    """The reply to a request that was refused: `error` for people, `code` for programs."""

    error: str
    code: str
    reason: str | msgspec.UnsetType = msgspec.UNSET
    column: int | msgspec.UnsetType = msgspec.UNSET
    caret: str | msgspec.UnsetType = msgspec.UNSET
    index: int | msgspec.UnsetType = msgspec.UNSET
    wait_max_s: float | msgspec.UnsetType = msgspec.UNSET


WAIT = Annotated[float, Meta(ge=0, description="seconds to wait for the result; 0 answers at once")]


class Content(NamedTuple):
    """A body that is not JSON; its type is None if no Python type describes it."""

    type: Any
    media: str


TEXT = Content(str, "text/plain")
EVENTS = Content(str, "text/event-stream")
HTML = Content(str, "text/html")


# Routes and their documentation


class Route(NamedTuple):
    """A path and its handler: ``Route("/job/{id:int}", OneJob)``.

    Attributes:
        path: with its parameters in braces, ``{name}`` or ``{name:int}``. Each matches up to the
            next slash, and the method gets it as text, in this order. ``:int`` only shows in the
            document: for any other text the method itself answers with 404.
        handler: its methods are `documented`.
        section: one of `SECTIONS`; the name of the handler's module by default.
        may: the roles that each method is for.
    """

    path: str
    handler: type[RequestHandler]
    section: str = ""
    may: May = NO_METHODS

    @property
    def pattern(self) -> str:
        """The path as a regular expression for Tornado."""
        literals = PARAMETER.sub("\0", self.path).split("\0")
        return "([^/]+)".join(map(re.escape, literals))

    @property
    def shown_path(self) -> str:
        """The path as OpenAPI writes it."""
        return PARAMETER.sub(r"{\g<name>}", self.path)

    @property
    def shown_section(self) -> str:
        return self.section or self.handler.__module__.rpartition(".")[2]

    @property
    def errors_as(self) -> Any:
        """The form of the handler's errors."""
        return getattr(self.handler, "ERRORS_AS", ErrorReply)

    def methods(self) -> Iterator[tuple[str, Any]]:
        """The methods that the handler has, but for HEAD and OPTIONS, as ``("get", function)``."""
        for method in map(str.lower, RequestHandler.SUPPORTED_METHODS):
            function = getattr(self.handler, method)
            if method not in FOLLOWING and function is not getattr(RequestHandler, method):
                yield method, function

    def check_roles(self) -> None:
        """Check that `may` has exactly the methods of the handler."""
        methods = {method for method, _ in self.methods()}
        if methods != self.may.keys():
            raise ValueError(f"{self.path}: roles for {sorted(self.may)}, not {sorted(methods)}")


@dataclass(frozen=True, slots=True)
class documented:  # noqa: N801 - it is used as a decorator.
    """Documents an HTTP method of a handler, without a change to how it serves.

    "Type" below means any type that msgspec has a schema for: structs, typed dicts, lists, unions,
    and ``Annotated[int, Meta(ge=0, description=…)]``.

    Attributes:
        summary: a few words, without a full stop.
        replies: the type of the body by status. It may be ``A | B``, `TEXT`, `EVENTS` or another
            `Content`, None for no body, or a tuple of these with a media type each. Errors in a
            dialect's own form are replies, too.
        body: the type of the request's JSON, or a `Content`.
        errors: statuses that are answered in the form of the handler's errors. 400 and 429 are
            always added, and 413 and 415 where there is a body.
        path: types of the path's parameters, where the table of routes does not say enough.
        query: types of the query's parameters, all of them optional.
        headers: types of the request's headers, all of them optional.
        examples: bodies by name; the tests of the document decode them.
        description: more than the summary, in Markdown.
    """

    summary: str
    _: KW_ONLY
    replies: Mapping[int, Any]
    body: Any = None
    errors: Sequence[int] = ()
    path: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Any] = field(default_factory=dict)
    examples: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""

    def __call__(self, method: Method) -> Method:
        setattr(method, ATTRIBUTE, self)
        return method

    def all_errors(self) -> set[int]:
        """The named errors, and those that any request or a body may get."""
        implied = {Busy.status, InvalidRequest.status}
        if self.body is not None:
            implied |= {TooLarge.status, Unsupported.status}
        return implied | set(self.errors)


def documentation(method: Any) -> documented | None:
    """The documentation of a method; None if it is not `documented`."""
    return getattr(method, ATTRIBUTE, None)


# The document


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The OpenAPI document of some routes; methods that are not `documented` are left out."""
    entries = [
        (route, method, operation)
        for route in routes
        for method, function in route.methods()
        if (operation := documentation(function)) is not None
    ]
    schemas = _Schemas(_types(route, operation) for route, _, operation in entries)
    paths: dict[str, dict[str, Any]] = {}
    for route, method, operation in entries:
        shown = _shown(route, method, operation, schemas)
        paths.setdefault(route.shown_path, {})[method] = shown
    used = {route.shown_section for route, _, _ in entries}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dte",
            "version": __version__,
            "description": DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [
            {"name": name, "description": text} for name, text in SECTIONS.items() if name in used
        ],
        "paths": paths,
        "components": {"schemas": schemas.components, "securitySchemes": SCHEMES},
    }


class _Schemas:
    """The schemas of all types of a document, made together so that their names do not clash."""

    def __init__(self, types: Iterable[Iterable[Any]]) -> None:
        # Types need not be hashable: what `Annotated` carries may not be.
        self._types = [each for some in types for each in some]
        self._made, self.components = msgspec.json.schema_components(self._types, ref_template=REF)

    def of(self, shape: Any) -> dict[str, Any]:
        made = [self._made[self._types.index(part)] for part in _parts(shape)]
        return made[0] if len(made) == 1 else {"anyOf": made}


def _parts(shape: Any) -> tuple[Any, ...]:
    """The parts of a union: msgspec has no schema for a union of several structs."""
    return get_args(shape) if get_origin(shape) in (Union, UnionType) else (shape,)


def _types(route: Route, operation: documented) -> Iterator[Any]:
    """All types of an operation, with unions split into their parts."""
    shapes = [operation.body, route.errors_as, ErrorReply, *operation.replies.values()]
    contents = [content for shape in shapes for content in _contents(shape)]
    tables = (operation.path, operation.query, operation.headers)
    parameters = [shape for table in tables for shape in table.values()]
    for shape in [*(content.type for content in contents), *parameters, str]:
        if shape is not None:
            yield from _parts(shape)


def _contents(shape: Any) -> list[Content]:
    """The forms of a body, each with its media type."""
    if shape is None:
        return []
    if isinstance(shape, Content):
        return [shape]
    if isinstance(shape, tuple):
        return [content for each in shape for content in _contents(each)]
    return [Content(shape, "application/json")]


def _shown(route: Route, method: str, operation: documented, schemas: _Schemas) -> dict[str, Any]:
    name = re.sub(r"\W+", "_", route.shown_path).strip("_") or "root"
    parameters = [*_path_parameters(route, operation, schemas)]
    for place, types in (("query", operation.query), ("header", operation.headers)):
        parameters += [
            _parameter(parameter, place, schemas.of(shape), required=False)
            for parameter, shape in types.items()
        ]
    shown: dict[str, Any] = {
        "operationId": f"{method}_{name}",
        "tags": [route.shown_section],
        "summary": operation.summary,
    }
    if operation.description:
        shown["description"] = operation.description
    if parameters:
        shown["parameters"] = parameters
    if operation.body is not None:
        content = _content(operation.body, schemas)
        if operation.examples:
            named = {example: {"value": value} for example, value in operation.examples.items()}
            for kind in content.values():
                kind["examples"] = named
        shown["requestBody"] = {"required": True, "content": content}
    shown["responses"] = _responses(route, method, operation, schemas)
    roles = route.may.get(method, KNOWN)
    shown["security"] = [{name: []} for name in SCHEMES] if roles else []
    if roles:
        shown["x-roles"] = sorted(role.value for role in roles)
    return shown


def _path_parameters(
    route: Route, operation: documented, schemas: _Schemas
) -> Iterator[dict[str, Any]]:
    for match in PARAMETER.finditer(route.path):
        name = match["name"]
        schema = PATH_NUMBER if match["type"] else PATH_TEXT
        if name in operation.path:
            schema = schemas.of(operation.path[name])
        yield _parameter(name, "path", schema, required=True)


def _parameter(name: str, place: str, schema: dict[str, Any], required: bool) -> dict[str, Any]:
    parameter = {"name": name, "in": place, "required": required, "schema": schema}
    if "description" in schema:
        parameter["description"] = schema["description"]
        parameter["schema"] = {key: schema[key] for key in schema if key != "description"}
    return parameter


def _responses(
    route: Route, method: str, operation: documented, schemas: _Schemas
) -> dict[str, Any]:
    bodies: dict[int, Any] = dict(operation.replies)
    of_access = {Forbidden.status, HTTPStatus.MISDIRECTED_REQUEST.value}
    if route.may.get(method, KNOWN):
        of_access.add(Unauthorized.status)
    for status in operation.all_errors() | of_access:
        bodies.setdefault(status, route.errors_as)
    # At the bound of connections, the dialect of a request is not known yet.
    if bodies[Busy.status] is not ErrorReply:
        bodies[Busy.status] = (bodies[Busy.status], ErrorReply)
    responses = {}
    for status in sorted(bodies):
        response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        if status in RETRIED:
            seconds = {"description": "seconds", "schema": {"type": "integer", "minimum": 0}}
            response["headers"] = {"Retry-After": seconds}
        if content := _content(bodies[status], schemas):
            response["content"] = content
        responses[str(status)] = response
    return responses


def _content(shape: Any, schemas: _Schemas) -> dict[str, Any]:
    by_media: dict[str, list[dict[str, Any]]] = {}
    for content in _contents(shape):
        schema = {} if content.type is None else schemas.of(content.type)
        by_media.setdefault(content.media, []).append(schema)
    return {
        media: {"schema": made[0] if len(made) == 1 else {"anyOf": made}}
        for media, made in by_media.items()
    }
