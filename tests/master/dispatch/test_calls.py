"""Calls to workers that a master calls, over real sockets: in batches, or one a request."""

from __future__ import annotations

import asyncio
import re
import socket
from functools import partial
from typing import Any
from unittest.mock import Mock

import pytest
from harness.http import HOST, Conduct, Line, Message, reply_bytes
from harness.until import until

from dte.core.backoff import backoff_s
from dte.core.calls import attempts as attempts
from dte.core.calls import outgoing
from dte.core.calls.attempts import Outcome
from dte.core.calls.lease import CallLease
from dte.core.graph.call import Call, CallState
from dte.core.workers import availability
from dte.core.workers.worker import Announcement, Worker
from dte.master.dispatch import calls as call_dispatch
from dte.master.dispatch.calls import CallDispatcher
from dte.master.dispatch.pool import ConnectionPool
from master import fakes
from master.calling import Called, extend, first_argument, hire_called
from master.rig import Hire, Rig, StartMaster

SINGLE = {"handlers": ["echo"], "handler_slots": 4, "arithmetic": False}
"""What a worker says that takes one call a request."""


@pytest.fixture(autouse=True)
def brief_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have workers and calls that failed wait for milliseconds, not for seconds."""
    brief = partial(backoff_s, first_s=0.001, most_s=0.005)
    monkeypatch.setattr(availability, "backoff_s", brief)
    monkeypatch.setattr(attempts, "backoff_s", lambda random, count, *_: brief(random, count))
    monkeypatch.setattr(call_dispatch, "ALIVE_S", 0.02)


async def ended(rig: Rig, number: int) -> tuple[str, Any, str | None]:
    """How a job ends."""
    job = await rig.job(number, wait_s=20)
    assert job["finished"]
    return job["state"], job["answer"], job["error"]


# In batches


async def test_a_call_says_all_that_a_worker_needs(rig: Rig, hire: Hire) -> None:
    worker = await hire_called(hire, rig, handlers={"echo": {"timeout": 7.5}})
    number = await rig.accept(handler="echo", args=["hi", {"x": [None, 1.5]}])
    (call,) = await worker.has(1)
    assert call == {
        "lease": call["lease"],
        "job_id": number,
        "node": "call",
        "handler": "echo",
        "args": ["hi", {"x": [None, 1.5]}],
        "timeout": 7.5,
        "attempt": 1,
        "lease_s": 10.0,
    }
    await worker.report(call["lease"], result="hi")
    assert await ended(rig, number) == ("succeeded", "hi", None)


async def test_calls_of_a_worker_go_together(rig: Rig, hire: Hire) -> None:
    numbers = [await rig.accept(handler="echo", args=[n]) for n in range(6)]
    worker = Called(rig, first_argument)
    form = {"batch_max": 64, "handler_slots": 6, "handlers": ["echo"]}
    server = await hire(rig, worker.conduct, **form)
    assert [(await ended(rig, number))[1] for number in numbers] == list(range(6))
    assert len(server.requests) == 1


async def test_slots_for_calls_are_not_exceeded_and_are_free_again_by_a_report(
    rig: Rig, hire: Hire
) -> None:
    worker = await hire_called(hire, rig, handler_slots=2)
    for _ in range(3):
        await rig.accept(handler="echo", args=[1])
    calls = await worker.has(2)
    assert (await rig.get("/worker")).json[0]["calls"] == 2
    await worker.report(calls[0]["lease"], result=1)
    await worker.has(3)


async def test_calls_and_arithmetic_do_not_take_each_other_s_slots(rig: Rig, hire: Hire) -> None:
    worker = await hire_called(hire, rig, handler_slots=1)
    await rig.accept(handler="echo", args=[1])
    await worker.has(1)
    assert (await rig.compute("(1+2)*3"))["answer"] == 9


async def test_a_call_goes_only_to_a_worker_that_can_do_it(rig: Rig, hire: Hire) -> None:
    others = [
        await hire_called(hire, rig, first_argument, handlers=["resize"], worker_name="other"),
        await hire_called(hire, rig, first_argument, handlers=[], worker_name="none"),
    ]
    number = await rig.accept(handler="echo", args=[1])
    assert (await rig.job(number, wait_s=0.05))["state"] == "waiting"
    worker = await hire_called(hire, rig, first_argument)
    assert await ended(rig, number) == ("succeeded", 1, None)
    assert not any(other.calls for other in others)
    await worker.has(1)


async def test_results_stand_in_the_arguments_where_references_were(rig: Rig, hire: Hire) -> None:
    """Byte for byte: floats and long integers are as the worker wrote them."""
    worker = await hire_called(hire, rig)
    number = await rig.accept(
        graph={
            "a": {"handler": "echo", "args": [1]},
            "b": {
                "handler": "echo",
                "args": {"x": [{"ref": "a"}, {"y": {"ref": "a"}}], "z": {"literal": {"ref": "a"}}},
            },
        }
    )
    (first,) = await worker.has(1)
    value = {"big": 10**30, "float": 1e-7, "text": "é\u2028"}
    await worker.report(first["lease"], result=value)
    _, second = await worker.has(2)
    assert second["args"] == {"x": [value, {"y": value}], "z": {"ref": "a"}}
    await worker.report(second["lease"], result=None)
    assert await ended(rig, number) == ("succeeded", None, None)


@pytest.mark.parametrize(
    "conduct",
    [
        fakes.replying(200, {"result": 1}),
        fakes.replying(404, b"<h1>Not Found</h1>"),
        fakes.replying(500, {"error": "broken"}),
    ],
    ids=["200", "404", "500"],
)
async def test_a_worker_that_does_not_say_202_has_lost_the_call(
    conduct: Conduct, rig: Rig, hire: Hire
) -> None:
    number = await rig.accept(graph={"call": {"handler": "echo", "args": [1], "lost_max": 1000}})
    bad = await hire(rig, conduct, batch_max=64, handlers=["echo"], arithmetic=False)
    await until(lambda: rig.worker(bad).last_failure, "it has failed")
    assert "instead of 202" in (rig.worker(bad).last_failure or "")
    await rig.announce(bad, batch_max=64, handlers=["echo"], draining=True)
    await hire_called(hire, rig, first_argument)
    assert (await ended(rig, number))[1] == 1
    # Another program answers 404: the call has cost no attempt.
    lost = 0 if "404" in (rig.worker(bad).last_failure or "") else 1
    assert (await rig.nodes(number))["call"]["attempts"] >= 1 + lost


async def test_a_call_that_loses_too_many_workers_fails(
    start_master: StartMaster, hire: Hire
) -> None:
    rig = await start_master(workers_lost_max=2)
    number = await rig.accept(handler="echo", args=[1])
    await hire(rig, fakes.replying(500), batch_max=64, handlers=["echo"], arithmetic=False)
    state, _, error = await ended(rig, number)
    assert (state, (await rig.nodes(number))["call"]["attempts"]) == ("failed", 2)
    assert error is not None
    assert error.startswith(
        "gave up: 2 workers died while running it (workers_lost_max); the last, "
    )


async def test_what_a_worker_did_not_take_is_no_attempt(rig: Rig, hire: Hire) -> None:
    """It drains, or its port is closed: another does it, and nothing counts."""
    number = await rig.accept(handler="echo", args=[1], retries=0)
    form = {"batch_max": 64, "handlers": ["echo"], "arithmetic": False}
    draining = await hire(rig, fakes.replying(503, {"status": "draining"}), **form)
    closed = await hire(rig, fakes.good, **form)
    await closed.stop()
    await until(lambda: draining.requests and rig.worker(closed).last_failure, "both refused it")
    await hire_called(hire, rig, first_argument)
    assert (await ended(rig, number))[1] == 1
    node = (await rig.nodes(number))["call"]
    assert (node["attempts"], node["failures"]) == (1, 0)


async def test_a_break_after_the_hand_over_does_not_have_a_call_done_twice(
    rig: Rig, hire: Hire
) -> None:
    """The worker may have got it, and reports."""
    worker = Called(rig)

    async def breaking(request: Message, line: Line) -> None:
        worker.calls += request.json["calls"]
        line.reset()

    form = {"batch_max": 64, "handlers": ["echo"], "incarnation": "a", "arithmetic": False}
    await hire(rig, breaking, **form)
    number = await rig.accept(handler="echo", args=[1])
    (call,) = await worker.has(1)
    assert (await worker.report(call["lease"], result=1))["accepted"] == [call["lease"]]
    assert await ended(rig, number) == ("succeeded", 1, None)
    assert len(worker.calls) == 1


async def test_silence_ends_a_lease_and_signs_of_life_do_not(
    start_master: StartMaster, hire: Hire
) -> None:
    rig = await start_master(lease_s=30.0)
    worker = await hire_called(hire, rig, handler_slots=1)
    number = await rig.accept(handler="echo", args=[1])
    (call,) = await worker.has(1)
    assert call["lease_s"] == 30.0
    for _ in range(6):
        rig.pass_over(10.0)
        assert (await extend(rig, call["lease"]))["extended"] == [call["lease"]]
    # It says nothing more.
    rig.pass_over(30.0)
    await until(
        lambda: rig.master.core.calls.leases.get(call["lease"]) is None, "the lease has ended"
    )
    await asyncio.sleep(0.05)
    await worker.has(1)  # Nothing is sent into the silence.
    port = int(rig.master.core.workers()[0].announcement.address.rpartition(":")[2])
    form = {"batch_max": 64, "handler_slots": 1, "incarnation": "a", "handlers": ["echo"]}
    await rig.announce(port, **form)
    _, again = await worker.has(2)
    assert (again["attempt"], again["lease"] != call["lease"]) == (2, True)
    assert (await worker.report(call["lease"], result=1))["stale"] == [call["lease"]]
    assert rig.master.core.calls.stale_results == 1
    await worker.report(again["lease"], result=2)
    assert (await ended(rig, number))[1] == 2


async def test_a_worker_that_starts_anew_has_lost_what_it_had(rig: Rig, hire: Hire) -> None:
    worker = Called(rig)
    form = {"batch_max": 64, "handlers": ["echo"], "arithmetic": False}
    server = await hire(rig, worker.conduct, incarnation="a", **form)
    await rig.accept(handler="echo", args=[1])
    await worker.has(1)
    await rig.announce(server, incarnation="b", **form)
    _, again = await worker.has(2)
    assert again["attempt"] == 2


# Stopping what is in batches


async def test_a_worker_is_told_to_stop_and_the_job_is_cancelling_until_it_says_so(
    rig: Rig, hire: Hire
) -> None:
    worker = await hire_called(hire, rig)
    number = await rig.accept(handler="echo", args=[1])
    (call,) = await worker.has(1)
    assert (await rig.cancel(number))["state"] == "cancelling"
    await until(lambda: worker.stops == [call["lease"]], "it is told")
    assert (await extend(rig, call["lease"]))["stop"] == [call["lease"]]
    assert (await rig.why(number))["call"]["waits_for"] == "stop"
    assert (await rig.job(number))["state"] == "cancelling"
    await worker.report(call["lease"], state="cancelled")
    assert await ended(rig, number) == ("cancelled", None, "cancelled")


async def test_who_cannot_be_told_to_stop_hears_it_by_its_next_sign_of_life(
    rig: Rig, hire: Hire
) -> None:
    worker = Called(rig)
    form = {"batch_max": 64, "handlers": ["echo"], "incarnation": "a"}
    server = await hire(rig, worker.conduct, **form)
    number = await rig.accept(handler="echo", args=[1])
    (call,) = await worker.has(1)
    await server.stop()
    await rig.cancel(number)
    assert (await extend(rig, call["lease"]))["stop"] == [call["lease"]]
    await worker.report(call["lease"], state="cancelled")
    assert (await ended(rig, number))[0] == "cancelled"


async def test_a_call_that_takes_too_long_is_stopped_and_has_timed_out(
    start_master: StartMaster, hire: Hire
) -> None:
    """Its worker has a lease's time to say so by itself."""
    rig = await start_master(lease_s=0.1)
    worker = await hire_called(hire, rig)
    number = await rig.accept(handler="echo", args=[1], timeout=0.05)
    (call,) = await worker.has(1)
    assert call["timeout"] == 0.05
    while (await extend(rig, call["lease"]))["extended"]:
        assert not worker.stops
        await asyncio.sleep(0.01)
    await until(lambda: worker.stops == [call["lease"]], "it is told to stop")
    assert await ended(rig, number) == ("timed_out", None, "it took longer than 0.05 s")


