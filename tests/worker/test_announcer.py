from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import SimpleNamespace

import pytest
from harness.http import HOST, Line, Message, PlainServer, ServePlainly
from harness.until import until

from dte.wire.http import tls
from dte.wire.messages.batches import Announce
from dte.wire.messages.handlers import HandlerInfo
from dte.worker import announcer as module
from dte.worker.announcer import MOMENTS, Announcer, common_pause_s

HEARTBEAT_S = 5.0
NEVER_S = 3600.0


async def welcome(request: Message, line: Line) -> None:
    await line.reply(200, {"status": "Worker registered"})


async def refuse(request: Message, line: Line) -> None:
    await line.reply(429, {"error": "too many workers"})


@pytest.fixture
def announcer(cleanup: AsyncExitStack, request: pytest.FixtureRequest) -> type[Announcer]:
    """`Announcer`, of which each one ends with its test."""

    class EndsWithTheTest(Announcer):
        def __init__(
            self,
            master_url: str,
            announce: Announce,
            heartbeat_s: float = HEARTBEAT_S,
            on_announced: Callable[[], None] | None = None,
        ) -> None:
            super().__init__(master_url, announce, heartbeat_s, on_announced)
            cleanup.push_async_callback(self.leave)

    return EndsWithTheTest


def url(master: PlainServer) -> str:
    return f"http://{HOST}:{master.port}"


def says_draining(request: Message) -> bool:
    return bool(request.json.get("draining"))


async def test_it_announces_at_once(
    announcer: type[Announcer], serve_plainly: ServePlainly
) -> None:
    master = await serve_plainly(welcome)
    announcer(url(master), Announce("w", 7000, slots=2, batch_max=64, incarnation="a1"))
    await until(lambda: master.requests, "an announcement")
    (request,) = master.requests
    assert (request.method, request.path) == ("POST", "/worker")
    assert request.headers["content-type"] == "application/json"
    assert request.json == {
        "worker_name": "w",
        "port": 7000,
        "slots": 2,
        "batch_max": 64,
        "incarnation": "a1",
    }


async def test_it_says_what_it_can_call(
    announcer: type[Announcer], serve_plainly: ServePlainly
) -> None:
    master = await serve_plainly(welcome)
    handlers = {"echo": HandlerInfo(pure=True), "sleep": HandlerInfo()}
    announcer(url(master), Announce("w", handlers=handlers, handler_slots=4))
    await until(lambda: master.requests, "an announcement")
    said = master.requests[0].json
    assert said["handlers"] == {"echo": {"pure": True}, "sleep": {}}
    assert said["handler_slots"] == 4


async def test_it_warns_once_for_each_reason_why_it_cannot_be_called(
    announcer: type[Announcer],
    serve_plainly: ServePlainly,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "dte.worker")
    refused = "calls to 127.0.0.1:6000 fail: Connection refused"
    taken = "another worker, w2, answers at 127.0.0.1:6000"
    reasons = [None, refused, refused, taken, None, None]
    replies: list[dict[str, str | None]] = [
        {"status": "Worker registered"} | ({"unreachable": reason} if reason else {})
        for reason in reasons
    ]

    async def reply(request: Message, line: Line) -> None:
        await line.reply(200, replies[len(master.requests) - 1])

    master = await serve_plainly(reply)
    worker = announcer(url(master), Announce("w"), NEVER_S)
    for count in range(1, len(replies) + 1):
        await until(lambda count=count: len(master.requests) == count, f"announcement {count}")
        worker.hurry()
        if count == len(replies):
            master.conduct = welcome
    await until(lambda: len(caplog.records) >= 4, "the last change is logged")
    announced, first, second, last = caplog.records
    assert announced.levelname == last.levelname == "INFO"
    assert first.getMessage().startswith(f"{refused}; if another port leads here, give --announce-")
    assert second.getMessage().startswith(taken)
    assert last.getMessage() == "the calls of the master reach this worker again"


async def test_a_certificate_that_the_master_does_not_trust_leads_to_an_option_of_the_master(
    announcer: type[Announcer], serve_plainly: ServePlainly, caplog: pytest.LogCaptureFixture
) -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_code = 20
    reason = f"calls to 127.0.0.1:6000 fail: {tls.fault(error, '127.0.0.1')}"

    async def reply(request: Message, line: Line) -> None:
        await line.reply(200, {"status": "Worker registered", "unreachable": reason})

    master = await serve_plainly(reply)
    announcer(url(master), Announce("w"), NEVER_S)
    await until(lambda: caplog.records, "it is logged")
    assert "in the master's --tls-ca" in caplog.text
    assert "this machine" not in caplog.text, "it is the master's machine"


