from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from harness.http import HOST, Dial, Line, Message, PlainClient, PlainServer, ServePlainly, head
from harness.until import until
from msgspec import Raw
from tornado.ioloop import IOLoop

from dte.handlers.registry import CannotLoad
from dte.wire.messages.calls import Report
from dte.worker import server
from dte.worker.server import WorkerServer, WorkerSettings, serve
from dte.worker.spool import Spool

from .fakes import FakeMaster

SUM = {"operation": "sum", "op1": 1, "op2": 2}


async def welcome(request: Message, line: Line) -> None:
    await line.reply(200, {"status": "Worker registered"})


async def give_session(request: Message, line: Line) -> None:
    await line.reply(200, {"status": "Worker registered", "session": "S" * 43})


@pytest.fixture
def master(io_loop: IOLoop, serve_plainly: ServePlainly) -> PlainServer:
    return io_loop.run_sync(lambda: serve_plainly(welcome))


def settings(master: PlainServer, **more: Any) -> WorkerSettings:
    """No announcement comes because of the time: each has a cause that the test knows."""
    where = {"master_url": f"http://{HOST}:{master.port}", "host": HOST, "heartbeat_s": 3600.0}
    return WorkerSettings(**where | more)


StartWorker = Callable[..., WorkerServer]


def shown(secret: str) -> dict[str, str]:
    """The header by which a worker knows its master."""
    return {"Authorization": f"Bearer {secret}"}


def of_master(worker: WorkerServer) -> dict[str, str]:
    return shown(worker._session.secret)


