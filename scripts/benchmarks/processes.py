"""Processes that are started for a measurement, and end with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType

FOLDER = Path(__file__).parent
START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 10.0
STOPPING = (signal.SIGINT, signal.SIGTERM)


class Processes:
    """Starts processes; when its ``with`` block ends, ends them, and all that they have started.

    Each is the first of a session, so that Ctrl-C goes to the program that measures alone.
    """

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[str]] = []

    def start(
        self, command: Sequence[str], more: Mapping[str, str] | None = None, reads: bool = False
    ) -> subprocess.Popen[str]:
        """Start a program.

        Args:
            more: environment variables besides those that are there; those of dte are not.
            reads: whether its output is to be read, by way of `stdout`.
        """
        environment = {name: os.environ[name] for name in os.environ if not name.startswith("DTE_")}
        process = subprocess.Popen(
            command,
            env={**environment, **(more or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if reads else sys.stderr,
            text=True,
            start_new_session=True,
        )
        self._started.append(process)
        return process

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with uninterrupted():
            for process in reversed(self._started):
                process.terminate()
            for process in self._started:
                wait_for_end(process)
                if process.stdout is not None:
                    process.stdout.close()


def end(process: subprocess.Popen[str]) -> None:
    """End a process: it is asked to, and after some seconds made to, with all of its group."""
    process.terminate()
    wait_for_end(process)


def wait_for_end(process: subprocess.Popen[str]) -> None:
    """Wait until a process ends that was asked to, and make it, with all of its group."""
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_TIMEOUT_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def unwind_on_sigterm() -> None:
    """Have SIGTERM end this program as Ctrl-C does, so that what it has started ends as well."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Have a second Ctrl-C not leave processes behind; they end in a moment."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def python(program: str, *arguments: str | int) -> list[str]:
    """The command that runs a program of this folder."""
    return [sys.executable, str(FOLDER / program), *map(str, arguments)]


def cpu_s(pid: int) -> float:
    """How long a process has been at work, in seconds of a core."""
    threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(thread.read_text().split()[0]) for thread in threads) * 1e-9


def free_ports(count: int) -> list[int]:
    """Ports of this machine that are free at this moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports


def wait_until_listening(port: int) -> None:
    """Return when somebody listens at a port of this machine.

    Raises:
        TimeoutError: nobody does in `START_TIMEOUT_S` seconds.
    """
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody listens at port {port}") from None
            time.sleep(0.02)
        else:
            return
