"""What containers start: the command of the master's image, without a container."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.certificates import Authority, Pair
from harness.machine import free_port
from harness.processes import Processes, environment, until_listening

DEPLOY = Path(__file__).parents[2] / "deploy"

Start = Callable[..., list[str]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Runs the command with a `dte` whose `dte master` prints its settings and ends."""
    programs, shared, data = (tmp_path / name for name in ("bin", "run", "lib"))
    for folder in (programs, shared, data):
        folder.mkdir()
    program = programs / "dte"
    program.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = master ]; then echo "open: ${DTE_OPEN_CLIENTS:-}; $*"; exit; fi\n'
        f'exec {sys.executable} -m dte "$@"\n'
    )
    program.chmod(0o755)

    def run(*options: str, **settings: str) -> list[str]:
        places = {
            "PATH": f"{programs}:{os.environ['PATH']}",
            "DTE_SHARED": str(shared),
            "DTE_JOURNAL": str(data / "dte.db"),
        }
        done = subprocess.run(
            [DEPLOY / "dte-master", *options],
            env=environment(**places | settings),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.splitlines()

    return run


def test_the_workers_token_is_made_once(start: Start, tmp_path: Path) -> None:
    token, tokens = tmp_path / "run" / "worker.token", tmp_path / "lib" / "dte.tokens"
    assert start("--port", "7") == ["open: ; master --port 7"]
    made, known = token.read_text(), tokens.read_text()
    assert made.startswith("dte_w_")
    assert token.stat().st_mode & 0o777 == tokens.stat().st_mode & 0o777 == 0o600
    start()
    assert (token.read_text(), tokens.read_text()) == (made, known)


@pytest.mark.parametrize("lost", ["run/worker.token", "lib/dte.tokens"])
def test_a_token_of_which_a_half_is_lost_is_made_again(
    start: Start, tmp_path: Path, lost: str
) -> None:
    token = tmp_path / "run" / "worker.token"
    start()
    before = token.read_text()
    (tmp_path / lost).unlink()
    start()
    assert token.read_text() != before
    assert (tmp_path / "lib" / "dte.tokens").read_text().count('"worker"') == 2


def test_tokens_of_other_workers_stay(start: Start, tmp_path: Path) -> None:
    tokens = tmp_path / "lib" / "dte.tokens"
    command = (sys.executable, "-m", "dte", "token", "new", "worker", "gpu", "--tokens")
    subprocess.run([*command, str(tokens)], check=True, capture_output=True)
    start()
    start()
    assert len(tokens.read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("published", "given", "is_open"),
    [
        ("127.0.0.1:5000", "", "1"),
        ("127.0.0.1:0", "", "1"),
        ("[::1]:5000", "", "1"),
        ("127.0.0.1:5000", "0", "0"),
        ("5000", "", ""),
        ("0.0.0.0:5000", "", ""),
        ("", "", ""),
        ("5000", "1", "1"),
    ],
)
def test_clients_need_no_token_where_only_this_host_reaches_the_port(
    start: Start, published: str, given: str, is_open: str
) -> None:
    (shown,) = start(DTE_PUBLISHED=published, DTE_OPEN_CLIENTS=given)
    assert shown == f"open: {is_open}; master"


def test_no_token_is_made_for_a_master_that_serves_everybody(start: Start, tmp_path: Path) -> None:
    start(DTE_NO_AUTH="1")
    assert not list((tmp_path / "run").iterdir())


def test_no_token_is_made_where_there_is_no_folder_for_it(start: Start, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "run")
    assert start() == ["open: ; master"]


def test_a_container_is_healthy_while_its_server_answers(
    processes: Processes, server_pair: Pair, authority: Authority
) -> None:
    demanding = {
        "DTE_TLS_CERT": server_pair.cert,
        "DTE_TLS_KEY": server_pair.key,
        "DTE_TLS_CLIENT_CA": authority.file,
    }
    for settings in ({}, demanding):
        port = free_port()
        master = processes.start("master", DTE_MASTER_PORT=str(port), **settings)
        until_listening(master, port)
        assert health(port, **settings) == 0
        master.end()
        assert health(port, **settings) != 0


def health(port: int, **settings: str) -> int:
    command = [sys.executable, DEPLOY / "dte-health", str(port), "/live"]
    done = subprocess.run(command, env=environment(**settings), capture_output=True, timeout=60)
    return done.returncode
