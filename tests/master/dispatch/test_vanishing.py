"""Workers that vanish without a word, over real sockets: who is asked, and what is blamed."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
from harness.http import Line, Message, PlainServer
from harness.until import until

from dte.core.arithmetic import quarantine as suspects
from dte.core.backoff import backoff_s
from dte.core.workers import availability
from dte.master.journal.journal import Journal
from dte.master.journal.schema import JournalFailed
from master import fakes
from master.rig import Hire, Rig, StartMaster

POISON = 666
DEAD_AFTER_S = 5.0
QUESTION = b'{"operation":"sum","op1":1,"op2":1}'

FORMS = {
    "seed": {},
    "single": {"incarnation": "a"},
    "batch": {"incarnation": "a", "batch_max": 64},
}
all_forms = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


@pytest.fixture(autouse=True)
def brief_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the master look and try again within milliseconds, not seconds."""
    monkeypatch.setattr(availability, "LIVENESS_S", 0.01)
    brief = partial(backoff_s, first_s=0.01, most_s=0.02)
    monkeypatch.setattr(availability, "backoff_s", brief)
    monkeypatch.setattr(suspects, "backoff_s", brief)


class Mortal:
    """A good worker whose process ends when it gets an operation with the operand `POISON`."""

    def __init__(self) -> None:
        self.server: PlainServer | None = None

    async def __call__(self, request: Message, line: Line) -> None:
        operands = (request.json["op1"], request.json["op2"])
        if any(POISON in each if isinstance(each, list) else each == POISON for each in operands):
            assert self.server is not None
            await die(self.server)
        else:
            await fakes.good(request, line)


async def die(server: PlainServer) -> None:
    """What the end of a process does: nobody listens, and all connections break."""
    assert server._server is not None
    await server._stop_listening(server._server)
    for line in server.lines:
        if not line.closed:
            line.reset()


@pytest.fixture
def hire_mortal(hire: Hire, cleanup: AsyncExitStack) -> Callable[..., Any]:
    """Starts a mortal worker; one with an incarnation announces itself as long as it lives."""

    async def live(rig: Rig, server: PlainServer, said: dict[str, Any]) -> None:
        while listens(server):
            await rig.announce(server, **said)
            await asyncio.sleep(DEAD_AFTER_S / 5)

    async def start(rig: Rig, **said: Any) -> PlainServer:
        mortal = Mortal()
        mortal.server = await hire(rig, mortal, **said)
        if "incarnation" in said:
            heart = asyncio.create_task(live(rig, mortal.server, said))
            cleanup.push_async_callback(asyncio.wait, [heart])
            cleanup.callback(heart.cancel)
        return mortal.server

    return start


def listens(server: PlainServer) -> bool:
    return server._server is not None and server._server.is_serving()


# Operations that end workers


@all_forms
async def test_an_operation_that_ends_three_workers_fails_and_no_other_does(
    form: dict[str, Any], start_master: StartMaster, hire_mortal: Callable[..., Any]
) -> None:
    rig = await start_master(dead_after_s=DEAD_AFTER_S, heartbeat_s=0.1)
    workers = [await hire_mortal(rig, **form) for _ in range(5)]
    tasks = [f"({n}+1)*({n}+2)/2" for n in range(20)]
    tasks.insert(7, f"1.5+{POISON}")
    ids = (await rig.post("/submit", {"tasks": tasks})).json["job_ids"]
    jobs = (await rig.get(f"/jobs?ids={ids[0]}-{ids[-1]}&wait=20")).json
    poisoned = jobs.pop(7)
    assert (poisoned["state"], poisoned["answer"]) == ("failed", None)
    assert poisoned["error"] == (
        f"gave up: 3 workers died while running 1.5 + {POISON} (workers_lost_max)"
    )
    assert [job["answer"] for job in jobs] == [(n + 1) * (n + 2) / 2 for n in range(20)]
    # The first one had the operation among others, so on a busy machine it may not be blamed yet.
    assert sum(map(listens, workers)) in (1, 2)
    assert (await rig.compute("6*7"))["answer"] == 42
    await until(lambda: rig.idle, "nothing is under way")


@all_forms
async def test_how_many_workers_an_operation_may_lose_is_a_bound(
    form: dict[str, Any], start_master: StartMaster, hire_mortal: Callable[..., Any]
) -> None:
    rig = await start_master(dead_after_s=DEAD_AFTER_S, heartbeat_s=0.1, workers_lost_max=1)
    workers = [await hire_mortal(rig, **form) for _ in range(2)]
    job = await rig.compute(f"{POISON}*2")
    assert job["error"] == f"gave up: 1 worker died while running {POISON} * 2 (workers_lost_max)"
    assert sum(map(listens, workers)) == 1


