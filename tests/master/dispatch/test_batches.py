"""Masters and their workers over real sockets: whatever a worker does, jobs end, and end right."""

from __future__ import annotations

import asyncio
import errno
import os
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
from harness.http import HOST, Conduct, Line, Message, PlainClient, PlainServer, ServePlainly
from harness.until import until
from harness.wording import has

from dte.core.arithmetic.lease import BatchLease
from dte.core.backoff import backoff_s
from dte.core.graph.numbers import INTEGER_DIGITS_MAX
from dte.core.workers import availability
from dte.core.workers.worker import Announcement, Worker
from dte.master.dispatch import batches as dispatch
from dte.master.dispatch.pool import peer_of
from dte.wire.http.client import OnReply, Reply
from dte.worker import server
from master import fakes
from master.rig import Hire, Rig, StartMaster

FORMULA, ANSWER = "(1+2)*(3+4)/(5-1)", 5.25
FORMULA_OPERATIONS = 5

SINGLE, BATCHES = {}, {"batch_max": 64}
both_forms = pytest.mark.parametrize("form", [SINGLE, BATCHES], ids=["single", "batch"])


@pytest.fixture
def brief_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have workers that failed wait for milliseconds, not for seconds."""
    brief = partial(backoff_s, first_s=0.001, most_s=0.005)
    monkeypatch.setattr(availability, "backoff_s", brief)


@pytest.fixture
def start_worker(cleanup: AsyncExitStack, monkeypatch: pytest.MonkeyPatch) -> Callable[[Rig], None]:
    """Starts a worker of dte's own for a master."""
    monkeypatch.setattr(server, "DRAIN_S", 0.0)

    def start(rig: Rig) -> None:
        url = f"http://{HOST}:{rig.port}"
        worker = server.WorkerServer(server.WorkerSettings(url, HOST, 0))
        worker.start()
        cleanup.push_async_callback(worker.drain)

    return start


# What is sent


async def test_a_worker_of_the_seed_gets_one_operation_in_the_seed_s_form(
    rig: Rig, hire: Hire
) -> None:
    worker = await hire(rig, fakes.good)
    job = await rig.compute("(10-4)*2/3+0.5")
    assert job["answer"] == 4.5
    assert [(request.method, request.path) for request in worker.requests] == [
        ("POST", "/compute")
    ] * 4
    assert [request.body for request in worker.requests] == [
        b'{"operation":"sub","op1":10,"op2":4}',
        b'{"operation":"mul","op1":6,"op2":2}',
        b'{"operation":"div","op1":12,"op2":3}',
        b'{"operation":"sum","op1":4.0,"op2":0.5}',
    ]


async def test_a_worker_of_batches_gets_columns_under_a_lease(rig: Rig, hire: Hire) -> None:
    worker = await hire(rig, fakes.good, **BATCHES)
    terms = "+".join(f"{number}*{number}" for number in range(64))
    job = await rig.compute(terms)
    assert job["answer"] == eval(terms)
    assert len(worker.requests) < job["operations"] / 2
    leases = [request.json["lease"] for request in worker.requests]
    assert leases == sorted(set(leases)), "no number comes twice"
    assert {type(request.json["operations"]) for request in worker.requests} == {str}


@both_forms
async def test_operations_only_go_out_when_their_operands_are_known(
    form: dict[str, int], rig: Rig, hire: Hire
) -> None:
    """A chain of five is five requests, whatever a worker takes at a time."""
    worker = await hire(rig, fakes.good, **form)
    assert (await rig.compute("1.5-1-1-1-1-1"))["answer"] == -3.5
    assert len(worker.requests) == 5


async def test_without_workers_jobs_wait(rig: Rig, hire: Hire) -> None:
    number = await rig.submit(FORMULA)
    job = await rig.job(number, wait_s=0.05)
    assert (job["finished"], job["state"], job["operations_done"]) == (False, "waiting", 0)
    await hire(rig, fakes.good)
    assert (await rig.job(number, wait_s=20))["answer"] == ANSWER


