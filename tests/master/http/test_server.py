"""Clients that are too many, too slow, or too rude: the others notice nothing."""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
import logging
import os
import resource
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
import tornado
from harness.http import HOST, Dial, Line, Message, head, open_line, request_bytes
from harness.until import until
from tornado.ioloop import IOLoop

from dte.master.api import base, bodies, replies
from dte.master.http import server as connections
from dte.master.http.server import BoundedServer, connections_max
from dte.master.settings import Settings
from dte.wire.http import accepting
from master import fakes
from master.rig import Hire, Rig, StartMaster

LONG_ANSWER = "9" * 4_300
LOCKED = "6.6.1"
"""The version of Tornado that scripts/setup installs."""


def server_of(rig: Rig) -> BoundedServer:
    return rig.server._http


def check_full(reply: Message | None) -> None:
    """It tells which bound is met, and when to come again."""
    assert reply is not None
    assert reply.status == 429
    assert reply.json["code"] == "busy"
    assert "connections_max" in reply.json["error"]
    assert int(reply.headers["retry-after"]) >= 1


async def fill(rig: Rig, dial: Dial, count: int) -> list[Line]:
    """Open connections that the master has accepted."""
    lines = [await dial(rig.port) for _ in range(count)]
    await until(lambda: len(server_of(rig)._open) == count, "all are accepted")
    return lines


@pytest.fixture
def swept_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SWEEP_S", 0.02)


# Too many connections


async def test_up_to_the_bound_all_connections_are_served(
    start_master: StartMaster, dial: Dial
) -> None:
    rig = await start_master(connections_max=3)
    for line in await fill(rig, dial, 3):
        assert (await line.ask("GET", "/jobs")).status == 200


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/jobs", None),
        ("GET", "/nothing", None),
        ("POST", "/submit", {"task": "1+2"}),
        ("POST", "/submit", b" " * 500_000),
        ("HEAD", "/jobs", None),
    ],
)
async def test_who_comes_beyond_it_hears_so(
    method: str, path: str, body: Any, start_master: StartMaster, dial: Dial
) -> None:
    rig = await start_master(connections_max=2)
    lines = await fill(rig, dial, 2)
    reply = await rig.ask(method, path, body)
    if method == "HEAD":
        assert reply.status == 429
    else:
        check_full(reply)
    assert (await lines[0].ask("GET", "/jobs")).json == []


async def test_beyond_it_workers_and_operators_are_still_heard(
    start_master: StartMaster, dial: Dial
) -> None:
    rig = await start_master(connections_max=2)
    await fill(rig, dial, 2)
    assert (await rig.get("/health")).status == 200
    await rig.announce(7_000)
    assert len((await rig.get("/worker")).json) == 1


async def test_who_heard_so_is_served_on_the_same_connection_when_there_is_room(
    start_master: StartMaster, dial: Dial
) -> None:
    rig = await start_master(connections_max=2)
    lines = await fill(rig, dial, 2)
    extra = await dial(rig.port)
    check_full(await extra.ask("GET", "/jobs"))
    check_full(await extra.ask("GET", "/jobs"))
    lines[0].close()
    await until(lambda: len(server_of(rig)._open) == 2, "one is closed")
    assert (await extra.ask("GET", "/jobs")).status == 200
    check_full(await rig.get("/jobs"))


async def test_so_many_beyond_it_that_the_first_of_them_are_sent_away(
    start_master: StartMaster, dial: Dial
) -> None:
    """They hear why, although they have not asked."""
    rig = await start_master(connections_max=4)
    await fill(rig, dial, 4)
    extra = [await dial(rig.port) for _ in range(3)]
    for line in extra[:2]:
        check_full(await line.read())
        assert await line.read() is None
    check_full(await extra[2].ask("GET", "/jobs"))
    assert len(server_of(rig)._open) == 5


