"""A master, as a process of its own, that is asked for more than it can give."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from harness.cluster import MasterClient
from harness.http import Message
from harness.machine import free_port, memory_bytes
from harness.processes import Processes, run_module, until

from end_to_end.conftest import StartCluster

LONG_ANSWER = "9" * 4_300
LISTED = 600


def check_busy(reply: Message, bound: str) -> None:
    """It is refused for now, with the name of the bound and when to come again."""
    assert reply.status == 429, reply.body
    assert reply.json["code"] == "busy"
    assert bound in reply.json["error"]
    assert int(reply.headers["retry-after"]) >= 1


@pytest.fixture
def many() -> Iterator[list[socket.socket]]:
    """Connections, which are closed in the end."""
    with ExitStack() as stack:
        opened: list[socket.socket] = []
        yield opened
        for each in opened:
            stack.callback(each.close)


def connect(port: int, receive_bytes: int = 0) -> socket.socket:
    connection = socket.socket()
    if receive_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", port))
    return connection


def status_of(connection: socket.socket) -> str:
    """The status of the reply that a connection has been sent; it stays unread."""
    return connection.recv(12, socket.MSG_PEEK)[9:12].decode()


def test_more_jobs_than_may_wait_are_refused_and_those_that_may_are_done_in_the_end(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(workers=0, DTE_JOBS_WAITING_MAX="1000")
    accepted: list[int] = []
    for first in range(0, 2_000, 100):
        tasks = [f"{number}+1" for number in range(first, first + 100)]
        reply = cluster.client.ask("POST", "/submit", {"tasks": tasks})
        if reply.status == 200:
            accepted += reply.json["job_ids"]
        else:
            check_busy(reply, "jobs_waiting_max")
    assert len(accepted) == 1_000
    check_busy(cluster.client.ask("POST", "/submit", {"task": "1+1"}), "jobs_waiting_max")
    assert cluster.client.get("/health")
    cluster.start_worker("late")
    path = f"/jobs?ids={accepted[0]}-{accepted[-1]}&wait=20"
    jobs = cluster.client.get(path)
    assert [job["answer"] for job in jobs] == list(range(1, 1_001))
    assert cluster.client.submit("1+1")
    assert not cluster.master.errors()


def test_requests_that_are_held_and_idle_connections_do_not_keep_others_out(
    start_cluster: StartCluster, many: list[socket.socket]
) -> None:
    cluster = start_cluster(workers=0)
    body = b'{"task": "2*3"}'
    request = b"POST /submit?wait=60 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
    for number in range(400):
        many.append(connect(cluster.port))
        if number % 2:
            many[-1].sendall(request + body)
    until(lambda: cluster.client.get("/health")["jobs_waiting"] == 200, "all are held")
    cluster.start_worker("late")
    assert {status_of(held) for held in many[1::2]} == {"200"}
    assert not cluster.master.errors()


def test_who_does_not_read_is_hung_up_on_and_its_memory_is_given_back(
    start_cluster: StartCluster, many: list[socket.socket]
) -> None:
    cluster = start_cluster(
        workers=0, DTE_REPLIES_BYTES_MAX="6000000", DTE_SLOW_CLIENT_S="0.5", DTE_JOURNAL="none"
    )
    cluster.client.value("POST", "/submit", {"tasks": [LONG_ANSWER] * LISTED})
    before_bytes = memory_bytes(cluster.master.pid)
    request = b"GET /jobs?ids=1-%d HTTP/1.1\r\nHost: x\r\n\r\n" % LISTED
    for _ in range(30):  # They ask for 80 MB together.
        many.append(connect(cluster.port, receive_bytes=4_096))
        many[-1].sendall(request)
    statuses = [status_of(connection) for connection in many]
    assert set(statuses) == {"200", "429"}
    assert memory_bytes(cluster.master.pid) < before_bytes + 40_000_000
    again = f"/jobs?ids=1-{LISTED}"
    until(lambda: cluster.client.ask("GET", again).status == 200, "there is room again", 60)
    assert not cluster.master.errors()


def test_with_few_descriptors_the_excess_is_refused_and_workers_are_not(
    processes: Processes, many: list[socket.socket]
) -> None:
    port = free_port()
    limited = ("bash", "-c", 'ulimit -n 200; exec "$0" -m dte "$@"', sys.executable)
    master = processes.start_master(port, program=limited)
    for _ in range(300):
        many.append(connect(port))
        many[-1].sendall(b"GET /jobs HTTP/1.1\r\nHost: x\r\n\r\n")
    statuses = [status_of(connection) for connection in many]
    assert statuses.count("200") == 100
    assert statuses.count("429") == 200
    processes.start_worker(port, "worker-1")
    client = MasterClient(port)
    until(lambda: len(client.workers()) == 1, "the worker is announced")
    check_busy(client.ask("POST", "/submit", {"task": "1+1"}), "connections_max")
    for connection in many[:50]:
        connection.close()
    many = many[50:]
    until(lambda: client.ask("GET", "/jobs").status == 200, "there is room again")
    assert client.value("POST", "/submit?wait=20", {"task": "2*3"})["answer"] == 6
    assert not master.errors()


@pytest.mark.parametrize("journal", ["nowhere/x.db", "/nowhere/x.db", "../x.db", "{text}"])
def test_a_journal_that_cannot_be_is_refused_with_one_line(journal: str, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.write_text("no journal\n" * 1_000)
    name = journal.format(text=text)
    options = ("--seconds", "0.5", "--only", "2,000 idle", "--json", "--journal", name)
    found = run_module("torture.overload", *options, folder=tmp_path, timeout_s=60)
    assert found.returncode == 2, found.stderr
    assert found.stdout == ""
    (line,) = found.stderr.splitlines()
    assert name in line


def test_the_measurement_gives_the_figures_of_each_scenario(tmp_path: Path) -> None:
    options = ("--seconds", "0.5", "--only", "2,000 idle", "--json")
    found = run_module("torture.overload", *options, folder=tmp_path, timeout_s=60)
    assert found.returncode == 0, found.stderr
    (line,) = found.stdout.splitlines()
    figures = json.loads(line)
    assert figures["scenario"] == "2,000 idle connections"
    assert figures["health"]["answers"] > 0
    assert 0 < figures["memory_mb"]["before"] <= figures["memory_mb"]["peak"]
    assert figures["errors"] == []
