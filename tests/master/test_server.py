from __future__ import annotations

import asyncio
import logging

import pytest
from wire.plain import HOST, Dial, PlainClient, ServePlainly, open_line, request_bytes
from wire.until import until

from dte.master.server import MasterServer, serve
from dte.master.settings import Settings

from . import fakes
from .rig import Hire, Rig, StartMaster


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
    with pytest.raises(OSError, match="in use"):
        MasterServer(Settings(host=HOST, port=rig.port)).start()


async def test_after_stopping_nobody_listens_and_connections_are_closed(
    rig: Rig, dial: Dial
) -> None:
    line = await dial(rig.port)
    await line.ask("GET", "/health")
    await rig.server.stop()
    assert await line.read() is None
    with pytest.raises(ConnectionRefusedError):
        await open_line(rig.port)


async def test_after_stopping_the_port_can_be_had_again(
    rig: Rig, start_master: StartMaster, dial: Dial
) -> None:
    await (await dial(rig.port)).ask("GET", "/health")
    await rig.server.stop()
    again = await start_master(port=rig.port)
    assert (await again.get("/health")).status == 200


async def test_stopping_closes_the_connections_to_workers(rig: Rig, hire: Hire) -> None:
    """That is how workers hear of it, and begin to announce themselves again."""
    worker = await hire(rig, fakes.good)
    await rig.compute("1+2")
    await rig.server.stop()
    await until(lambda: worker.lines[0].closed, "the connection is closed")


async def test_stopping_ends_leases_that_are_out(rig: Rig, hire: Hire) -> None:
    worker = await hire(rig, fakes.silent)
    await rig.submit("1+2")
    await until(lambda: worker.requests, "a hand-over")
    await rig.server.stop()
    await until(lambda: worker.lines[0].closed, "the connection is closed")


async def test_stopping_ends_the_requests_that_wait(rig: Rig, dial: Dial) -> None:
    line = await dial(rig.port)
    await line.send(request_bytes("POST", "/submit?wait=60", {"task": "1+2"}))
    await until(lambda: rig.master._waiters, "a request waits")
    await rig.server.stop()
    assert await line.read() is None
    await until(lambda: not rig.master._waiters, "it waits no longer")


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