# One call a request


async def test_a_call_may_be_answered_with_its_result(rig: Rig, hire: Hire) -> None:
    async def answering(request: Message, line: Line) -> None:
        await line.reply(200, {"result": request.json["args"], "more": 1})

    worker = await hire(rig, answering, **SINGLE)
    number = await rig.accept(handler="echo", args=[1, "é"])
    assert await ended(rig, number) == ("succeeded", [1, "é"], None)
    (request,) = worker.requests
    assert (request.path, request.json["node"]) == ("/compute", "call")
    assert (await rig.get("/worker")).json[0]["calls_done"] == 1


async def test_a_5xx_with_an_error_is_a_failure_that_is_tried_again(rig: Rig, hire: Hire) -> None:
    worker = await hire(rig, fakes.replying(500, {"error": "broken"}), **SINGLE)
    number = await rig.accept(handler="echo", args=[1], retries=2)
    assert await ended(rig, number) == ("failed", None, "broken")
    assert [request.json["attempt"] for request in worker.requests] == [1, 2, 3]


async def test_a_4xx_with_an_error_is_a_failure_that_trying_again_does_not_mend(
    rig: Rig, hire: Hire
) -> None:
    worker = await hire(rig, fakes.replying(422, {"error": "no such size"}), **SINGLE)
    number = await rig.accept(handler="echo", args=[1], retries=2)
    assert await ended(rig, number) == ("failed", None, "no such size")
    assert len(worker.requests) == 1


