"""The blocking client on real masters, and on servers that are none."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from harness.machine import free_port
from harness.master_thread import MasterThread

import dte
from dte.client import blocking

from .impostor import JOB, Cut, Impostor, reply

Impostors = Callable[..., Impostor]

# Everything a client can ask for


def test_submit_gives_a_job_to_wait_for(client: dte.Client) -> None:
    submitted = client.submit("1+(2*3)/4-5")
    job = client.wait(submitted)
    assert job.id == submitted.id
    assert (job.finished, job.state, job.result()) == (True, "succeeded", -2.5)
    assert (job.operations, job.operations_done) == (4, 4)


def test_compute_gives_the_value_in_its_type(client: dte.Client) -> None:
    values = [client.compute(formula) for formula in ("7*3-4", "8/4", "-(0.0)", "10-3*2")]
    assert list(map(repr, values)) == ["17", "2.0", "-0.0", "4"]


def test_map_gives_the_values_in_order(client: dte.Client) -> None:
    assert client.map([f"{number}*2" for number in range(500)]) == list(range(0, 1000, 2))


def test_map_keeps_the_order_across_batches(
    client: dte.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dte.client.requests.BATCH_FORMULAS", 7)
    assert client.map([f"{number}*2" for number in range(40)]) == list(range(0, 80, 2))


def test_map_says_which_formula_is_bad_in_a_later_batch(
    client: dte.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dte.client.requests.BATCH_FORMULAS", 3)
    with pytest.raises(dte.FormulaError, match="formula 7, column 3") as raised:
        client.map(["1"] * 7 + ["1+"] + ["1"] * 7)
    assert raised.value.index == 7


def test_map_says_which_formula_is_too_large_in_a_later_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dte.client.requests.BATCH_FORMULAS", 3)
    with (
        MasterThread(formula_chars_max=5) as master,
        dte.Client(master.url) as client,
        pytest.raises(dte.TooLarge, match=r"formula 7: .*formula_chars_max"),
    ):
        client.map(["1"] * 7 + ["1+2+3+4"] + ["1"] * 7)


def test_map_raises_a_failure_or_gives_it_in_its_place(client: dte.Client) -> None:
    with pytest.raises(dte.JobFailed, match="division by zero: 1 / 0"):
        client.map(["1+2", "1/0"])
    value, failure, last = client.map(["1+2", "1/0", "5"], return_exceptions=True)
    assert (value, last) == (3, 5)
    assert isinstance(failure, dte.JobFailed)


def test_a_formula_is_no_list_of_formulas(client: dte.Client) -> None:
    with pytest.raises(TypeError, match="list"):
        client.map("1+2")


def test_map_of_nothing_is_nothing(client: dte.Client) -> None:
    assert client.map([]) == []


def test_job_tells_how_a_job_stands_by_its_id_or_by_itself(idle_master: MasterThread) -> None:
    with dte.Client(idle_master.url) as client:
        job = client.submit("1+2")
        for asked in (client.job(job), client.job(job.id)):
            assert (asked.id, asked.finished, asked.state) == (job.id, False, "waiting")


def test_jobs_lists_the_last_hundred_newest_first(client: dte.Client) -> None:
    client.map([str(number) for number in range(120)])
    jobs = client.jobs()
    assert [job.task for job in jobs] == [str(number) for number in reversed(range(20, 120))]
    assert [job.answer for job in jobs[:3]] == [119, 118, 117]


def test_workers_lists_who_computes(client: dte.Client) -> None:
    workers = client.workers()
    assert {worker.worker_name for worker in workers} == {"worker-1", "worker-2"}
    assert all(worker.address.startswith("127.0.0.1:") for worker in workers)


# What the master says is wrong


def test_a_syntax_error_points_at_its_column(client: dte.Client) -> None:
    with pytest.raises(dte.FormulaError) as raised:
        client.compute("1+(2*")
    assert raised.value.column == 6
    assert raised.value.caret == "1+(2*\n     ^"


def test_a_job_without_an_answer_is_a_failure_with_the_job(client: dte.Client) -> None:
    with pytest.raises(dte.JobFailed, match="division by zero: 5 / 0") as raised:
        client.compute("5/(3-3)")
    assert raised.value.job.state == "failed"


def test_an_unknown_job_is_not_found(client: dte.Client) -> None:
    for ask in (client.job, client.wait):
        with pytest.raises(dte.NotFound, match="Job not found"):
            ask(999_999_999)


def test_what_has_the_wrong_type_is_an_invalid_request(client: dte.Client) -> None:
    with pytest.raises(dte.InvalidRequest, match="task must be a text, not 12"):
        client.submit(12)  # type: ignore[arg-type]


def test_a_formula_beyond_a_bound_is_too_large_and_the_bound_is_named() -> None:
    with (
        MasterThread(formula_chars_max=10) as master,
        dte.Client(master.url) as client,
        pytest.raises(dte.TooLarge, match="formula_chars_max"),
    ):
        client.submit("1+2+3+4+5+6")


def test_a_request_beyond_a_bound_is_too_large_and_the_bound_is_named() -> None:
    with (
        MasterThread(body_bytes_max=1_000_000) as master,
        dte.Client(master.url) as client,
        pytest.raises(dte.TooLarge, match="body_bytes_max"),
    ):
        client.submit("1" * 20_000_000)


def test_a_master_with_enough_to_do_is_busy_and_says_when_to_come_back() -> None:
    with MasterThread(jobs_waiting_max=1) as master, dte.Client(master.url) as client:
        client.submit("1+2")
        with pytest.raises(dte.Busy, match="jobs_waiting_max") as raised:
            client.submit("3+4")
        assert raised.value.retry_after_s == 1


def test_a_formula_with_the_same_key_is_the_same_job(client: dte.Client) -> None:
    first = client.submit("1+2*3", key="order 17")
    assert client.submit("1+2*3", key="order 17").id == first.id
    assert client.compute("1+2*3", key="order 17") == 7
    assert client.submit("1+2*3").id != first.id


def test_another_formula_with_the_same_key_is_a_conflict(client: dte.Client) -> None:
    client.submit("1+2", key="order 18")
    for submit in (client.submit, client.compute):
        with pytest.raises(dte.Conflict, match="Idempotency-Key"):
            submit("1+3", key="order 18")


def test_waiting_works_on_a_master_that_holds_requests_for_a_short_time() -> None:
    with MasterThread(workers=1, wait_max_s=1.0) as master, dte.Client(master.url) as client:
        assert client.compute("1+2") == 3


def test_map_works_on_a_master_that_takes_few_formulas_in_a_request() -> None:
    with MasterThread(formulas_max=10) as master, dte.Client(master.url) as client:
        assert client.map(["1"] * 25) == [1] * 25


def test_map_works_when_the_formulas_of_a_batch_are_long() -> None:
    with MasterThread(body_bytes_max=10_000) as master, dte.Client(master.url) as client:
        assert client.map([f"{number:1000}" for number in range(25)]) == list(range(25))


# Waiting


def test_waiting_is_over_in_time_and_the_job_goes_on() -> None:
    with MasterThread() as master, dte.Client(master.url) as client:
        job = client.submit("1+2")
        for wait in (
            lambda: client.wait(job, 0.05),
            lambda: client.compute("1+2", 0.05),
            lambda: client.map(["1+2"], 0.05),
        ):
            with pytest.raises(dte.WaitTimeout, match=r"within 0\.05 s"):
                wait()
        master.add_worker()
        assert client.wait(job, 20).result() == 3


def test_no_time_to_wait_asks_once(client: dte.Client, idle_master: MasterThread) -> None:
    assert client.wait(client.submit("42"), 0).result() == 42
    with dte.Client(idle_master.url) as idle, pytest.raises(dte.WaitTimeout):
        idle.compute("1+2", 0)


@pytest.mark.parametrize("compute", ["compute", "submit"])
def test_a_formula_that_is_a_number_has_its_value_at_once(client: dte.Client, compute: str) -> None:
    value = client.compute("42", 0) if compute == "compute" else client.submit("42").result()
    assert value == 42


# Connections


def test_requests_share_a_kept_alive_connection(impostor: Impostors) -> None:
    server = impostor(reply(JOB), reply(JOB), reply(JOB))
    with dte.Client(server.url) as client:
        for _ in range(3):
            client.job(1)
    assert (len(server.requests), server.connections) == (3, 1)


def test_a_connection_that_the_server_announces_to_close_is_not_used_again(
    impostor: Impostors,
) -> None:
    server = impostor(reply(JOB, headers="Connection: close\r\n"), b"", reply(JOB))
    with dte.Client(server.url) as client:
        client.job(1)
        client.job(1)
    assert server.connections >= 2


def test_a_kept_alive_connection_that_has_been_closed_is_not_used_for_a_formula() -> None:
    """A formula sent on a stale connection would fail with an unknown outcome."""
    port = free_port()
    with dte.Client(f"http://127.0.0.1:{port}") as client:
        for value in (1, 2, 3):
            with MasterThread(port=port):
                assert client.compute(str(value)) == value


def test_all_kept_alive_connections_survive_the_masters_restart() -> None:
    port = free_port()
    with dte.Client(f"http://127.0.0.1:{port}") as client:
        for _ in range(2):
            with MasterThread(port=port), ThreadPoolExecutor(8) as threads:
                assert list(threads.map(client.compute, map(str, range(40)))) == list(range(40))


def test_a_formula_is_sent_again_when_the_connection_was_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It has not arrived, so nothing is done twice; a master that restarts is waited for."""
    port = free_port()
    started: list[MasterThread] = []
    pauses: list[float] = []

    def pause(pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == 3:
            started.append(MasterThread(port=port))

    monkeypatch.setattr(blocking, "time", SimpleNamespace(sleep=pause))
    try:
        with dte.Client(f"http://127.0.0.1:{port}") as client:
            assert client.compute("42") == 42
    finally:
        for master in started:
            master.stop()
    assert pauses == [0.1, 0.2, 0.4]


def test_a_machine_that_does_not_say_a_word_is_given_up_soon(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    """One that has vanished refuses nothing. Only who took the request is given a minute."""

    def connect(*args: object) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr(blocking.http.client.HTTPConnection, "connect", connect)
    with (
        dte.Client(f"http://127.0.0.1:{free_port()}") as client,
        pytest.raises(dte.Unreachable, match=r"timed out$"),
    ):
        client.submit("1+2")
    assert pauses


@pytest.mark.usefixtures("no_pauses")
def test_a_question_is_asked_again_when_the_connection_broke(impostor: Impostors) -> None:
    server = impostor(b"", Cut(reply(JOB)[:-5]), reply(JOB))
    with dte.Client(server.url) as client:
        assert client.job(1).answer == 3
    assert server.requests == ["GET /job/1 HTTP/1.1"] * 3


@pytest.mark.usefixtures("no_pauses")
def test_a_master_that_is_not_there_is_unreachable_and_its_url_is_named() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with dte.Client(url) as client:
        for ask in (lambda: client.submit("1+2"), client.jobs, client.workers):
            with pytest.raises(dte.Unreachable, match=f"no reply from {url}: ") as raised:
                ask()
            assert os.strerror(errno.ECONNREFUSED) in str(raised.value)
            assert "may not have been" not in str(raised.value)  # It was certainly not accepted.


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("answer", [b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 twohundred OK\r\n\r\n"])
def test_a_server_that_does_not_speak_http_is_unreachable(
    impostor: Impostors, answer: bytes
) -> None:
    server = impostor(*[answer] * 6)
    with dte.Client(server.url) as client, pytest.raises(dte.Unreachable, match=server.url):
        client.jobs()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (reply("<html>It works!</html>"), "not a reply of a dte master"),
        (reply('{"job": 1}'), "not a reply of a dte master"),
        (reply("<html>Not Found</html>", 404), "status 404, not from a dte master"),
        (reply("", 302, "Location: http://localhost/\r\n"), "status 302, not from a dte master"),
    ],
)
def test_a_server_that_is_no_master_is_a_fault_that_says_so(
    impostor: Impostors, answer: bytes, words: str
) -> None:
    with dte.Client(impostor(answer).url) as client, pytest.raises(dte.MasterFault, match=words):
        client.submit("1+2")


def test_a_reply_that_was_interrupted_is_not_taken_for_the_next_one(impostor: Impostors) -> None:
    def interrupt() -> bytes:
        os.kill(os.getpid(), signal.SIGINT)
        interrupted.wait(20)
        return reply('{"job_id": 1, "finished": true, "answer": 111}')

    interrupted = threading.Event()
    server = impostor(interrupt, reply('{"job_id": 2, "finished": true, "answer": 222}'))
    with dte.Client(server.url) as client:
        with pytest.raises(KeyboardInterrupt):
            client.job(1)
        interrupted.set()
        assert client.job(2).answer == 222


@pytest.mark.usefixtures("impatient")
def test_a_silent_master_is_given_up_after_the_requests_time(impostor: Impostors) -> None:
    over = threading.Event()
    server = impostor(lambda: reply(JOB) if over.wait(20) else b"")
    with (
        dte.Client(server.url) as client,
        pytest.raises(dte.Unreachable, match="; the request may or may not have been accepted"),
    ):
        client.submit("1+2")
    over.set()


@pytest.mark.usefixtures("impatient", "no_pauses")
def test_a_master_that_was_silent_is_not_asked_again(impostor: Impostors) -> None:
    """Whoever waits for an answer at a terminal is to hear of it after one silence."""
    over = threading.Event()
    server = impostor(*[lambda: reply(JOB) if over.wait(20) else b""] * 6)
    with dte.Client(server.url) as client, pytest.raises(dte.Unreachable, match="no reply from"):
        client.job(1)
    over.set()
    assert len(server.requests) == 1


# Threads, and many open files


def test_threads_that_share_a_client_get_their_own_answers(client: dte.Client) -> None:
    def compute(number: int) -> bool:
        return client.compute(f"{number}*{number}+1") == number * number + 1

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(compute, range(200)))


MANY_OPEN_FILES = """
import os, resource, sys, dte
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (2048, hard))
files = [open(os.devnull) for _ in range(1100)]
client = dte.Client(sys.argv[1])
print(client.compute("1+2"), client.compute("3+4"))
"""


def test_a_client_works_in_a_program_with_many_open_files(master: MasterThread) -> None:
    script = [sys.executable, "-c", MANY_OPEN_FILES, master.url]
    done = subprocess.run(script, capture_output=True, text=True, timeout=30)
    assert done.stdout == "3 7\n", done.stderr


def test_close_closes_the_connections_and_a_later_call_opens_another(impostor: Impostors) -> None:
    server = impostor(reply(JOB), reply(JOB))
    client = dte.Client(server.url)
    client.job(1)
    client.close()
    client.job(1)
    client.close()
    assert server.connections == 2


def test_a_bad_url_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(ValueError, match="http://HOST:PORT is expected"):
        dte.Client("localhost:5000")


@pytest.mark.parametrize("patience_s", [-1, float("nan")])
def test_patience_that_is_no_time_is_refused(patience_s: float) -> None:
    with pytest.raises(ValueError, match="patience_s"):
        dte.Client(patience_s=patience_s)