async def test_a_worker_that_is_started_again_and_again_is_lost_each_time(
    rig: Rig, hire: Hire
) -> None:
    """A supervisor restarts it at the same address, as another incarnation."""
    mortal = Mortal()
    worker = mortal.server = await hire(rig, mortal, incarnation="0")
    number = await rig.submit(f"{POISON}-1")
    for start in range(1, 4):
        await until(lambda: not listens(worker), f"end {start}")
        await worker.start(port=worker.port)
        await rig.announce(worker, incarnation=str(start))
    job = await rig.job(number, wait_s=20)
    assert job["error"].startswith("gave up: 3 workers died while running ")
    if not listens(worker):  # It got the operation before the master knew that it was a new one.
        await worker.start(port=worker.port)
        await rig.announce(worker, incarnation="4")
    assert (await rig.compute("6*7"))["answer"] == 42


async def test_a_connection_that_breaks_again_and_again_is_not_the_end_of_a_worker(
    rig: Rig, hire: Hire
) -> None:
    """It goes on announcing itself, so the operation is not what ended it."""
    breaks = [fakes.resetting, fakes.hanging_up, fakes.half_replying] * 2

    async def break_often(request: Message, line: Line) -> None:
        await rig.announce(worker, incarnation="a")
        await (breaks.pop() if breaks else fakes.good)(request, line)

    worker = await hire(rig, break_often, incarnation="a")
    assert (await rig.compute("1+2"))["answer"] == 3
    assert not breaks


@all_forms
async def test_one_end_of_a_worker_counts_once_however_often_its_connection_broke(
    form: dict[str, Any], start_master: StartMaster, hire: Hire
) -> None:
    rig = await start_master(dead_after_s=20)
    worker = await hire(rig, fakes.resetting, **form)
    number = await rig.submit("1+2")
    await until(lambda: len(worker.requests) > 3, "it is tried again and again")
    await die(worker)
    refused = os.strerror(errno.ECONNREFUSED)
    await until(lambda: rig.worker(worker).last_failure == refused, "it is gone")
    await hire(rig, fakes.good, **form)
    assert (await rig.job(number, wait_s=20))["answer"] == 3


# Workers that announce themselves once


async def test_a_worker_of_the_seed_that_is_silent_is_asked_in_the_seed_s_form(
    start_master: StartMaster, hire: Hire
) -> None:
    rig = await start_master(heartbeat_s=0.05)
    worker = await hire(rig, fakes.good)
    await until(lambda: len(worker.requests) >= 3, "it is asked thrice")
    for request in worker.requests:
        assert (request.method, request.path, request.body) == ("POST", "/compute", QUESTION)
    assert len(worker.lines) == 1, "on the connection that is kept"
    (listed,) = (await rig.get("/worker")).json
    assert (listed["state"], listed["failures"], listed["operations_done"]) == ("free", 0, 0)
    assert (await rig.get("/health")).json["operations_done"] == 0
    assert (await rig.compute("6*7"))["answer"] == 42


async def test_a_worker_of_batches_without_incarnation_is_asked_in_its_form(
    start_master: StartMaster, hire: Hire
) -> None:
    rig = await start_master(heartbeat_s=0.05)
    worker = await hire(rig, fakes.good, batch_max=64)
    await until(lambda: len(worker.requests) >= 3, "it is asked thrice")
    for request in worker.requests:
        asked = request.json
        assert asked.pop("lease") > 0
        assert asked == {"operations": "+", "op1": [1], "op2": [1]}
    assert rig.worker(worker).failures == 0


async def test_a_worker_that_announces_itself_is_not_asked(
    start_master: StartMaster, hire: Hire
) -> None:
    rig = await start_master(heartbeat_s=0.02)
    worker = await hire(rig, fakes.good, incarnation="a")
    asked = await hire(rig, fakes.good)
    await until(lambda: len(asked.requests) >= 3, "another is asked thrice")
    assert not worker.requests


async def test_a_worker_that_works_is_not_asked(start_master: StartMaster, hire: Hire) -> None:
    rig = await start_master(heartbeat_s=0.02)
    may_reply = asyncio.Event()
    worker = await hire(rig, fakes.held_until(may_reply))
    number = await rig.submit("1+2")
    asked = await hire(rig, fakes.good)
    await until(lambda: len(asked.requests) >= 3, "another is asked thrice")
    assert len(worker.requests) == 1
    may_reply.set()
    assert (await rig.job(number, wait_s=20))["answer"] == 3