async def test_a_worker_of_the_seed_listens_on_port_6000_of_where_it_registers_from(
    rig: Rig, serve_plainly: ServePlainly
) -> None:
    host = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}.{random.randint(1, 254)}"
    worker = await serve_plainly(fakes.good, host=host, port=6000)
    reply = await PlainClient(rig.port, source=host).post("/worker", {"worker_name": "worker-17"})
    assert reply.json == {"status": "Worker registered"}
    assert (await rig.compute(FORMULA))["answer"] == ANSWER
    assert worker.requests[0].headers["host"] == f"{host}:6000"


async def test_slots_are_used_and_not_exceeded(rig: Rig, hire: Hire) -> None:
    """Each of three requests is held until all three are there."""
    under_way = 0
    most = 0
    three = asyncio.Event()

    async def in_threes(request: Message, line: Line) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        if under_way == 3:
            three.set()
        await three.wait()
        under_way -= 1
        await fakes.good(request, line)

    await hire(rig, in_threes, slots=3)
    job = await rig.compute("(1*2)+(3*4)+(5*6)+(7*8)+(9*10)+0.5")
    assert (job["answer"], most) == (190.5, 3)


async def test_two_workers_share_the_work(rig: Rig, hire: Hire) -> None:
    """Each holds its first operation until the other has one."""
    both = asyncio.Event()
    workers: list[PlainServer] = []

    async def together(request: Message, line: Line) -> None:
        if all(worker.requests for worker in workers):
            both.set()
        await both.wait()
        await fakes.good(request, line)

    workers += [await hire(rig, together), await hire(rig, together)]
    assert (await rig.compute("(1/2)+(3/4)+(5/6)"))["answer"] == 1 / 2 + 3 / 4 + 5 / 6


@both_forms
async def test_connections_are_kept(form: dict[str, int], rig: Rig, hire: Hire) -> None:
    worker = await hire(rig, fakes.good, **form)
    for _ in range(5):
        await rig.compute(FORMULA)
    assert len(worker.lines) == 1
    assert len(worker.requests) > 5


# Peculiar workers


@both_forms
@pytest.mark.parametrize(
    "conduct",
    [
        fakes.over_http_1_0,
        fakes.on_one_connection_each,
        fakes.closing_what_is_idle,
        fakes.in_chunks,
        fakes.byte_by_byte,
    ],
    ids=lambda conduct: conduct.__name__,
)
async def test_a_worker_may_be_peculiar(
    conduct: Conduct, form: dict[str, int], rig: Rig, hire: Hire
) -> None:
    await hire(rig, conduct, **form)
    assert (await rig.compute(FORMULA))["answer"] == ANSWER


@both_forms
async def test_an_idle_connection_that_was_closed_is_no_failure(
    form: dict[str, int], rig: Rig, hire: Hire
) -> None:
    worker = await hire(rig, fakes.good, **form)
    await rig.compute("1+2")
    worker.lines[0].close()
    (idle,) = rig.master._pool._idle[peer_of(rig.worker(worker).announcement)]
    await until(lambda: not idle.is_open, "the master notices")
    assert (await rig.compute("3+4"))["answer"] == 7
    assert rig.worker(worker).last_failure is None
    assert len(worker.lines) == 2


# Failing workers

FAULTS: dict[str, Conduct] = {
    "hangs up": fakes.hanging_up,
    "resets": fakes.resetting,
    "half a reply": fakes.half_replying,
    "no HTTP": fakes.speaking_no_http,
    "empty": fakes.replying(200),
    "no JSON": fakes.replying(200, b"<h1>It works!</h1>"),
    "half JSON": fakes.replying(200, b'{"result": 1'),
    "not UTF-8": fakes.replying(200, b'{"result": "\xff"}'),
    "an array": fakes.replying(200, []),
    "null": fakes.replying(200, None),
    "no result": fakes.replying(200, {"status": "ok"}),
    "moved": fakes.replying(302, b"", Location="http://127.0.0.1:1/compute"),
    "bad request": fakes.replying(400, {"error": "Invalid request"}),
    "no such page": fakes.replying(404, b"<h1>Not Found</h1>"),
    "too busy": fakes.replying(429, {"error": "busy"}),
    "500 without a body": fakes.replying(500),
    "500 without an error": fakes.replying(500, {"status": "broken"}),
    "500 of a framework": fakes.replying(500, b"<h1>Internal Server Error</h1>"),
    "500 with another error": fakes.replying(500, {"error": {"code": 1}}),
    "draining": fakes.replying(503, {"status": "draining"}),
}

