"""`dte worker` for a master behind a proxy, with TLS, a path prefix, and tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.certificates import Authority, Pair, serving
from harness.front import Front
from harness.machine import HOST
from harness.master_thread import MasterThread
from harness.processes import Process, Processes, until

import dte as package
from dte.wire import access

from .conftest import Dte, check_refused

TOKEN = "dte_w_" + "a" * 43
HANDLERS = """
import os
import dte

@dte.handler("count")
def count(url, token):
    with dte.Client(url, token=token) as client:
        return len(client.workers())

@dte.handler("tokens")
def tokens():
    return [os.environ.get("DTE_TOKEN"), os.environ.get("DTE_TOKEN_FILE")]
"""


@pytest.fixture
def front(idle_master: MasterThread, server_pair: Pair) -> Iterator[Front]:
    """A proxy with TLS, a prefix, and a token, before a master without workers."""
    with Front(idle_master.port, "/team/dte", serving(server_pair), TOKEN) as running:
        yield running


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "worker.token"
    path.touch(0o600)
    path.write_text(f"{TOKEN}\n")
    return path


def start(processes: Processes, url: str, *options: str, **settings: str) -> Process:
    where = ("--host", HOST, "--port", "0", "--name", "mine")
    return processes.start("worker", "--master", url, *where, *options, **settings)


@pytest.mark.parametrize("pull", [(), ("--pull",)])
def test_a_worker_gets_through_and_its_handlers_have_its_certificates_and_not_its_token(
    processes: Processes,
    front: Front,
    idle_client: package.Client,
    authority: Authority,
    token_file: Path,
    tmp_path: Path,
    pull: tuple[str, ...],
) -> None:
    (tmp_path / "counting.py").write_text(HANDLERS)
    options = ("--token-file", str(token_file), "--tls-ca", authority.file)
    worker = start(
        processes,
        front.url,
        *options,
        *pull,
        *("--handlers", "counting"),
        PYTHONPATH=str(tmp_path),
        DTE_TOKEN="dte_c_of_handlers",
    )
    assert idle_client.compute("1+2", 60) == 3
    assert idle_client.with_options(timeout_s=60).call("count", front.url, TOKEN) == 1
    assert idle_client.call("tokens") == ["dte_c_of_handlers", None]
    assert worker.end() == 0
    assert front.url in worker.output
    assert TOKEN not in worker.output
    assert {path for _, path, _ in front.seen} >= {"/team/dte/result", "/team/dte/worker"}


def test_a_worker_waits_for_a_token_that_the_master_knows(
    processes: Processes,
    front: Front,
    idle_client: package.Client,
    authority: Authority,
    token_file: Path,
) -> None:
    token_file.write_text("dte_w_other")
    settings = {"DTE_TOKEN_FILE": str(token_file), "DTE_TLS_CA": authority.file}
    worker = start(processes, front.url, "--heartbeat-s", "0.1", **settings)
    until(lambda: any(path.endswith("/worker") for _, path, _ in front.seen), "a token is sent")
    token_file.unlink()
    token_file.touch(0o600)
    token_file.write_text(TOKEN)
    assert idle_client.compute("1+2", 60) == 3
    assert worker.end() == 0
    assert "Traceback" not in worker.output
    assert "dte_w_other" not in worker.output


def test_a_worker_with_a_wrong_token_says_so_once_and_tries_again(
    processes: Processes, front: Front, authority: Authority
) -> None:
    settings = {"DTE_TOKEN": "dte_w_other", "DTE_TLS_CA": authority.file}
    worker = start(processes, front.url, "--heartbeat-s", "0.1", **settings)
    until(lambda: len(front.seen) > 2, "it tries again")
    assert worker.end() == 0
    assert worker.output.count("this token is not known") == 1
    assert "dte token new worker NAME" in worker.output
    assert "dte_w_other" not in worker.output


def test_a_worker_does_not_talk_to_a_master_that_it_does_not_trust(
    processes: Processes, front: Front
) -> None:
    worker = start(processes, front.url, DTE_TOKEN=TOKEN)
    until(lambda: "--tls-ca or DTE_TLS_CA" in worker.output, "the certificate is refused")
    assert worker.end() == 0
    assert "Traceback" not in worker.output
    assert front.seen == []


def test_a_worker_shows_its_certificate_to_a_master_that_demands_one(
    processes: Processes,
    idle_master: MasterThread,
    idle_client: package.Client,
    authority: Authority,
    server_pair: Pair,
) -> None:
    mine = authority.issue("DNS:worker", file="worker")
    secure = serving(server_pair, authority.file)
    settings = {"DTE_TLS_CERT": mine.cert, "DTE_TLS_KEY": mine.key}
    with Front(idle_master.port, secure=secure) as front:
        worker = start(processes, front.url, "--pull", "--tls-ca", authority.file, **settings)
        assert idle_client.compute("1+2", 60) == 3
        assert worker.end() == 0


def test_files_that_cannot_be_used_end_a_worker_at_its_start(
    dte: Dte, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "_own_file", "")  # The command is that of this process.
    missing = str(tmp_path / "missing")
    asked = ("worker", "--master", "https://localhost:1")
    check_refused(dte(*asked, DTE_TLS_CA=missing), 2, f"cannot read {missing}", lines=1)
    refused = dte(*asked, DTE_TOKEN="two words")
    check_refused(refused, 2, "DTE_TOKEN has characters that no token has", lines=1)
    asked = ("worker", "--master", "http://localhost:1")
    expected = f"cannot read the token in {missing}"
    check_refused(dte(*asked, "--token-file", missing), 2, expected, lines=1)
    check_refused(dte(*asked, DTE_TOKEN_FILE=missing), 2, expected, lines=1)
    typed = dte(*asked, "--token-file", TOKEN)
    check_refused(typed, 2, "--token-file has a token, not a file's name", lines=1)
    assert TOKEN not in typed.output