async def test_a_connection_that_has_been_idle_for_long_makes_room(
    start_master: StartMaster, dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE_S", 0)
    rig = await start_master(connections_max=2)
    lines = await fill(rig, dial, 2)
    await lines[0].ask("GET", "/jobs")  # Now the other has been idle for longer.
    assert (await rig.get("/jobs")).status == 200
    assert await lines[1].read() is None
    assert (await lines[0].ask("GET", "/jobs")).status == 200


async def test_a_connection_whose_request_is_held_makes_no_room(
    start_master: StartMaster, dial: Dial, hire: Hire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE_S", 0)
    rig = await start_master(connections_max=1)
    line = await dial(rig.port)
    await line.send(request_bytes("POST", "/submit?wait=60", {"task": "1+2"}))
    await until(lambda: len(rig.master.waiters), "it waits")
    check_full(await rig.get("/jobs"))
    await hire(rig, fakes.good)
    reply = await line.read()
    assert reply is not None
    assert reply.json["answer"] == 3


async def test_of_connections_that_come_and_go_nothing_is_left(
    start_master: StartMaster, dial: Dial
) -> None:
    rig = await start_master(connections_max=5)
    for _ in range(3):
        for line in await fill(rig, dial, 5):
            await line.ask("GET", "/jobs")
            line.close()
        await until(lambda: not server_of(rig)._open, "all are closed")
    assert not server_of(rig)._idle
    assert not server_of(rig)._extra


async def test_the_log_tells_of_it_once_for_all(
    start_master: StartMaster,
    dial: Dial,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(connections, "SWEEP_S", 0.5)
    rig = await start_master(connections_max=1)
    await fill(rig, dial, 1)
    for _ in range(20):
        check_full(await rig.get("/jobs"))
    await until(lambda: "connections_max" in caplog.text, "the log tells")
    assert len(caplog.messages) < 20


@pytest.mark.parametrize(
    ("descriptors", "expected"),
    [(-1, 10_000), (1_000_000, 10_000), (20_000, 10_000), (10_000, 7_800), (1_024, 512), (64, 32)],
)
def test_workers_and_files_are_left_descriptors(descriptors: int, expected: int) -> None:
    settings = Settings(connections_max=10_000, workers_max=1_000)
    assert connections_max(settings, descriptors) == expected


@pytest.fixture
def descriptors() -> Iterator[Any]:
    """Bounds the descriptors of this process to those that there are, and some more."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def bound(more: int) -> None:
        lowest_free = os.dup(0)
        os.close(lowest_free)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free + more, before[1]))

    yield bound
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_without_descriptors_nothing_is_accepted_until_there_are_some(
    swept_often: None,
    rig: Rig,
    descriptors: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """And the loop does not run hot over it."""
    monkeypatch.setattr(accepting, "PAUSE_S", 0.05)
    with socket.socket() as client:
        client.setblocking(False)
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        descriptors(0)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(client, (HOST, rig.port))
        await loop.sock_sendall(client, request_bytes("GET", "/health"))
        await until(lambda: os.strerror(errno.EMFILE) in caplog.text, "the log tells")
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert (await loop.sock_recv(client, 100)).startswith(b"HTTP/1.1 200")
    assert len(caplog.messages) < 5


# Too slow


@pytest.fixture
def impatient(io_loop: IOLoop, start_master: StartMaster) -> Rig:
    """A master that gives its clients a tenth of a second."""
    return io_loop.run_sync(lambda: start_master(slow_client_s=0.1))


async def drip(line: Line, data: bytes) -> None:
    """Send a byte now and then, until the other side has enough of it."""
    with suppress(ConnectionError):
        while True:
            await line.send(data)
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "begun",
    [
        b"G",
        b"GET /health HTTP/1.1\r\nHost: x\r\nX: ",
        request_bytes("POST", "/submit", b" " * 1_000)[:-990],
        head("POST /submit HTTP/1.1", {"Host": HOST, "Transfer-Encoding": "chunked"}) + b"fff\r\n",
        request_bytes("POST", "/nothing", b" " * 1_000)[:-990],
    ],
    ids=["head", "header", "body", "chunk", "refused body"],
)
async def test_who_sends_a_byte_now_and_then_is_hung_up_on(
    begun: bytes, impatient: Rig, dial: Dial
) -> None:
    line = await dial(impatient.port)
    await line.send(begun)
    await asyncio.wait_for(drip(line, b"x"), 30)
    await until(lambda: not server_of(impatient)._open, "nothing is left of it")


async def test_who_begins_a_request_and_says_no_more_is_hung_up_on(
    impatient: Rig, dial: Dial
) -> None:
    line = await dial(impatient.port)
    await line.send(b"GET /health HTTP/1.1\r\n")
    assert await line.read() is None


def waiting_for_clients(rig: Rig) -> int:
    """The bytes that have been written and that clients do not take."""
    return sum(stream.unsent for stream in server_of(rig)._open)


AskForMuch = Callable[..., Awaitable[Line]]


@pytest.fixture
def ask_for_much(cleanup: AsyncExitStack) -> AskForMuch:
    """Asks for a list of megabytes on a connection that takes little, and does not read it."""

    async def ask(rig: Rig, jobs: int = 600) -> Line:
        await rig.post("/submit", {"tasks": [LONG_ANSWER] * jobs})
        connection = socket.socket()
        cleanup.callback(connection.close)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        connection.setblocking(False)
        await asyncio.get_running_loop().sock_connect(connection, (HOST, rig.port))
        line = Line(*await asyncio.open_connection(sock=connection, limit=1_000))
        cleanup.callback(line.close)
        line.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await line.send(request_bytes("GET", f"/jobs?ids=1-{jobs}"))
        return line

    return ask


async def test_who_does_not_take_its_reply_is_hung_up_on(
    impatient: Rig, ask_for_much: AskForMuch
) -> None:
    await ask_for_much(impatient)
    replies = server_of(impatient)._replies
    await until(lambda: waiting_for_clients(impatient), "the reply waits for its client")
    await until(lambda: not server_of(impatient)._open, "it is hung up on")
    assert replies.bytes == 0


async def test_who_is_idle_between_requests_is_not(impatient: Rig, dial: Dial) -> None:
    line = await dial(impatient.port)
    await line.ask("GET", "/health")
    await asyncio.sleep(0.3)
    assert (await line.ask("GET", "/health")).status == 200


async def test_nor_who_waits_for_its_reply(impatient: Rig, dial: Dial) -> None:
    line = await dial(impatient.port)
    reply = await line.ask("POST", "/submit?wait=0.4", {"task": "1+2"})
    assert reply.json["finished"] is False


async def test_who_is_idle_for_very_long_is_hung_up_on(
    swept_often: None, rig: Rig, dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE_MAX_S", 0.05)
    line = await dial(rig.port)
    await line.ask("GET", "/health")
    assert await line.read() is None


# Replies


async def test_a_long_reply_is_the_same_as_short_ones_together(rig: Rig) -> None:
    await rig.post("/submit", {"tasks": [LONG_ANSWER, "1", "0.5"] * 300})
    reply = await rig.get("/jobs?ids=1-900")
    assert len(reply.body) > replies.REPLY_PART_BYTES
    assert [job["job_id"] for job in reply.json] == list(range(1, 901))
    for number in (1, 2, 450, 899, 900):
        assert reply.json[number - 1] == await rig.job(number)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 100, 101, 233, 240])
async def test_lists_of_any_length_are_json(count: int, rig: Rig) -> None:
    """Wherever a slice or a part of them ends."""
    reply = await rig.post("/submit?wait=10", {"tasks": [LONG_ANSWER] * count})
    assert reply.json["job_ids"] == list(range(1, count + 1))
    assert [job["job_id"] for job in reply.json["jobs"]] == reply.json["job_ids"]


async def test_beyond_the_bound_of_replies_lists_are_refused_and_all_else_is_not(
    start_master: StartMaster, ask_for_much: AskForMuch
) -> None:
    rig = await start_master(replies_bytes_max=2_000_000)
    line = await ask_for_much(rig, jobs=400)
    replies = server_of(rig)._replies
    await until(lambda: waiting_for_clients(rig), "the reply waits for its client")
    other = await rig.get("/jobs?ids=1-400")
    assert other.status == 429
    assert other.json["code"] == "busy"
    assert "replies_bytes_max" in other.json["error"]
    assert int(other.headers["retry-after"]) >= 1
    assert (await rig.get("/health")).status == 200
    assert (await rig.get("/job/1")).status == 200
    assert (await rig.post("/submit", {"task": "1"})).status == 200
    line.close()
    await until(lambda: replies.bytes == 0, "the reply is gone")


async def test_a_list_that_is_itself_beyond_the_bound_is_refused(
    start_master: StartMaster,
) -> None:
    rig = await start_master(replies_bytes_max=500_000)
    await rig.post("/submit", {"tasks": [LONG_ANSWER] * 400})
    reply = await rig.get("/jobs?ids=1-400")
    assert reply.status == 429
    assert "replies_bytes_max" in reply.json["error"]
    assert server_of(rig)._replies.bytes == 0
    assert (await rig.get("/jobs?ids=1-50")).status == 200


async def test_of_a_list_whose_client_left_while_it_was_written_nothing_is_left(
    rig: Rig, dial: Dial
) -> None:
    await rig.post("/submit", {"tasks": [LONG_ANSWER] * 600})
    line = await dial(rig.port)
    await line.send(request_bytes("GET", "/jobs?ids=1-600"))
    replies = server_of(rig)._replies
    await until(lambda: replies.bytes, "it is being written")
    line.reset()
    await until(lambda: not server_of(rig)._open, "the connection is closed")
    await until(lambda: replies.bytes == 0, "nothing is counted")
    assert (await rig.get("/jobs?ids=1-600")).status == 200


async def test_what_has_been_accepted_is_answered_whatever_the_bound(
    start_master: StartMaster,
) -> None:
    """Else a client would take it for refused."""
    rig = await start_master(replies_bytes_max=1)
    reply = await rig.post("/submit?wait=10", {"tasks": [LONG_ANSWER] * 50})
    assert len(reply.json["jobs"]) == 50
    assert server_of(rig)._replies.bytes == 0


async def test_the_text_of_an_error_does_not_repeat_what_is_long(rig: Rig) -> None:
    """A client that does not read would make the master keep it."""
    for method, path in (
        ("GET", "/" + "x" * 15_000),
        ("GET", "/jobs?ids=" + "x" * 15_000),
        ("GET", "/job/1?wait=" + "x" * 15_000),
        ("BREW" * 3_500, "/health"),
        ("PUT", "/job/" + "x" * 15_000),
    ):
        reply = await rig.ask(method, path)
        assert reply.status in (400, 404, 405)
        assert len(reply.body) < 2 * base.ERROR_CHARS_MAX


# Bodies


async def test_a_worker_is_heard_while_there_is_no_room_for_bodies(
    start_master: StartMaster, dial: Dial
) -> None:
    rig = await start_master(bodies_bytes_max=1_000)
    line = await dial(rig.port)
    await line.send(request_bytes("POST", "/submit", b" " * 1_000)[:-1])

    async def is_busy() -> bool:
        return (await rig.post("/submit", b"  ")).status == 429

    while not await is_busy():
        await asyncio.sleep(0)
    await rig.announce(7_000)


async def test_many_bodies_at_a_time_are_received_in_turns_and_whole(rig: Rig) -> None:
    bodies = [{"task": f"{number}+1".ljust(1_000_000)} for number in range(12)]
    replies = await asyncio.gather(*(rig.post("/submit", body) for body in bodies))
    numbers = [reply.json["job_id"] for reply in replies]
    assert sorted(numbers) == list(range(1, 13))
    for number, body in zip(numbers, bodies, strict=True):
        job = rig.master.core.jobs.job(number)
        assert job.task.startswith(body["task"][:10])


async def test_a_body_is_not_unpacked(rig: Rig) -> None:
    """A small one could become a very large one."""
    body = gzip.compress(json.dumps({"task": "1+2"}).encode())
    assert (await rig.post("/submit", body, Content_Encoding="gzip")).status == 415


async def test_a_body_that_is_refused_is_not_read_for_ever(
    start_master: StartMaster, dial: Dial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "REFUSED_BYTES_MAX", 1_000_000)
    rig = await start_master(body_bytes_max=1_000)
    line = await dial(rig.port)
    await line.send(head("POST /submit HTTP/1.1", {"Host": HOST, "Transfer-Encoding": "chunked"}))

    async def send_for_ever() -> None:
        with suppress(ConnectionError):
            while True:
                await line.send(b"ffff\r\n" + b" " * 0xFFFF + b"\r\n")

    await asyncio.wait_for(send_for_ever(), 30)


# Many at a time, and what is no request


async def test_of_many_requests_at_a_time_all_are_answered(rig: Rig, dial: Dial) -> None:
    lines = [await dial(rig.port) for _ in range(100)]
    for line in lines:
        await line.send(request_bytes("POST", "/submit", {"task": "1+2"}))
    numbers = [reply.json["job_id"] for line in lines if (reply := await line.read())]
    assert sorted(numbers) == list(range(1, 101))


async def test_clients_that_leave_the_line_do_not_hold_it_up(rig: Rig, dial: Dial) -> None:
    for _ in range(3):
        lines = [await open_line(rig.port) for _ in range(30)]
        for line in lines:
            await line.send(request_bytes("POST", "/submit", {"task": "1+2"}))
            line.reset()
        assert (await rig.get("/jobs")).status == 200
    await until(lambda: not server_of(rig)._open, "all are gone")


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", 431),
        (b"x" * 100_000, 431),
        (b"hello\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
        (b"GET /jobs HTTP/9.9\r\nHost: x\r\n\r\n", 400),
        (b"GET /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (
            head("POST /submit HTTP/1.1", {"Host": "x", "Transfer-Encoding": "chunked"})
            + b"zz\r\n",
            400,
        ),
        (
            head("POST /submit HTTP/1.1", {"Host": "x", "Transfer-Encoding": "chunked"})
            + b"f" * 1_000,
            400,
        ),
    ],
    ids=lambda value: value[:30].decode("latin-1") if isinstance(value, bytes) else str(value),
)
async def test_what_is_no_request_is_refused_in_json(
    raw: bytes, status: int, rig: Rig, dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    line = await dial(rig.port)
    await line.send(raw)
    reply = await line.read()
    assert reply is not None
    assert reply.status == status
    assert reply.json["error"]
    assert await line.read() is None
    warnings = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert ["status 431" in each for each in warnings] == [True] * (status == 431)


IN_CHUNKS = b"POST /submit HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b"GET /health HTTP/1.1\r\n\r\n", "the Host header is missing"),
        (b"GET /health HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "there are several Host headers"),
        (
            b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
            "there are several Content-Length headers",
        ),
        (
            b"POST /jobs HTTP/1.1\r\nHost: x\r\nContent-Length: two\r\n\r\n{}",
            "Content-Length is not a number",
        ),
        (
            IN_CHUNKS.replace(b"Host: x", b"Host: x\r\nContent-Length: 2"),
            "there are both Content-Length and Transfer-Encoding",
        ),
        (IN_CHUNKS.replace(b"chunked", b"gzip"), "the only Transfer-Encoding is chunked"),
        (IN_CHUNKS + b"2;a=b\r\n{}\r\n0\r\n\r\n", "a chunk begins with its size alone"),
        (IN_CHUNKS + b"2\r\n{}\r\n0\r\nA: b\r\n\r\n", "the last chunk ends the body"),
        (b"GET /health HTTP/1.1\r\nHost: x\r\n y\r\n\r\n", ""),
        (b"GET /health HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", "a header has no colon"),
    ],
)
async def test_a_malformed_request_is_refused_with_what_is_wrong(
    raw: bytes, fault: str, rig: Rig, dial: Dial
) -> None:
    line = await dial(rig.port)
    await line.send(raw)
    reply = await line.read()
    assert reply is not None
    assert reply.status == 400
    assert reply.json["code"] == "http"
    is_named = reply.json["error"].startswith(f"malformed HTTP request: {fault}")
    # Another version of Tornado may have other words, by which the master does not know the fault.
    assert is_named or (tornado.version != LOCKED and "this is not HTTP" in reply.json["error"])
    assert reply.body.endswith(b"}\n")


async def test_requests_without_a_pause_between_them_are_answered_in_order(
    rig: Rig, dial: Dial
) -> None:
    line = await dial(rig.port)
    await line.send(request_bytes("GET", "/jobs") * 200 + request_bytes("GET", "/nothing"))
    statuses = [reply.status for _ in range(201) if (reply := await line.read())]
    assert statuses == [200] * 200 + [404]
