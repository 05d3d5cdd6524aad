"""The log of a master: what operators need to know, each thing once, and few of each kind."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from harness.http import Dial
from harness.until import until

from dte.logs import LINES_MAX

from . import fakes
from .calling import Do, failing, hire_called
from .rig import Hire, Rig, StartMaster


@pytest.fixture(autouse=True)
def logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level("INFO")
    return caplog


def lines(caplog: pytest.LogCaptureFixture, *words: str) -> list[str]:
    """The messages with all of these words."""
    return [each for each in caplog.messages if all(word in each for word in words)]


def only(caplog: pytest.LogCaptureFixture, *words: str) -> Any:
    (record,) = [each for each in caplog.records if all(word in each.message for word in words)]
    return record


def then(*reports: dict[str, Any]) -> Do:
    """What a worker reports of the calls that it gets, one after the other."""
    left = iter(reports)
    return lambda call: next(left)


async def test_a_retry_and_the_end_of_retries_name_job_node_handler_attempt_and_error(
    start_master: StartMaster, hire: Hire, logged: pytest.LogCaptureFixture
) -> None:
    rig = await start_master(retry_pause_s=0.01)
    said = {"error": "ConnectionError: refused\nby peer"}
    await hire_called(hire, rig, then(said, said))
    number = await rig.accept(handler="echo", args=[1], retries=1)
    assert (await rig.job(number, wait_s=20))["state"] == "failed"
    text = f"job {number}, node call: handler echo failed on attempt"
    retry, end = only(logged, text, "1 of 2"), only(logged, text, "2 of 2")
    assert (retry.levelname, end.levelname) == ("INFO", "WARNING")
    assert "it is tried again" in retry.message
    assert "it is not tried again" in end.message
    for record in (retry, end):
        assert "ConnectionError: refused by peer" in record.message
        assert (record.job, record.node, record.handler) == (number, "call", "echo")
        assert record.worker == "w"
    assert lines(logged, f"job {number} failed") == [], "that has been said"


async def test_a_graph_that_fails_is_logged_beside_the_call_that_failed(
    rig: Rig, hire: Hire, logged: pytest.LogCaptureFixture
) -> None:
    await hire_called(hire, rig, failing)
    number = await rig.accept(
        graph={"a": {"handler": "echo", "args": [1]}, "b": {"handler": "echo", "after": ["a"]}}
    )
    await rig.job(number, wait_s=20)
    assert len(lines(logged, f"job {number}, node a")) == 1
    assert only(logged, f"job {number} failed").levelname == "WARNING"
    assert len(lines(logged, f"job {number}")) == 2


async def test_arithmetic_that_fails_is_logged(
    rig: Rig, hire: Hire, logged: pytest.LogCaptureFixture
) -> None:
    await hire(rig, fakes.good)
    assert (await rig.compute("1/0"))["state"] == "failed"
    record = only(logged, "job 1 failed")
    assert (record.levelname, record.job) == ("WARNING", 1)
    assert "division by zero" in record.message
    await rig.compute("1+1")
    assert lines(logged, "job 2") == [], "jobs that succeed are not logged"


async def test_a_worker_that_falls_silent_is_logged_with_the_calls_that_it_had(
    start_master: StartMaster, hire: Hire, logged: pytest.LogCaptureFixture
) -> None:
    rig = await start_master(lease_s=0.2, dead_after_s=0.5)
    worker = await hire_called(hire, rig, handlers=("echo",))
    first = await rig.accept(handler="echo", args=[1])
    second = await rig.accept(handler="echo", args=[2])
    await worker.has(2)
    await until(lambda: lines(logged, "worker w", "is gone"), "the worker is gone")
    assert only(logged, "is gone").levelname == "WARNING"
    had = [each for each in logged.records if "other workers get what it had" in each.message]
    assert {each.levelname for each in had} == {"WARNING"}
    text = "".join(each.message for each in had)
    for number in (first, second):
        assert text.count(f"job {number} node call (echo)") == 1


async def test_workers_that_join_and_leave_are_logged_once(
    rig: Rig, hire: Hire, logged: pytest.LogCaptureFixture
) -> None:
    worker = await hire(rig, fakes.good, incarnation="a")
    await rig.announce(worker, incarnation="a")
    for _ in range(3):
        await rig.announce(worker, incarnation="a", draining=True)
    assert len(lines(logged, "worker w joined")) == 1
    assert len(lines(logged, "worker w is leaving")) == 1


async def test_refused_requests_are_logged_and_counted_where_there_are_many(
    start_master: StartMaster, logged: pytest.LogCaptureFixture
) -> None:
    rig = await start_master(jobs_waiting_max=1)
    await rig.submit("1+1")
    for _ in range(LINES_MAX + 5):
        assert (await rig.post("/submit", {"task": "1+1"})).status == 429
    assert (await rig.get("/none%0Aforged")).status == 404
    refused = lines(logged, "refused POST /submit", "jobs_waiting_max")
    assert len(refused) == LINES_MAX
    assert only(logged, "refused GET /none").levelname == "INFO"
    await rig.stop()
    assert lines(logged, "5 more requests refused with status 429")


LONG = "GET /long HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("raw", "request_line", "why"),
    [
        (LONG + "a: b\r\n" * 150 + "\r\n", "GET /long", "headers"),
        (LONG + f"a: {'b' * 17_000}\r\n\r\n", "GET /long", "bytes"),
        (LONG + "a: " + "b" * 17_000, "GET /long", "bytes"),
        (f"GET /{'x' * 17_000} HTTP/1.1\r\n\r\n", "GET /xxx", "bytes"),
        (LONG.replace("long", "long?" + "a=1&" * 150) + "\r\n", "GET /long", "parameters"),
    ],
    ids=["headers", "a long header", "a header without end", "a long path", "parameters"],
)
@pytest.mark.parametrize("pieces", [1, 3])
async def test_a_head_beyond_a_bound_is_logged_like_other_refused_requests(
    raw: str,
    request_line: str,
    why: str,
    pieces: int,
    rig: Rig,
    dial: Dial,
    logged: pytest.LogCaptureFixture,
) -> None:
    line = await dial(rig.port)
    size = len(raw) // pieces + 1
    for place in range(0, len(raw), size):
        await line.send(raw[place : place + size].encode())
        await asyncio.sleep(0)
    reply = await line.read()
    assert reply is not None
    assert reply.status == 431
    await until(lambda: lines(logged, "431"), "it is logged")
    record = only(logged, f"refused {request_line}", "with status 431", why)
    assert (record.levelname, record.name) == ("WARNING", "dte.master")
    assert (record.status, record.code) == (431, "too_large")
    assert [each.name for each in logged.records if each.name.startswith("tornado")] == []


async def test_a_chunk_that_does_not_begin_with_its_size_is_logged(
    rig: Rig, dial: Dial, logged: pytest.LogCaptureFixture
) -> None:
    line = await dial(rig.port)
    head = "POST /submit HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    await line.send(head.encode() + b"x" * 1_000)
    reply = await line.read()
    assert reply is not None
    assert reply.status == 400
    record = only(logged, "refused", "with status 400")
    assert (record.levelname, record.code) == ("INFO", "http")
    assert [each.name for each in logged.records if each.name.startswith("tornado")] == []


async def test_a_thousand_failing_jobs_take_few_lines(
    rig: Rig, hire: Hire, logged: pytest.LogCaptureFixture
) -> None:
    await hire_called(hire, rig, failing)
    numbers = [await rig.accept(handler="echo", args=[1]) for _ in range(LINES_MAX + 20)]
    for number in numbers:
        await rig.job(number, wait_s=20)
    await rig.stop()
    about = lines(logged, "failed")
    assert len(about) <= LINES_MAX + 1
    assert any("20 more calls that failed" in each for each in about)
    assert not rig.master.incidents._told
