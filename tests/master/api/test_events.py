"""Streams of events over HTTP: their beginning, their continuation, and their end."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import pytest
from harness.http import HOST, Line, request_bytes
from harness.until import until

from dte.core.jobs.facts import Event
from dte.core.jobs.job import JobState
from dte.master.events import TAKEN_BYTES
from dte.master.http import server as connections
from master import fakes
from master.rig import Hire, Rig, StartMaster


class Block(NamedTuple):
    """A block of a stream, with an event or without."""

    number: int
    kind: str
    data: Any
    comment: str


class Stream:
    """One stream, block by block."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self._text = ""

    async def block(self) -> Block | None:
        """The next block; None when the stream has ended."""
        while "\n\n" not in self._text:
            size = int(await self.line.reader.readline(), 16)
            chunk = await self.line.reader.readexactly(size + 2)
            if not size:
                assert not self._text
                return None
            self._text += chunk[:-2].decode()
        block, _, self._text = self._text.partition("\n\n")
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        data = json.loads(fields.get("data", "null"))
        return Block(int(fields["id"]), fields.get("event", ""), data, fields.get("", ""))

    async def event(self) -> Block | None:
        """The next block with an event; None when the stream has ended."""
        while (block := await self.block()) is not None and not block.kind:
            pass
        return block

    async def states(self) -> list[str]:
        """The states in the events, until the stream ends."""
        states = []
        while (event := await self.event()) is not None:
            states.append(event.data["state"])
        return states


Listen = Callable[..., Awaitable[Stream]]


@pytest.fixture
def listen(cleanup: AsyncExitStack) -> Listen:
    """Opens a stream: ``await listen(rig, path, Last_Event_ID=7)``."""

    async def start(rig: Rig, path: str, **headers: Any) -> Stream:
        reader, writer = await asyncio.open_connection(HOST, rig.port)
        line = Line(reader, writer)
        cleanup.callback(line.close)
        await line.send(request_bytes("GET", path, **headers))
        reply = await line.read()
        assert reply is not None
        assert reply.status == 200, reply
        assert reply.headers["content-type"] == "text/event-stream"
        assert reply.headers["transfer-encoding"] == "chunked"
        return Stream(line)

    return start


# One job


async def test_the_stream_of_a_job_begins_with_how_it_stands_and_closes_after_its_end(
    rig: Rig, hire: Hire, listen: Listen
) -> None:
    number = await rig.submit("1+2")
    stream = await listen(rig, f"/job/{number}/events")
    first = await stream.event()
    assert first is not None
    assert first.kind == "job"
    assert (first.data["job_id"], first.data["state"]) == (number, "waiting")
    await hire(rig, fakes.good)
    assert await stream.states() == ["running", "succeeded"]
    assert (await stream.line.ask("GET", "/health")).status == 200


async def test_the_numbers_of_events_grow(rig: Rig, hire: Hire, listen: Listen) -> None:
    number = await rig.submit("1+2")
    stream = await listen(rig, f"/job/{number}/events")
    await hire(rig, fakes.good)
    numbers = []
    while (event := await stream.event()) is not None:
        numbers.append(event.number)
    assert numbers == sorted(set(numbers))


async def test_the_stream_of_an_ended_job_has_one_event(
    rig: Rig, hire: Hire, listen: Listen
) -> None:
    await hire(rig, fakes.good)
    job = await rig.compute("1/0")
    stream = await listen(rig, f"/job/{job['job_id']}/events")
    event = await stream.event()
    assert event is not None
    assert event.data["state"] == "failed"
    assert event.data["text"] == job["error"]
    assert event.data["at"] == job["ended_at"]
    assert await stream.block() is None


async def test_the_stream_of_a_job_in_the_journal_alone_has_one_event(
    start_journaled: StartMaster, hire: Hire, listen: Listen
) -> None:
    rig = await start_journaled(jobs_kept=1)
    await hire(rig, fakes.good)
    for _ in range(3):
        await rig.compute("1+2")
    assert rig.master.core.jobs.is_past(1)
    stream = await listen(rig, "/job/1/events")
    assert await stream.states() == ["succeeded"]


@pytest.mark.parametrize("name", ["7", "0", "-1", "1-2", "x", "9" * 30])
async def test_there_are_none_of_a_job_that_is_unknown(name: str, rig: Rig) -> None:
    reply = await rig.get(f"/job/{name}/events")
    assert reply.status == 404
    assert reply.json["code"] == "not_found"


