from __future__ import annotations

import asyncio
import gc
import logging

import pytest
from harness.http import HOST, Dial, PlainClient, ServePlainly, open_line, request_bytes
from harness.until import until

from dte.master import garbage, server
from dte.master.server import MasterServer, serve
from dte.master.settings import Settings

from . import fakes
from .rig import Hire, Rig, StartMaster

GRACE_S = 20.0


@pytest.fixture(autouse=True)
def time_for_last_replies(at_once: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "REPLY_S", 0.05)


async def test_it_listens_on_a_free_port_and_says_which(
    start_master: StartMaster, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dte.master")
    rig = await start_master()
    assert (await rig.get("/health")).status == 200
    assert caplog.messages == [f"master listens on 127.0.0.1:{rig.port}"]


# Tornado leaves the socket that it could not bind to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_port_that_is_taken_is_an_error(rig: Rig) -> None:
    with pytest.raises(OSError, match="cannot listen on "):
        MasterServer(Settings(host=HOST, port=rig.port)).start()


async def test_after_stopping_nobody_listens_and_connections_are_closed(
    rig: Rig, dial: Dial
) -> None:
    line = await dial(rig.port)
    await line.ask("GET", "/health")
    await rig.stop()
    assert await line.read() is None
    with pytest.raises(ConnectionRefusedError):
        await open_line(rig.port)


async def test_after_stopping_the_port_can_be_had_again(
    rig: Rig, start_master: StartMaster, dial: Dial
) -> None:
    await (await dial(rig.port)).ask("GET", "/health")
    await rig.stop()
    again = await start_master(port=rig.port)
    assert (await again.get("/health")).status == 200


async def test_python_searches_no_more_for_garbage_while_the_master_ends(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search through the jobs may take half a second."""
    close, found = rig.master.close, []

    async def look_and_close() -> None:
        found.append(gc.get_threshold()[2])
        await close()

    monkeypatch.setattr(rig.master, "close", look_and_close)
    await rig.stop()
    assert found == [garbage.NEVER]
    assert gc.get_threshold()[2] != garbage.NEVER


async def test_stopping_closes_the_connections_to_workers(rig: Rig, hire: Hire) -> None:
    """That is how workers hear of it, and begin to announce themselves again."""
    worker = await hire(rig, fakes.good)
    await rig.compute("1+2")
    await rig.stop()
    await until(lambda: worker.lines[0].closed, "the connection is closed")


async def test_stopping_ends_leases_that_are_out(rig: Rig, hire: Hire) -> None:
    worker = await hire(rig, fakes.silent)
    await rig.submit("1+2")
    await until(lambda: worker.requests, "a hand-over")
    await rig.stop()
    await until(lambda: worker.lines[0].closed, "the connection is closed")


HELD = [("POST", "/submit?wait=60"), ("GET", "/job/1?wait=60"), ("GET", "/jobs?ids=1&wait=60")]


async def test_stopping_answers_the_requests_that_are_held_with_how_their_jobs_stand(
    rig: Rig, dial: Dial
) -> None:
    lines = []
    for number, (method, path) in enumerate(HELD, 1):
        lines.append(await dial(rig.port))
        body = {"task": "1+2"} if method == "POST" else None
        await lines[-1].send(request_bytes(method, path, body))
        await until(lambda n=number: len(rig.master.waiters._by_job.get(1, ())) == n, "it waits")
    await rig.stop()
    replies = [await line.read() for line in lines]
    for reply in replies:
        assert reply is not None
        assert reply.status == 200
        (job,) = reply.json if isinstance(reply.json, list) else [reply.json]
        assert (job["job_id"], job["finished"], job["state"]) == (1, False, "waiting")
    assert [await line.read() for line in lines] == [None] * 3
    assert not len(rig.master.waiters)


# Ending with grace


async def test_what_workers_have_is_waited_for_and_told_to_those_who_wait(
    rig: Rig, hire: Hire, dial: Dial
) -> None:
    may_reply = asyncio.Event()
    worker = await hire(rig, fakes.held_until(may_reply))
    line = await dial(rig.port)
    await line.send(request_bytes("POST", "/submit?wait=60", {"task": "1+2"}))
    await until(lambda: worker.requests, "a hand-over")
    stopping = asyncio.create_task(rig.stop(GRACE_S))
    await until(lambda: rig.master.jobs._closed, "the master ends")
    assert not stopping.done()
    may_reply.set()
    reply = await line.read()
    assert reply is not None
    assert (reply.json["finished"], reply.json["answer"]) == (True, 3)
    await stopping


async def test_while_it_ends_nothing_new_is_handed_over(rig: Rig, hire: Hire) -> None:
    may_reply = asyncio.Event()
    worker = await hire(rig, fakes.held_until(may_reply))
    (job,) = await rig.master.jobs.submit_all(["1.5+2+3"])
    await until(lambda: worker.requests, "the first hand-over")
    stopping = asyncio.create_task(rig.stop(GRACE_S))
    await until(lambda: rig.master.jobs._closed, "the master ends")
    may_reply.set()
    await stopping
    assert (job.progress, job.is_terminal) == (1, False)
    assert len(worker.requests) == 1


async def test_while_it_ends_new_work_is_refused_and_questions_are_answered(
    rig: Rig, hire: Hire, dial: Dial
) -> None:
    """On connections that there are; new ones are not accepted."""
    may_reply = asyncio.Event()
    worker = await hire(rig, fakes.held_until(may_reply))
    line = await dial(rig.port)
    await line.ask("POST", "/submit", {"task": "1+2"})
    await until(lambda: worker.requests, "a hand-over")
    stopping = asyncio.create_task(rig.stop(GRACE_S))
    await until(lambda: rig.master.jobs._closed, "the master ends")
    for body in ({"task": "3+4"}, {"tasks": ["3+4", "5"]}):
        refused = await line.ask("POST", "/submit", body)
        assert (refused.status, refused.json["code"]) == (503, "unavailable")
        assert int(refused.headers["retry-after"]) > 0
    assert (await line.ask("GET", "/job/1")).json["state"] == "running"
    assert (await line.ask("GET", "/job/2")).status == 404, "nothing of it was accepted"
    assert (await line.ask("GET", "/health")).status == 200
    with pytest.raises(ConnectionRefusedError):
        await open_line(rig.port)
    may_reply.set()
    await stopping


async def test_a_formula_that_is_being_parsed_when_the_master_ends_is_refused(
    rig: Rig, hire: Hire, dial: Dial
) -> None:
    may_reply = asyncio.Event()
    worker = await hire(rig, fakes.held_until(may_reply))
    await rig.submit("1+2")
    await until(lambda: worker.requests, "a hand-over")
    line = await dial(rig.port)
    parsing = asyncio.create_task(
        line.ask("POST", "/submit", {"task": "+".join(["1.5"] * 100_000)})
    )
    await until(lambda: rig.master.slices._lock.locked(), "a slice")
    stopping = asyncio.create_task(rig.stop(GRACE_S))
    assert (await parsing).json["code"] == "unavailable"
    may_reply.set()
    await stopping


async def test_a_worker_that_is_silent_is_not_waited_for_longer_than_the_grace(
    rig: Rig, hire: Hire
) -> None:
    worker = await hire(rig, fakes.silent)
    await rig.submit("1+2")
    await until(lambda: worker.requests, "a hand-over")
    await asyncio.wait_for(rig.stop(0.05), 30)
    await until(lambda: worker.lines[0].closed, "the connection is closed")


async def test_serve_works_until_it_is_told_to_stop(serve_plainly: ServePlainly) -> None:
    free = await serve_plainly(fakes.good)
    await free.stop()
    stop = asyncio.Event()
    serving = asyncio.create_task(serve(Settings(host=HOST, port=free.port), stop))
    await asyncio.sleep(0)
    assert (await PlainClient(free.port).get("/health")).json["status"] == "ok"
    assert not serving.done()
    stop.set()
    await serving
    with pytest.raises(ConnectionRefusedError):
        await open_line(free.port)
