"""Webhooks: signed, tried again until somebody takes them, and no receiver holds up the others."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

import pytest
from harness.http import Conduct, Line, Message, PlainServer, ServePlainly
from harness.until import until

from dte.core.errors import Busy, NotFound, Unavailable
from dte.logs import LINES_MAX
from dte.master import webhooks as module
from dte.master.access.tokens import Role, TokenFile
from dte.master.destinations import Destinations
from dte.master.posting import Message as Webhook
from dte.master.posting import signature
from dte.master.receivers import AT_A_TIME, AT_A_TIME_TO_A_HOST, NEW_AT_A_TIME, Receiver
from dte.master.settings import Settings
from dte.master.webhooks import Webhooks

from . import fakes
from .rig import Hire, StartMaster

Make = Callable[..., "Record"]


class Record:
    """Webhooks, and what is known of them beside them."""

    def __init__(self, **options: Any) -> None:
        self.forgotten: list[int] = []
        self.bodies: dict[int, bytes | Exception] = {}
        self.failures = 0
        defaults = {
            "webhook_secret": "",
            "webhook_for_s": 86_400.0,
            "webhooks_max": 1_000,
            "pause_first_s": 0.002,
            "random": Random(1),
        }
        self.own_machine = True
        places = Destinations([], lambda: self.own_machine)
        self.webhooks = Webhooks(self.message, self.forget, places, **(defaults | options))

    async def message(self, number: int) -> Webhook:
        body = self.bodies.get(number, b'{"job_id":%d}' % number)
        if isinstance(body, Exception):
            del self.bodies[number]
            raise body
        return Webhook(f"job_{number}", body)

    async def forget(self, numbers: Sequence[int]) -> None:
        if self.failures:
            self.failures -= 1
            raise Unavailable("the disk is full")
        self.forgotten += numbers

    def add(self, number: int, url: str) -> None:
        self.webhooks.add(number, url, time.monotonic())

    async def all_forgotten(self, count: int = 1) -> None:
        await until(lambda: len(self.forgotten) == count, "all are taken or given up")
        assert len(self.webhooks) == 0
        await until(lambda: not self.receivers, "nothing is left")

    @property
    def receivers(self) -> list[Receiver]:
        return list(self.webhooks._receivers)


@pytest.fixture
def make(cleanup: AsyncExitStack) -> Make:
    """Makes webhooks that are closed after the test, with a secret or bounds."""

    def start(**options: Any) -> Record:
        record = Record(**options)
        cleanup.push_async_callback(record.webhooks.close)
        return record

    return start


def answering(*statuses: int, **more: Any) -> Conduct:
    """One status after the other, and the last one for ever."""
    left = list(statuses)

    async def conduct(request: Message, line: Line) -> None:
        await line.reply(left.pop(0) if len(left) > 1 else left[0], **more)

    return conduct


async def hanging_up(request: Message, line: Line) -> None:
    line.close()


async def silent(request: Message, line: Line) -> None:
    """No reply."""


def url_of(server: PlainServer, path: str = "/done") -> str:
    return f"http://127.0.0.1:{server.port}{path}"


# One delivery


async def test_a_delivery_posts_what_is_known_of_the_job(
    make: Make, serve_plainly: ServePlainly
) -> None:
    receiver, record = await serve_plainly(answering(200)), make()
    record.add(7, url_of(receiver, "/done?key=1"))
    await record.all_forgotten()
    (request,) = receiver.requests
    assert (request.method, request.path) == ("POST", "/done?key=1")
    assert request.json == {"job_id": 7}
    assert request.headers["content-type"] == "application/json"
    assert abs(int(request.headers["x-dte-timestamp"]) - time.time()) < 60
    assert "x-dte-signature" not in request.headers


async def test_with_a_secret_it_is_signed_together_with_its_time(
    make: Make, serve_plainly: ServePlainly
) -> None:
    receiver, record = await serve_plainly(answering(204)), make(webhook_secret="sesame")
    record.add(7, url_of(receiver))
    await record.all_forgotten()
    (request,) = receiver.requests
    signed = request.headers["x-dte-timestamp"].encode() + b"." + request.body
    expected = hmac.new(b"sesame", signed, hashlib.sha256).hexdigest()
    assert request.headers["x-dte-signature"] == f"sha256={expected}"


def test_another_body_time_or_secret_has_another_signature() -> None:
    signatures = {
        signature("a", "100", b"1"),
        signature("b", "100", b"1"),
        signature("a", "101", b"1"),
        signature("a", "100", b"2"),
    }
    assert len(signatures) == 4


@pytest.mark.parametrize("status", [301, 302, 307, 308, 400, 404, 429, 500, 503])
async def test_any_other_answer_is_tried_again(
    status: int, make: Make, serve_plainly: ServePlainly
) -> None:
    elsewhere = await serve_plainly(answering(200))
    receiver, record = await serve_plainly(answering(status, Location=url_of(elsewhere))), make()
    record.add(7, url_of(receiver))
    await until(lambda: len(receiver.requests) == 3, "it is tried again")
    assert not record.forgotten
    receiver.conduct = answering(200)
    await record.all_forgotten()
    assert not elsewhere.requests, "a redirect was followed"


@pytest.mark.parametrize("conduct", [hanging_up, silent])
async def test_no_answer_is_tried_again(
    conduct: Conduct, make: Make, serve_plainly: ServePlainly
) -> None:
    receiver, record = await serve_plainly(conduct), make(timeout_s=0.05)
    record.add(7, url_of(receiver))
    await until(lambda: len(receiver.requests) == 2, "it is tried again")
    receiver.conduct = answering(200)
    await record.all_forgotten()


async def test_who_is_not_there_is_tried_again(make: Make, serve_plainly: ServePlainly) -> None:
    receiver, record = await serve_plainly(answering(200)), make()
    port = receiver.port
    await receiver.stop()
    record.add(7, f"http://127.0.0.1:{port}/")
    await until(lambda: any(each.resting for each in record.receivers), "it is refused")
    await receiver.start(port=port)
    await record.all_forgotten()


async def test_who_is_gone_is_not_asked_again(make: Make, serve_plainly: ServePlainly) -> None:
    receiver, record = await serve_plainly(answering(410)), make()
    record.add(7, url_of(receiver))
    await record.all_forgotten()
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("conduct", [answering(500), hanging_up])
async def test_after_a_day_it_is_given_up(
    conduct: Conduct, make: Make, serve_plainly: ServePlainly, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "dte.master")
    receiver, record = await serve_plainly(conduct), make()
    url = url_of(receiver, "/secret")
    now = time.monotonic()
    record.webhooks.restore([(7, url, now - 86_401, ""), (8, url, now, "")])
    await until(lambda: record.forgotten == [7], "the old one is given up")
    assert len(record.webhooks) == 1
    assert "gave up" in caplog.text
    assert "/secret" not in caplog.text


async def test_many_webhooks_that_are_given_up_are_few_lines_of_the_log(
    make: Make, serve_plainly: ServePlainly, caplog: pytest.LogCaptureFixture
) -> None:
    receiver, record = await serve_plainly(answering(410)), make()
    count = 3 * LINES_MAX
    for number in range(count):
        record.add(number, url_of(receiver))
    await record.all_forgotten(count)
    assert caplog.text.count("gave up the webhook") == LINES_MAX
    await record.webhooks.close()
    assert f"{count - LINES_MAX} more webhooks given up" in caplog.text


async def test_receivers_with_long_names_are_cut_in_the_log(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    record = make()
    record.add(7, f"http://{'x' * 1_900}.invalid/")
    await until(lambda: "are paused" in caplog.text, "it is paused")
    assert len(caplog.messages[0]) < 700


async def test_of_a_host_without_a_delivery_nothing_is_left(
    make: Make, serve_plainly: ServePlainly
) -> None:
    receiver, record = await serve_plainly(hanging_up), make()
    url = url_of(receiver)
    record.webhooks.restore([(number, url, -100_000.0, "") for number in range(10)])
    await record.all_forgotten(10)


async def test_what_may_not_go_to_its_address_is_given_up_at_once(
    make: Make, serve_plainly: ServePlainly, caplog: pytest.LogCaptureFixture
) -> None:
    """The settings were others when its job was submitted, or its name leads elsewhere now."""
    receiver, record = await serve_plainly(answering(200)), make(pause_first_s=60.0)
    record.own_machine = False
    for number in range(5):
        record.add(number, url_of(receiver, "/secret"))
    await record.all_forgotten(5)
    assert not receiver.lines, "nobody was connected to"
    assert record.webhooks.given_up == 5
    assert "127.0.0.1 is not public (loopback)" in caplog.text
    assert "/secret" not in caplog.text


async def test_what_is_given_up_at_once_delays_no_other(
    make: Make, serve_plainly: ServePlainly
) -> None:
    receiver, record = await serve_plainly(answering(200)), make(pause_first_s=60.0)
    for number in range(200):
        record.add(number, f"http://10.0.0.{number}/")
    record.add(200, url_of(receiver))
    await record.all_forgotten(201)
    assert len(receiver.requests) == 1
    assert record.webhooks.given_up == 200


async def test_a_job_that_is_deleted_is_not_delivered(
    make: Make, serve_plainly: ServePlainly
) -> None:
    receiver, record = await serve_plainly(answering(200)), make()
    record.bodies[7] = NotFound("Job not found")
    record.add(7, url_of(receiver))
    await record.all_forgotten()
    assert not receiver.requests


async def test_while_the_journal_cannot_be_read_it_waits(
    make: Make, serve_plainly: ServePlainly
) -> None:
    receiver, record = await serve_plainly(answering(200)), make()
    record.bodies[7] = Unavailable("the disk is full")
    record.add(7, url_of(receiver))
    await record.all_forgotten()
    assert len(receiver.requests) == 1


async def test_what_has_been_taken_is_forgotten_when_the_journal_can_be_written(
    make: Make, serve_plainly: ServePlainly, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FORGET_AGAIN_S", 0.001)
    receiver, record = await serve_plainly(answering(200)), make()
    record.failures = 3
    record.add(7, url_of(receiver))
    await record.all_forgotten()
    assert len(receiver.requests) == 1


# Many


def counting(most: list[int], until_set: asyncio.Event, status: int = 200) -> Conduct:
    """Answers when an event has come, and notes how many were there at a time."""
    active = 0

    async def conduct(request: Message, line: Line) -> None:
        nonlocal active
        active += 1
        most.append(active)
        await until_set.wait()
        active -= 1
        await line.reply(status)

    return conduct


async def test_so_many_are_posted_at_a_time(make: Make, serve_plainly: ServePlainly) -> None:
    most: list[int] = []
    answer = asyncio.Event()
    conduct = counting(most, answer)
    receivers = [await serve_plainly(conduct) for _ in range(NEW_AT_A_TIME + 5)]
    record = make()
    for number in range(200):
        record.add(number, url_of(receivers[number % len(receivers)]))
    await until(lambda: most and most[-1] == NEW_AT_A_TIME, "the bound is met")
    answer.set()
    await record.all_forgotten(200)
    assert max(most) == NEW_AT_A_TIME
    answer.clear()
    most.clear()
    for number in range(200):
        record.add(number, url_of(receivers[number % len(receivers)]))
    await until(lambda: most and most[-1] == AT_A_TIME, "that of receivers that are known is met")
    answer.set()
    await record.all_forgotten(400)
    assert max(most) == AT_A_TIME


async def test_so_many_are_posted_to_one_host_at_a_time(
    make: Make, serve_plainly: ServePlainly
) -> None:
    """One, until it has replied: it may never do so."""
    most: list[int] = []
    answer = asyncio.Event()
    receiver, record = await serve_plainly(counting(most, answer)), make()
    for number in range(10):
        record.add(number, url_of(receiver))
    await until(lambda: most, "it is asked")
    answer.set()
    assert most == [1]
    await record.all_forgotten(10)
    answer.clear()
    for number in range(10, 50):
        record.add(number, url_of(receiver))
    await until(lambda: most[-1] == AT_A_TIME_TO_A_HOST, "the bound is met")
    answer.set()
    await record.all_forgotten(50)
    assert max(most) == AT_A_TIME_TO_A_HOST


async def test_slow_receivers_do_not_hold_up_others(
    make: Make, serve_plainly: ServePlainly
) -> None:
    slow = [await serve_plainly(silent) for _ in range(AT_A_TIME // 2)]
    good, record = await serve_plainly(answering(200)), make()
    for number in range(100, 200):
        record.add(number, url_of(slow[number % len(slow)]))
    await until(lambda: all(each.requests for each in slow), "all of them are being asked")
    for number in range(10):
        record.add(number, url_of(good))
    await until(lambda: len(record.forgotten) == 10, "the others are told")
    assert sorted(record.forgotten) == list(range(10))
    for receiver in slow:
        receiver.conduct = hanging_up
        for line in receiver.lines:
            line.close()


async def test_a_host_that_does_not_reply_is_asked_once_for_all(
    make: Make, serve_plainly: ServePlainly
) -> None:
    receiver, record = await serve_plainly(hanging_up), make()
    record.add(0, url_of(receiver))
    await until(lambda: receiver.requests, "it is asked")
    for number in range(1, 50):
        record.add(number, url_of(receiver))
    await until(lambda: len(receiver.requests) >= 4, "it is asked again")
    assert len(receiver.requests) < 10
    receiver.conduct = answering(200)
    await record.all_forgotten(50)


async def test_a_path_that_fails_does_not_hold_up_another_of_its_host(
    make: Make, serve_plainly: ServePlainly
) -> None:
    async def conduct(request: Message, line: Line) -> None:
        if request.path == "/bad":
            line.close()
        else:
            await line.reply(200)

    receiver, record = await serve_plainly(conduct), make()
    for number in range(20):
        record.add(number, url_of(receiver, "/bad" if number < 3 else "/good"))
    await until(lambda: len(record.forgotten) == 17, "the others are told")
    assert len(record.webhooks) == 3


async def test_a_host_that_takes_nothing_is_asked_about_few_and_one_at_a_time(
    make: Make, serve_plainly: ServePlainly
) -> None:
    most: list[int] = []
    answer = asyncio.Event()
    answer.set()
    receiver = await serve_plainly(counting(most, answer, 500))
    record = make(pause_first_s=0.01, webhooks_max=4_000)
    for number in range(2_000):
        record.add(number, url_of(receiver))
    await until(lambda: len(receiver.requests) > AT_A_TIME_TO_A_HOST + 5, "it is asked again")
    began = len(receiver.requests)
    most.clear()
    await asyncio.sleep(0.1)
    assert len(receiver.requests) < began + 10
    assert max(most, default=1) == 1
    receiver.conduct = answering(200)
    await record.all_forgotten(2_000)
    assert record.webhooks.given_up == 0


async def test_a_few_that_are_not_taken_do_not_hold_up_the_others_of_their_host(
    make: Make, serve_plainly: ServePlainly
) -> None:
    async def conduct(request: Message, line: Line) -> None:
        await line.reply(404 if request.path == "/bad" else 200)

    receiver, record = await serve_plainly(conduct), make(pause_first_s=60.0)
    for number in range(40):
        record.add(number, url_of(receiver, "/bad" if number % 20 == 0 else "/good"))
    await until(lambda: len(record.forgotten) == 38, "the others are told")


async def test_where_there_is_no_room_those_who_fail_lose_their_oldest_first(
    make: Make, serve_plainly: ServePlainly, caplog: pytest.LogCaptureFixture
) -> None:
    large, small = await serve_plainly(hanging_up), await serve_plainly(hanging_up)
    good, record = await serve_plainly(answering(200)), make(webhooks_max=20, pause_first_s=60.0)
    for number in range(10):
        record.add(number, url_of(large))
    for number in range(10, 20):
        record.add(number, url_of(small) if number < 12 else f"http://127.0.0.1:1/{number}")
    await until(lambda: all(each.resting for each in record.receivers), "none takes any")
    for number in range(20, 25):
        record.webhooks.ensure_room()
        record.add(number, url_of(good))
    await until(lambda: len(record.forgotten) == 10, "the good one is told")
    lost = sorted(number for number in record.forgotten if number < 20)
    assert len(lost) == record.webhooks.given_up == 5
    assert not {10, 11} & set(lost), "the one with few keeps them"
    assert "others wait for 127.0.0.1" in caplog.text


async def test_a_host_that_lets_its_first_request_wait_takes_no_room_from_others(
    make: Make, serve_plainly: ServePlainly, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "DOUBT_S", 0.01)
    hosts = [await serve_plainly(silent) for _ in range(2)]
    good, record = await serve_plainly(answering(200)), make(webhooks_max=20)
    for number in range(20):
        record.add(number, url_of(hosts[number % 2]))
    with pytest.raises(Busy):
        record.webhooks.ensure_room()
    await until(lambda: all(each.doubtful for each in record.receivers), "they let it wait")
    record.webhooks.ensure_room()
    record.add(20, url_of(good))
    await until(lambda: 20 in record.forgotten, "the other one is told")
    assert record.webhooks.given_up == 1
    for host in hosts:
        host.conduct = hanging_up
        for line in host.lines:
            line.close()


async def test_a_host_that_fails_has_half_of_the_room(
    make: Make, serve_plainly: ServePlainly
) -> None:
    receiver, record = await serve_plainly(hanging_up), make(webhooks_max=20, pause_first_s=60.0)
    for number in range(8):
        record.add(number, url_of(receiver))
    await until(lambda: any(each.resting for each in record.receivers), "it fails")
    for number in range(8, 16):
        record.add(number, url_of(receiver))
    await until(lambda: len(record.forgotten) == 6, "the oldest are given up")
    assert len(record.webhooks) == 10
    assert max(record.forgotten) < 8, "the oldest went, in the order in which they were next"


async def test_a_host_that_never_answered_loses_them_after_an_hour_and_another_does_not(
    make: Make, serve_plainly: ServePlainly, monkeypatch: pytest.MonkeyPatch
) -> None:
    answered, never = await serve_plainly(answering(200)), await serve_plainly(hanging_up)
    record = make()
    record.add(0, url_of(answered))
    await record.all_forgotten()
    answered.conduct = hanging_up
    record.add(1, url_of(answered))
    for number in range(2, 12):
        record.add(number, url_of(never))
    await until(lambda: len(never.requests) > 3, "it is asked again")
    assert record.forgotten == [0]
    monkeypatch.setattr(module, "NEVER_ANSWERED_S", 0.05)
    await until(lambda: len(record.forgotten) == 11, "they are given up")
    assert 1 not in record.forgotten
    answered.conduct = answering(200)
    await record.all_forgotten(12)


async def test_it_is_asked_once_more_when_its_hour_is_over(
    make: Make, serve_plainly: ServePlainly, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long its pause would be."""
    monkeypatch.setattr(module, "NEVER_ANSWERED_S", 0.3)
    receiver, record = await serve_plainly(hanging_up), make(pause_first_s=0.01)
    monkeypatch.setattr(record.webhooks, "_pause_s", lambda failures: 600.0)
    record.add(1, url_of(receiver))
    await record.all_forgotten()
    assert len(receiver.requests) == 2


