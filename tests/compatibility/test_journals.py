"""Journals that masters of landed commits have left: today's master goes on with them.

It must say what a master of that commit has said of the same journal, see `make_journal`. It may
say more.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from harness.cluster import Cluster
from harness.machine import HOST, taken_port
from harness.processes import Processes, until

from compatibility.landed import LANDED
from compatibility.scenario import SETTINGS, WORKER, finish, read
from compatibility.stored import FOLDER, lengthen, restore_journal

commits = pytest.mark.parametrize("commit", LANDED)


class Receiver(HTTPServer):
    """Takes notices of jobs' ends."""

    def __init__(self) -> None:
        super().__init__((HOST, 0), TakeNotice)
        self.notices: list[dict[str, Any]] = []


class TakeNotice(BaseHTTPRequestHandler):
    """Notes the body of a POST."""

    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.notices.append(json.loads(body))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A server for the notices that wait in a journal."""
    with Receiver() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def expected(commit: str) -> dict[str, Any]:
    """The replies of a master of that commit."""
    return dict(json.loads(lengthen((FOLDER / f"{commit}.json").read_text())))


def open_journal(
    processes: Processes, commit: str, worker_port: int, receiver_port: int
) -> Cluster:
    """Today's master with the journal of a commit, and no worker."""
    text = (FOLDER / f"{commit}.sql").read_text()
    worker, receiver = f"{HOST}:{worker_port}", f"{HOST}:{receiver_port}"
    restore_journal(text, processes.folder / "journal.db", worker, receiver)
    cluster = Cluster(processes, 0, **SETTINGS)
    # It takes every task of its dialect, which masters of earlier commits did not know.
    until(lambda: cluster.client.get("/workers/looks")["CurrentTasks"], "it has the task")
    return cluster


ROUNDING = timedelta(microseconds=5)


def differences(wanted: Any, found: Any, place: str = "") -> list[str]:
    """The places that are missing or different; objects may have more members than wanted."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        return [
            difference
            for name, value in wanted.items()
            for difference in differences(value, found.get(name, "nothing"), f"{place}.{name}")
        ]
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        return [
            difference
            for index, pair in enumerate(zip(wanted, found, strict=True))
            for difference in differences(*pair, f"{place}[{index}]")
        ]
    same = type(wanted) is type(found) and repr(wanted) == repr(found)
    same = same or (isinstance(wanted, str) and _is_same_time(wanted, found))
    return [] if same else [f"{place} is {found!r} and was {wanted!r}"]


def _is_same_time(wanted: str, found: Any) -> bool:
    """True for two times that differ by what the clocks of two masters are rounded to."""
    try:
        apart = datetime.fromisoformat(wanted) - datetime.fromisoformat(found)
    except (TypeError, ValueError):
        return False
    return abs(apart) <= ROUNDING


@commits
def test_every_job_key_and_worker_is_as_it_was(
    processes: Processes, receiver: Receiver, commit: str
) -> None:
    wanted = expected(commit)
    with taken_port() as worker_port:
        cluster = open_journal(processes, commit, worker_port, receiver.server_port)
        found = json.dumps(read(cluster.client)).replace(f"{HOST}:{worker_port}", WORKER)
        # Those commits counted one failed and one skipped call of this job, too.
        wanted["replies"]["/job/22"]["operations_done"] = 1
        assert differences(wanted["replies"], json.loads(found)) == []
        assert cluster.client.get("/job/21")["retry_of"] == 17
        for keyed in wanted["keyed"]:
            path, key = keyed["path"], keyed["key"]
            again = cluster.client.value("POST", path, keyed["body"], Idempotency_Key=key)
            assert again == keyed["reply"]
            other = cluster.client.ask("POST", "/submit", {"task": "0"}, Idempotency_Key=key)
            assert other.status == 409
    assert not cluster.master.errors()


@commits
def test_what_waits_is_done_and_told(processes: Processes, receiver: Receiver, commit: str) -> None:
    """Also what a worker has had since before the change, and reports now."""
    wanted = expected(commit)
    with taken_port() as worker_port:
        cluster = open_journal(processes, commit, worker_port, receiver.server_port)
        last = cluster.client.get("/jobs")[0]["job_id"]
        assert cluster.client.submit("6") == last + 1, "ids go on"
    assert finish(cluster, wanted["leases"]) == wanted["ends"]
    told = (12, 14, 23, 31)
    until(lambda: len(receiver.notices) >= len(told), "all that waited for it is told")
    assert sorted(notice["job_id"] for notice in receiver.notices) == list(told)
    for notice in receiver.notices:
        job = cluster.client.get(f"/job/{notice['job_id']}")
        assert differences({name: job[name] for name in ("state", "answer", "error")}, notice) == []
    assert not cluster.master.errors()


def test_differences_are_found() -> None:
    assert differences({"a": [1, {"b": 0.0}]}, {"a": [1, {"b": 0.0, "new": 1}], "more": 2}) == []
    assert differences({"a": 1}, {"a": 1.0}) == [".a is 1.0 and was 1"]
    assert differences({"a": [1, 2]}, {"a": [1]}) == [".a is [1] and was [1, 2]"]
    assert differences({"a": {"b": 1}}, {"a": {}}) == [".a.b is 'nothing' and was 1"]
    assert differences([-0.0], [0.0]) == ["[0] is 0.0 and was -0.0"]
    times = [f"2097-06-14T03:33:02.0771{digits}Z" for digits in ("70", "71", "81")]
    assert differences(times[0], times[1]) == []
    assert len(differences(times[0], times[2])) == len(differences(times[0], 7)) == 1


def test_each_landed_commit_has_its_journal() -> None:
    assert {path.name for path in Path(FOLDER).iterdir()} == {
        f"{commit}.{kind}" for commit in LANDED for kind in ("sql", "json")
    }