async def test_it_tells_each_time_that_the_master_has_heard_it(
    announcer: type[Announcer], serve_plainly: ServePlainly, pauses: list[float]
) -> None:
    """So that results which wait for the master are sent."""
    heard: list[int] = []
    master = await serve_plainly(refuse)
    announcer(url(master), Announce("w"), on_announced=lambda: heard.append(len(master.requests)))
    await until(lambda: len(master.requests) >= 2, "two announcements")
    assert not heard
    master.conduct = welcome
    await until(lambda: len(heard) >= 2, "the master hears it twice")


async def test_the_url_may_end_with_a_slash(
    announcer: type[Announcer], serve_plainly: ServePlainly
) -> None:
    master = await serve_plainly(welcome)
    announcer(f"{url(master)}/", Announce("w"))
    await until(lambda: master.requests, "an announcement")
    assert master.requests[0].path == "/worker"


async def test_a_hurry_during_an_announcement_is_not_lost(
    announcer: type[Announcer], serve_plainly: ServePlainly
) -> None:
    """The master may have gone after it heard this one, so there is another."""

    async def hurry_it(request: Message, line: Line) -> None:
        if len(master.requests) == 1:
            worker.hurry()
        await welcome(request, line)

    master = await serve_plainly(hurry_it)
    worker = announcer(url(master), Announce("w"), NEVER_S)
    await until(lambda: len(master.requests) == 2, "another announcement")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the pauses of an announcer on a clock that stands still; it does not really pause."""
    planned: list[float] = []

    async def none(announcer: Announcer, pause_s: float) -> None:
        planned.append(pause_s)
        await asyncio.sleep(0)

    monkeypatch.setattr(Announcer, "_pause", none)
    monkeypatch.setattr(module, "time", SimpleNamespace(time=lambda: 0.0))
    return planned


async def test_it_announces_again_at_the_interval(
    announcer: type[Announcer], serve_plainly: ServePlainly, pauses: list[float]
) -> None:
    master = await serve_plainly(welcome)
    announcer(url(master), Announce("w"), 2.5)
    await until(lambda: len(master.requests) >= 4, "four announcements")
    assert {request.body for request in master.requests} == {b'{"worker_name":"w"}'}
    assert set(pauses) == {2.5}


@pytest.mark.parametrize("wall_s", [0.0, 1.1, 1_790_000_000.124, 1_790_000_000.126])
def test_workers_announce_themselves_at_common_moments(wall_s: float) -> None:
    """A master that wakes for some of them at a time is at work for less time."""
    pause_s = common_pause_s(5.0, wall_s)
    moments = (wall_s + pause_s) / (5.0 / MOMENTS)
    assert moments == pytest.approx(round(moments), rel=0, abs=1e-5)
    assert pause_s == pytest.approx(5.0, rel=0.5 / MOMENTS)


async def test_it_hurries_when_it_is_told_to_on_the_connection_that_it_has(
    announcer: type[Announcer], serve_plainly: ServePlainly
) -> None:
    master = await serve_plainly(welcome)
    worker = announcer(url(master), Announce("w"), NEVER_S)
    for count in range(1, 4):
        await until(lambda count=count: len(master.requests) == count, f"announcement {count}")
        worker.hurry()
    await worker.leave()
    assert len(master.lines) == 1
    await until(lambda: master.lines[0].closed, "it is closed at the end")


async def test_a_kept_connection_that_the_master_closed_is_opened_anew_silently(
    announcer: type[Announcer], serve_plainly: ServePlainly, caplog: pytest.LogCaptureFixture
) -> None:
    """A master at its bound of connections has those that idle make room."""
    caplog.set_level(logging.INFO, "dte.worker")
    heard: list[int] = []
    master = await serve_plainly(welcome)
    worker = announcer(
        url(master), Announce("w"), NEVER_S, lambda: heard.append(len(master.requests))
    )
    for count in range(1, 4):
        await until(lambda count=count: len(heard) == count, f"announcement {count}")
        master.lines[-1].close()
        await master.lines[-1].writer.wait_closed()
        worker.hurry()
    await until(lambda: len(heard) == 4, "the last announcement")
    assert heard == [1, 2, 3, 4]
    assert len(master.lines) == 4
    assert [record.levelname for record in caplog.records] == ["INFO"]


async def test_pauses_grow_while_the_master_is_away_and_stay_long(
    announcer: type[Announcer], pauses: list[float]
) -> None:
    """A master that restarts is found soon, and one that is gone is not asked ever so often."""
    with socket.socket() as silent:  # Bound, so that nobody else listens there meanwhile.
        silent.bind((HOST, 0))
        announcer(f"http://{HOST}:{silent.getsockname()[1]}", Announce("w"))
        await until(lambda: len(pauses) >= 9, "nine attempts")
    assert pauses[:9] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


async def test_a_master_that_is_away_is_not_asked_less_often_than_one_that_is_there(
    announcer: type[Announcer], pauses: list[float]
) -> None:
    with socket.socket() as silent:
        silent.bind((HOST, 0))
        announcer(f"http://{HOST}:{silent.getsockname()[1]}", Announce("w"), 0.3)
        await until(lambda: len(pauses) >= 4, "four attempts")
    assert pauses[:4] == [0.1, 0.2, 0.3, 0.3]


async def test_pauses_begin_anew_each_time_that_the_master_goes(
    announcer: type[Announcer], serve_plainly: ServePlainly, pauses: list[float]
) -> None:
    answers = [refuse, refuse, refuse, welcome, welcome]

    async def in_turn(request: Message, line: Line) -> None:
        await (answers.pop(0) if answers else refuse)(request, line)

    master = await serve_plainly(in_turn)
    announcer(url(master), Announce("w"))
    await until(lambda: len(pauses) >= 7, "seven attempts")
    assert pauses[:7] == [0.1, 0.2, 0.4, 5.0, 5.0, 0.1, 0.2]


async def test_a_master_that_comes_back_is_found(
    announcer: type[Announcer],
    serve_plainly: ServePlainly,
    pauses: list[float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The log tells of the change, and not of every attempt."""
    caplog.set_level(logging.INFO, "dte.worker")
    gone = await serve_plainly(welcome)
    await gone.stop()
    worker = announcer(url(gone), Announce("w"))
    await until(lambda: len(pauses) >= 2, "three attempts")
    back = await serve_plainly(welcome, port=gone.port)
    await until(lambda: len(back.requests) >= 3, "three announcements")
    await worker.leave()
    levels = [record.levelname for record in caplog.records if record.name == "dte.worker"]
    assert levels == ["WARNING", "INFO"]
    assert os.strerror(errno.ECONNREFUSED) in caplog.text