async def test_a_host_that_answers_again_is_told_of_all(
    make: Make, serve_plainly: ServePlainly
) -> None:
    receiver, record = await serve_plainly(hanging_up), make()
    for number in range(300):
        record.add(number, url_of(receiver))
    await until(lambda: len(receiver.requests) > 4, "it fails")
    receiver.conduct = answering(200)
    await record.all_forgotten(300)
    assert record.webhooks.given_up == 0


async def test_many_who_never_answer_do_not_hold_up_one_who_was_not_asked_yet(
    make: Make, serve_plainly: ServePlainly
) -> None:
    hosts = [await serve_plainly(silent) for _ in range(2 * NEW_AT_A_TIME)]
    good, record = await serve_plainly(answering(200)), make(timeout_s=0.5)
    for number, host in enumerate(hosts):
        record.add(number, url_of(host))
    record.add(1_000, url_of(good))
    await until(lambda: 1_000 in record.forgotten, "it is told")
    asked = sum(bool(host.requests) for host in hosts)
    assert asked < len(hosts), "it does not wait until all of them were asked"
    record.add(1_001, url_of(good))
    await until(lambda: 1_001 in record.forgotten, "it is told")
    for host in hosts:
        host.conduct = hanging_up
        for line in host.lines:
            line.close()