async def test_a_worker_of_the_seed_whose_process_has_ended_is_found_by_being_asked(
    start_master: StartMaster, hire: Hire
) -> None:
    """No job waits: the first to come does not pay for it."""
    rig = await start_master(heartbeat_s=0.05, dead_after_s=0.2)
    worker = await hire(rig, fakes.good)
    await rig.compute("1+2")
    await die(worker)
    await until(lambda: rig.worker(worker).state == "gone", "it is gone")
    (listed,) = (await rig.get("/worker")).json
    assert listed["last_failure"] is not None
    assert (await rig.get("/health")).json["workers"] == 0


async def test_a_worker_of_the_seed_whose_machine_is_gone_is_found_by_its_silence(
    start_master: StartMaster, hire: Hire
) -> None:
    """No connection breaks: it is asked and does not answer."""
    rig = await start_master(heartbeat_s=0.05, dead_after_s=0.2, lease_s=0.1)
    worker = await hire(rig, fakes.silent)
    await until(lambda: rig.worker(worker).state == "gone", "it is gone")
    assert {request.body for request in worker.requests} == {QUESTION}
    assert (await rig.get("/health")).json["workers"] == 0


async def test_a_worker_of_the_seed_that_was_gone_is_asked_now_and_then_and_comes_back(
    start_master: StartMaster, hire: Hire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would not announce itself again: only its network was away."""
    monkeypatch.setattr(availability, "PROBE_GONE_S", 0.1)
    rig = await start_master(heartbeat_s=0.05, dead_after_s=0.2)
    worker = await hire(rig, fakes.good)
    await die(worker)
    await until(lambda: rig.worker(worker).state == "gone", "it is gone")
    await worker.start(port=worker.port)
    await until(lambda: rig.worker(worker).state == "free", "it is there again")
    assert (await rig.compute("6*7"))["answer"] == 42


async def test_a_question_that_is_answered_with_nonsense_is_a_failure_of_the_worker(
    start_master: StartMaster, hire: Hire
) -> None:
    rig = await start_master(heartbeat_s=0.05)
    worker = await hire(rig, fakes.replying(404, b"<h1>Not Found</h1>"))
    await until(lambda: rig.worker(worker).failures, "the failure is noted")
    assert "malformed reply, status 404" in str(rig.worker(worker).last_failure)


async def test_jobs_end_right_while_workers_are_asked_all_the_time(
    start_master: StartMaster, hire: Hire
) -> None:
    rig = await start_master(heartbeat_s=0.001)
    workers = [await hire(rig, fakes.good) for _ in range(2)]
    for number in range(30):
        job = await rig.compute(f"({number}+1)*2-{number}/4")
        assert job["answer"] == (number + 1) * 2 - number / 4
    assert any(request.body == QUESTION for worker in workers for request in worker.requests)
    assert rig.worker(workers[0]).failures == 0


# After a restart


async def test_a_worker_of_the_seed_is_found_again_by_a_master_that_was_restarted(
    start_master: StartMaster, hire: Hire, tmp_path: Any
) -> None:
    """It has announced itself once, to the master that was before."""
    journal = str(tmp_path / "journal.db")
    rig = await start_master(journal=journal)
    worker = await hire(rig, fakes.good)
    other = await hire(rig, fakes.good, incarnation="a")
    number = await rig.submit("6*7")
    await rig.job(number, wait_s=20)
    await rig.stop()
    rig = await start_master(journal=journal)
    (known,) = (await rig.get("/worker")).json
    assert known["address"].endswith(f":{worker.port}")
    assert (await rig.compute("2*3"))["answer"] == 6
    await rig.announce(other, incarnation="a")
    assert len((await rig.get("/worker")).json) == 2


async def test_a_worker_that_cannot_be_noted_while_the_disk_is_full_is_noted_when_it_is_not(
    start_master: StartMaster, hire: Hire, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It will not announce itself again to the master that comes after."""
    journal, noted, full = str(tmp_path / "journal.db"), [], True
    remember = Journal.remember

    def remember_if_there_is_room(*arguments: Any) -> None:
        if full:
            raise JournalFailed("database or disk is full", full=True)
        remember(*arguments)
        noted.append(arguments)

    monkeypatch.setattr(Journal, "remember", remember_if_there_is_room)
    rig = await start_master(journal=journal)
    await hire(rig, fakes.good)
    full = False
    await rig.compute("6*7")
    await until(lambda: noted, "it is noted")
    await rig.stop()
    rig = await start_master(journal=journal)
    assert len((await rig.get("/worker")).json) == 1