async def test_the_stream_of_a_job_has_no_events_of_others(
    rig: Rig, hire: Hire, listen: Listen
) -> None:
    number = await rig.submit("1+2")
    stream = await listen(rig, f"/job/{number}/events")
    for _ in range(5):
        await rig.submit("3+4")
    await hire(rig, fakes.good)
    assert await stream.states() == ["waiting", "running", "succeeded"]


# Going on


async def test_a_client_that_was_cut_off_continues_where_it_was(
    rig: Rig, hire: Hire, listen: Listen
) -> None:
    number = await rig.submit("1+2")
    stream = await listen(rig, f"/job/{number}/events")
    first = await stream.event()
    assert first is not None
    stream.line.close()
    await hire(rig, fakes.good)
    await rig.job(number, wait_s=20)
    by_header = await listen(rig, f"/job/{number}/events", Last_Event_ID=first.number)
    assert await by_header.states() == ["running", "succeeded"]
    query = f"?last_event_id={first.number}"
    by_query = await listen(rig, f"/job/{number}/events{query}")
    assert await by_query.states() == ["running", "succeeded"]
    running = await listen(
        rig, f"/job/{number}/events?last_event_id=0", Last_Event_ID=first.number + 1
    )
    assert await running.states() == ["succeeded"], "the header says what is newer"


async def test_a_client_that_has_seen_the_end_gets_no_stream(
    rig: Rig, hire: Hire, listen: Listen
) -> None:
    """A browser reconnects after the end of a stream until it gets this status."""
    number = await rig.submit("1+2")
    stream = await listen(rig, f"/job/{number}/events")
    await hire(rig, fakes.good)
    last = 0
    while (event := await stream.event()) is not None:
        last = event.number
    reply = await rig.ask("GET", f"/job/{number}/events", Last_Event_ID=last)
    assert (reply.status, reply.body) == (204, b"")


