"""`scripts/client.py`: the document's client, as somebody at a terminal uses it."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import processes as programs
from harness.cluster import Cluster
from harness.master_thread import MasterThread
from harness.processes import Processes, until

SCRIPT = Path(__file__).parents[2] / "scripts" / "client.py"

Script = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def client(tmp_path: Path, cluster: Cluster) -> Script:
    """Runs the script for the cluster's master, unless another is given."""

    def run(*arguments: str | bytes, **settings: str) -> subprocess.CompletedProcess[str]:
        settings = {"DTE_MASTER": cluster.url} | settings
        return programs.run(sys.executable, str(SCRIPT), *arguments, folder=tmp_path, **settings)

    return run


@pytest.fixture
def impostor() -> Iterator[Callable[[str], str]]:
    """Starts a server that gives one answer to everything, and gives its URL."""
    listening: list[socket.socket] = []
    threads: list[threading.Thread] = []

    def serve(listener: socket.socket, answer: bytes) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

    def start(body: str) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        answer = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        listening.append(listener)
        threads.append(threading.Thread(target=serve, args=(listener, answer)))
        threads[-1].start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for listener in listening:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
    for thread in threads:
        thread.join()


def test_it_prints_the_answer_and_nothing_else_on_stdout(client: Script) -> None:
    done = client("1+(2*3)/4-5", "--interval", "0.05")
    assert (done.stdout, done.returncode) == ("-2.5\n", 0)
    assert "is submitted" in done.stderr


@pytest.mark.parametrize(
    ("formula", "answer"),
    [
        ("-(2+3)*4", "-20"),
        ("-1+2", "1"),
        ("--1", "1"),
        ("- 1", "-1"),
        ("-.5", "-0.5"),
        ("42", "42"),
    ],
)
def test_it_takes_a_formula_that_begins_with_a_minus(
    client: Script, formula: str, answer: str
) -> None:
    assert client(formula, "--interval", "0.05").stdout == f"{answer}\n"


def test_it_asks_again_until_the_job_is_finished(processes: Processes) -> None:
    with MasterThread() as master:
        script = processes.start(
            *("6*7", "--interval", "0.05", "--master", master.url),
            program=(sys.executable, str(SCRIPT)),
        )
        until(lambda: script.output.count("asking again in 0.05 s") > 2, "it asks again")
        master.add_worker()
        assert script.exit_code() == 0
        assert script.output.endswith("\n42\n")


def test_ctrl_c_ends_it_cleanly(processes: Processes) -> None:
    with MasterThread() as master:
        script = processes.start(
            "6*7", program=(sys.executable, str(SCRIPT)), DTE_MASTER=master.url
        )
        until(lambda: "asking again in 5 s" in script.output, "it waits")
        assert script.end(signal.SIGINT) == 130
        assert "Traceback" not in script.output


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["1/0"], 1, "1/0 has no answer: division by zero: 1 / 0"),
        (["1+*2"], 2, "\n  1+*2\n    ^\n"),
        ([""], 2, "the formula is empty"),
        ([b"1+\xff"], 2, "not UTF-8 text"),
        ([], 2, "formula"),
        (["1+2", "--interval", "0"], 2, "'0' is not a positive number of seconds"),
        (["1+2", "--interval", "soon"], 2, "'soon' is not a positive number of seconds"),
        (["1+2", "--master", "localhost:5000"], 2, "is not a URL like http://localhost:5000"),
        (["1+2", "--master", "http://localhost:x"], 2, "is not a URL like http://localhost:5000"),
        (["1+2", "--master", "http://127.0.0.1:1"], 3, "Start one with `dte run`"),
    ],
)
def test_what_is_wrong_is_said_in_words_and_told_by_the_exit_code(
    client: Script, arguments: list[str | bytes], code: int, words: str
) -> None:
    done = client(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_master_that_refuses_is_quoted(client: Script) -> None:
    with MasterThread(formula_chars_max=5) as master:
        done = client("1+2+3+4", DTE_MASTER=master.url)
    assert (done.returncode, done.stdout) == (3, "")
    assert "formula_chars_max" in done.stderr


@pytest.mark.parametrize("body", ["<html>It works!</html>", "{}", "[]", "7", '{"job_id": 1}'])
def test_a_server_that_is_no_master_is_told_from_one(
    client: Script, impostor: Callable[[str], str], body: str
) -> None:
    url = impostor(body)
    done = client("1+2", "--master", url)
    assert (done.returncode, done.stdout) == (3, "")
    assert f"{url}" in done.stderr
    assert "is not a dte master" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_teaches_what_it_does_and_how_it_exits(client: Script) -> None:
    shown = client("--help").stdout
    for word in ("curl", "/submit", "/jobs", "/job/47", "DTE_MASTER", "--interval", "130 Ctrl-C"):
        assert word in shown


def test_without_tornado_it_says_how_to_get_it(tmp_path: Path) -> None:
    done = programs.run(sys.executable, "-S", str(SCRIPT), "1+2", folder=tmp_path)
    assert (done.returncode, done.stdout) == (3, "")
    assert "scripts/setup" in done.stderr
    assert "Traceback" not in done.stderr


def test_it_uses_nothing_of_dte() -> None:
    assert "import dte" not in SCRIPT.read_text("utf-8")
    assert "from dte" not in SCRIPT.read_text("utf-8")
