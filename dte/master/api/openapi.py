"""The OpenAPI 3.1 document of a master's routes, made from the types that serve them.

A route is written once, as a `Route` in the table (`routes.py`). What a method takes and gives is
said above it, by `documented`; the schemas follow from the types. `document` puts both together.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from types import UnionType
from typing import Annotated, Any, NamedTuple, TypeVar, Union, get_args, get_origin

import msgspec
from msgspec import Meta
from tornado.web import RequestHandler

from dte import __version__
from dte.core.errors import Busy, InvalidRequest, StorageFull, TooLarge, Unavailable

Method = TypeVar("Method", bound=Callable[..., Any])

ATTRIBUTE = "documented"
PARAMETER = re.compile(r"\{(?P<name>\w+)(?P<type>:int)?\}")
REF = "#/components/schemas/{name}"
RETRIED = (Busy.status, Unavailable.status, StorageFull.status)
"""Statuses that come with a Retry-After."""

SECTIONS = {
    "formula": "Arithmetic formulas in, answers out.",
    "jobs": "Jobs as graphs of calls, and how they go.",
    "workers": "For workers: announce, claim, give back.",
    "queue": "The dialect of a queue of tasks, which workers poll.",
    "scheduler": "The dialect of a scheduler of functions; each route is also under /scheduler.",
    "rest": "The dialect of tasks and workers as resources; its errors are plain text.",
    "operations": "For those who operate a master.",
}
"""The sections that routes are shown in, in this order."""

DESCRIPTION = """\
One master serves several dialects of the same jobs. An error is JSON with `error` for people and \
`code` for programs, unless its dialect has another form; a reply with 429, 503 or 507 says in \
`Retry-After` after how many seconds trying again makes sense.\
"""


# Types that many routes share


class ErrorReply(msgspec.Struct):
    """Why a request was refused: `error` for people, `code` for programs."""

    error: str
    code: str
    reason: str | msgspec.UnsetType = msgspec.UNSET
    column: int | msgspec.UnsetType = msgspec.UNSET
    caret: str | msgspec.UnsetType = msgspec.UNSET
    index: int | msgspec.UnsetType = msgspec.UNSET
    wait_max_s: float | msgspec.UnsetType = msgspec.UNSET


WAIT = Annotated[
    float,
    Meta(ge=0, description="seconds to hold the request at most, until there is what it asks for"),
]
"""The query's ``wait``."""


class Content(NamedTuple):
    """A body of another kind than JSON.

    Attributes:
        type: the Python type that it is, or None where no type says it.
        media: its media type.
    """

    type: Any
    media: str


TEXT = Content(str, "text/plain")
EVENTS = Content(str, "text/event-stream")
HTML = Content(str, "text/html")


# What stands in the table, and above the methods


class Route(NamedTuple):
    """A path and who serves it: ``Route("/job/{id:int}", OneJob)``.

    Attributes:
        path: with its parameters in braces, ``{name}`` or ``{name:int}``. Each stands for all up to
            the next slash, and is given to the method as text, in this order. ``:int`` is said in
            the document alone: what is no integer the method answers, with a 404 in its own words.
        handler: serves it; each of its methods is `documented`.
        section: one of `SECTIONS`; by itself, the name of the handler's module.
    """

    path: str
    handler: type[RequestHandler]
    section: str = ""

    @property
    def pattern(self) -> str:
        """The path as Tornado's regular expression."""
        literals = PARAMETER.sub("\0", self.path).split("\0")
        return "([^/]+)".join(map(re.escape, literals))

    @property
    def shown_path(self) -> str:
        """The path as OpenAPI writes it."""
        return PARAMETER.sub(r"{\g<name>}", self.path)

    @property
    def shown_section(self) -> str:
        return self.section or self.handler.__module__.rpartition(".")[2]

    def methods(self) -> Iterator[tuple[str, Any]]:
        """The methods that the handler has, as ``("get", function)``."""
        for method in map(str.lower, RequestHandler.SUPPORTED_METHODS):
            function = getattr(self.handler, method)
            if function is not getattr(RequestHandler, method):
                yield method, function