async def test_a_202_says_that_the_result_will_be_reported(rig: Rig, hire: Hire) -> None:
    worker = await hire(rig, fakes.replying(202), **SINGLE)
    number = await rig.accept(handler="echo", args=[1])
    await until(lambda: worker.requests, "a hand-over")
    lease = worker.requests[0].json["lease"]
    assert (await extend(rig, lease))["extended"] == [lease]
    await Called(rig).report(lease, result=3)
    assert await ended(rig, number) == ("succeeded", 3, None)


@pytest.mark.parametrize(
    "conduct",
    [
        fakes.replying(200, {"status": "ok"}),
        fakes.replying(200, b"no JSON"),
        fakes.replying(200),
        fakes.replying(500, b"<h1>Internal Server Error</h1>"),
        fakes.replying(404, b""),
        fakes.hanging_up,
        fakes.resetting,
        fakes.speaking_no_http,
    ],
)
async def test_nonsense_costs_the_call_a_worker_and_no_other_gets_stuck(
    conduct: Conduct, start_master: StartMaster, hire: Hire
) -> None:
    rig = await start_master(workers_lost_max=2)
    await hire(rig, conduct, **SINGLE)
    number = await rig.accept(handler="echo", args=[1])
    state, _, error = await ended(rig, number)
    assert state == "failed"
    assert "workers_lost_max" in (error or "")


