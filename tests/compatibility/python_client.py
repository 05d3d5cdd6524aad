"""Asks a master for everything that Python's clients can ask, and prints what came of it as JSON.

It is run with the client of any landed commit, so it uses only what all of them have.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import dte

PATIENCE_S = 20.0


def error_of(action: Callable[[], Any]) -> str:
    """The name of the exception that an action raises."""
    try:
        action()
    except dte.DteError as error:
        return type(error).__name__
    return "none"


def formulas(client: dte.Client) -> dict[str, Any]:
    job = client.submit("2*3", key="a key")
    return {
        "compute": client.compute("1+(2*3)/4-5"),
        "exact": client.compute(f"{'9' * 50}*{'9' * 50}"),
        "tree": client.compute("+".join(f"({n}*{n})" for n in range(2_000))),
        "map": client.map(["1/3", "-0.0*1", "7"]),
        "key": client.submit("2*3", key="a key").id == job.id,
        "job": client.wait(job).answer,
        "fails": error_of(lambda: client.compute("1/0")),
        "syntax": error_of(lambda: client.compute("1+*2")),
        "conflict": error_of(lambda: client.submit("2*4", key="a key")),
        "unknown": error_of(lambda: client.job(10**9)),
        "listed": [each.id for each in client.jobs()][-1],
    }


def calls(client: dte.Client) -> dict[str, Any]:
    graph = dte.Graph()
    numbers = graph.call("primes", limit=20)
    answer = graph.call("process_data", numbers, [23])
    options = client.with_options(retries=1, call_timeout_s=0.1)
    return {
        "call": client.call("echo", {"a": [1, None, "ß"]}),
        "async": client.call("sleep", 0.01),
        "own": client.call("own", 20),
        "graph": client.run(graph, answer),
        "formula": client.compute("fibonacci(30) + 2*3"),
        "retried": client.call("sometimes", "once"),
        "timed out": error_of(lambda: options.call("sleep", 60)),
        "fails": error_of(lambda: client.call("fibonacci", -1)),
    }


def lives(client: dte.Client) -> dict[str, Any]:
    """The states of jobs that are watched, cancelled and retried."""
    waits = client.submit_call("nobody_has_it")
    why = [reason.waits_for for reason in client.why(waits).reasons]
    slow = client.submit_call("sleep", 60)
    deadline = time.monotonic() + PATIENCE_S
    while client.job(slow).state != "running" and time.monotonic() < deadline:
        time.sleep(0.02)
    cancelled = [client.wait(client.cancel(job), PATIENCE_S).state for job in (waits, slow)]
    shown = client.submit_call("own", 30)
    states = [event.state for event in client.events(shown) if event.kind == "job"]
    failed = client.submit_call("fibonacci", -1)
    client.wait(failed)
    again = client.wait(client.retry(failed), PATIENCE_S)
    (node,) = client.nodes(failed)
    return {
        "why": why,
        "cancelled": cancelled,
        "last event": states[-1],
        "again": again.state,
        "node": [node.handler, node.state, node.attempts],
        "workers": sorted(worker.worker_name for worker in client.workers()),
    }


async def at_once(url: str) -> dict[str, Any]:
    async with dte.AsyncClient(url) as client:
        computing = [client.compute(f"{number}*2+1") for number in range(20)]
        return {"at once": await asyncio.gather(*computing, client.call("echo", "x"))}


def main(url: str) -> None:
    with dte.Client(url) as client:
        found = {"formulas": formulas(client), "calls": calls(client), "lives": lives(client)}
    found["asynchronous"] = asyncio.run(at_once(url))
    print(json.dumps({"code": dte.__file__} | found))


if __name__ == "__main__":
    main(*sys.argv[1:])
