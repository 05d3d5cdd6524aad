"""The document has every route and each type, and matches them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta
from schemathesis import openapi as schemathesis_openapi
from tornado.web import RequestHandler

from dte.master.api.openapi import (
    EVENTS,
    SECTIONS,
    TEXT,
    Content,
    Route,
    document,
    documentation,
    documented,
)
from dte.master.api.routes import ROUTES
from dte.wire.codec import encode


def methods() -> Iterator[Any]:
    for route in ROUTES:
        for method, function in route.methods():
            yield pytest.param(route, method, function, id=f"{method.upper()} {route.path}")


every_method = pytest.mark.parametrize(("route", "method", "function"), list(methods()))


class Thing(msgspec.Struct):
    """The thing that is made."""

    name: Annotated[str, Meta(min_length=1)]
    size: int | None = None


class Other(msgspec.Struct):
    thing: Thing


def served(**fields: Any) -> type[RequestHandler]:
    """A handler with a documented POST."""

    class Handler(RequestHandler):
        @documented("Make a thing", **{"replies": {200: Thing}} | fields)
        def post(self) -> None: ...

    return Handler


def operation(at: str = "/things", **fields: Any) -> dict[str, Any]:
    """A documented POST as the document shows it."""
    whole = written(Route(at, served(**fields), "jobs"))
    (methods,) = whole["paths"].values()
    return dict(methods["post"])


def written(*routes: Route) -> dict[str, Any]:
    """The document of routes as clients read it; it is valid."""
    whole: dict[str, Any] = json.loads(encode(document(routes)))
    schemathesis_openapi.from_dict(whole).validate()
    return whole


# The routes of a master


def test_the_document_of_a_master_is_valid() -> None:
    assert written(*ROUTES)["openapi"] == "3.1.0"


@every_method
def test_every_method_of_every_route_is_documented(
    route: Route, method: str, function: Any
) -> None:
    shown = documentation(function)
    assert shown is not None, "dte.master.api.openapi.documented is missing"
    assert shown.summary
    assert not shown.summary.endswith(".")
    assert method in document(ROUTES)["paths"][route.shown_path]


@every_method
def test_every_example_is_of_the_type_of_the_body(route: Route, method: str, function: Any) -> None:
    shown: documented | None = documentation(function)
    for example in shown.examples.values() if shown else ():
        assert not isinstance(shown.body, Content)
        msgspec.json.decode(encode(example), type=shown.body)


@every_method
def test_every_named_parameter_of_a_path_is_in_it(route: Route, method: str, function: Any) -> None:
    shown = documentation(function)
    names = set(re.findall(r"\{(\w+)\}", route.shown_path))
    assert shown is None or set(shown.path) <= names


@pytest.mark.parametrize("route", [pytest.param(route, id=route.path) for route in ROUTES])
def test_every_route_is_in_a_known_section(route: Route) -> None:
    assert route.shown_section in SECTIONS


def test_no_path_and_no_operation_id_is_there_twice() -> None:
    paths = [route.pattern for route in ROUTES]
    assert len(set(paths)) == len(paths)
    operations = [each for path in document(ROUTES)["paths"].values() for each in path.values()]
    assert len({each["operationId"] for each in operations}) == len(operations)


# Routes


@pytest.mark.parametrize(
    ("path", "shown", "asked", "given"),
    [
        ("/jobs", "/jobs", "/jobs", ()),
        ("/job/{id:int}", "/job/{id}", "/job/7", ("7",)),
        ("/job/{id:int}", "/job/{id}", "/job/x", ("x",)),
        ("/w/{id}/tasks/{task}", "/w/{id}/tasks/{task}", "/w/a.b/tasks/%2F", ("a.b", "%2F")),
        ("/openapi.json", "/openapi.json", "/openapi.json", ()),
    ],
)
def test_a_path_is_written_once(path: str, shown: str, asked: str, given: tuple[str, ...]) -> None:
    route = Route(path, RequestHandler)
    assert route.shown_path == shown
    match = re.fullmatch(route.pattern, asked)
    assert match
    assert match.groups() == given


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/openapi.json", "/openapi-json"),
        ("/job/{id:int}", "/job/"),
        ("/job/{id:int}", "/job/1/why"),
        ("/jobs", "/jobs/1"),
    ],
)
def test_a_path_is_no_other(path: str, asked: str) -> None:
    assert not re.fullmatch(Route(path, RequestHandler).pattern, asked)


def test_a_route_is_in_the_section_of_its_module_by_default() -> None:
    assert Route("/a", served(), "queue").shown_section == "queue"
    assert Route("/a", served()).shown_section == "test_openapi"


# The documentation of a method


def test_documenting_changes_nothing_of_a_method() -> None:
    def method(number: int) -> int:
        return number + 1

    same = documented("Count", replies={200: int})(method)
    assert same is method
    assert same(1) == 2


def test_a_method_without_documentation_is_left_out() -> None:
    class Bare(RequestHandler):
        def get(self) -> None: ...

    assert written(Route("/bare", Bare, "jobs"), Route("/a", served(), "jobs"))["paths"].keys() == {
        "/a"
    }


def test_schemas_follow_from_types() -> None:
    whole = written(Route("/things", served(body=Other), "jobs"))
    schemas = whole["components"]["schemas"]
    assert schemas["Thing"]["properties"]["name"] == {"type": "string", "minLength": 1}
    assert schemas["Thing"]["required"] == ["name"]
    assert schemas["Other"]["properties"]["thing"] == {"$ref": "#/components/schemas/Thing"}
    body = whole["paths"]["/things"]["post"]["requestBody"]
    assert body["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Other"}


def test_types_of_one_name_do_not_clash() -> None:
    def inner() -> Any:
        return msgspec.defstruct("Thing", [("weight", int)], module="elsewhere")

    responses = operation(replies={200: Thing, 201: inner()})["responses"]
    refs = [
        responses[status]["content"]["application/json"]["schema"]["$ref"]
        for status in ("200", "201")
    ]
    assert len(set(refs)) == 2


def test_a_reply_may_be_one_or_the_other() -> None:
    reply = operation(replies={200: Thing | Other | None})["responses"]["200"]
    assert reply["content"]["application/json"]["schema"] == {
        "anyOf": [
            {"$ref": "#/components/schemas/Thing"},
            {"$ref": "#/components/schemas/Other"},
            {"type": "null"},
        ]
    }


def test_a_reply_may_have_no_body() -> None:
    assert operation(replies={204: None})["responses"]["204"] == {"description": "No Content"}


def test_replies_may_be_text_or_events() -> None:
    responses = operation(replies={200: EVENTS, 403: TEXT, 404: (TEXT, Thing)})["responses"]
    assert responses["200"]["content"] == {"text/event-stream": {"schema": {"type": "string"}}}
    assert responses["403"]["content"] == {"text/plain": {"schema": {"type": "string"}}}
    assert responses["404"]["content"].keys() == {"text/plain", "application/json"}


def test_a_body_may_be_other_than_json() -> None:
    body = operation(body=Content(None, "application/octet-stream"))["requestBody"]
    assert body["content"] == {"application/octet-stream": {"schema": {}}}


def test_errors_that_go_without_saying() -> None:
    def errors(**fields: Any) -> set[str]:
        return operation("/things", **fields)["responses"].keys() - {"200"}

    of_access = {"401", "403", "421"}
    assert errors() == {"400", "429"} | of_access
    assert errors(body=Thing, errors=(409,)) == {"400", "409", "413", "415", "429"} | of_access


def test_errors_have_the_form_of_their_dialect() -> None:
    class Handler(served(body=Thing, errors=(404,))):  # type: ignore[misc]
        ERRORS_AS = TEXT

    (methods,) = written(Route("/things", Handler, "jobs"))["paths"].values()
    responses = methods["post"]["responses"]
    assert responses["400"]["content"].keys() == {"text/plain"}
    assert responses["404"]["content"].keys() == {"text/plain"}
    # At the bound of connections the dialect is not known yet.
    assert responses["429"]["content"].keys() == {"text/plain", "application/json"}


def test_replies_to_be_retried_have_retry_after() -> None:
    responses = operation(errors=(404, 503, 507))["responses"]
    retried = {status for status, reply in responses.items() if "Retry-After" in str(reply)}
    assert retried == {"429", "503", "507"}


def test_parameters_are_of_the_path_the_query_and_the_headers() -> None:
    count = Annotated[int, Meta(ge=1, description="how many")]
    made = operation(
        "/a/{id:int}/{name}/{kind}",
        path={"kind": Annotated[str, Meta(pattern="^[ab]$")]},
        query={"count": count},
        headers={"Last-Event-ID": str},
    )["parameters"]
    assert made == [
        {
            "name": "id",
            "in": "path",
            "required": True,
            "schema": {"type": "integer", "minimum": 0},
        },
        {
            "name": "name",
            "in": "path",
            "required": True,
            "schema": {"type": "string", "minLength": 1},
        },
        {
            "name": "kind",
            "in": "path",
            "required": True,
            "schema": {"type": "string", "pattern": "^[ab]$"},
        },
        {
            "name": "count",
            "in": "query",
            "required": False,
            "schema": {"type": "integer", "minimum": 1},
            "description": "how many",
        },
        {
            "name": "Last-Event-ID",
            "in": "header",
            "required": False,
            "schema": {"type": "string"},
        },
    ]


def test_examples_stand_beside_the_body_s_schema() -> None:
    body = operation(body=Thing, examples={"small": {"name": "a", "size": 1}})["requestBody"]
    assert body["content"]["application/json"]["examples"] == {
        "small": {"value": {"name": "a", "size": 1}}
    }


def test_one_handler_may_serve_two_paths() -> None:
    handler = served()
    paths = written(Route("/a", handler, "jobs"), Route("/x/a", handler, "jobs"))["paths"]
    assert [path["post"]["operationId"] for path in paths.values()] == ["post_a", "post_x_a"]
