"""Commands that ask a master, on real masters: what they print, and how they exit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from array import array
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fcntl import ioctl
from http.server import BaseHTTPRequestHandler, HTTPServer
from termios import FIONREAD
from urllib.request import Request, urlopen

import pytest
from click.testing import Result
from client.impostor import JOB, REFUSALS, UNAVAILABLE, UNFINISHED, Answer, Impostor, reply
from harness.machine import free_port
from harness.master_thread import MasterThread
from harness.processes import Processes, environment, until

import dte as package
from dte.client import patience

from .conftest import Dte, DteProcess, check_refused

Impostors = Callable[..., Impostor]


def expect(result: Result, code: int, stdout: str = "", stderr: str = "") -> None:
    assert (result.stdout, result.stderr, result.exit_code) == (stdout, stderr, code)


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up a master that is not there at once, as tests know that it is not."""
    monkeypatch.setattr(patience, "STRANGER_PATIENCE_S", 0.0)


@pytest.fixture
def impostor() -> Iterator[Callable[..., Impostor]]:
    """Starts an `Impostor` with the given answers."""
    with ExitStack() as stack:

        def start(*answers: Answer) -> Impostor:
            server = Impostor(*answers)
            stack.callback(server.stop)
            return server

        yield start


def announce(master: MasterThread, name: str) -> None:
    """Announce a worker that nobody will reach."""
    body = json.dumps({"worker_name": name, "port": 1}).encode()
    with urlopen(Request(f"{master.url}/worker", body)):
        pass


