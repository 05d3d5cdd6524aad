"""Sends a master what its OpenAPI document allows and what it does not, and judges by it.

Each reply must have a status that the document names for its route, the content type and the
headers that go with it, and a body that fits the schema. Streams of events are left out: they have
no end.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import requests
from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import APIOperation, Case, GenerationMode, openapi
from schemathesis.checks import load_all_checks
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from torture.fuzz.cluster import FuzzedCluster

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
STREAM = "text/event-stream"
TIMEOUT_S = 10.0
HELD_S = 0.01
"""How long requests are held that ask for it."""
EXAMPLES = 0.3
"""How many of the good requests have an example as their body: what is made up is seldom taken."""
TEXT = {"type": "string", "minLength": 1}
"""The schema of a part of a path that may be anything."""
KNOWN_MAX = 200
WHAT_CHARS = 1_500

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """A reply that is not as documented; the text tells how to send the request again."""

    route: str
    what: str


@dataclass(slots=True)
class Tally:
    """The replies to requests, and the faults.

    Attributes:
        statuses: of the replies, by route, as ``POST /submit``.
        found: the first fault of each kind on each route.
    """

    requests: int = 0
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    found: list[Fault] = field(default_factory=list)
    took_s: float = 0.0


def run(number: int, count: int, *, progress: Progress = lambda done: None) -> Tally:
    """Send up to `count` requests to a master with workers; they follow from the seed `number`.

    Args:
        progress: told the number of requests sent, after each route.
    """
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(prefix="dte-fuzz-") as folder,
        FuzzedCluster(Path(folder)) as cluster,
    ):
        document = cluster.client.get("/openapi.json")
        tally = judge(document, cluster.port, number, count, cluster.silent_ports, progress)
        tally.found += [Fault("at last", fault) for fault in cluster.faults()]
    tally.took_s = time.monotonic() - started
    return tally


def judge(
    document: dict[str, Any],
    port: int,
    number: int,
    count: int,
    silent_ports: list[int],
    progress: Progress = lambda done: None,
) -> Tally:
    """Send the master at `port` up to `count` requests, good and bad, to all documented routes.

    Args:
        number: the seed.
        silent_ports: where workers may be announced: nobody listens there.
    """
    load_all_checks()
    tally = Tally()
    operations = list(_operations(document))
    rng = Random(number)
    with requests.Session() as session:
        judgement = _Judgement(tally, f"http://127.0.0.1:{port}", session, rng, silent_ports)
        each = max(1, count // (2 * len(operations)))
        for operation in operations:
            tally.statuses[operation.label] = Counter()
            _send_cases(operation, GenerationMode.POSITIVE, number, each, judgement)
            if not _takes_anything(operation):
                _send_cases(operation, GenerationMode.NEGATIVE, number, each, judgement)
            progress(tally.requests)
    return tally


def _operations(document: dict[str, Any]) -> Iterator[APIOperation[Any, Any, Any, Any]]:
    for result in openapi.from_dict(document).get_all_operations():
        if not isinstance(result, Ok):
            raise ValueError(f"the document has a fault: {result.err()}")
        operation = result.ok()
        replies = operation.definition.raw["responses"].values()
        if not any(STREAM in reply.get("content", ()) for reply in replies):
            yield operation


def _takes_anything(operation: APIOperation[Any, Any, Any, Any]) -> bool:
    """True if no request can be wrong: a wrong one would be long sought in vain."""
    if [*operation.query, *operation.headers, *operation.cookies, *operation.body]:
        return False
    return all(each.definition["schema"] == TEXT for each in operation.path_parameters)


def _send_cases(
    operation: APIOperation[Any, Any, Any, Any],
    mode: GenerationMode,
    number: int,
    count: int,
    judgement: _Judgement,
) -> None:
    examples = _examples(operation) if mode is GenerationMode.POSITIVE else []

    @seed(number)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],  # What follows from replies cannot be played again.
        suppress_health_check=list(HealthCheck),
        verbosity=Verbosity.quiet,
    )
    @given(case=operation.as_strategy(mode))
    def send(case: Case[Any]) -> None:
        judgement.send(case, examples)

    with suppress(Unsatisfiable):  # What takes nothing can be given nothing wrong.
        send()


def _examples(operation: APIOperation[Any, Any, Any, Any]) -> list[Any]:
    """The bodies that the document gives as examples."""
    body = operation.definition.raw.get("requestBody", {"content": {}})
    return [
        example["value"]
        for content in body["content"].values()
        for example in content.get("examples", {}).values()
    ]


class _Judgement:
    """Sends cases, and keeps what replies name, to ask for it later."""

    def __init__(
        self,
        tally: Tally,
        url: str,
        session: requests.Session,
        rng: Random,
        silent_ports: list[int],
    ) -> None:
        self._tally = tally
        self._url = url
        self._session = session
        self._rng = rng
        self._silent_ports = silent_ports
        self._known: list[Any] = []
        self._kinds: set[tuple[str, ...]] = set()

    def send(self, case: Case[Any], examples: list[Any]) -> None:
        route = case.operation.label
        if examples and self._rng.random() < EXAMPLES:
            case.body = deepcopy(self._rng.choice(examples))
        self._tame(case)
        try:
            reply = case.call(base_url=self._url, session=self._session, timeout=TIMEOUT_S)
        except ValueError as error:
            if not isinstance(error, requests.RequestException):
                raise
            return  # The library sends no such thing.
        except requests.RequestException as error:
            self._found(route, type(error).__name__, f"{error!r}: {case.as_curl_command()}")
            return
        self._tally.requests += 1
        self._tally.statuses[route][reply.status_code] += 1
        try:
            case.validate_response(reply, checks=CHECKS)
        except FailureGroup as group:
            kinds = sorted(failure.title for failure in group.exceptions)
            self._found(route, f"{reply.status_code} {kinds}", str(group))
        if reply.status_code < 300:
            self._learn(_value(reply))

    def _found(self, route: str, kind: str, what: str) -> None:
        if (route, kind) not in self._kinds:
            self._kinds.add((route, kind))
            self._tally.found.append(Fault(route, what[:WHAT_CHARS]))

    def _tame(self, case: Case[Any]) -> None:
        """Have a case ask for what is there, hold nobody up, and call nobody else's port."""
        for name in case.path_parameters or {}:
            if self._known and self._rng.random() < 0.5:
                case.path_parameters[name] = self._rng.choice(self._known)
        if isinstance(case.query, dict) and _is_long(case.query.get("wait")):
            case.query["wait"] = HELD_S
        self._tame_body(case.body)
        if case.operation.path == "/worker" and isinstance(case.body, dict):
            case.body["port"] = self._rng.choice(self._silent_ports)

    def _tame_body(self, body: Any) -> None:
        if isinstance(body, list):
            for each in body:
                self._tame_body(each)
        elif isinstance(body, dict):
            if isinstance(body.get("port"), int | str):
                body["port"] = self._rng.choice(self._silent_ports)
            if isinstance(body.get("notify"), str):
                body["notify"] = f"http://127.0.0.1:{self._rng.choice(self._silent_ports)}/"
            if _is_long(body.get("wait")):
                body["wait"] = HELD_S
            for each in body.values():
                self._tame_body(each)

    def _learn(self, value: Any) -> None:
        if isinstance(value, list):
            for each in value[:KNOWN_MAX]:
                self._learn(each)
        elif isinstance(value, dict):
            for name, each in value.items():
                if isinstance(each, dict | list):
                    self._learn(each)
                elif name.lower().endswith("id") and each not in (None, ""):
                    self._known.append(each)
        del self._known[:-KNOWN_MAX]


def _is_long(wait: Any) -> bool:
    """True for a time that a request would be held, and not refused for it."""
    try:
        return float(wait) > HELD_S
    except (TypeError, ValueError, OverflowError):
        return False


def _value(reply: Any) -> Any:
    try:
        return reply.json()
    except ValueError:
        return None