async def test_the_log_says_why_a_master_refuses(
    announcer: type[Announcer], serve_plainly: ServePlainly, caplog: pytest.LogCaptureFixture
) -> None:
    master = await serve_plainly(refuse)
    announcer(url(master), Announce("w"))
    await until(lambda: "too many workers" in caplog.text, "a warning")
    assert "429" in caplog.text


@pytest.mark.parametrize(
    "master_url",
    ["localhost:5000", "http://", "http://127.0.0.1:99999", "ftp://127.0.0.1", "http://[::1", ""],
)
async def test_an_impossible_url_is_warned_of_and_ends_nothing(
    master_url: str,
    announcer: type[Announcer],
    pauses: list[float],
    caplog: pytest.LogCaptureFixture,
) -> None:
    announcer(master_url, Announce("w"))
    await until(lambda: len(pauses) >= 2, "three attempts")
    assert "cannot announce" in caplog.text


async def garbage(request: Message, line: Line) -> None:
    await line.send(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")


async def hang_up(request: Message, line: Line) -> None:
    line.reset()


@pytest.mark.parametrize("conduct", [garbage, hang_up, refuse])
async def test_whatever_the_master_answers_it_is_asked_again(
    conduct: object,
    announcer: type[Announcer],
    serve_plainly: ServePlainly,
    pauses: list[float],
) -> None:
    master = await serve_plainly(conduct)
    announcer(url(master), Announce("w"))
    await until(lambda: len(master.requests) >= 2, "two announcements")
    master.conduct = welcome
    heard = len(master.requests)
    await until(lambda: len(master.requests) > heard, "another announcement")


async def test_the_last_word_is_draining(
    announcer: type[Announcer], serve_plainly: ServePlainly
) -> None:
    master = await serve_plainly(welcome)
    worker = announcer(url(master), Announce("w", incarnation="a1"), 0.001)
    await until(lambda: len(master.requests) >= 2, "two announcements")
    await worker.leave()
    assert [says_draining(request) for request in master.requests].count(True) == 1
    assert master.requests[-1].json == {"worker_name": "w", "incarnation": "a1", "draining": True}
    assert worker._task.done()


async def test_leaving_takes_no_longer_than_a_master_may_be_silent(
    announcer: type[Announcer], serve_plainly: ServePlainly, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TIMEOUT_S", 0.05)

    async def heed_the_last_word(request: Message, line: Line) -> None:
        if says_draining(request):
            await welcome(request, line)

    master = await serve_plainly(heed_the_last_word)
    worker = announcer(url(master), Announce("w"))
    await until(lambda: master.requests, "an announcement")
    await worker.leave()
    assert [says_draining(request) for request in master.requests] == [False, True]


async def test_leaving_a_master_that_is_away(
    announcer: type[Announcer], serve_plainly: ServePlainly
) -> None:
    master = await serve_plainly(welcome)
    await master.stop()
    worker = announcer(url(master), Announce("w"))
    await worker.leave()
    assert worker._task.done()
