"""Requests whose work is long: the loop goes on meanwhile, or a bound refuses them."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from http.client import HTTPConnection
from typing import Any

from harness.http import HOST
from torture.overload.scenario import Scenario

CALLS = 100_000
NODES = 2_700
GHOSTS = 900
HEALTH_P99_MS, TURN_S = 50, 0.1
TIMEOUT_S = 300.0

Ask = Callable[..., Any]
Story = Callable[[Ask], None]


def told(story: Story) -> Callable[[int, float], Any]:
    """A scenario's act: a story once, however long it takes."""

    async def act(port: int, seconds: float) -> Counter[str]:
        counts: Counter[str] = Counter()
        await asyncio.to_thread(story, partial(_ask, port, counts))
        return counts

    return act


def _ask(port: int, counts: Counter[str], method: str, path: str, body: bytes | None = None) -> Any:
    """Send a request, count its status, and return the reply's JSON."""
    connection = HTTPConnection(HOST, port, timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body)
        reply = connection.getresponse()
        raw = reply.read()
    finally:
        connection.close()
    counts["200" if reply.status == 201 else str(reply.status)] += 1
    return json.loads(raw)


def graph(nodes: Iterable[tuple[str, bytes]]) -> bytes:
    return b'{"graph":{%s}}' % b",".join(b'"%s":%s' % (name.encode(), node) for name, node in nodes)


def flat(handler: bytes = b"nobody", more: bytes = b"") -> bytes:
    """100,000 calls that wait for nothing."""
    node = b'{"handler":"%s","args":[%d]%s}'
    return graph((f"n{n}", node % (handler, n, more)) for n in range(CALLS))


def all_after_all(node: bytes) -> bytes:
    """2,700 nodes, each after all before: 3.6 million edges."""
    names = [b'"%x"' % n for n in range(NODES)]
    return graph(
        (f"{n:x}", b'{%s,"after":[%s]}' % (node, b",".join(names[:n]))) for n in range(NODES)
    )


def ended(ask: Ask, number: int) -> None:
    while not ask("GET", f"/job/{number}?wait=30")["finished"]:
        pass


def around_a_job(body: bytes, ask: Ask) -> None:
    """Submit a job that waits, look at it, cancel it, and try it again."""
    number = ask("POST", "/jobs", body)["job_id"]
    time.sleep(1)
    ask("GET", f"/job/{number}/why")
    ask("GET", f"/job/{number}/nodes")
    ask("POST", f"/job/{number}/cancel")
    ended(ask, number)
    ask("GET", f"/job/{number}/nodes")
    again = ask("POST", f"/job/{number}/retry")["job_id"]
    time.sleep(1)
    ask("POST", f"/job/{again}/cancel")
    ended(ask, again)


def why_beside_ghosts(ask: Ask) -> None:
    for port in range(1, GHOSTS + 1):
        said = {"worker_name": "g", "port": port, "draining": True, "handlers": ["other"]}
        ask("POST", "/worker", json.dumps(said).encode())
    number = ask("POST", "/jobs", flat())["job_id"]
    for _ in range(5):
        ask("GET", f"/job/{number}/why")


def failure_for_all(ask: Ask) -> None:
    """The first call fails, and with it all others."""
    hub = b'{"handler":"echo","args":[1,2,3]}'
    reader = b'{"handler":"echo","args":[1],"after":["hub"]}'
    body = graph([("hub", hub), *((f"n{n}", reader) for n in range(CALLS - 1))])
    number = ask("POST", "/jobs", body)["job_id"]
    ended(ask, number)
    ask("GET", f"/job/{number}/nodes")
    ended(ask, ask("POST", f"/job/{number}/retry")["job_id"])


def failure_along_a_chain(ask: Ask) -> None:
    first = b'{"handler":"echo","args":[1,2,3],"delay":3}'
    node = b'{"handler":"echo","args":[{"ref":"n%d"}]}'
    others = ((f"n{n}", node % (n - 1)) for n in range(1, CALLS))
    ended(ask, ask("POST", "/jobs", graph([("n0", first), *others]))["job_id"])


def failure_over_edges(ask: Ask) -> None:
    number = ask("POST", "/jobs", all_after_all(b'"handler":"echo","args":[1,2,3]'))["job_id"]
    ended(ask, number)
    ended(ask, ask("POST", f"/job/{number}/retry")["job_id"])


def many_after_many(ask: Ask) -> None:
    """500 jobs after 10,000 are refused, 10 are not."""
    jobs = json.dumps({"jobs": [{"handler": "nobody"}] * 10_000}).encode()
    ids = ask("POST", "/jobs", jobs)["job_ids"]
    job = b'{"handler":"echo","args":[1],"after":%s}' % json.dumps(ids).encode()
    for count in (500, 10):
        ask("POST", "/jobs", b'{"jobs":[%s]}' % b",".join([job] * count))


def many_after_one(ask: Ask) -> None:
    first = ask("POST", "/jobs", b'{"handler":"nobody"}')["job_id"]
    job = {"handler": "echo", "args": [1], "after": [first]}
    jobs = ask("POST", "/jobs", json.dumps({"jobs": [job] * 10_000}).encode())["job_ids"]
    ask("POST", f"/job/{first}/cancel")
    ended(ask, jobs[-1])


def due_at_once(ask: Ask) -> None:
    number = ask("POST", "/jobs", flat(more=b',"delay":3'))["job_id"]
    time.sleep(5)
    ask("POST", f"/job/{number}/cancel")
    ended(ask, number)


def long_integer(ask: Ask) -> None:
    around_a_job(b'{"handler":"nobody","args":[%s]}' % (b"9" * 15_900_000), ask)


def small_graphs(ask: Ask) -> None:
    """A million calls in one request."""
    nodes = b",".join(b'"%x":{"handler":"n"}' % n for n in range(100))
    body = b'{"jobs":[%s]}' % b",".join([b'{"graph":{%s}}' % nodes] * 10_000)
    numbers = ask("POST", "/jobs", body)["job_ids"]
    ask("POST", f"/job/{numbers[-1]}/cancel")


def _scenario(name: str, story: Story) -> Scenario:
    return Scenario(name, told(story), health_p99_ms=HEALTH_P99_MS, turn_s_most=TURN_S)


SCENARIOS = [
    _scenario("a job of 100,000 calls", lambda ask: around_a_job(flat(), ask)),
    _scenario(
        "a job of 3.6 million edges",
        lambda ask: around_a_job(all_after_all(b'"handler":"nobody"'), ask),
    ),
    _scenario("a job with an integer of 16 MB", long_integer),
    _scenario("why of 100,000 calls beside 900 workers", why_beside_ghosts),
    _scenario("100,000 calls fail by the first", failure_for_all),
    _scenario("100,000 calls fail along a chain", failure_along_a_chain),
    _scenario("a failure over 3.6 million edges", failure_over_edges),
    _scenario("500 jobs after 10,000", many_after_many),
    _scenario("10,000 jobs after one that is cancelled", many_after_one),
    _scenario("100,000 calls are due at once", due_at_once),
    _scenario("10,000 graphs of 100 calls in a request", small_graphs),
]
