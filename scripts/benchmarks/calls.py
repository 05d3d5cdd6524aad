"""What calls of handlers cost: as jobs of one call each, and in a graph with references."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any

from system import System
from workloads import REPEATS, Row, per_second

JOBS_A_REQUEST = 5_000
TIMEOUT_S = 120


def echo(system: System, jobs: int) -> list[Row]:
    """Jobs that are one call of ``echo``, submitted in batches and waited for."""
    rates = []
    for repeat in range(REPEATS):
        calls = [{"handler": "echo", "args": [repeat * jobs + n]} for n in range(jobs)]
        started = time.perf_counter()
        ids: list[int] = []
        for start in range(0, jobs, JOBS_A_REQUEST):
            ids += submit(system, {"jobs": calls[start : start + JOBS_A_REQUEST]})["job_ids"]
        answers = []
        for start in range(0, jobs, JOBS_A_REQUEST):
            last = min(start + JOBS_A_REQUEST, jobs) - 1
            found = ask(system, "GET", f"/jobs?ids={ids[start]}-{ids[last]}&wait=60")
            answers += [job["answer"] for job in found]
        rates.append(jobs / (time.perf_counter() - started))
        assert answers == [repeat * jobs + n for n in range(jobs)]
    return [(f"{jobs:,} jobs of one echo each", per_second(rates, "calls"))]


def graph(system: System, nodes: int) -> list[Row]:
    """A binary tree of calls, from its root: each takes the result of the one above it."""
    rates = []
    for repeat in range(REPEATS):
        calls: dict[str, Any] = {"n0": {"handler": "echo", "args": [[repeat]]}}
        for n in range(1, nodes):
            # The number makes it a call of its own: equal calls of a pure handler are one.
            calls[f"n{n}"] = {"handler": "echo", "args": [[{"ref": f"n{(n - 1) // 2}"}, n]]}
        started = time.perf_counter()
        job = ask(system, "POST", "/jobs?wait=60", {"graph": calls, "answer": f"n{nodes - 1}"})
        rates.append(nodes / (time.perf_counter() - started))
        expected, path = [repeat], [nodes - 1]
        while path[-1]:
            path.append((path[-1] - 1) // 2)
        for n in reversed(path[:-1]):
            expected = [expected, n]
        assert job["answer"] == expected, job
    return [(f"a graph of {nodes:,} calls with references", per_second(rates, "calls"))]


def submit(system: System, jobs: dict[str, Any]) -> Any:
    return ask(system, "POST", "/jobs", jobs)


def ask(system: System, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    connection = http.client.HTTPConnection("127.0.0.1", system.port, timeout=TIMEOUT_S)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        reply = connection.getresponse()
        value = json.loads(reply.read())
        assert reply.status in (200, 201), value
        return value
    finally:
        connection.close()