SINGLE_FAULTS: dict[str, Conduct] = {
    "a string": fakes.changing(result="3"),
    "a result that is null": fakes.changing(result=None),
    "a result that is true": fakes.changing(result=True),
    "another name": fakes.replying(200, {"answer": 3}),
    "a batch": fakes.replying(200, {"lease": 1, "results": [3]}),
    "201": fakes.replying(201, {"result": 3}),
}

BATCH_FAULTS: dict[str, Conduct] = {
    "no results": fakes.changing(results=[]),
    "too many results": fakes.changing(results=[1] * 65),
    "results that are strings": fakes.changing(results=["3"]),
    "results that are null": fakes.changing(results=None),
    "another lease": fakes.changing(lease=10**9),
    "lease 0": fakes.changing(lease=0),
    "a lease without end": fakes.changing(lease=10**400),
    "no lease": fakes.replying(200, {"results": [3]}),
    "a failure outside": fakes.changing(errors={"64": "no"}),
    "a failure before the first": fakes.changing(errors={"-1": "no"}),
    "a failure somewhere": fakes.changing(errors={"first": "no"}),
    "failures without places": fakes.changing(errors=["no"]),
    "NaN": fakes.changing(results=[float("nan")] * 4),
    "too long": fakes.replying(200, b'{"lease": 1, "results": [1' + b"0" * 5000 + b"]}"),
    "one result": fakes.replying(200, {"result": 3}),
    "500 with an error": fakes.replying(500, {"error": "division by zero"}),
    "results with another status": fakes.with_status(500),
}

ALL_FAULTS = [
    pytest.param(conduct, form, id=f"{name}-{kind}")
    for faults, kind, form in (
        (FAULTS | SINGLE_FAULTS, "single", SINGLE),
        (FAULTS | BATCH_FAULTS, "batch", BATCHES),
    )
    for name, conduct in faults.items()
]


@pytest.mark.parametrize(("conduct", "form"), ALL_FAULTS)
async def test_a_worker_that_fails_is_blamed_and_the_job_ends_right(
    conduct: Conduct, form: dict[str, int], rig: Rig, hire: Hire
) -> None:
    bad = await hire(rig, conduct, **form)
    number = await rig.submit(FORMULA)
    await until(lambda: rig.worker(bad).last_failure, "the failure is noted")
    job = await rig.job(number)
    assert not job["finished"]
    assert job["operations_done"] == 0
    await hire(rig, fakes.good, **form)
    job = await rig.job(number, wait_s=20)
    assert (job["answer"], job["operations_done"]) == (ANSWER, FORMULA_OPERATIONS)
    await until(lambda: rig.idle, "nothing is under way")


@both_forms
async def test_a_worker_that_failed_is_tried_again(
    form: dict[str, int], rig: Rig, hire: Hire, brief_pauses: None
) -> None:
    conducts = [fakes.resetting, fakes.replying(200, []), fakes.hanging_up]

    async def bad_thrice(request: Message, line: Line) -> None:
        await (conducts.pop() if conducts else fakes.good)(request, line)

    worker = await hire(rig, bad_thrice, **form)
    assert (await rig.compute(FORMULA))["answer"] == ANSWER
    assert rig.worker(worker).failures == 0