async def test_an_end_that_a_stream_began_with_is_not_an_event_once_more(
    rig: Rig, hire: Hire, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream is opened when the end is recorded, before the tick that logs its events."""
    master, computed = rig.master, asyncio.Event()
    number = await rig.submit("1+2")
    job = master.core.jobs.job(number)
    await hire(rig, fakes.held_until(computed))
    await until(lambda: job.state is JobState.RUNNING, "a worker has it")

    def record_only() -> None:
        monkeypatch.setattr(master, "_woken", False)
        master.recorder.wake()

    with monkeypatch.context() as patched:
        patched.setattr(master, "_tick", record_only)
        computed.set()
        await until(lambda: job.is_terminal, "its end is recorded")
        first = await (await listen(rig, f"/job/{number}/events")).event()
    assert first is not None
    assert first.data["state"] == "succeeded"
    master.wake()
    reply = await rig.ask("GET", f"/job/{number}/events", Last_Event_ID=first.number)
    assert (reply.status, reply.body) == (204, b"")


async def test_a_client_that_continues_waits_for_the_next_event(
    rig: Rig, hire: Hire, listen: Listen
) -> None:
    number = await rig.submit("1+2")
    first = await (await listen(rig, f"/job/{number}/events")).event()
    assert first is not None
    again = await listen(rig, f"/job/{number}/events", Last_Event_ID=first.number)
    await hire(rig, fakes.good)
    assert await again.states() == ["running", "succeeded"]


async def test_a_client_that_comes_too_late_gets_missed_and_the_state(
    rig: Rig, listen: Listen
) -> None:
    number = await rig.submit("1+2")
    stream = await listen(rig, f"/job/{number}/events", Last_Event_ID=7)
    missed, now = await stream.event(), await stream.event()
    assert missed is not None
    assert now is not None
    assert (missed.kind, missed.data) == ("missed", {"missed": None})
    assert now.data["state"] == "waiting"
    all_of_them = await listen(rig, "/events", Last_Event_ID=7)
    kinds = [
        event and event.kind for event in (await all_of_them.event(), await all_of_them.event())
    ]
    assert kinds == ["missed", "job"]


async def test_after_a_restart_a_job_goes_on_with_how_it_stands(
    start_journaled: StartMaster, hire: Hire, listen: Listen
) -> None:
    rig = await start_journaled()
    number = await rig.submit("1+2")
    stream = await listen(rig, f"/job/{number}/events")
    before = await stream.event()
    assert before is not None
    await rig.stop()
    assert await stream.event() is None, "the end of the master ends the stream"
    rig = await start_journaled()
    stream = await listen(rig, f"/job/{number}/events", Last_Event_ID=before.number)
    missed, now = await stream.event(), await stream.event()
    assert missed is not None
    assert now is not None
    assert missed.kind == "missed"
    assert now.number > before.number
    await hire(rig, fakes.good)
    assert (await stream.states())[-1] == "succeeded"


@pytest.mark.parametrize("text", ["x", "-1", "1.5", "9" * 19, "1 2"])
async def test_an_event_id_that_is_no_number_is_refused(text: str, rig: Rig) -> None:
    reply = await rig.ask("GET", "/events", Last_Event_ID=text)
    assert reply.status == 400
    assert "Last-Event-ID" in reply.json["error"]


# All jobs


async def test_every_stream_of_all_jobs_has_all_events(
    rig: Rig, hire: Hire, listen: Listen
) -> None:
    streams = [await listen(rig, "/events") for _ in range(3)]
    await hire(rig, fakes.good)
    for _ in range(3):
        await rig.compute("1+2")
    for stream in streams:
        seen = []
        for _ in range(9):
            event = await stream.event()
            assert event is not None
            seen.append((event.data["job_id"], event.data["state"]))
        states = ["waiting", "running", "succeeded"]
        assert seen == [(number, state) for number in (1, 2, 3) for state in states]


async def test_a_stream_is_open_before_anything_happens(rig: Rig, listen: Listen) -> None:
    """So a browser knows where to continue whenever it is cut off."""
    stream = await listen(rig, "/events")
    block = await stream.block()
    assert block is not None
    assert block.number == rig.master.events.last


async def test_when_nothing_happens_there_is_a_comment_now_and_then(
    rig: Rig, listen: Listen
) -> None:
    rig.master.events._heartbeat_s = 0.01
    stream = await listen(rig, "/events")
    await stream.block()
    for _ in range(3):
        block = await stream.block()
        assert block is not None
        assert (block.kind, block.comment) == ("", "heartbeat")


# Bounds, and ends


async def test_so_many_streams_may_be_open(start_master: StartMaster, listen: Listen) -> None:
    rig = await start_master(streams_max=1)
    stream = await listen(rig, "/events")
    reply = await rig.get("/events")
    assert reply.status == 429
    assert "streams_max" in reply.json["error"]
    stream.line.close()
    await until(lambda: not len(rig.master.events), "its place is free")
    await listen(rig, "/events")


async def test_nothing_is_left_of_a_client_that_hangs_up(rig: Rig, listen: Listen) -> None:
    number = await rig.submit("1+2")
    for path in ("/events", f"/job/{number}/events"):
        stream = await listen(rig, path)
        assert len(rig.master.events) == 1
        stream.line.reset()
        await until(lambda: not len(rig.master.events), "nobody listens")


async def test_the_end_of_the_master_ends_all_streams(rig: Rig, listen: Listen) -> None:
    number = await rig.submit("1+2")
    streams = [await listen(rig, path) for path in ("/events", f"/job/{number}/events")]
    await rig.stop()
    for stream in streams:
        await stream.states()


async def test_a_stream_in_which_nothing_happens_is_neither_idle_nor_slow(
    start_master: StartMaster, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE_S", 0)
    monkeypatch.setattr(connections, "IDLE_MAX_S", 0)
    rig = await start_master(connections_max=1, slow_client_s=0.1)
    stream = await listen(rig, "/events")
    await stream.block()
    await asyncio.sleep(0.3)  # For some looks at who is slow.
    assert (await rig.get("/jobs")).status == 429, "it makes room"
    rig.master.events.add([Event(0, 7, "", "waiting")])
    event = await stream.event()
    assert event is not None
    assert event.data["job_id"] == 7


async def test_a_client_that_does_not_read_is_bounded_and_hung_up_on(
    start_master: StartMaster, cleanup: AsyncExitStack
) -> None:
    rig = await start_master(slow_client_s=0.1)
    connection = socket.socket()
    cleanup.callback(connection.close)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(connection, (HOST, rig.port))
    await loop.sock_sendall(connection, request_bytes("GET", "/events"))
    await until(lambda: len(rig.master.events), "it listens")
    (stream,) = rig.server._http._open
    most = 0
    while len(rig.master.events):
        rig.master.events.add([Event(0, 7, "a", "progress", "x" * 1_000)] * 500)
        most = max(most, stream.unsent)
        await asyncio.sleep(0.001)
    assert 0 < most < 2 * TAKEN_BYTES
    await until(lambda: stream.closed(), "it is hung up on")