@pytest.mark.parametrize(
    ("result", "error"),
    [
        (b'"' + b"x" * 99 + b'"', "its result has 101 bytes, more than 100 (value_bytes_max)"),
        (b'"\xff"', "its result is not in UTF-8"),
    ],
)
async def test_a_result_that_nobody_could_take_is_the_call_s_failure(
    result: bytes, error: str, start_master: StartMaster, hire: Hire
) -> None:
    rig = await start_master(value_bytes_max=100)
    worker = await hire(rig, fakes.replying(200, b'{"result": ' + result + b"}"), **SINGLE)
    number = await rig.accept(handler="echo", args=[1], retries=3)
    assert await ended(rig, number) == ("failed", None, error)
    assert len(worker.requests) == 1


@pytest.mark.parametrize("length", [200_000, None], ids=["with a length", "without"])
async def test_a_result_that_is_too_long_to_be_received_is_the_call_s_failure(
    length: int | None, start_master: StartMaster, hire: Hire
) -> None:
    """Another worker's result would be as long."""
    rig = await start_master(value_bytes_max=100)
    reply = reply_bytes(200, b'{"result": "' + b"x" * 199_986 + b'"}', Content_Length=length)

    async def conduct(request: Message, line: Line) -> None:
        await line.send(reply)

    worker = await hire(rig, conduct, **SINGLE)
    number = await rig.accept(handler="echo", args=[1], retries=3)
    error = "its result has more than 100 bytes (value_bytes_max)"
    assert await ended(rig, number) == ("failed", None, error)
    assert len(worker.requests) == 1