@dataclass(frozen=True, slots=True)
class Documented:
    """What `documented` says of a method; its arguments are described there."""

    summary: str
    body: Any = None
    replies: Mapping[int, Any] = field(default_factory=dict)
    errors: Sequence[int] = ()
    errors_as: Any = ErrorReply
    path: Mapping[str, Any] = field(default_factory=dict)
    query: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, Any] = field(default_factory=dict)
    examples: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""

    def all_errors(self, has_parameters: bool) -> set[int]:
        """Those named, and those that follow from what the method takes."""
        implied = {Busy.status}
        if has_parameters or self.query or self.headers or self.body is not None:
            implied.add(InvalidRequest.status)
        if self.body is not None:
            implied.add(TooLarge.status)
        return implied | set(self.errors)


def documented(
    summary: str,
    *,
    body: Any = None,
    replies: Mapping[int, Any],
    errors: Sequence[int] = (),
    errors_as: Any = ErrorReply,
    path: Mapping[str, Any] | None = None,
    query: Mapping[str, Any] | None = None,
    headers: Mapping[str, Any] | None = None,
    examples: Mapping[str, Any] | None = None,
    description: str = "",
) -> Callable[[Method], Method]:
    """Say what an HTTP method of a handler takes and gives. It changes nothing in how it serves.

    ::

        class Submit(JsonHandler):
            @documented(
                "Accept a formula, or many",
                body=Submission,
                examples={"one": {"task": "1+2"}, "many": {"tasks": ["1+2", "3*4"]}},
                query={"wait": WAIT},
                replies={200: Accepted | JobReply},
                errors=(409, 503),
            )
            async def post(self) -> None: ...

    "Type" below is whatever msgspec has a schema for: structs, typed dicts, lists, unions, and
    ``Annotated[int, Meta(ge=0, description=…)]``.

    Args:
        summary: a few words, without a full stop.
        body: the type of the request's JSON, or a `Content`.
        replies: for each status what the body is: a type, ``A | B`` for one or the other, `TEXT`,
            `EVENTS` or another `Content`, None where there is no body, or a tuple of these if the
            media type differs from case to case. A dialect's own errors are replies as well.
        errors: statuses that are answered in the form `errors_as`. 429 goes without saying, as do
            400 for what has parameters or a body, and 413 for what has a body.
        errors_as: the form of the errors: a type or a `Content`, as `TEXT`.
        path: types of the path's parameters, where there is more to say than the table does.
        query: types of the query's parameters, none of which is required.
        headers: types of the request's headers, none of which is required.
        examples: bodies by their names; they are tried in the tests of the document.
        description: more than the summary, in Markdown.
    """
    said = Documented(
        summary,
        body,
        replies,
        errors,
        errors_as,
        path or {},
        query or {},
        headers or {},
        examples or {},
        description,
    )

    def attach(method: Method) -> Method:
        setattr(method, ATTRIBUTE, said)
        return method

    return attach


def documentation(method: Any) -> Documented | None:
    """What `documented` said of a method, if it did."""
    return getattr(method, ATTRIBUTE, None)


