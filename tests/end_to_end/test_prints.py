"""Handlers print: on stderr of their worker and of `dte run`, and never on stdout."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

from harness.machine import free_port
from harness.processes import DTE, environment, until

import dte

from .conftest import StartCluster

HANDLERS = """
import logging, os
import dte

print("imported")

@dte.handler("say")
def say(text):
    print(text)
    logging.getLogger("mine").info("logged %s", text)
    return text

@dte.handler("flood")
def flood():
    for _ in range(2_000):
        print("x" * 1_000)
    return "printed"
"""


def test_prints_and_logs_are_on_stderr_of_the_worker_at_once(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(HANDLERS)
    cluster = start_cluster(1, options=("--handlers", "mine"))
    with dte.Client(cluster.url) as client:
        client.call("say", "hello")
    worker = cluster.workers["worker-1"]
    until(lambda: " job 1, node call: INFO mine: logged hello\n" in worker.output, "it is logged")
    assert " job 1, node call: hello\n" in worker.output


def test_dte_run_shows_them_on_stderr_and_keeps_stdout_for_answers(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(HANDLERS.replace("say(text):", "say(text: int):"))
    ran = subprocess.run(
        [*DTE, "run", "--handlers", "mine", "--workers", "1", "--json", "say(7)"],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
    )
    (line,) = ran.stdout.splitlines()
    assert '"answer":7' in line
    assert " job 1, node say@1: 7\n" in ran.stderr
    assert " job 1, node say@1: INFO mine: logged 7\n" in ran.stderr
    assert "imported" in ran.stderr


def test_nobody_waits_when_stderr_of_a_worker_is_not_read(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    (tmp_path / "mine.py").write_text(HANDLERS)
    cluster = start_cluster(0)
    port = str(free_port())
    where = ("--master", cluster.url, "--host", "127.0.0.1", "--port", port, "--handlers", "mine")
    worker = subprocess.Popen(
        [*DTE, "worker", "--log-level", "debug", *where],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        with dte.Client(cluster.url) as client:
            assert client.call("flood") == "printed"
            assert client.call("flood") == "printed"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(30) == 0
    finally:
        worker.kill()
        worker.communicate()