async def test_an_owner_has_half_of_the_room(make: Make) -> None:
    record = make(webhooks_max=4)
    for number in range(2):
        record.webhooks.ensure_room("10.0.0.5")
        record.webhooks.add(number, "http://127.0.0.1:1/", time.monotonic(), "10.0.0.5")
    with pytest.raises(
        Busy, match=r"10\.0\.0\.5 has 2 .*; its share is 2, half of 4 \(webhooks_max\)"
    ):
        record.webhooks.ensure_room("10.0.0.5")
    record.webhooks.ensure_room()


async def test_too_many_are_refused_with_the_name_of_the_bound(make: Make) -> None:
    record = make(webhooks_max=2)
    record.webhooks.ensure_room()
    for number in range(2):
        record.add(number, "http://127.0.0.1:1/")
    with pytest.raises(Busy, match="webhooks_max"):
        record.webhooks.ensure_room()


@pytest.mark.parametrize("ends", [Line.reset, Line.close], ids=["reset", "closed"])
async def test_a_receiver_that_hangs_up_after_the_end_is_no_line_of_the_log(
    ends: Callable[[Line], None],
    make: Make,
    serve_plainly: ServePlainly,
    caplog: pytest.LogCaptureFixture,
) -> None:
    receiver, record = await serve_plainly(silent), make()
    record.add(7, url_of(receiver))
    await until(lambda: receiver.requests, "it is being posted")
    await record.webhooks.close()
    ends(receiver.lines[0])
    for _ in range(100):
        await asyncio.sleep(0.001)  # The master's side finds the end of the connection.
    assert caplog.records == []