async def test_a_202_with_a_long_body_is_a_202(rig: Rig, hire: Hire) -> None:
    for form in SINGLE, {"batch_max": 2, "handlers": ["echo"], "arithmetic": False}:
        worker = await hire(rig, fakes.replying(202, b"x" * 100_000), **form)
        number = await rig.accept(handler="echo", args=[1])
        await until(lambda worker=worker: worker.requests, "a hand-over")
        asked = worker.requests[0].json
        (call,) = asked.get("calls", [asked])
        await Called(rig).report(call["lease"], result=3)
        assert await ended(rig, number) == ("succeeded", 3, None)
        assert len(worker.requests) == 1
        await worker.stop()


@pytest.mark.parametrize("form", [SINGLE, SINGLE | {"batch_max": 2}], ids=["one", "batch"])
@pytest.mark.parametrize(
    ("bounds", "reply", "reason"),
    [
        ({}, reply_bytes(404, b"x" * 17_000_000), "the body has more than"),
        ({}, reply_bytes(200, {}, X_Long="x" * 20_000), "the headers have more than 16384 bytes"),
        (
            {"slow_client_s": 0.1},
            reply_bytes(200, b"x" * 50_000)[:-1],
            "it has fewer than 100000 bytes in 0.1 s",
        ),
        (
            {"worker_replies_bytes_max": 10_000},
            reply_bytes(200, b"x" * 50_000)[:-1],
            r"of 10000 bytes \(worker_replies_bytes_max\)",
        ),
    ],
    ids=["body", "head", "slow", "all"],
)
async def test_a_call_whose_reply_is_refused_has_lost_its_worker_for_that_reason(
    form: dict[str, Any],
    bounds: dict[str, Any],
    reply: bytes,
    reason: str,
    start_master: StartMaster,
    hire: Hire,
) -> None:
    rig = await start_master(workers_lost_max=1, **bounds)

    async def conduct(request: Message, line: Line) -> None:
        await line.send(reply)

    await hire(rig, conduct, **form)
    number = await rig.accept(handler="echo", args=[1])
    state, _, error = await ended(rig, number)
    assert state == "failed"
    assert re.search(reason, error or "")
    assert "xxx" not in (error or "")
    (worker,) = (await rig.get("/worker")).json
    assert re.search(reason, worker["last_failure"])


async def test_a_request_that_is_held_keeps_its_lease(
    start_master: StartMaster, hire: Hire
) -> None:
    rig = await start_master(lease_s=0.1)
    may_reply = asyncio.Event()
    worker = await hire(
        rig, fakes.held_until(may_reply, fakes.replying(200, {"result": 1})), **SINGLE
    )
    number = await rig.accept(handler="echo", args=[1])
    await asyncio.sleep(0.4)  # Four leases' time.
    may_reply.set()
    assert (await ended(rig, number))[1] == 1
    assert len(worker.requests) == 1


async def test_cancelling_hangs_up_on_a_request_that_is_held(rig: Rig, hire: Hire) -> None:
    worker = await hire(rig, fakes.silent, **SINGLE)
    number = await rig.accept(handler="echo", args=[1])
    await until(lambda: worker.requests, "a hand-over")
    await rig.cancel(number)
    assert await ended(rig, number) == ("cancelled", None, "cancelled")
    await until(lambda: worker.lines[0].closed, "the worker sees it")
    assert rig.worker(worker).last_failure is None


async def test_a_timeout_hangs_up_on_a_request_that_is_held(
    start_master: StartMaster, hire: Hire
) -> None:
    rig = await start_master(lease_s=0.1)
    worker = await hire(rig, fakes.silent, **SINGLE)
    number = await rig.accept(handler="echo", args=[1], timeout=0.05)
    assert await ended(rig, number) == ("timed_out", None, "it took longer than 0.05 s")
    await until(lambda: worker.lines[0].closed, "the worker sees it")


async def test_the_end_of_a_master_hangs_up_on_what_is_held(rig: Rig, hire: Hire) -> None:
    worker = await hire(rig, fakes.silent, **SINGLE)
    await rig.accept(handler="echo", args=[1])
    await until(lambda: worker.requests, "a hand-over")
    await rig.stop()
    await until(lambda: worker.lines[0].closed, "the worker sees it")


