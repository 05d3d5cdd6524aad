"""Every route, asked for the most that it allows, leaves the loop free again soon.

The measure is the number of lines of Python in the longest turn. Some lines of C take long too:
scripts/overload measures the time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from dte.master.api.routes import ROUTES

from .counted import CountedMaster

CALLS = 10_000
"""Ten times as many as the core begins in a slice."""
EDGES_OF = 300
FORMULAS = 400
LINES_MAX = 250_000
"""About 20 milliseconds: a tick and a slice of a request may come together. What is done with all
calls at once takes more, at 20 lines for each."""
BODY_BYTES_MAX = 4_000_000
SETTINGS = {
    "calls_max": CALLS,
    "formulas_max": FORMULAS,
    "body_bytes_max": BODY_BYTES_MAX,
    "workers_max": 300,
}


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


def graph(nodes: dict[str, Any], **more: Any) -> bytes:
    return encoded({"graph": nodes} | more)


FLAT = graph({f"n{n}": {"handler": "nobody", "args": [n]} for n in range(CALLS)})
HUB = graph(
    {"hub": {"handler": "fails"}}
    | {f"n{n}": {"handler": "fails", "after": ["hub"]} for n in range(CALLS - 1)}
)
EDGES = graph(
    {f"n{n}": {"handler": "nobody", "after": [f"n{m}" for m in range(n)]} for n in range(EDGES_OF)}
)
DELAYED = graph({f"n{n}": {"handler": "nobody", "delay": 0.5} for n in range(CALLS)})
JOBS = encoded({"jobs": [{"handler": "nobody"}] * FORMULAS})
PLANS = encoded(
    {"jobs": [{"graph": {f"n{n}": {"handler": "nobody"} for n in range(CALLS // 20)}}] * 20}
)
REFERENCES = graph({"a": {"handler": "f"}, "b": {"handler": "f", "args": [{"ref": "a"}] * 5_000}})
MANY_KEYS = encoded({f"k{n}": n for n in range(10_000)})
HANDLERS = {f"handler-{n}": {"timeout": 5.0} for n in range(900)}
LEASES = list(range(10_000))


@dataclass
class Walk:
    """The jobs that the routes are asked about."""

    master: CountedMaster
    flat: int = 0
    failed: int = 0
    edges: int = 0

    def accept(self, body: bytes, path: str = "/jobs") -> int:
        status, reply = self.master.ask("POST", path, body)
        assert status == 201, reply[:300]
        return int(json.loads(reply).get("job_id", 0))

    def fail_hub(self) -> int:
        """A job whose first call has failed, and with it all others."""
        number = self.accept(HUB)
        claim = {"worker": "hub", "handlers": ["fails"], "slots": 1, "wait": 20}
        job = 0
        while job != number:  # Others of the walk may wait before it.
            status, reply = self.master.ask("POST", "/claim", encoded(claim))
            assert status == 200, reply
            (call,) = json.loads(reply)["calls"]
            job = call["job_id"]
            report = {"lease": call["lease"], "error": "no", "retry": False}
            said = {"worker": "hub", "results": [report]}
            assert self.master.ask("POST", "/result", encoded(said))[0] == 200
        _, reply = self.master.ask("GET", f"/job/{number}?wait=60")
        assert json.loads(reply)["state"] == "failed", reply
        return number


@pytest.fixture(scope="module")
def walk() -> Iterator[Walk]:
    master = CountedMaster(**SETTINGS)
    found = Walk(master)
    try:
        for port in range(1, 200):
            said = {"worker_name": f"w{port}", "port": port, "draining": True, "handlers": ["x"]}
            assert master.ask("POST", "/worker", encoded(said))[0] == 200
        found.failed = found.fail_hub()
        found.flat, found.edges = found.accept(FLAT), found.accept(EDGES)
        found.accept(JOBS)
        yield found
    finally:
        master.stop()


SIMPLE = None
"""Asked as it is, with the large jobs that are there."""
BODIES: dict[tuple[str, str], list[bytes] | None] = {
    ("POST", "/submit"): [
        encoded({"tasks": [f"{n}+2*3" for n in range(FORMULAS)]}),
        encoded({"task": "+".join(f"nobody({n})" for n in range(CALLS // 4))}),
        encoded({"task": "1" + "+1" * 30_000}),
        encoded({"tasks": ["("] * FORMULAS}),
    ],
    ("GET", "/live"): SIMPLE,
    ("GET", "/ready"): SIMPLE,
    ("GET", "/session"): SIMPLE,
    ("POST", "/session"): [encoded({"token": "x" * 9_000})],
    ("DELETE", "/session"): SIMPLE,
    ("POST", "/session/link"): SIMPLE,
    ("GET", "/job/{id}"): SIMPLE,
    ("GET", "/jobs"): SIMPLE,
    ("POST", "/jobs"): [FLAT, EDGES, DELAYED, JOBS, PLANS, REFERENCES],
    ("POST", "/job/{id}/cancel"): SIMPLE,
    ("POST", "/job/{id}/retry"): SIMPLE,
    ("GET", "/job/{id}/why"): SIMPLE,
    ("GET", "/job/{id}/nodes"): SIMPLE,
    ("GET", "/job/{id}/events"): SIMPLE,
    ("GET", "/events"): SIMPLE,
    ("GET", "/worker"): SIMPLE,
    ("POST", "/worker"): [
        encoded({"worker_name": "many", "port": 6000, "slots": 1_000, "handlers": HANDLERS})
    ],
    ("POST", "/claim"): [
        encoded({"worker": "many", "handlers": HANDLERS, "slots": 1_000, "wait": 0}),
    ],
    ("POST", "/result"): [
        encoded({"worker": "w", "results": [{"lease": n, "error": "e"} for n in LEASES]}),
        encoded({"worker": "w", "batches": [{"lease": n, "results": [1.5]} for n in LEASES]}),
    ],
    ("POST", "/extend"): [
        encoded(
            {
                "worker": "w",
                "leases": LEASES,
                "progress": {str(n): {"fraction": 0.5} for n in LEASES},
            }
        )
    ],
    ("GET", "/tasks"): SIMPLE,
    ("POST", "/tasks"): [
        encoded({"name": "n", "handler": "h", "dependencies": [f"d{n}" for n in range(1_000)]}),
        MANY_KEYS,
    ],
    ("GET", "/tasks/{id}"): SIMPLE,
    ("GET", "/workers"): SIMPLE,
    ("POST", "/workers"): [encoded({"id": "r", "capabilities": list(HANDLERS)})],
    ("GET", "/workers/{id}"): SIMPLE,
    ("PUT", "/workers/{id}/heartbeat"): SIMPLE,
    ("POST", "/workers/{id}/tasks/{task_id}/complete"): [MANY_KEYS],
    ("POST", "/submit-task"): [encoded({"task_type": "compute", "task_data": {"k": [0] * 50_000}})],
    ("POST", "/get-task"): [encoded({"worker_id": "p"})],
    ("POST", "/submit-result"): [MANY_KEYS],
    ("POST", "/heartbeat"): [
        encoded({"worker_id": "p", "metadata": {str(n): n for n in range(500)}})
    ],
    ("GET", "/task/{id}"): SIMPLE,
    ("GET", "/stats"): SIMPLE,
    **{
        (method, f"{prefix}{path}"): bodies
        for prefix in ("", "/scheduler")
        for method, path, bodies in (
            ("POST", "/add_task", [encoded({"func_name": "f", "args": [[0]] * 50_000})]),
            ("GET", "/get_task/{worker_id}", SIMPLE),
            ("POST", "/task_status", [MANY_KEYS]),
            ("POST", "/cancel_task/{task_id}", SIMPLE),
            ("POST", "/register_worker/{worker_id}", SIMPLE),
            ("PUT", "/heartbeat/{worker_id}", SIMPLE),
            ("DELETE", "/unregister_worker/{worker_id}", SIMPLE),
            ("DELETE", "/unregister/{worker_id}", SIMPLE),
            ("GET", "/status", SIMPLE),
        )
    },
    ("GET", "/"): SIMPLE,
    ("GET", "/health"): SIMPLE,
    ("POST", "/backup"): SIMPLE,
    ("GET", "/openapi.json"): SIMPLE,
    ("GET", "/docs"): SIMPLE,
    ("GET", "/docs/{file}"): SIMPLE,
    ("GET", "/scheduler/docs"): SIMPLE,
}
QUERIES = {("GET", "/jobs"): f"?ids=1-{FORMULAS}"}


def test_every_route_is_walked() -> None:
    known = {
        (method.upper(), route.shown_path) for route in ROUTES for method, _ in route.methods()
    }
    assert BODIES.keys() == known, "a new route is to be walked too"


@pytest.mark.parametrize(("method", "path"), BODIES, ids=" ".join)
def test_no_turn_of_a_route_is_long(walk: Walk, method: str, path: str) -> None:
    numbers = [walk.flat, walk.failed, walk.edges] if "{id}" in path or "{task_id}" in path else [0]
    if path.endswith(("/cancel", "/retry")):
        numbers = {"cancel": [walk.accept(FLAT), walk.accept(EDGES)], "retry": [walk.failed]}[
            path.rpartition("/")[2]
        ]
    walk.master.turns.forget()
    for number in numbers:
        is_worker = path.startswith("/workers/")
        asked = path.replace("{id}", "w" if is_worker else str(number))
        asked = asked.replace("{task_id}", str(number)).replace("{worker_id}", "w")
        asked = asked.replace("{file}", "page.js") + QUERIES.get((method, path), "")
        for body in BODIES[method, path] or [None]:
            status, reply = walk.master.ask(method, asked, body)
            assert status < 500, reply[:300]
    # What follows from it belongs to it.
    status, _ = walk.master.ask("POST", "/submit?wait=0.2", encoded({"task": "nobody(1)"}))
    assert status == 200
    lines, parts = walk.master.turns.most
    assert lines <= LINES_MAX, sorted(parts.items(), key=lambda part: -part[1])[:3]


def test_what_fails_all_calls_of_a_job_does_it_in_slices(walk: Walk) -> None:
    walk.master.turns.forget()
    walk.fail_hub()
    lines, parts = walk.master.turns.most
    assert lines <= LINES_MAX, sorted(parts.items(), key=lambda part: -part[1])[:3]


def test_a_measure_in_lines_notices_what_is_done_at_once(walk: Walk) -> None:
    """The measure itself: a loop over all calls with ten lines for each is too long."""
    walk.master.turns.forget()

    def work() -> None:
        for number in range(LINES_MAX // 2):
            assert number >= 0

    walk.master._loop.call_soon_threadsafe(work)
    walk.master.ask("GET", "/health")
    assert walk.master.turns.most[0] > LINES_MAX