async def test_what_is_under_way_at_the_end_stays_known(
    make: Make, serve_plainly: ServePlainly
) -> None:
    receiver, record = await serve_plainly(silent), make()
    record.add(7, url_of(receiver))
    await until(lambda: receiver.requests, "it is being posted")
    await record.webhooks.close()
    record.add(8, url_of(receiver))
    assert not record.forgotten
    receiver.lines[0].close()


# URLs


# Of a master


async def test_a_master_tells_who_is_to_be_told(
    start_master: StartMaster, hire: Hire, serve_plainly: ServePlainly
) -> None:
    receiver = await serve_plainly(answering(500, 200))
    rig = await start_master(webhook_secret="sesame")
    rig.master.webhooks._pause_first_s = 0.002
    await hire(rig, fakes.good)
    await rig.post("/submit", {"task": "1+2", "notify": url_of(receiver)})
    await until(lambda: len(receiver.requests) == 2, "it is told, and told again")
    await until(lambda: not len(rig.master.webhooks), "it is taken")
    for request in receiver.requests:
        assert request.json == await rig.job(1)
        timestamp = request.headers["x-dte-timestamp"]
        assert request.headers["x-dte-signature"] == signature("sesame", timestamp, request.body)


async def test_a_restarted_master_tells_what_nobody_took_before(
    start_master: StartMaster, hire: Hire, serve_plainly: ServePlainly, tmp_path: Path
) -> None:
    receiver = await serve_plainly(answering(503))
    journal = str(tmp_path / "journal.db")
    rig = await start_master(journal=journal)
    await hire(rig, fakes.good)
    await rig.post("/submit", {"task": "1+2", "notify": url_of(receiver)})
    await until(lambda: len(receiver.requests) == 1, "it is told")
    await rig.stop()
    receiver.conduct = answering(200)
    rig = await start_master(journal=journal)
    await until(lambda: len(receiver.requests) == 2, "it is told again")
    assert receiver.requests[0].json == receiver.requests[1].json
    await until(lambda: not len(rig.master.webhooks), "it is taken")
    await rig.stop()
    rig = await start_master(journal=journal)
    assert not len(rig.master.webhooks)