@pytest.fixture
def start_worker(
    master: PlainServer, cleanup: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> StartWorker:
    """Starts a worker on a free port, which drains after the test."""
    monkeypatch.setattr(server, "DRAIN_S", 0.0)

    def start(**more: Any) -> WorkerServer:
        worker = WorkerServer(settings(master, **{"port": 0} | more))
        worker.start()
        cleanup.push_async_callback(worker.drain)
        return worker

    return start


async def test_it_announces_what_it_is(start_worker: StartWorker, master: PlainServer) -> None:
    worker = start_worker(name="w", slots=3)
    await until(lambda: master.requests, "an announcement")
    said = master.requests[0].json
    assert said.pop("incarnation")
    assert len(said.pop("secret")) == 43
    handlers = said.pop("handlers")
    assert said == {
        "worker_name": "w",
        "port": worker.port,
        "slots": 2,
        "kwargs": True,
        "batch_max": 1024,
        "handler_slots": 3,
    }
    assert handlers["echo"] == {"pure": True}
    assert {"sleep", "fibonacci", "primes"} <= handlers.keys()


async def test_it_has_a_slot_for_each_cpu(start_worker: StartWorker, master: PlainServer) -> None:
    start_worker()
    await until(lambda: master.requests, "an announcement")
    assert master.requests[0].json["handler_slots"] == min(64, len(os.sched_getaffinity(0)))


async def test_it_announces_the_port_at_which_it_is_reached_where_ports_are_mapped(
    start_worker: StartWorker, master: PlainServer
) -> None:
    worker = start_worker(announce_port=36_000)
    await until(lambda: master.requests, "an announcement")
    assert master.requests[0].json["port"] == 36_000 != worker.port


async def test_it_announces_at_once_that_it_cannot_run_calls_and_that_it_can_again(
    start_worker: StartWorker, master: PlainServer
) -> None:
    worker = start_worker(slots=3)
    for capacity, failing, said in [
        (0, "no GPU", {"handler_slots": 3, "failing": "no GPU"}),
        (2, None, {"handler_slots": 2}),
        (3, None, {"handler_slots": 3}),
    ]:
        heard = len(master.requests)
        worker._calls.on_capacity(capacity, failing)
        await until(lambda heard=heard: len(master.requests) > heard, "an announcement")
        last = master.requests[-1].json
        assert {name: last[name] for name in ("handler_slots", "failing") if name in last} == said


async def test_it_announces_itself_at_its_heartbeat(
    start_worker: StartWorker, master: PlainServer
) -> None:
    start_worker(heartbeat_s=0.01)
    await until(lambda: len(master.requests) >= 4, "four announcements")
    assert len({request.body for request in master.requests}) == 1, "one incarnation, one story"


async def test_a_worker_has_a_name_of_its_own(start_worker: StartWorker) -> None:
    assert start_worker().name == f"{os.uname().nodename}-{os.getpid()}"


async def test_each_start_is_another_incarnation(
    start_worker: StartWorker, master: PlainServer
) -> None:
    start_worker()
    start_worker()
    await until(lambda: len(master.requests) == 2, "two announcements")
    first, second = (request.json["incarnation"] for request in master.requests)
    assert first != second


async def test_it_listens_before_it_announces(
    start_worker: StartWorker, master: PlainServer
) -> None:
    """The master may hand over the moment it hears of the worker."""
    replies: list[Message] = []

    async def hand_over_first(request: Message, line: Line) -> None:
        client, said = PlainClient(request.json["port"]), request.json
        replies.append(await client.post("/compute", SUM, **shown(said["secret"])))
        await welcome(request, line)

    master.conduct = hand_over_first
    start_worker()
    await until(lambda: replies, "a reply")
    assert replies[0].json["result"] == 3


# Tornado leaves the socket that it could not bind to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_port_that_is_taken_is_an_error(master: PlainServer) -> None:
    with pytest.raises(OSError, match="cannot listen on "):
        WorkerServer(settings(master, port=master.port)).start()


async def test_it_announces_again_when_the_master_hangs_up(
    start_worker: StartWorker, master: PlainServer, dial: Dial
) -> None:
    """A master that restarts closes its connections, and knows no workers."""
    worker = start_worker()
    await until(lambda: len(master.requests) == 1, "an announcement")
    line = await dial(worker.port)
    await line.ask("POST", "/compute", SUM, **of_master(worker))
    assert len(master.requests) == 1
    line.close()
    await until(lambda: len(master.requests) == 2, "another announcement")


async def test_a_draining_worker_says_so_and_answers_what_is_on_its_way(
    start_worker: StartWorker, master: PlainServer, monkeypatch: pytest.MonkeyPatch, dial: Dial
) -> None:
    monkeypatch.setattr(server, "DRAIN_S", 0.3)
    worker = start_worker()
    line = await dial(worker.port)
    await line.ask("POST", "/compute", SUM, **of_master(worker))
    await until(lambda: master.requests, "an announcement")
    draining = asyncio.create_task(worker.drain())
    await until(lambda: len(master.requests) == 2, "another announcement")
    assert master.requests[1].json["draining"]
    assert (await line.ask("POST", "/compute", SUM, **of_master(worker))).json["result"] == 3
    await draining


async def test_a_drained_worker_is_gone(
    start_worker: StartWorker, master: PlainServer, dial: Dial
) -> None:
    worker = start_worker()
    line = await dial(worker.port)
    await line.ask("POST", "/compute", SUM, **of_master(worker))
    await until(lambda: master.requests, "an announcement")
    await worker.drain()
    assert await line.read() is None
    with pytest.raises(ConnectionRefusedError):
        await dial(worker.port)
    assert [bool(request.json.get("draining")) for request in master.requests] == [False, True]


async def test_a_worker_drains_although_the_master_is_away(
    start_worker: StartWorker, master: PlainServer, dial: Dial
) -> None:
    worker = start_worker()
    await until(lambda: master.requests, "an announcement")
    await master.stop()
    await worker.drain()
    with pytest.raises(ConnectionRefusedError):
        await dial(worker.port)


async def test_a_worker_that_never_started_can_be_drained(
    master: PlainServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "DRAIN_S", 0.0)
    await WorkerServer(settings(master)).drain()
    assert not master.requests


async def test_serve_works_until_it_is_told_to_stop(
    master: PlainServer, monkeypatch: pytest.MonkeyPatch, dial: Dial
) -> None:
    monkeypatch.setattr(server, "DRAIN_S", 0.0)
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(settings(master, port=0), stop))
    await until(lambda: master.requests, "an announcement")
    port = master.requests[0].json["port"]
    assert (await PlainClient(port).get("/health")).json["status"] == "ok"
    assert not serving.done()
    stop.set()
    await serving
    assert master.requests[-1].json["draining"]
    with pytest.raises(ConnectionRefusedError):
        await dial(port)


# Calls, in child processes


def call(lease: int, handler: str, *args: Any) -> dict[str, Any]:
    return {
        "lease": lease,
        "job_id": 1,
        "node": "a",
        "handler": handler,
        "args": list(args),
        "timeout": None,
        "attempt": 1,
        "lease_s": 10.0,
    }


async def test_a_call_is_done_and_reported(
    start_worker: StartWorker, fake_master: FakeMaster
) -> None:
    worker = start_worker(name="w", slots=1, master_url=fake_master.url)
    body = {"calls": [call(7, "echo", [1, "x"])]}
    reply = await PlainClient(worker.port).post("/compute", body, **of_master(worker))
    assert reply.status == 202
    await until(fake_master.results, "a report")
    assert fake_master.results()[7]["result"] == [1, "x"]
    assert fake_master.said("/result")[0]["worker"] == "w"


async def test_a_call_is_stopped_on_the_word_of_the_master(
    start_worker: StartWorker, fake_master: FakeMaster
) -> None:
    worker = start_worker(slots=1, master_url=fake_master.url)
    client = PlainClient(worker.port)
    master = of_master(worker)
    await client.post("/compute", call(7, "sleep", 3600), **master)
    health = await client.ask("GET", "/health", **master)
    assert health.json["calls"][0]["lease"] == 7
    assert (await client.post("/stop", {"leases": [7]}, **master)).json == {"leases": [7]}
    await until(fake_master.results, "a report")
    assert fake_master.results()[7]["state"] == "cancelled"


