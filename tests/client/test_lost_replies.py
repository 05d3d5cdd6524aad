"""Both clients on a master whose replies are lost, that restarts, or that cannot accept work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from harness.processes import until

import dte

from .impostor import BATCH, JOB, REFUSALS, UNAVAILABLE, UNFINISHED, Cut, Impostor, reply


class InLoop:
    """An asynchronous client in a loop of its own, with the methods of the blocking one."""

    def __init__(self, master_url: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = dte.AsyncClient(master_url, **options)

    def __enter__(self) -> InLoop:
        return self

    def __exit__(self, *raised: object) -> None:
        self._client.close()
        self._loop.close()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *args, **more: self._loop.run_until_complete(method(*args, **more))


Impostors = Callable[..., Impostor]
Connect = Callable[..., Any]


@pytest.fixture(params=[dte.Client, InLoop], ids=["blocking", "asynchronous"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Makes a client of each kind."""
    made: Connect = request.param
    return made


@pytest.mark.usefixtures("no_pauses")
def test_a_submission_whose_reply_is_lost_is_sent_again_under_the_same_key(
    impostor: Impostors,
    connect: Connect,
) -> None:
    """So that the master can tell that it is the same one, and gives the job that it made."""
    server = impostor(b"", Cut(reply(JOB)[:-5]), reply(JOB))
    with connect(server.url) as client:
        assert client.compute("1+2") == 3
    assert server.bodies == [b'{"task":"1+2"}'] * 3
    assert len(server.keys) == 3
    assert len(set(server.keys)) == 1


def test_two_submissions_have_two_keys(impostor: Impostors, connect: Connect) -> None:
    server = impostor(reply(UNFINISHED), reply(JOB), reply(BATCH))
    with connect(server.url) as client:
        client.submit("1+2")
        client.compute("1+2")
        client.map(["1+2"])
    assert len(set(server.keys)) == 3


def test_the_parts_of_a_batch_that_is_too_large_have_keys_of_their_own(
    impostor: Impostors,
    connect: Connect,
) -> None:
    too_large = reply('{"error": "formulas_max", "code": "too_large"}', 413)
    server = impostor(too_large, reply(BATCH), reply(BATCH))
    with connect(server.url) as client:
        assert client.map(["1+2", "2+1"]) == [3, 3]
    assert len(set(server.keys)) == len(server.requests) == 3


def test_a_submission_has_the_key_that_the_caller_gives(
    impostor: Impostors, connect: Connect
) -> None:
    server = impostor(reply(UNFINISHED), reply(JOB))
    with connect(server.url) as client:
        client.submit("1+2", key="order 17")
        client.compute("1+2", key="order 17")
        with pytest.raises(ValueError, match="key is ''"):
            client.submit("1+2", key="")
    assert server.keys == ["order 17"] * 2


@pytest.mark.usefixtures("no_pauses")
def test_a_submission_that_may_have_arrived_is_said_to_be_in_doubt(
    impostor: Impostors, connect: Connect
) -> None:
    with connect(impostor().url) as client:
        for submit in (
            lambda: client.submit("1+2"),
            lambda: client.compute("1+2"),
            lambda: client.map(["1+2"]),
        ):
            with pytest.raises(
                dte.Unreachable, match="the request may or may not have been accepted"
            ):
                submit()


def test_waiting_outlives_a_restart_of_the_master(
    impostor: Impostors, connect: Connect, pauses: list[float]
) -> None:
    before = impostor(reply(UNFINISHED), lambda: before.leave())
    with connect(before.url) as client, ThreadPoolExecutor(1) as thread:
        computed = thread.submit(client.compute, "1+2")
        until(lambda: len(pauses) >= 3, "the master is away")
        after = impostor(reply(JOB), port=before.port)
        assert computed.result(20) == 3
    assert [line.split("?")[0] for line in before.requests] == ["POST /submit", "GET /job/1"]
    assert [line.split("?")[0] for line in after.requests] == ["GET /job/1"]


def test_a_submission_outlives_a_restart_of_the_master(
    impostor: Impostors, connect: Connect, pauses: list[float]
) -> None:
    before = impostor(reply(JOB), lambda: before.leave())
    with connect(before.url) as client, ThreadPoolExecutor(1) as thread:
        client.job(1)
        computed = thread.submit(client.compute, "1+2")
        until(lambda: len(pauses) >= 3, "the master is away")
        after = impostor(reply(JOB), port=before.port)
        assert computed.result(20) == 3
    assert len(before.keys) == 1
    assert before.keys == after.keys


@pytest.mark.usefixtures("no_pauses")
def test_a_wait_while_the_master_is_away_is_over_in_time(
    impostor: Impostors, connect: Connect
) -> None:
    server = impostor(reply(UNFINISHED), lambda: server.leave())
    with connect(server.url) as client:
        job = client.submit("1+2")
        with pytest.raises(dte.WaitTimeout, match=r"within 0\.2 s"):
            client.wait(job, 0.2)


@pytest.mark.usefixtures("no_pauses")
def test_a_master_that_cannot_accept_work_now_is_asked_again(
    impostor: Impostors, connect: Connect
) -> None:
    server = impostor(UNAVAILABLE, UNAVAILABLE, reply(JOB))
    with connect(server.url) as client:
        assert client.compute("1+2") == 3
    assert len(server.keys) == 3
    assert len(set(server.keys)) == 1


@pytest.mark.usefixtures("no_pauses")
def test_a_master_that_cannot_accept_work_for_long_is_unavailable(
    impostor: Impostors, connect: Connect
) -> None:
    server = impostor(*[UNAVAILABLE] * 1000)
    with (
        connect(server.url, patience_s=0.05) as client,
        pytest.raises(dte.Unavailable, match="the master is ending") as raised,
    ):
        client.submit("1+2")
    assert raised.value.retry_after_s == 7
    assert len(server.requests) > 1


@pytest.mark.parametrize(("answer", "expected"), REFUSALS)
def test_what_does_not_pass_soon_is_raised_at_once(
    impostor: Impostors, connect: Connect, answer: bytes, expected: type[dte.DteError]
) -> None:
    server = impostor(answer, reply(UNFINISHED))
    with (
        connect(server.url) as client,
        pytest.raises(expected, match="the master's words"),
    ):
        client.submit("1+2")
    assert len(server.requests) == 1
