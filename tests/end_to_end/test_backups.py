"""`dte backup` that is ended in the midst: nothing is left, and it says what was wrong."""

from __future__ import annotations

import shlex
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.machine import HOST
from harness.processes import DTE, Processes, until

SIZE = 50_000_000
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE


@pytest.fixture
def url() -> Iterator[str]:
    """A master that sends the first megabyte of a backup, and then nothing for ever."""
    with socket.create_server((HOST, 0)) as listening:
        taken: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                taken.append(connection)
                connection.recv(65_536)
                connection.sendall(HEAD + bytes(1_000_000))

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        yield f"http://{HOST}:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        for connection in taken:
            connection.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the copies."""
    made = tmp_path / "copies"
    made.mkdir()
    return made


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_backup_that_gets_a_signal_leaves_nothing(
    tmp_path: Path, folder: Path, url: str, number: signal.Signals
) -> None:
    with Processes(tmp_path) as processes:
        backup = processes.start("backup", str(folder / "copy.db"), "--master", url)
        until(lambda: list(folder.iterdir()), "a part has come")
        assert backup.end(number) == 128 + number
        assert list(folder.iterdir()) == []
        assert "Traceback" not in backup.output


def test_a_backup_that_exceeds_a_limit_of_the_system_leaves_nothing_and_says_so(
    tmp_path: Path, folder: Path, url: str
) -> None:
    limited = f'ulimit -f 100; exec {shlex.join(DTE)} "$@"'
    with Processes(tmp_path) as processes:
        backup = processes.start(
            *("backup", str(folder / "copy.db"), "--master", url),
            program=("bash", "-c", limited, "dte"),
        )
        assert backup.exit_code() == 2
        assert "copy.db: File too large" in backup.output
        assert list(folder.iterdir()) == []