# The document


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The OpenAPI document of those routes; methods that are not `documented` are left out."""
    entries = [
        (route, method, said)
        for route in routes
        for method, function in route.methods()
        if (said := documentation(function)) is not None
    ]
    schemas = _Schemas(_types(said) for _, _, said in entries)
    paths: dict[str, dict[str, Any]] = {}
    for route, method, said in entries:
        paths.setdefault(route.shown_path, {})[method] = _operation(route, method, said, schemas)
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
        "components": {"schemas": schemas.components},
    }


class _Schemas:
    """The schemas of all types of a document, made at once so that their names do not clash."""

    def __init__(self, types: Iterable[Iterable[Any]]) -> None:
        # Types need not be hashable: what `Annotated` carries may not be.
        self._types = [each for some in types for each in some]
        made, self.components = msgspec.json.schema_components(self._types, ref_template=REF)
        self._by_id = {id(each): schema for each, schema in zip(self._types, made, strict=True)}

    def of(self, shape: Any) -> dict[str, Any]:
        parts = _parts(shape)
        if len(parts) == 1:
            return self._of_part(parts[0])
        return {"anyOf": [self._of_part(part) for part in parts]}

    def _of_part(self, part: Any) -> dict[str, Any]:
        if id(part) in self._by_id:
            return self._by_id[id(part)]
        # `list[int]` of two places is equal but not the same.
        return self._by_id[id(self._types[self._types.index(part)])]


def _parts(shape: Any) -> tuple[Any, ...]:
    """The parts of a union, since msgspec takes none of several structs."""
    return get_args(shape) if get_origin(shape) in (Union, UnionType) else (shape,)


def _types(said: Documented) -> Iterator[Any]:
    """All types that a documentation names, with unions in parts."""
    shapes = [said.body, said.errors_as, ErrorReply, *said.replies.values()]
    contents = [content for shape in shapes for content in _contents(shape)]
    parameters = [*said.path.values(), *said.query.values(), *said.headers.values()]
    for shape in [*(content.type for content in contents), *parameters, str]:
        if shape is not None:
            yield from _parts(shape)


def _contents(shape: Any) -> list[Content]:
    """What a body may be, by its media types."""
    if shape is None:
        return []
    if isinstance(shape, Content):
        return [shape]
    if isinstance(shape, tuple):
        return [content for each in shape for content in _contents(each)]
    return [Content(shape, "application/json")]


def _operation(route: Route, method: str, said: Documented, schemas: _Schemas) -> dict[str, Any]:
    name = re.sub(r"\W+", "_", route.shown_path).strip("_") or "root"
    parameters = [*_path_parameters(route, said, schemas)]
    has_parameters = bool(parameters)
    for place, types in (("query", said.query), ("header", said.headers)):
        parameters += [
            _parameter(name, place, schemas.of(shape), required=False)
            for name, shape in types.items()
        ]
    operation: dict[str, Any] = {
        "operationId": f"{method}_{name}",
        "tags": [route.shown_section],
        "summary": said.summary,
    }
    if said.description:
        operation["description"] = said.description
    if parameters:
        operation["parameters"] = parameters
    if said.body is not None:
        content = _content(said.body, schemas)
        if said.examples:
            named = {name: {"value": value} for name, value in said.examples.items()}
            for kind in content.values():
                kind["examples"] = named
        operation["requestBody"] = {"required": True, "content": content}
    operation["responses"] = _responses(said, has_parameters, schemas)
    return operation


def _path_parameters(route: Route, said: Documented, schemas: _Schemas) -> Iterator[dict[str, Any]]:
    for match in PARAMETER.finditer(route.path):
        name = match["name"]
        schema: dict[str, Any]
        if name in said.path:
            schema = schemas.of(said.path[name])
        elif match["type"]:
            schema = {"type": "integer", "minimum": 0}
        else:
            schema = {"type": "string", "minLength": 1}
        yield _parameter(name, "path", schema, required=True)


def _parameter(name: str, place: str, schema: dict[str, Any], required: bool) -> dict[str, Any]:
    parameter = {"name": name, "in": place, "required": required, "schema": schema}
    if "description" in schema:
        parameter["description"] = schema["description"]
        parameter["schema"] = {key: schema[key] for key in schema if key != "description"}
    return parameter


def _responses(said: Documented, has_parameters: bool, schemas: _Schemas) -> dict[str, Any]:
    bodies: dict[int, Any] = dict(said.replies)
    for status in said.all_errors(has_parameters):
        bodies.setdefault(status, said.errors_as)
    # At the bound of connections nobody has looked yet what dialect the request is in.
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