async def test_what_is_stopped_as_it_is_sent_is_cancelled_at_once() -> None:
    """Else it would keep its job from ending until its lease ends."""
    said = Announcement("w", "127.0.0.1:1", handlers={})
    worker = Worker(said, 0.0, 0.0)
    call = Call("a", "echo", [], job=1)
    lease = CallLease(7, call, worker, "w", 0.0, 10.0, 10.0, sent=True)
    core, pool = Mock(), ConnectionPool()
    dispatcher = CallDispatcher(core, pool, lambda: 5.0, lambda: None, 100)
    dispatcher.send([lease])
    lease.stop = True
    dispatcher.stop([lease])
    cancelled = Outcome(CallState.CANCELLED, None, "cancelled")
    core.calls.report.assert_called_once_with(5.0, 7, cancelled)
    await until(lambda: not dispatcher._tasks, "nothing is under way")
    core.fail_call.assert_not_called()
    pool.close()


# Long arguments


LONG_FORM = SINGLE | {"handlers": ["long", "echo"], "handler_slots": 20}


def long_graph(count: int) -> dict[str, Any]:
    """A result of 8 MB that is an argument of many calls."""
    readers = {f"n{n}": {"handler": "echo", "args": [n, {"ref": "a"}]} for n in range(count)}
    return {"a": {"handler": "long"}} | readers


def long_or_first(call: dict[str, Any]) -> dict[str, Any]:
    return {"result": "x" * 8_000_000 if call["handler"] == "long" else call["args"][0]}


@pytest.mark.parametrize("form", [{}, {"batch_max": 64}], ids=["one", "batch"])
async def test_a_worker_gets_long_arguments_as_fast_as_it_receives_them(
    form: dict[str, Any], rig: Rig, hire: Hire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "WORKER_BYTES_MAX", 10_000_000)
    most = 0
    worker = Called(rig, long_or_first)

    async def conduct(request: Message, line: Line) -> None:
        nonlocal most
        most = max(most, rig.master.core.calls.leases.outgoing.bytes)
        if request.path == "/compute" and "handler" in request.json:
            await line.reply(200, long_or_first(request.json))
        else:
            await worker.conduct(request, line)

    await hire(rig, conduct, **LONG_FORM | form)
    number = await rig.accept(graph=long_graph(6))
    assert (await ended(rig, number))[0] == "succeeded"
    assert {node["attempts"] for node in (await rig.nodes(number)).values()} == {1}
    assert most < 20_000_000
    assert rig.master.core.calls.leases.outgoing.bytes == 0


async def test_calls_that_are_held_make_room_once_their_worker_has_received_them(
    rig: Rig, hire: Hire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outgoing, "WORKER_BYTES_MAX", 10_000_000)
    may_reply, held = asyncio.Event(), 0

    async def conduct(request: Message, line: Line) -> None:
        nonlocal held
        if request.json["handler"] == "echo":
            held += 1
            await may_reply.wait()
        await line.reply(200, long_or_first(request.json))

    await hire(rig, conduct, **LONG_FORM)
    number = await rig.accept(graph=long_graph(6))
    await until(lambda: held == 6, "it has all calls")
    may_reply.set()
    assert (await ended(rig, number))[0] == "succeeded"


@pytest.mark.parametrize("form", [{}, {"batch_max": 64}], ids=["one", "batch"])
async def test_what_a_worker_never_receives_is_bounded_and_is_given_up_with_its_lease(
    form: dict[str, Any],
    start_master: StartMaster,
    hire: Hire,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(outgoing, "WORKER_BYTES_MAX", 10_000_000)
    rig = await start_master(workers_lost_max=1)
    kept = rig.master.core.calls.leases
    await hire_called(hire, rig, long_or_first, handlers=["long"], worker_name="good")
    with socket.create_server((HOST, 0)) as deaf:  # The system accepts for it, and nobody reads.
        port = deaf.getsockname()[1]
        await rig.announce(port, **LONG_FORM | form | {"handlers": ["echo"]})
        number = await rig.accept(graph=long_graph(20))
        await until(lambda: any(lease.unsent and lease.sent for lease in kept), "some are sent")
        assert len(kept) <= 2
        rig.pass_over(10.0)
        await until(lambda: not kept.outgoing.bytes, "the requests are given up")
        first = rig.master.core.jobs.job(number).calls.calls["n0"]
        await until(lambda: first.is_terminal and first.recorded, "its end is recorded")
        error = (await rig.nodes(number))["n0"]["error"]
        assert error.endswith("worker w: silent for 10 s")
