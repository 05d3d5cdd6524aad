"""Workers that announce themselves and cannot be called: the reply says why."""

from __future__ import annotations

import logging
import os
import socket
from errno import ECONNREFUSED
from typing import Any

import pytest
from harness.http import HOST, Conduct, Line, Message, ServePlainly
from harness.until import until

from dte.master import presence
from master import fakes
from master.rig import Hire, Rig

REFUSED = os.strerror(ECONNREFUSED)


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "CHECK_AFTER_S", 0.0)


async def announce(rig: Rig, port: int, **said: Any) -> Any:
    body = {"worker_name": "w", "port": port, "incarnation": "a", "handlers": ["echo"]} | said
    reply = await rig.post("/worker", body)
    assert reply.status == 200
    return reply.json


async def test_a_worker_that_refuses_connections_learns_it_and_gets_no_work_until_it_listens(
    rig: Rig, hire: Hire, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dte.master")
    with socket.socket() as silent:  # Bound, so that nobody else listens there meanwhile.
        silent.bind((HOST, 0))
        port = silent.getsockname()[1]
        assert await announce(rig, port) == {"status": "Worker registered"}
        await until(lambda: rig.worker(port).unreachable, "the refusal is noted")
        problem = f"calls to {HOST}:{port} fail: {REFUSED}"
        for _ in range(3):
            assert await announce(rig, port) == {
                "status": "Worker registered",
                "unreachable": problem,
            }
        (listed,) = (await rig.get("/worker")).json
        assert (listed["state"], listed["last_failure"]) == ("unreachable", REFUSED)
        call = await rig.accept(handler="echo", args=[1])
        formula = await rig.submit("1+2")
        why = f"calls to worker w at {HOST}:{port} fail: {REFUSED}"
        assert (await rig.why(call))["call"]["text"] == why
        assert (await rig.why(formula))[""]["text"].endswith(f"; {why}")
        assert [each.levelname for each in caplog.records if REFUSED in each.message] == ["WARNING"]
        await hire(rig, fakes.good)
        assert (await rig.job(formula, wait_s=20))["answer"] == 3


async def test_a_worker_that_listens_again_is_called_again(rig: Rig, hire: Hire) -> None:
    worker = await hire(rig, fakes.good, incarnation="a")
    port = worker.port
    await until(lambda: not rig.master.workers.presence._checks, "it has been checked")
    await worker.stop()
    rig.worker(port).unreachable = "no connection in time"
    await announce(rig, port)
    await until(lambda: rig.worker(port).unreachable == REFUSED, "another reason")
    await worker.start(port=port)
    await announce(rig, port)
    await until(lambda: rig.worker(port).unreachable is None, "it is reached")
    assert await announce(rig, port) == {"status": "Worker registered"}
    assert (await rig.compute("1+2"))["answer"] == 3


async def test_a_worker_that_announces_itself_once_may_listen_later(rig: Rig, hire: Hire) -> None:
    with socket.socket() as silent:
        silent.bind((HOST, 0))
        port = silent.getsockname()[1]
        await announce(rig, port, incarnation="")
        assert not rig.master.workers.presence._checks
        assert await announce(rig, port, incarnation="") == {"status": "Worker registered"}


async def test_a_call_that_another_program_refuses_costs_no_attempt(rig: Rig, hire: Hire) -> None:
    page = await hire(
        rig, fakes.replying(404, []), incarnation="a", batch_max=64, handlers=["echo"]
    )
    number = await rig.accept(handler="echo", args=[1])
    await until(lambda: rig.worker(page).failures, "a failure")
    said = {"incarnation": "a", "batch_max": 64}
    reply = await announce(rig, page.port, **said)
    assert "status 404 instead of 202" in reply["unreachable"]
    assert (await rig.nodes(number))["call"]["attempts"] in (0, 1)
    assert rig.worker(page).last_failure


async def test_of_two_workers_at_one_address_the_one_that_does_not_answer_learns_it(
    rig: Rig, serve_plainly: ServePlainly
) -> None:
    async def second(request: Message, line: Line) -> None:
        if request.path == "/health":
            await line.reply(200, {"worker_name": "second", "incarnation": "b"})
        else:
            await fakes.good(request, line)

    worker = await serve_plainly(second)
    await announce(rig, worker.port, worker_name="first", incarnation="a")
    own = {"worker_name": "second", "incarnation": "b"}
    assert await announce(rig, worker.port, **own) == {"status": "Worker registered"}
    other = {"worker_name": "first", "incarnation": "a"}
    reply = await announce(rig, worker.port, **other)
    assert reply["unreachable"] == f"another worker answers at {HOST}:{worker.port}"
    assert rig.worker(worker).announcement.name == "second", "it keeps its calls"
    assert await announce(rig, worker.port, **own) == {"status": "Worker registered"}


def healthy(health: Any) -> Conduct:
    """Another than the announced worker, which has a health."""

    async def conduct(request: Message, line: Line) -> None:
        await line.reply(200 if request.path == "/health" else 404, health)

    return conduct


@pytest.mark.parametrize(
    ("health", "answers"),
    [
        ({"worker_name": "other", "incarnation": "b"}, "another worker answers there"),
        ({"status": "ok", "service": "dispatcher"}, "a master answers there"),
        ({"worker_name": "o\x1b[31m", "incarnation": "b"}, "another worker answers there"),
        ({"worker_name": "o" * 5_000, "incarnation": "b"}, "another worker answers there"),
        (["hello"], "another program answers there"),
    ],
)
async def test_a_worker_learns_that_another_answers_at_its_address(
    rig: Rig, serve_plainly: ServePlainly, health: Any, answers: str
) -> None:
    port = (await serve_plainly(healthy(health))).port
    assert await announce(rig, port) == {"status": "Worker registered"}
    await until(lambda: rig.worker(port).unreachable, "it is noticed")
    reply = await announce(rig, port)
    assert reply["unreachable"] == f"calls to {HOST}:{port} fail: {answers}"
    number = await rig.accept(handler="echo", args=[1])
    assert answers in (await rig.why(number))["call"]["text"]


async def test_a_worker_that_announces_the_address_of_its_master_learns_it(rig: Rig) -> None:
    await announce(rig, rig.port)
    await until(lambda: rig.worker(rig.port).unreachable, "it is noticed")
    assert "a master answers there" in (await announce(rig, rig.port))["unreachable"]


@pytest.mark.parametrize(
    ("status", "health", "incarnation"),
    [
        (200, {"worker_name": "w", "incarnation": "a"}, "a"),
        (200, {"worker_name": "w"}, "a"),
        (200, ["fine"], ""),
        (404, {}, "a"),
    ],
    ids=["itself", "without incarnation", "with a health of another kind", "without health"],
)
async def test_a_worker_that_may_be_the_one_that_answers_is_called(
    rig: Rig, serve_plainly: ServePlainly, status: int, health: Any, incarnation: str
) -> None:
    async def conduct(request: Message, line: Line) -> None:
        if request.path == "/health":
            await line.reply(status, health)
        else:
            await fakes.good(request, line)

    worker = await serve_plainly(conduct)
    await announce(rig, worker.port, incarnation=incarnation)
    await until(lambda: not rig.master.workers.presence._checks, "it has been checked")
    assert (await rig.compute("1+2"))["answer"] == 3
    assert await announce(rig, worker.port, incarnation=incarnation) == {
        "status": "Worker registered"
    }


async def test_a_worker_of_another_kind_takes_its_address_back(rig: Rig, hire: Hire) -> None:
    """Nobody can know which of the two answers, so the last announcement counts."""
    worker = await hire(rig, fakes.replying(404, []), worker_name="first", incarnation="a")
    await announce(rig, worker.port, worker_name="second", incarnation="b")
    await announce(rig, worker.port, worker_name="first", incarnation="a")
    assert rig.worker(worker).announcement.name == "first"


async def test_a_worker_whose_connections_break_is_unreachable_at_once(
    rig: Rig, hire: Hire
) -> None:
    worker = await hire(rig, fakes.good, incarnation="a")
    assert (await rig.compute("1+2"))["answer"] == 3
    await until(lambda: not rig.master.workers.presence._checks, "it has been checked")
    await worker.stop()
    await until(lambda: rig.worker(worker.port).state == "unreachable", "it is noticed")
    await worker.start(port=worker.port)
    await announce(rig, worker.port)
    await until(lambda: rig.worker(worker.port).state == "free", "it is back")
    assert (await rig.compute("3+4"))["answer"] == 7


async def test_a_worker_that_closes_idle_connections_stays_free(rig: Rig, hire: Hire) -> None:
    worker = await hire(rig, fakes.good, incarnation="a")
    assert (await rig.compute("1+2"))["answer"] == 3
    await until(lambda: not rig.master.workers.presence._checks, "it has been checked")
    connections = len(worker.lines)
    for line in worker.lines:
        line.close()
    await until(lambda: len(worker.lines) > connections, "it is checked again")
    await until(lambda: not rig.master.workers.presence._checks, "that is over")
    assert rig.worker(worker.port).state == "free"
    assert (await rig.compute("3+4"))["answer"] == 7


# Two of one name


def warnings(listed: Any) -> list[str | None]:
    return [worker.get("warning") for worker in listed]


async def test_two_workers_of_one_name_are_warned_of_each_other(rig: Rig, hire: Hire) -> None:
    first = await hire(rig, fakes.good, worker_name="w", incarnation="a")
    second = await hire(rig, fakes.good, worker_name="w", incarnation="b")
    for worker, incarnation in ((first, "a"), (second, "b")) * 2:
        reply = await announce(rig, worker.port, incarnation=incarnation)
    assert f"another worker named w is at {HOST}:{first.port}" in reply["warning"]
    assert "unreachable" not in reply
    assert all(warnings((await rig.get("/worker")).json))
    assert (await rig.compute("1+2"))["answer"] == 3


async def test_a_worker_that_was_restarted_at_another_address_is_not_warned(
    rig: Rig, hire: Hire
) -> None:
    first = await hire(rig, fakes.good, worker_name="w", incarnation="a")
    await announce(rig, first.port)
    second = await hire(rig, fakes.good, worker_name="w", incarnation="b")
    for _ in range(2):
        assert "warning" not in await announce(rig, second.port, incarnation="b")
    assert warnings((await rig.get("/worker")).json) == [None, None]


async def test_the_seeds_workers_of_one_second_may_share_a_name(rig: Rig, hire: Hire) -> None:
    for _ in range(2):
        await hire(rig, fakes.good, worker_name="worker-1700000000")
    assert warnings((await rig.get("/worker")).json) == [None, None]