async def test_a_call_that_outlasts_the_grace_is_given_back(
    start_worker: StartWorker, fake_master: FakeMaster
) -> None:
    worker = start_worker(slots=1, master_url=fake_master.url, grace_s=0.01)
    client = PlainClient(worker.port)
    await client.post("/compute", call(7, "sleep", 3600), **of_master(worker))
    await worker.drain()
    assert fake_master.results()[7]["state"] == "returned"
    drained_at = [each.json.get("draining", False) for each in fake_master.server.requests]
    assert drained_at.index(True) < len(drained_at) - 1, "it says first that it leaves"


async def test_a_worker_serves_a_master_of_an_earlier_release(
    start_worker: StartWorker, fake_master: FakeMaster
) -> None:
    """Such a master replies no session, and shows no secret."""
    worker = start_worker(slots=1, master_url=fake_master.url)
    client = PlainClient(worker.port)
    await until(lambda: not worker._session.demands, "the master has replied")
    assert (await client.post("/compute", SUM)).json["result"] == 3
    assert (await client.post("/compute", {"calls": [call(7, "echo", 5)]})).status == 202
    await until(fake_master.results, "a report")
    assert fake_master.results()[7]["result"] == 5
    fake_master.replies["/worker"] = (200, {"status": "Worker registered", "session": "S" * 43})
    assert worker._announcer is not None
    worker._announcer.hurry()
    await until(lambda: worker._session.demands, "the master has been upgraded")
    assert (await client.post("/compute", SUM)).status == 401


async def test_a_stranger_is_refused_before_its_body_is_read(
    start_worker: StartWorker, master: PlainServer, dial: Dial
) -> None:
    master.conduct = give_session
    worker = start_worker()
    length = {"Content-Length": 60_000_000}
    for expects in ({}, {"Expect": "100-continue"}):
        line = await dial(worker.port)
        await line.send(head("POST /compute HTTP/1.1", length | expects) + b"{")
        reply = await line.read()
        assert reply is not None
        assert reply.status == 401
        assert await line.read() is None, "it is closed"
    line = await dial(worker.port)
    asked = head("POST /compute HTTP/1.1", length | {"Expect": "100-continue"} | of_master(worker))
    await line.send(asked)
    going_on = await line.read()
    assert going_on is not None
    assert going_on.status == 100


async def test_a_worker_that_claims_its_work_listens_nowhere(
    fake_master: FakeMaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "listen", lambda *where: pytest.fail("it listens"))
    stop = asyncio.Event()
    mine = WorkerSettings(fake_master.url, name="w", slots=1, pull=True)
    serving = asyncio.create_task(serve(mine, stop))
    fake_master.work.put_nowait({"calls": [call(7, "echo", 5)]})
    fake_master.work.put_nowait({})
    await until(fake_master.results, "a report")
    assert fake_master.results()[7]["result"] == 5
    assert "echo" in fake_master.said("/claim")[0]["handlers"]
    await until(lambda: len(fake_master.said("/claim")) >= 3, "a claim that is held")
    stop.set()
    await until(lambda: fake_master.said("/claim")[-1].get("draining"), "it says that it leaves")
    fake_master.work.put_nowait({})
    await serving
    assert {each.path for each in fake_master.server.requests} <= {"/claim", "/result", "/extend"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"Host": "localhost:6000"}, 202),
        ({"Host": "worker"}, 202),
        ({"Host": "worker.example.com"}, 202),
        ({"Host": "evil.example"}, 421),
        ({"Origin": "https://evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 202),
    ],
    ids=str,
)
async def test_no_web_page_has_a_worker_run_a_call(
    start_worker: StartWorker, fake_master: FakeMaster, headers: dict[str, str], status: int
) -> None:
    worker = start_worker(slots=1, master_url=fake_master.url, host_names=("worker.example.com",))
    client = PlainClient(worker.port)
    named = {"Content-Type": "text/plain"} | headers | of_master(worker)
    reply = await client.post("/compute", call(7, "echo", 5), **named)
    assert reply.status == status
    if status == 202:
        await until(fake_master.results, "a report")
    if status == 421:
        assert "--host-names" in reply.json["error"]


async def test_handlers_that_cannot_be_loaded_are_an_error(master: PlainServer) -> None:
    with pytest.raises(CannotLoad, match=r"no\.such\.module"):
        WorkerServer(settings(master, handlers=("no.such.module",)))


async def test_results_of_an_earlier_start_are_sent_from_the_spool(
    start_worker: StartWorker, fake_master: FakeMaster, tmp_path: Path
) -> None:
    Spool(tmp_path, 60.0).keep("w", Report(7, Raw(b"1"), state="succeeded"))
    start_worker(name="w", master_url=fake_master.url, spool=str(tmp_path))
    await until(fake_master.results, "a report")
    assert fake_master.results()[7]["result"] == 1