@pytest.mark.parametrize(("path", "field"), [("/jobs", "formula"), ("/submit", "task")])
async def test_a_master_for_others_refuses_urls_that_lead_inward(
    start_master: StartMaster, path: str, field: str
) -> None:
    rig = await start_master(host="0.0.0.0", webhook_to="127.0.0.1:9000")
    for url in (
        "http://127.0.0.1:9001/",
        "http://localhost:9001/",
        "http://2130706433/",
        "http://[::ffff:127.0.0.1]:8000/",
        "http://169.254.169.254/latest/meta-data",
        "http://user:word@example.com/",
        "http://example.com:25/",
    ):
        reply = await rig.post(path, {field: "1+2", "notify": url})
        assert (reply.status, reply.json["code"]) == (400, "invalid"), url
        assert "notify" in reply.json["error"]
    for url in ("http://127.1:9000/", "http://localhost:9000/", "https://example.com/hook"):
        reply = await rig.post(path, {field: "1+2", "notify": url})
        assert reply.status in (200, 201), reply.json
    assert rig.master.core.jobs.waiting == 3


async def test_with_tokens_a_master_does_not_post_to_its_own_machine(
    start_master: StartMaster, tmp_path: Path
) -> None:
    """Its clients may be elsewhere, behind a proxy."""
    rig, file = await start_master(), tmp_path / "dte.tokens"
    secret = TokenFile(str(file)).new(Role.CLIENT, "shop")
    told = {"formula": "1+2", "notify": "http://127.0.0.1:9000/"}
    assert (await rig.post("/jobs", told)).status == 201
    for places, status in (("", 400), ("127.0.0.1:9000", 201)):
        rig = await start_master(tokens=str(file), webhook_to=places)
        reply = await rig.ask("POST", "/jobs", told, Authorization=f"Bearer {secret}")
        assert reply.status == status, reply.json


def test_nobody_sees_the_secret() -> None:
    assert "sesame" not in repr(Settings(webhook_secret="sesame"))