@pytest.fixture
def web_server() -> Iterator[str]:
    """The URL of a server that is no master and answers everything with a page."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>It works!</html>")

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


# dte submit


def test_submit_prints_a_formula_with_its_answer(ask: Dte) -> None:
    expect(ask("submit", "1+(2*3)/4-5"), 0, "1+(2*3)/4-5 = -2.5\n")


def test_submit_prints_several_in_the_order_given(ask: Dte) -> None:
    expect(ask("submit", "1+2", "8/4", "-(0.0)"), 0, "1+2 = 3\n8/4 = 2.0\n-(0.0) = -0.0\n")


def test_submit_of_a_formula_that_fails_exits_with_1_and_prints_the_others(ask: Dte) -> None:
    expect(
        ask("submit", "1+2", "1/0", "3+4"),
        1,
        "1+2 = 3\n3+4 = 7\n",
        "1/0 = error: division by zero: 1 / 0\n",
    )


@pytest.mark.parametrize("formula", ["-1+2", "-(1+2)", "--1", "-.5*2", "-1", "+1", "-−1"])
def test_submit_takes_a_formula_that_begins_with_a_sign(ask: Dte, formula: str) -> None:
    result = ask("submit", formula, "2*3")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{formula} = ")
    assert result.stdout.endswith("\n2*3 = 6\n")


def test_submit_takes_options_before_and_after_a_formula_that_begins_with_a_minus(
    dte: Dte, master: MasterThread
) -> None:
    expect(dte("submit", "--master", master.url, "-1+2", "--timeout", "20"), 0, "-1+2 = 1\n")
    expect(dte("submit", "--master", master.url, "--", "-1+2"), 0, "-1+2 = 1\n")


@pytest.mark.parametrize("option", ["--frobnicate", "--mastr=http://x"])
def test_submit_tells_an_unknown_option_from_a_formula(ask: Dte, option: str) -> None:
    check_refused(ask("submit", "1+2", option), 2, f"no such option: {option}", "dte submit --help")


def test_submit_without_a_formula_shows_the_usage(ask: Dte) -> None:
    check_refused(ask("submit"), 2, "FORMULA")


def test_submit_of_a_syntax_error_exits_with_2_and_points_at_it(ask: Dte) -> None:
    expect(
        ask("submit", "1+(2*"),
        2,
        "",
        "dte: the formula ends where a number or '(' is expected (column 6)\n  1+(2*\n       ^\n",
    )


def test_submit_of_a_syntax_error_does_not_lose_the_other_answers(ask: Dte) -> None:
    result = ask("submit", "1+2", "3+", "4+5")
    assert result.exit_code == 2
    assert result.stdout == "1+2 = 3\n4+5 = 9\n"


def test_submit_prints_json_a_line_an_answer_failures_too(ask: Dte) -> None:
    result = ask("submit", "--json", "8/4", "1/0", "-(0.0)")
    assert (result.exit_code, result.stderr) == (1, "")
    replies = [json.loads(line) for line in result.stdout.splitlines()]
    assert [repr(reply["answer"]) for reply in replies] == ["2.0", "None", "-0.0"]
    assert [reply["error"] for reply in replies] == [None, "division by zero: 1 / 0", None]


def test_submit_reads_formulas_from_stdin_one_a_line(ask: Dte) -> None:
    expect(ask("submit", "-", stdin="1+2\n\n  3*4  \n-5"), 0, "1+2 = 3\n3*4 = 12\n-5 = -5\n")


def test_submit_of_nothing_from_stdin_prints_nothing(ask: Dte) -> None:
    expect(ask("submit", "-", stdin=""), 0)


def test_submit_reads_stdin_of_a_pipe(dte_process: DteProcess, master: MasterThread) -> None:
    result = dte_process("submit", "-", stdin="1+2\n2×3\n", DTE_MASTER=master.url)
    assert (result.stdout, result.returncode) == ("1+2 = 3\n2×3 = 6\n", 0)


def test_submit_without_waiting_prints_the_ids(ask_idle: Dte) -> None:
    expect(ask_idle("submit", "--no-wait", "1+2", "3+4"), 0, "job 1: 1+2\njob 2: 3+4\n")


def test_submit_without_waiting_prints_the_ids_as_json(ask_idle: Dte) -> None:
    result = ask_idle("submit", "--no-wait", "--json", "1+2", "3+4")
    assert [json.loads(line)["job_id"] for line in result.stdout.splitlines()] == [1, 2]


def test_submit_gives_up_after_the_timeout_and_says_how_to_ask_later(
    ask_idle: Dte, idle_master: MasterThread
) -> None:
    url = idle_master.url
    expect(
        ask_idle("submit", "1+2", "--timeout", "0.05"),
        4,
        "",
        f"no worker is connected; to start one: dte worker --master {url}\n"
        "dte: job 1 has not ended within 0.05 s; it continues\nto see it: "
        f"dte job 1 --master {url}\n",
    )


def test_the_timeout_comes_from_the_environment(ask_idle: Dte) -> None:
    assert ask_idle("submit", "1+2", DTE_TIMEOUT="0.05").exit_code == 4


def test_a_timeout_that_is_none_is_refused(ask: Dte) -> None:
    for timeout in ("-1", "soon"):
        check_refused(ask("submit", "1+2", "--timeout", timeout), 2, "--timeout")


def test_a_timeout_that_is_no_number_is_refused(dte: Dte) -> None:
    # Of a master that is not there, so that it ends.
    url = f"http://127.0.0.1:{free_port()}"
    assert dte("job", "1", "--wait", "--timeout", "nan", "--master", url).exit_code == 2


def test_submit_sends_the_key_that_is_given(dte: Dte, impostor: Impostors) -> None:
    server = impostor(reply(UNFINISHED), reply(JOB), reply(UNFINISHED))
    key = ("--key", "order 17", "--master", server.url)
    expect(dte("submit", *key, "1+2"), 0, "1+2 = 3\n")
    expect(dte("submit", *key, "1+2", "--no-wait"), 0, "job 1: 1+2\n")
    assert server.keys == ["order 17"] * 2


def test_submit_of_the_same_key_gives_the_first_job_again(ask_idle: Dte) -> None:
    for _ in range(2):
        expect(ask_idle("submit", "--no-wait", "--key", "order 17", "1+2"), 0, "job 1: 1+2\n")


def test_submit_sends_a_key_of_its_own_for_each_formula(dte: Dte, impostor: Impostors) -> None:
    server = impostor(reply(UNFINISHED), reply(UNFINISHED))
    dte("submit", "--no-wait", "1+2", "1+2", "--master", server.url)
    assert len(set(server.keys)) == 2


@pytest.mark.parametrize("formulas", [("1+2", "3+4"), ("-",)])
def test_a_key_is_for_one_formula(ask: Dte, formulas: tuple[str, ...]) -> None:
    check_refused(
        ask("submit", "--key", "order-17", *formulas, stdin="1+2\n3+4\n"),
        2,
        "--key needs exactly one formula, not 2",
    )


def test_a_key_that_is_none_is_refused(ask: Dte) -> None:
    check_refused(
        ask("submit", "--key", "ключ", "1+2"), 2, "--key", "printable ASCII characters are expected"
    )


# dte job


def test_job_prints_how_a_job_stands(ask_idle: Dte) -> None:
    ask_idle("submit", "--no-wait", "1+2+3", "42")
    expect(ask_idle("job", "1"), 0, "job 1: waiting, 0 of 2 operations done\n")
    expect(ask_idle("job", "2"), 0, "job 2: 42\n")


def test_job_waits_if_asked_to(ask: Dte) -> None:
    number = json.loads(ask("submit", "--no-wait", "--json", "6*7").stdout)["job_id"]
    expect(ask("job", str(number), "--wait"), 0, f"job {number}: 42\n")


def test_job_gives_up_waiting_after_the_timeout(ask_idle: Dte) -> None:
    ask_idle("submit", "--no-wait", "1+2")
    check_refused(
        ask_idle("job", "1", "--wait", "--timeout", "0.05"), 4, "job 1 has not ended within 0.05 s"
    )


def test_job_that_failed_exits_with_1(ask: Dte) -> None:
    reply = json.loads(ask("submit", "--json", "1/0").stdout)
    number = str(reply["job_id"])
    expect(ask("job", number), 1, f"job {number}: error: division by zero: 1 / 0\n")
    result = ask("job", number, "--json")
    assert (json.loads(result.stdout), result.exit_code) == (reply, 1)


def test_job_that_is_a_retry_prints_of_which_job(ask_idle: Dte) -> None:
    ask_idle("submit", "--no-wait", "1+2")
    ask_idle("cancel", "1")
    ask_idle("retry", "1")
    expect(ask_idle("job", "2"), 0, "job 2 (retry of job 1): waiting, 0 of 1 operations done\n")
    assert json.loads(ask_idle("job", "2", "--json").stdout)["retry_of"] == 1
    listed = json.loads(ask_idle("jobs", "--json").stdout)
    assert [job["retry_of"] for job in listed] == [1, None]


def test_job_that_is_unknown_exits_with_2(ask_idle: Dte) -> None:
    for command in ("job", "nodes", "why", "cancel", "retry"):
        result = ask_idle(command, "47")
        assert result.exit_code == 2
        assert result.stderr.startswith("dte: there is no job 47 at http://127.0.0.1:")


@pytest.mark.parametrize("number", ["0", "-1", "one", "1.5", ""])
def test_job_takes_an_id_and_nothing_else(ask: Dte, number: str) -> None:
    assert ask("job", number).exit_code == 2


# dte jobs, dte workers


def test_jobs_are_a_table_with_the_newest_first(ask_idle: Dte) -> None:
    ask_idle("submit", "--no-wait", "1+2", "42", "1e999", "1" * 60)
    result = ask_idle("jobs")
    assert (result.exit_code, result.stderr) == (0, "")
    ones = "1" * 39 + "…"
    assert [line.split(maxsplit=3) for line in result.stdout.splitlines()] == [
        ["JOB", "STATE", "WORK", "ANSWER"],
        ["4", "succeeded", ones, ones],
        ["3", "failed", "1e999", "a number in the formula is too large fo…"],
        ["2", "succeeded", "42", "42"],
        ["1", "waiting", "1+2"],
    ]


def test_jobs_are_json_if_asked_for(ask_idle: Dte) -> None:
    ask_idle("submit", "--no-wait", "1+2", "42")
    newest, oldest = json.loads(ask_idle("jobs", "--json").stdout)
    ended = {"finished": True, "answer": 42, "error": None, "state": "succeeded"}
    assert newest == {"job_id": 2, "task": "42", "retry_of": None} | ended
    waits = {"finished": False, "answer": None, "error": None, "state": "waiting"}
    assert oldest == {"job_id": 1, "task": "1+2", "retry_of": None} | waits


def test_no_jobs_are_no_error_and_the_next_step_is_named(ask_idle: Dte) -> None:
    expect(ask_idle("jobs"), 0, "", "no jobs yet; to submit one: dte submit '1+2'\n")
    expect(ask_idle("jobs", "--json"), 0, "[]\n")


def test_a_formula_of_several_lines_takes_one_line_of_the_table(ask_idle: Dte) -> None:
    ask_idle("submit", "--no-wait", "1+\n2\t*\r3")
    header, row = ask_idle("jobs").stdout.splitlines()
    assert row.split() == ["1", "waiting", "1+", "2", "*", "3"]
    assert header.startswith("JOB")


def test_workers_are_a_table(ask: Dte) -> None:
    result = ask("workers")
    assert (result.exit_code, result.stderr) == (0, "")
    header, *rows = result.stdout.splitlines()
    assert header.split("  ")[0] == "WORKER"
    assert [row.split()[0] for row in rows] == ["worker-1", "worker-2"]
    assert all(row.split()[1].startswith("127.0.0.1:") for row in rows)
    assert all(row.split()[2] in ("free", "busy") for row in rows)


def test_the_table_of_workers_shows_how_many_slots_for_calls_are_busy(
    dte: Dte, impostor: Impostors
) -> None:
    arithmetic = (
        '"worker_name": "w", "address": "127.0.0.1:1", "state": "busy", "slots": 2, "leases": 1, '
        '"batch": 64, "operations_done": 10, "failures": 0, "last_failure": null, "heard_at": null'
    )
    calls = ', "handlers": ["echo"], "handler_slots": 4, "calls": 3, "calls_done": 7'
    for more, busy, done in (
        (calls, "3/4", "17"),
        (calls.replace("3", "200"), "4/4", "17"),
        ("", "1/2", "10"),
    ):
        master = impostor(reply(f"[{{{arithmetic}{more}}}]"))
        result = dte("workers", "--master", master.url)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.splitlines()[1].split() == ["w", "127.0.0.1:1", "busy", busy, done]


def test_the_table_of_workers_has_the_reason_why_one_is_failing(
    dte: Dte, impostor: Impostors
) -> None:
    known = {"worker_name": "w", "address": "h:1", "slots": 1, "leases": 0, "batch": 1}
    known |= {"operations_done": 0, "failures": 0, "last_failure": None, "heard_at": None}
    server = impostor(reply(json.dumps([known | {"state": "failing", "failing": "no GPU left"}])))
    result = dte("workers", "--master", server.url)
    assert result.stdout.splitlines()[1].split(maxsplit=5)[2:] == [
        "failing",
        "0/1",
        "0",
        "no GPU left",
    ]


def test_workers_are_json_if_asked_for(ask: Dte) -> None:
    workers = json.loads(ask("workers", "--json").stdout)
    assert [worker["worker_name"] for worker in workers] == ["worker-1", "worker-2"]


def test_no_workers_are_no_error_and_the_next_step_is_named(
    ask_idle: Dte, idle_master: MasterThread
) -> None:
    expect(
        ask_idle("workers"),
        0,
        "",
        f"no workers yet; to start one: dte worker --master {idle_master.url}\n",
    )
    expect(ask_idle("workers", "--json"), 0, "[]\n")


# What goes wrong: a next step, no traceback


@pytest.mark.parametrize(
    "command",
    [["submit", "1+2"], ["submit", "--no-wait", "1"], ["job", "1"], ["jobs"], ["workers"]],
)
def test_no_master_exits_with_3_and_says_how_to_start_one(dte: Dte, command: list[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    result = dte(*command, "--master", url)
    check_refused(result, 3)
    assert result.stderr.startswith(f"dte: no reply from {url}: ")
    hint = "Is a master running there? Start one with `dte run`, or pass --master URL\n"
    assert result.stderr.endswith(f"\n{hint}")


def test_a_refused_connection_is_told_in_words(dte: Dte) -> None:
    assert "Errno" not in dte("jobs", "--master", f"http://127.0.0.1:{free_port()}").stderr


def test_a_server_that_is_no_master_exits_with_3(dte: Dte, web_server: str) -> None:
    for command in (["submit", "1+2"], ["jobs"], ["workers"], ["job", "1"]):
        result = dte(*command, "--master", web_server)
        assert (result.exit_code, result.stdout) == (3, "")
        assert result.stderr.startswith("dte: not a reply of a dte master: ")


@pytest.mark.parametrize("url", ["localhost:5000", "ftp://localhost", "nonsense"])
def test_a_master_that_is_no_url_exits_with_2_and_says_what_is_expected(dte: Dte, url: str) -> None:
    for result in (dte("jobs", "--master", url), dte("jobs", DTE_MASTER=url)):
        assert result.exit_code == 2
        assert "--master" in result.stderr
        assert f"{url!r} is not a master's URL; http://HOST:PORT is expected" in result.stderr


def test_a_master_that_refuses_exits_with_3_and_names_the_bound(dte: Dte) -> None:
    with MasterThread(jobs_waiting_max=1, formula_chars_max=5) as master:
        check_refused(dte("submit", "1+2+3+4", "--master", master.url), 3, "formula_chars_max")
        dte("submit", "--no-wait", "1+2", "--master", master.url)
        check_refused(dte("submit", "1+2", "--master", master.url), 3, "jobs_waiting_max")


@pytest.mark.parametrize(("answer", "error"), REFUSALS)
@pytest.mark.parametrize("more", [(), ("--no-wait",)])
def test_a_master_that_refuses_is_quoted(
    dte: Dte,
    impostor: Impostors,
    answer: bytes,
    error: type[package.DteError],
    more: tuple[str, ...],
) -> None:
    """A key that was used for another formula is the command's fault, the rest the master's."""
    server = impostor(answer)
    result = dte("submit", "1+2", *more, "--master", server.url)
    expect(result, 2 if error is package.Conflict else 3, "", "dte: the master's words\n")
    assert len(server.requests) == 1


def test_a_master_that_cannot_accept_work_is_not_tried_for_longer_than_the_timeout(
    dte: Dte, impostor: Impostors
) -> None:
    server = impostor(*[UNAVAILABLE] * 100)
    result = dte("submit", "1+2", "--timeout", "0.05", "--master", server.url)
    expect(result, 3, "", "dte: the master is ending\n")


@pytest.mark.parametrize("way", ["argument", "stdin"])
def test_a_formula_that_is_no_text_exits_with_2(master: MasterThread, way: str) -> None:
    formula = b"1+\xff"
    command = [sys.executable, "-m", "dte", "submit", formula if way == "argument" else b"-"]
    result = subprocess.run(
        command,
        input=formula if way == "stdin" else b"",
        capture_output=True,
        env=environment(DTE_MASTER=master.url),
        timeout=30,
    )
    assert b"Traceback" not in result.stderr
    assert result.returncode == 2


def test_ctrl_c_while_waiting_exits_with_130_and_the_job_goes_on(
    processes: Processes, idle_master: MasterThread, idle_client: package.Client
) -> None:
    waiting = processes.start("submit", "1+2", DTE_MASTER=idle_master.url)
    until(lambda: "no worker is connected" in waiting.output, "the command waits")
    assert waiting.end(signal.SIGINT) == 130
    assert not idle_client.job(1).finished
    idle_master.add_worker()
    assert idle_client.wait(1, 20).result() == 3
    assert "dte: job 1 continues\nto wait for it: dte job 1 --wait " in waiting.output


def test_ctrl_c_while_formulas_are_read_exits_with_130(
    processes: Processes, idle_master: MasterThread
) -> None:
    read, write = os.pipe()
    with os.fdopen(read, "rb") as stdin, os.fdopen(write, "wb", buffering=0) as terminal:
        terminal.write(b"1+2\n")
        reading = processes.start("submit", "-", stdin=stdin, DTE_MASTER=idle_master.url)
        until(lambda: not bytes_in(read), "it reads the first line")
        assert reading.end(signal.SIGINT) == 130
        assert reading.output == ""


def bytes_in(pipe: int) -> int:
    """Return the number of unread bytes in a pipe."""
    count = array("i", [0])
    ioctl(pipe, FIONREAD, count)
    return count[0]


def test_a_reader_that_goes_away_is_no_error_worth_a_word(master: MasterThread) -> None:
    """This is ``dte submit - | head -1``."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        result = subprocess.run(
            [sys.executable, "-m", "dte", "submit", "1+2"],
            stdout=closed,
            stderr=subprocess.PIPE,
            env=environment(DTE_MASTER=master.url),
            timeout=30,
        )
    assert result.stderr == b""


def test_a_master_that_is_silent_is_waited_for_with_a_word(processes: Processes) -> None:
    port = free_port()
    master = processes.start_master(port)
    master.send(signal.SIGSTOP)
    url = f"http://127.0.0.1:{port}"
    commands = [["jobs"], ["job", "1", "--wait"], ["submit", "1+2"], ["events"]]
    waiting = [processes.start(*command, "--master", url) for command in commands]
    for each in waiting:
        until(lambda each=each: f"no answer from {url} yet" in each.output, "it says so")
    master.send(signal.SIGCONT)


def test_a_token_that_may_not_list_workers_is_told_which_may(
    dte: Dte, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(client: package.Client) -> None:
        raise package.Forbidden("the token shop is for a client")

    monkeypatch.setattr(package.Client, "workers", refuse)
    refused = dte("workers", "--master", "http://localhost:1")
    check_refused(refused, 3, "is for a client", "dte token new reader NAME")
