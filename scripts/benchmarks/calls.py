"""Calls of handlers: many that sleep, jobs of one call each, and a graph with references."""

from __future__ import annotations

import time
from typing import Any

from figures import Row, rate, share
from harness.cluster import Cluster
from system import running

REPEATS = 3
JOBS_A_REQUEST = 5_000
SLEEP_S = 0.01
SLEEPERS = 50
"""Slots of a worker for calls that sleep."""
WORKERS = 2


def sleeps(calls: int) -> list[Row]:
    """One job of calls that only sleep, and need nothing of each other."""
    ideal_s = calls * SLEEP_S / (WORKERS * SLEEPERS)
    took_s = []
    with running(WORKERS, slots=SLEEPERS) as system:
        sleep_at_once(system, calls // 10)  # Processes of workers start with the first calls.
        for _ in range(REPEATS):
            started = time.perf_counter()
            sleep_at_once(system, calls)
            took_s.append(time.perf_counter() - started)
    label = f"{calls:,} calls that sleep {SLEEP_S * 1e3:.0f} ms, {WORKERS} workers of {SLEEPERS}"
    return [
        Row("sleeps", label, "s", sorted(took_s)[REPEATS // 2]),
        share("sleeps.share", "  of the ideal", [ideal_s] * REPEATS, took_s, "at least 90%"),
    ]


def sleep_at_once(system: Cluster, calls: int) -> None:
    """Do a job of that number of calls."""
    nodes = {f"n{n}": {"handler": "sleep", "args": [SLEEP_S]} for n in range(calls)}
    job = system.client.value("POST", "/jobs?wait=60", {"graph": nodes, "answer": "n0"})
    assert job["operations_done"] == calls, job


def echo(jobs: int) -> list[Row]:
    """Jobs that are one call of ``echo``, submitted in batches and waited for."""
    rates = []
    with running() as system:
        for repeat in range(REPEATS):
            calls = [{"handler": "echo", "args": [repeat * jobs + n]} for n in range(jobs)]
            started = time.perf_counter()
            ids: list[int] = []
            for start in range(0, jobs, JOBS_A_REQUEST):
                part = calls[start : start + JOBS_A_REQUEST]
                ids += system.client.value("POST", "/jobs", {"jobs": part})["job_ids"]
            answers = []
            for start in range(0, jobs, JOBS_A_REQUEST):
                last = min(start + JOBS_A_REQUEST, jobs) - 1
                found = system.client.value("GET", f"/jobs?ids={ids[start]}-{ids[last]}&wait=60")
                answers += [job["answer"] for job in found]
            rates.append(jobs / (time.perf_counter() - started))
            assert answers == [repeat * jobs + n for n in range(jobs)]
    return [rate("echo", f"{jobs:,} jobs of one call of echo each", rates, "calls/s")]


def graph(nodes: int) -> list[Row]:
    """A binary tree of calls, from its root: each takes the result of the one above it."""
    rates = []
    with running() as system:
        for repeat in range(REPEATS):
            calls: dict[str, Any] = {"n0": {"handler": "echo", "args": [[repeat]]}}
            for n in range(1, nodes):
                # The number makes it a call of its own: equal calls of a pure handler are one.
                calls[f"n{n}"] = {"handler": "echo", "args": [[{"ref": f"n{(n - 1) // 2}"}, n]]}
            started = time.perf_counter()
            job = system.client.value(
                "POST", "/jobs?wait=60", {"graph": calls, "answer": f"n{nodes - 1}"}
            )
            rates.append(nodes / (time.perf_counter() - started))
            expected: list[Any] = [repeat]
            path = [nodes - 1]
            while path[-1]:
                path.append((path[-1] - 1) // 2)
            for n in reversed(path[:-1]):
                expected = [expected, n]
            assert job["answer"] == expected, job
    return [rate("graph", f"a graph of {nodes:,} calls with references", rates, "calls/s")]