@pytest.mark.parametrize(
    ("conduct", "reason"),
    [
        (fakes.resetting, os.strerror(errno.ECONNRESET)),
        (fakes.replying(200, {"result": "3"}), "malformed reply, status 200: […]$.result"),
        (fakes.replying(404, b"no"), "malformed reply, status 404: the reply"),
    ],
    ids=["reset", "malformed", "status"],
)
async def test_the_list_of_workers_and_the_log_say_what_failed(
    conduct: Conduct, reason: str, rig: Rig, hire: Hire, caplog: pytest.LogCaptureFixture
) -> None:
    worker = await hire(rig, conduct)
    await rig.submit("1+2")
    await until(lambda: rig.worker(worker).last_failure, "the failure is noted")
    (listed,) = (await rig.get("/worker")).json
    assert has(listed["last_failure"], reason)
    assert listed["state"] == "pausing"
    assert has(caplog.text, f"worker w at 127.0.0.1:{worker.port}: {reason}")


async def test_a_worker_may_register_before_it_listens(
    rig: Rig, serve_plainly: ServePlainly
) -> None:
    """As the seed's does: the first hand-over is refused, which is not the operation's failure."""
    worker = await serve_plainly(fakes.good)
    await worker.stop()
    await rig.announce(worker)
    number = await rig.submit(FORMULA)
    await until(lambda: rig.worker(worker).last_failure, "a hand-over is refused")
    assert rig.worker(worker).last_failure == os.strerror(errno.ECONNREFUSED)
    await serve_plainly(fakes.good, port=worker.port)
    assert (await rig.job(number, wait_s=20))["answer"] == ANSWER


