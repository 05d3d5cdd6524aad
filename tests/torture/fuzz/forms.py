"""Says in which form each route answers, from the table of routes and what is documented there.

A status that a method's documentation names comes in the form it gives. Any other error, as 405,
comes in the form that errors have there: a route of a dialect speaks that one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from types import UnionType
from typing import Any, Union, get_args, get_origin
from urllib.parse import parse_qsl

import msgspec
from harness.http import Message

from dte.core.errors import Busy
from dte.master.api.openapi import EVENTS, Content, ErrorReply, Route, documentation
from dte.master.api.routes import ROUTES
from dte.master.http.server import ManyParameters

PATTERNS = [(re.compile(route.pattern), route) for route in ROUTES]
JSON = "application/json"
NOTHING = Content(None, "")
DIALECTS = ("queue", "scheduler", "rest")
LOOSE = ("/submit", "/result")
"""Paths whose bodies may have a name twice."""
UNKNOWN_PATH = (Content(ErrorReply, JSON),)


def fault(method: str, path: str | None, reply: Message) -> str | None:
    """The fault in the form of a reply, if there is one.

    Args:
        path: without its query; None if nobody can tell what the server took for it. Then an error
            may be in any route's form.
    """
    expected = list(_any_error() if path is None else _expected(method, path, reply.status))
    if path is None and reply.status < 400:
        return _fault_of(reply, Content(None, _media(reply)))
    if not expected:
        return f"is not documented for {method} {path}"
    faults = [_fault_of(reply, content) for content in expected]
    return None if None in faults else faults[0]


def ignored(raw: bytes) -> str | None:
    """What one of dte's own routes must refuse in a request, because it would ignore it."""
    head, _, body = raw.partition(b"\r\n\r\n")
    method, target = head.decode("latin-1").split(" ", 2)[:2]
    path, _, query = target.partition("?")
    route = next((route for pattern, route in PATTERNS if pattern.fullmatch(path)), None)
    if route is None or route.shown_section in DIALECTS:
        return None
    said = documentation(dict(route.methods()).get(method.lower()))
    given = [name for name, _ in parse_qsl(query, keep_blank_values=True, encoding="latin-1")]
    if said is not None and any(name not in said.query for name in given):
        return "a query parameter that it does not know"
    if len(given) > len(set(given)):
        return "a query parameter twice"
    if path not in LOOSE and b"ransfer-" not in head:
        objects: list[list[tuple[str, Any]]] = []
        with suppress(ValueError, RecursionError):
            json.loads(body, object_pairs_hook=lambda pairs: objects.append(pairs))
        if any(len(dict(pairs)) < len(pairs) for pairs in objects):
            return "a name twice"
    return None


def is_stream(method: str, path: str) -> bool:
    """True for a request that a stream of events may answer, which need not end."""
    return any(content is EVENTS for content in _expected(method, path, 200))


def errors(route: Route) -> list[Content]:
    """The forms of a route's errors, but for those that it documents as replies."""
    return [
        content
        for _, function in route.methods()
        if documentation(function) is not None
        for content in _contents(route.errors_as)
    ]


def _expected(method: str, path: str, status: int) -> Iterator[Content]:
    route = next((route for pattern, route in PATTERNS if pattern.fullmatch(path)), None)
    if route is None:
        is_server = path == "*" and method == "OPTIONS"
        yield from UNKNOWN_PATH if status >= 400 else (NOTHING,) if is_server else ()
        return
    if method == "OPTIONS" and status == 204:
        yield NOTHING
        return
    methods = {name.upper(): function for name, function in route.methods()}
    said = documentation(methods.get(method))
    if said is not None and status in said.replies:
        yield from _contents(said.replies[status])
    elif status >= 400:
        yield from errors(route)
    if status in (Busy.status, ManyParameters.status):  # The dialect is not known yet.
        yield from UNKNOWN_PATH


def _any_error() -> Iterator[Content]:
    yield from UNKNOWN_PATH
    for _, route in PATTERNS:
        yield from errors(route)
        for _, function in route.methods():
            said = documentation(function)
            for status, shape in said.replies.items() if said is not None else ():
                if status >= 400:
                    yield from _contents(shape)


def _contents(shape: Any) -> list[Content]:
    if shape is None:
        return [NOTHING]
    if isinstance(shape, Content):
        return [shape]
    if isinstance(shape, tuple):
        return [content for each in shape for content in _contents(each)]
    union = get_origin(shape) in (Union, UnionType)
    return [Content(part, JSON) for part in (get_args(shape) if union else (shape,))]


def _fault_of(reply: Message, expected: Content) -> str | None:
    if expected is NOTHING:
        return "with a body" if reply.body else None
    if _media(reply) != expected.media:
        return f"as {_media(reply) or 'nothing'}, not as {expected.media}"
    if expected.media != JSON:
        return None if reply.body or reply.status < 400 else "without a text"
    try:
        value = json.loads(reply.body)
    except ValueError:
        return "without JSON"
    if reply.status < 400:
        return None  # What the values are is judged in `contract`.
    try:
        error = msgspec.convert(value, expected.type)
    except msgspec.ValidationError as wrong:
        return f"without {expected.type.__name__}: {wrong}"
    # An error without words helps nobody.
    empty = [name for name, said in msgspec.structs.asdict(error).items() if said in ("", [])]
    return f"without {' and '.join(empty)}" if empty else None


def _media(reply: Message) -> str:
    return reply.headers.get("content-type", "").partition(";")[0].strip()
