"""The asynchronous client on real masters, and on servers that are none."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from harness.machine import free_port
from harness.master_thread import MasterThread
from harness.until import until

import dte

from .impostor import JOB, Cut, Impostor, reply

REFUSED = os.strerror(errno.ECONNREFUSED)

Impostors = Callable[..., Impostor]

# Everything a client can ask for


async def test_submit_gives_a_job_to_wait_for(master: MasterThread) -> None:
    async with dte.AsyncClient(master.url) as client:
        submitted = await client.submit("1+(2*3)/4-5")
        job = await client.wait(submitted)
        assert (job.id, job.finished, job.result()) == (submitted.id, True, -2.5)
        assert await client.job(job.id) == job


async def test_compute_gives_the_value_in_its_type(master: MasterThread) -> None:
    async with dte.AsyncClient(master.url) as client:
        assert repr(await client.compute("7*3-4")) == "17"
        assert repr(await client.compute("8/4")) == "2.0"
        assert repr(await client.compute("-(0.0)")) == "-0.0"


async def test_map_gives_values_in_order_and_failures_if_asked_to(master: MasterThread) -> None:
    async with dte.AsyncClient(master.url) as client:
        assert await client.map([f"{number}*2" for number in range(100)]) == [*range(0, 200, 2)]
        value, failure = await client.map(["1+2", "1/0"], return_exceptions=True)
        assert value == 3
        assert isinstance(failure, dte.JobFailed)
        with pytest.raises(dte.JobFailed, match="division by zero"):
            await client.map(["1+2", "1/0"])


async def test_jobs_and_workers_are_listed(master: MasterThread) -> None:
    async with dte.AsyncClient(master.url) as client:
        job = await client.submit("6*7")
        assert (await client.jobs())[0].id == job.id
        assert {each.worker_name for each in await client.workers()} == {"worker-1", "worker-2"}


async def test_what_the_master_says_is_wrong_is_raised_as_what_it_is(master: MasterThread) -> None:
    async with dte.AsyncClient(master.url) as client:
        with pytest.raises(dte.FormulaError, match="column 3"):
            await client.submit("1+")
        with pytest.raises(dte.JobFailed, match="1 / 0"):
            await client.compute("1/0")
        with pytest.raises(dte.NotFound, match="Job not found"):
            await client.job(999_999_999)
        with pytest.raises(dte.InvalidRequest):
            await client.submit(12)  # type: ignore[arg-type]


async def test_waiting_is_over_in_time(idle_master: MasterThread) -> None:
    async with dte.AsyncClient(idle_master.url) as client:
        job = await client.submit("1+2")
        for waiting in (
            client.wait(job, 0.05),
            client.compute("1+2", 0.05),
            client.map(["1+2"], 0.05),
        ):
            with pytest.raises(dte.WaitTimeout, match=r"within 0\.05 s"):
                await waiting


async def test_calls_at_the_same_time_get_their_own_answers(master: MasterThread) -> None:
    async with dte.AsyncClient(master.url) as client:
        computed = asyncio.gather(*(client.compute(f"{n}*{n}+1") for n in range(100)))
        assert await computed == [n * n + 1 for n in range(100)]


# Connections


async def test_requests_share_a_kept_alive_connection(impostor: Impostors) -> None:
    server = impostor(reply(JOB), reply(JOB), reply(JOB))
    async with dte.AsyncClient(server.url) as client:
        for _ in range(3):
            await client.job(1)
    assert (len(server.requests), server.connections) == (3, 1)


async def test_a_call_that_was_cancelled_does_not_leave_its_reply_to_the_next(
    impostor: Impostors,
) -> None:
    def late() -> bytes:
        cancelled.wait(20)
        return reply('{"job_id": 1, "finished": true, "answer": 111}')

    cancelled = threading.Event()
    server = impostor(late, reply('{"job_id": 2, "finished": true, "answer": 222}'))
    async with dte.AsyncClient(server.url) as client:
        asking = asyncio.create_task(client.job(1))
        await until(lambda: server.requests, "the request has come")
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        cancelled.set()
        assert (await client.job(2)).answer == 222


async def test_a_kept_alive_connection_that_has_been_closed_is_not_used_for_a_formula() -> None:
    port = free_port()
    async with dte.AsyncClient(f"http://127.0.0.1:{port}") as client:
        for value in (1, 2, 3):
            master = await asyncio.to_thread(MasterThread, port=port)
            try:
                assert await client.compute(str(value)) == value
            finally:
                await asyncio.to_thread(master.stop)


async def test_a_connection_that_was_closed_while_the_loop_was_busy_is_not_used_either() -> None:
    port = free_port()
    async with dte.AsyncClient(f"http://127.0.0.1:{port}") as client:
        for value in (1, 2, 3):
            with MasterThread(port=port):
                assert await client.compute(str(value)) == value


async def test_a_formula_is_sent_again_when_the_connection_was_refused() -> None:
    port = free_port()
    async with dte.AsyncClient(f"http://127.0.0.1:{port}") as client:
        computed = asyncio.create_task(client.compute("42"))
        await asyncio.sleep(0)
        with await asyncio.to_thread(MasterThread, port=port):
            assert await computed == 42


@pytest.mark.usefixtures("no_pauses")
async def test_a_question_is_asked_again_when_the_connection_broke(impostor: Impostors) -> None:
    server = impostor(b"", Cut(reply(JOB)[:-5]), reply(JOB))
    async with dte.AsyncClient(server.url) as client:
        assert (await client.job(1)).answer == 3
    assert server.requests == ["GET /job/1 HTTP/1.1"] * 3


@pytest.mark.usefixtures("no_pauses")
async def test_a_master_that_is_not_there_is_unreachable_and_its_url_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    async with dte.AsyncClient(url) as client:
        with pytest.raises(dte.Unreachable, match=f"no reply from {url}: {REFUSED}$"):
            await client.jobs()


@pytest.mark.usefixtures("no_pauses")
async def test_a_formula_that_was_refused_has_certainly_not_been_accepted() -> None:
    async with dte.AsyncClient(f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(dte.Unreachable, match=f"{REFUSED}$"):
            await client.submit("1+2")


@pytest.mark.usefixtures("impatient")
async def test_a_silent_master_is_given_up_after_the_requests_time(impostor: Impostors) -> None:
    over = threading.Event()
    server = impostor(lambda: reply(JOB) if over.wait(20) else b"")
    async with dte.AsyncClient(server.url) as client:
        with pytest.raises(dte.Unreachable, match="the request may or may not have been accepted"):
            await client.submit("1+2")
    over.set()


@pytest.mark.usefixtures("impatient", "no_pauses")
async def test_a_master_that_was_silent_is_not_asked_again(impostor: Impostors) -> None:
    over = threading.Event()
    server = impostor(*[lambda: reply(JOB) if over.wait(20) else b""] * 6)
    async with dte.AsyncClient(server.url) as client:
        with pytest.raises(dte.Unreachable):
            await client.job(1)
    over.set()
    assert len(server.requests) == 1


@pytest.mark.usefixtures("impatient", "no_pauses")
async def test_silence_is_told_in_words(impostor: Impostors) -> None:
    over = threading.Event()
    server = impostor(*[lambda: reply(JOB) if over.wait(20) else b""] * 6)
    async with dte.AsyncClient(server.url) as client:
        with pytest.raises(dte.Unreachable, match="timed out"):
            await client.job(1)
    over.set()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply("<html>It works!</html>"), "not a reply of a dte master"),
        (reply("<html>Not Found</html>", 404), "status 404, not from a dte master"),
    ],
)
async def test_a_server_that_is_no_master_is_a_fault_that_says_so(
    impostor: Impostors, answer: bytes, words: str
) -> None:
    async with dte.AsyncClient(impostor(answer).url) as client:
        with pytest.raises(dte.MasterFault, match=words):
            await client.submit("1+2")


TWO_LOOPS = """
import asyncio, sys, dte
client = dte.AsyncClient(sys.argv[1])
print(asyncio.run(client.compute("42")))
try:
    asyncio.run(asyncio.wait_for(client.compute("1+2", 0.2), 2))
except TimeoutError as error:
    print(type(error).__name__)
"""


def test_a_client_works_in_one_loop_after_another(idle_master: MasterThread) -> None:
    """A script may call `asyncio.run` several times. Here the second has to wait for its reply."""
    script = [sys.executable, "-c", TWO_LOOPS, idle_master.url]
    done = subprocess.run(script, capture_output=True, text=True, timeout=30)
    assert done.stdout == "42\nWaitTimeout\n", done.stderr


def test_a_bad_url_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(ValueError, match="http://HOST:PORT is expected"):
        dte.AsyncClient("localhost:5000")


@pytest.mark.parametrize("patience_s", [-1, float("nan")])
def test_patience_that_is_no_time_is_refused(patience_s: float) -> None:
    with pytest.raises(ValueError, match="patience_s"):
        dte.AsyncClient(patience_s=patience_s)