@both_forms
async def test_a_worker_that_only_fails_is_taken_out_until_it_announces_itself(
    form: dict[str, int],
    rig: Rig,
    hire: Hire,
    brief_pauses: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = await hire(rig, fakes.hanging_up, **form)
    number = await rig.submit(FORMULA)
    await until(lambda: rig.worker(worker).gone, "the worker is taken out")
    assert len(worker.requests) == availability.FAILURES_MAX
    await until(lambda: "is gone until it announces itself" in caplog.text, "the log says so")
    worker.conduct = fakes.good
    await rig.announce(worker, **form)
    assert (await rig.job(number, wait_s=20))["answer"] == ANSWER


@both_forms
async def test_a_worker_that_dies_with_operations_loses_none(
    form: dict[str, int], rig: Rig, hire: Hire
) -> None:
    worker = await hire(rig, fakes.silent, **form)
    number = await rig.submit(FORMULA)
    await until(lambda: worker.requests, "a hand-over")
    await worker.stop()
    await until(lambda: rig.worker(worker).last_failure, "the failure is noted")
    await hire(rig, fakes.good, **form)
    assert (await rig.job(number, wait_s=20))["answer"] == ANSWER


async def test_a_failure_closes_the_other_connections_to_its_worker(rig: Rig, hire: Hire) -> None:
    """They were opened to the same process, which may be gone without a word."""
    both = asyncio.Event()

    async def together(request: Message, line: Line) -> None:
        if len(worker.lines) == 2:
            both.set()
        await both.wait()
        await fakes.good(request, line)

    worker = await hire(rig, together, slots=2)
    await rig.compute("(1/2)+(3/4)")
    worker.conduct = fakes.resetting
    await rig.submit("5/6")
    await until(lambda: all(line.closed for line in worker.lines), "both are closed")


# Failing operations


async def test_division_by_zero_ends_the_job_at_once_and_is_not_the_worker_s_fault(
    rig: Rig, hire: Hire
) -> None:
    worker = await hire(rig, fakes.good)
    job = await rig.compute("1/0")
    assert (job["state"], job["answer"]) == ("failed", None)
    assert job["error"] == "division by zero: 1 / 0"
    assert len(worker.requests) == 1
    assert rig.worker(worker).last_failure is None
    assert (await rig.compute("1+2"))["answer"] == 3


async def test_division_by_zero_in_a_batch_ends_its_job_and_no_other(rig: Rig, hire: Hire) -> None:
    """Operations of both jobs wait for the worker, so they go out together."""
    good, bad = await rig.submit("(1*2)+(3*4)"), await rig.submit("(5*6)+(7/0)")
    worker = await hire(rig, fakes.good, **BATCHES)
    assert (await rig.job(bad, wait_s=20))["error"] == "division by zero: 7 / 0"
    assert (await rig.job(good, wait_s=20))["answer"] == 14
    assert any({"*", "/"} <= set(request.json["operations"]) for request in worker.requests)
    assert rig.worker(worker).last_failure is None
    await until(lambda: rig.idle, "nothing is under way")


@pytest.mark.parametrize(
    ("conduct", "error"),
    [
        (fakes.replying(500, {"error": "division by zero"}), "division by zero"),
        (fakes.replying(503, {"error": "overflow", "code": 1}), "overflow"),
        (fakes.changing(result=float("nan")), "the result is not a finite number"),
        (fakes.changing(result=float("inf")), "the result is not a finite number"),
        (fakes.changing(result=float("-inf")), "the result is not a finite number"),
        (fakes.replying(200, b'{"result": 1e999}'), "the result is not a finite number"),
        (
            fakes.replying(200, b'{"result": 1' + b"0" * 4999 + b"}"),
            "the result is an integer of more than 4300 digits",
        ),
        (
            fakes.replying(200, b'{"result": -1' + b"0" * 4999 + b"}"),
            "the result is an integer of more than 4300 digits",
        ),
    ],
    ids=["500", "503", "NaN", "Infinity", "-Infinity", "1e999", "5000 digits", "-5000 digits"],
)
async def test_a_result_that_does_not_travel_is_the_operation_s_failure(
    conduct: Conduct, error: str, rig: Rig, hire: Hire
) -> None:
    """Arithmetic does not get better by repetition: one request, and the job has ended."""
    worker = await hire(rig, conduct)
    job = await rig.compute("(1+2)*3")
    assert (job["state"], job["error"]) == ("failed", f"{error}: 1 + 2")
    assert len(worker.requests) == 1
    assert rig.worker(worker).last_failure is None
    worker.conduct = fakes.good
    assert (await rig.compute("1+2"))["answer"] == 3
    await until(lambda: rig.idle, "nothing is under way")


@both_forms
async def test_a_long_story_of_a_failure_is_cut(form: dict[str, int], rig: Rig, hire: Hire) -> None:
    """Each of the last jobs keeps its error, and `GET /jobs` lists a hundred of them."""
    story = "x" * 1_000_000
    conducts = {
        1: fakes.replying(500, {"error": story}),
        64: fakes.changing(errors={"0": story}),
    }
    await hire(rig, conducts[form.get("batch_max", 1)], **form)
    assert 100 < len((await rig.compute("1+2"))["error"]) < 2_000


@both_forms
@pytest.mark.parametrize(
    "reason", [r"a\u0000b", r"\ud800", r"\ud83d\ude00", r"'; DROP TABLE ended; --", r"\u2028\n"]
)
async def test_any_text_of_a_reason_is_told_and_recorded(
    reason: str, form: dict[str, int], start_master: StartMaster, hire: Hire, tmp_path: Path
) -> None:
    """Also one that is hardly a text: it stands so in the worker's JSON."""

    async def fail(request: Message, line: Line) -> None:
        if form:
            lease = request.json["lease"]
            reply = f'{{"lease": {lease}, "results": [0], "errors": {{"0": "{reason}"}}}}'
            await line.reply(200, reply.encode())
        else:
            await line.reply(500, f'{{"error": "{reason}"}}'.encode())

    journal = str(tmp_path / "journal.db")
    rig = await start_master(journal=journal)
    await hire(rig, fail, **form)
    job = await rig.compute("1+2")
    assert job["state"] == "failed"
    assert job["error"].endswith(": 1 + 2")
    await rig.stop()
    again = await start_master(journal=journal)
    assert await again.job(1) == job


async def test_an_operation_that_fails_ends_its_job_while_others_of_it_are_out(
    rig: Rig, hire: Hire
) -> None:
    """What comes of the others changes nothing, and their worker goes on."""
    job_ended = asyncio.Event()

    async def slow_except_for_zero(request: Message, line: Line) -> None:
        if request.json["op2"] != 0:
            await job_ended.wait()
        await fakes.good(request, line)

    await hire(rig, slow_except_for_zero, slots=2)
    job = await rig.compute("(1/2)+(3/0)")
    assert job["error"] == "division by zero: 3 / 0"
    assert job["operations_done"] == 0
    job_ended.set()
    assert (await rig.compute("5/2"))["answer"] == 2.5
    await until(lambda: rig.idle, "the other operation comes back")
    assert (await rig.job(1)) == job


# Silence


@both_forms
async def test_silence_past_the_lease_is_a_failure_and_a_late_reply_is_counted_and_ignored(
    form: dict[str, int], rig: Rig, hire: Hire
) -> None:
    may_reply = asyncio.Event()

    async def wrong_and_late(request: Message, line: Line) -> None:
        await may_reply.wait()
        changed = {"results": [666] * len(request.json["op1"])} if form else {"result": 666}
        await fakes.changing(**changed)(request, line)

    late = await hire(rig, wrong_and_late, **form)
    number = await rig.submit(FORMULA)
    await until(lambda: late.requests, "it has operations")
    rig.pass_over(10.0)
    await until(lambda: rig.worker(late).last_failure, "the lease ends")
    assert rig.worker(late).last_failure == "silent for 10 s"
    await hire(rig, fakes.good, **form)
    job = await rig.job(number, wait_s=20)
    assert job["answer"] == ANSWER
    assert (await rig.get("/health")).json["stale_results"] == 0
    came_to_nothing = len(late.requests)
    may_reply.set()
    late.conduct = fakes.good
    core = rig.master.core
    await until(lambda: core.stale_results == came_to_nothing, "each late reply is counted")
    assert (await rig.compute("1+1"))["answer"] == 2
    assert (await rig.job(number)) == job


@both_forms
async def test_a_reply_that_is_late_while_its_operation_is_out_again_changes_nothing(
    form: dict[str, int], rig: Rig, hire: Hire
) -> None:
    """The operation has gone to another worker, whose result counts."""
    lines: list[tuple[Message, Line]] = []

    async def remember(request: Message, line: Line) -> None:
        lines.append((request, line))

    late = await hire(rig, remember, **form)
    number = await rig.submit("1+2")
    await until(lambda: lines, "it has the operation")
    rig.pass_over(10.0)
    await until(lambda: rig.worker(late).last_failure, "the lease ends")
    may_reply = asyncio.Event()
    other = await hire(rig, fakes.held_until(may_reply), **form)
    await until(lambda: other.requests, "the operation goes out again")
    await fakes.changing(**({"results": [666]} if form else {"result": 666}))(*lines[0])
    await until(lambda: rig.master.core.stale_results == 1, "the late reply is counted")
    assert not (await rig.job(number))["finished"]
    may_reply.set()
    assert (await rig.job(number, wait_s=20))["answer"] == 3


class Pool:
    """Sends nothing, and remembers the callback.

    Attributes:
        on_reply: takes what comes of the request.
        abandoned: how often the connection was.
    """

    def __init__(self) -> None:
        self.on_reply: OnReply = lambda reply: None
        self.abandoned = 0

    def send(
        self, address: str, path: str, body: bytes, on_reply: OnReply, reply_bytes_max: int
    ) -> Pool:
        self.on_reply = on_reply
        return self

    def abandon(self) -> None:
        self.abandoned += 1


@pytest.mark.parametrize("answered", [False, True], ids=["nothing came", "a late reply"])
async def test_a_late_reply_is_waited_for_and_its_connection_is_free_then(
    answered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the time that nobody would wait any more it may carry another request."""
    monkeypatch.setattr(dispatch, "LATE_S", 0.0)
    pool, core = Pool(), Mock()
    dispatcher = dispatch.Dispatcher(core, pool, lambda: 5.0, lambda: None)  # type: ignore[arg-type]
    worker = Worker(Announcement("w", "here:1", batch_max=4), 0.0, 0)
    lease = BatchLease(7, worker, [], 0, 0.0, 1.0, may_come_late=True)
    dispatcher.send(lease)
    dispatcher.abandon(lease)
    if answered:
        pool.on_reply(Reply(200, {}, b'{"lease": 7, "results": [2]}'))
        core.arithmetic.late.assert_called_once_with(5.0, lease)
    await until(lambda: not dispatcher._late, "nothing is waited for")
    for _ in range(10):
        await asyncio.sleep(0)
    assert pool.abandoned == (not answered)


async def test_one_silent_slot_does_not_stop_the_others(
    start_master: StartMaster, hire: Hire
) -> None:
    rig = await start_master(lease_s=0.15)
    silent = [True]

    async def silent_once(request: Message, line: Line) -> None:
        if silent:
            silent.pop()
        else:
            await fakes.good(request, line)

    await hire(rig, silent_once, slots=2)
    assert (await rig.compute("(1/2)+(3/4)+(5/8)"))["answer"] == 1.875


# Workers that come and go


@both_forms
async def test_another_incarnation_at_the_same_address_ends_the_leases_of_the_old_one(
    form: dict[str, int], rig: Rig, hire: Hire
) -> None:
    """At once, not when the lease of ten seconds has run out."""
    worker = await hire(rig, fakes.silent, incarnation="first", **form)
    number = await rig.submit(FORMULA)
    await until(lambda: worker.requests, "a hand-over")
    worker.conduct = fakes.good
    await rig.announce(worker, incarnation="second", **form)
    job = await rig.job(number, wait_s=5)
    assert job["answer"] == ANSWER
    await until(lambda: worker.lines[0].closed, "the connection to the old one is closed")


@both_forms
async def test_an_announcement_of_the_same_incarnation_changes_no_lease(
    form: dict[str, int], rig: Rig, hire: Hire
) -> None:
    may_reply = asyncio.Event()
    worker = await hire(rig, fakes.held_until(may_reply), incarnation="first", **form)
    number = await rig.submit("1+2")
    await until(lambda: worker.requests, "a hand-over")
    await rig.announce(worker, incarnation="first", **form)
    may_reply.set()
    assert (await rig.job(number, wait_s=20))["answer"] == 3
    assert len(worker.requests) == 1


@both_forms
async def test_a_draining_worker_gives_its_results_and_gets_nothing_more(
    form: dict[str, int], rig: Rig, hire: Hire
) -> None:
    may_reply = asyncio.Event()
    leaving = await hire(rig, fakes.held_until(may_reply), **form)
    number = await rig.submit("1.5+2+3")
    await until(lambda: leaving.requests, "a hand-over")
    await rig.announce(leaving, draining=True, **form)
    may_reply.set()
    await until(lambda: rig.master.core.jobs.operations_done == 1, "its result")
    staying = await hire(rig, fakes.good, **form)
    assert (await rig.job(number, wait_s=20))["answer"] == 6.5
    assert (len(leaving.requests), len(staying.requests)) == (1, 1)


async def test_replicas_that_share_a_name_are_workers_of_their_own(rig: Rig, hire: Hire) -> None:
    for _ in range(3):
        await hire(rig, fakes.good, worker_name="worker-1700000000")
    listed = (await rig.get("/worker")).json
    assert len({worker["address"] for worker in listed}) == 3
    assert {worker["worker_name"] for worker in listed} == {"worker-1700000000"}


@pytest.mark.parametrize(
    "conduct",
    [
        fakes.good,
        fakes.closing_what_is_idle,
        fakes.resetting,
        fakes.silent,
        fakes.over_http_1_0,
    ],
    ids=lambda conduct: conduct.__name__,
)
async def test_nothing_is_kept_of_the_connections_of_a_worker_that_left(
    conduct: Conduct, start_master: StartMaster, hire: Hire
) -> None:
    """Ports change with every start, so what is kept by port would add up."""
    rig = await start_master(lease_s=0.1)
    worker = await hire(rig, fakes.good)
    await rig.compute("1+2")
    worker.conduct = conduct
    await rig.submit("3+4")
    await until(lambda: rig.idle or rig.worker(worker).last_failure, "it has ended or failed")
    await worker.stop()
    await until(lambda: not rig.master._pool._idle, "they are forgotten", timeout_s=5)
    assert not rig.master._dispatcher._under_way


async def test_closing_the_dispatcher_ends_what_is_under_way(rig: Rig, hire: Hire) -> None:
    busy = await hire(rig, fakes.silent)
    await rig.submit("1+2")
    await until(lambda: busy.requests, "a hand-over")
    rig.master._dispatcher.close()
    await until(lambda: busy.lines[0].closed, "the connection is closed")


# All at once


async def test_a_long_negative_result_and_a_failure_in_one_batch(
    rig: Rig, start_worker: Callable[[Rig], None]
) -> None:
    """With dte's own worker: neither job may keep the other from its end."""
    longest = "9" * INTEGER_DIGITS_MAX
    long, zero = await rig.submit(f"0-{longest}"), await rig.submit("1/0")
    start_worker(rig)
    assert (await rig.job(long, wait_s=20))["answer"] == -int(longest)
    assert (await rig.job(zero, wait_s=20))["error"] == "division by zero: 1 / 0"


async def test_formulas_of_all_kinds_with_dte_s_own_workers(
    rig: Rig, start_worker: Callable[[Rig], None]
) -> None:
    """Bit for bit what Python gives, or a failure where Python raises."""
    chance = random.Random(7)

    def formula(depth: int) -> str:
        if depth == 0 or chance.random() < 0.1:
            return chance.choice(["0", "7", "12", "0.1", "2.5", "1e-3", "1000000007"])
        left, right = formula(depth - 1), formula(depth - 1)
        sign = chance.choice(["", "", "-"])
        return f"{sign}({left}{chance.choice('+-*/')}{right})"

    for _ in range(3):
        start_worker(rig)
    formulas = [formula(depth) for depth in range(6) for _ in range(16)]
    ids = (await rig.post("/submit", {"tasks": formulas})).json["job_ids"]
    jobs = (await rig.get(f"/jobs?ids={ids[0]}-{ids[-1]}&wait=20")).json
    for text, job in zip(formulas, jobs, strict=True):
        try:
            expected = eval(text)
        except ZeroDivisionError:
            assert job["error"].startswith("division by zero: ")
        else:
            assert repr(job["answer"]) == repr(expected), text
    await until(lambda: rig.idle, "nothing is under way")


@both_forms
async def test_no_operation_is_lost_or_done_twice_among_workers_that_fail_at_random(
    form: dict[str, int],
    start_master: StartMaster,
    hire: Hire,
    brief_pauses: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(availability, "FAILURES_MAX", 10**9)
    rig = await start_master(lease_s=0.1)
    chance = random.Random(5)
    faults = [
        fakes.hanging_up,
        fakes.resetting,
        fakes.half_replying,
        fakes.silent,
        fakes.replying(200, []),
        fakes.replying(503, {"status": "draining"}),
        fakes.closing_what_is_idle,
    ]

    async def moody(request: Message, line: Line) -> None:
        await (chance.choice(faults) if chance.random() < 0.1 else fakes.good)(request, line)

    workers = [await hire(rig, moody, slots=2, incarnation="0", **form) for _ in range(3)]
    formulas = [
        "+".join(f"({chance.randint(1, 9)}/{chance.randint(1, 9)})" for _ in range(12))
        for _ in range(20)
    ]
    reply = await rig.post("/submit", {"tasks": formulas})
    for start in range(1, 4):
        operations = rig.master.core.jobs.operations_done
        await until(
            lambda operations=operations: rig.master.core.jobs.operations_done >= operations + 60,
            "progress",
        )
        await rig.announce(workers[start - 1], slots=2, incarnation=str(start), **form)
        rig.master.core.check()
    ids = ",".join(map(str, reply.json["job_ids"]))
    jobs = (await rig.get(f"/jobs?ids={ids}&wait=20")).json
    assert [job["answer"] for job in jobs] == [eval(formula) for formula in formulas]
    assert rig.master.core.jobs.operations_done == sum(job["operations"] for job in jobs)
    await until(lambda: rig.idle, "nothing is left")
