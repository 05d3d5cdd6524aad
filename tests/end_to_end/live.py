"""Real masters and workers for tests: on a thread of this process, or as processes of their own."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from dte.master.server import MasterServer
from dte.master.settings import Settings
from dte.worker.server import WorkerServer, WorkerSettings

T = TypeVar("T")


def until(condition: Callable[[], T], what: str, timeout_s: float = 20.0) -> T:
    """Poll a condition until it holds, and give what it gave; fail after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.01)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on.

    It is none of those that systems give to outgoing connections: one of these might have it while
    a master is away.
    """
    while True:
        port = random.randint(10_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def taken_port() -> Iterator[int]:
    """A port of 127.0.0.1 that somebody listens on."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with warnings.catch_warnings():
            # Tornado leaves a socket that it could not bind to the garbage collector.
            warnings.simplefilter("ignore", ResourceWarning)
            yield other.getsockname()[1]
            gc.collect()


def environment(**settings: str) -> dict[str, str]:
    """This process's environment without its settings of dte, and with the given ones.

    A master has no journal then, unless it is given its own.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DTE_")}
    return kept | {"PYTHONUTF8": "1", "DTE_JOURNAL": "none"} | settings


class MasterThread:
    """A master, with workers beside it, on a loop in a thread of this process.

    Args:
        workers: how many workers.
        port: the master's; 0 for any free one.
        bounds: settings of the master.
    """

    def __init__(self, workers: int = 0, port: int = 0, **bounds: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._run(self._serve_master(Settings("127.0.0.1", port, **bounds)))
        self._workers: list[WorkerServer] = []
        self.port = self._server.port
        self.url = f"http://127.0.0.1:{self.port}"
        for _ in range(workers):
            self.add_worker()

    def __enter__(self) -> MasterThread:
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()

    def add_worker(self) -> None:
        """Start a worker, and wait until the master knows it."""
        known = len(self.workers())
        self._workers.append(self._run(self._serve_worker(f"worker-{known + 1}")))
        until(lambda: len(self.workers()) > known, "the worker is announced")

    def workers(self) -> list[str]:
        """The names of the workers that the master knows."""
        return [worker.announcement.name for worker in self._server.master.core.workers()]

    def stop(self) -> None:
        """End the workers and the master, and close all connections."""
        for worker in self._workers:
            self._run(worker.drain())
        self._run(self._server.stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _serve_master(self, settings: Settings) -> MasterServer:
        server = MasterServer(settings)
        server.start()
        return server

    async def _serve_worker(self, name: str) -> WorkerServer:
        server = WorkerServer(WorkerSettings(self.url, "127.0.0.1", 0, name))
        server.start()
        return server


class Process:
    """A `dte` command, or another program, that runs beside the tests.

    Args:
        arguments: those of `dte`.
        log: the file that takes its stdout and stderr.
        program: what to run instead of `dte`.
        stdin: as for `subprocess.Popen`.
        settings: environment variables.
    """

    def __init__(
        self,
        arguments: list[str],
        log: Path,
        *,
        program: tuple[str, ...] = (sys.executable, "-m", "dte"),
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        **settings: str,
    ) -> None:
        self._log = log
        self._command = " ".join(("dte", *arguments))
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                [*program, *arguments],
                stdin=stdin,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(**settings),
                cwd=log.parent,
            )
        self.pid = self._popen.pid

    @property
    def output(self) -> str:
        """What it has written so far."""
        return self._log.read_text()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._popen.send_signal(number)

    def exit_code(self, timeout_s: float = 20.0) -> int:
        """Wait until it ends, and give its exit code."""
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self._command} did not end:\n{self.output}") from None

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal that ends it, and give its exit code."""
        self.send(number)
        return self.exit_code()

    def kill(self) -> None:
        """End it and what it has started by force, in whatever state they are."""
        started = children(self.pid)
        if self._popen.poll() is None:
            self._popen.kill()
            self._popen.wait()
        for pid in started:
            kill(pid)


class Processes:
    """Starts processes whose logs are in a folder, and leaves none behind."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._started: list[Process] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *raised: object) -> None:
        for process in self._started:
            process.kill()

    def start(self, *arguments: str, **options: Any) -> Process:
        """Start a `dte` command; the options are those of `Process`."""
        log = self.folder / f"{len(self._started)}.log"
        process = Process(list(arguments), log, **options)
        self._started.append(process)
        return process

    def start_master(self, port: int, **settings: str) -> Process:
        """Start a master, and wait until it answers."""
        master = self.start("master", "--host", "127.0.0.1", "--port", str(port), **settings)
        until(lambda: listens(port), f"a master listens on port {port}")
        return master

    def start_worker(
        self, master_port: int, name: str, *arguments: str, **settings: str
    ) -> Process:
        """Start a worker."""
        master = f"http://127.0.0.1:{master_port}"
        return self.start(
            *("worker", "--master", master, "--host", "127.0.0.1", "--port", "0", "--name", name),
            *arguments,
            **settings,
        )


def connections(port: int) -> int:
    """How many connections to a port of this machine are established."""
    with open("/proc/net/tcp") as table:
        fields = [line.split() for line in table][1:]
    return sum(line[1].endswith(f":{port:04X}") and line[3] == "01" for line in fields)


def listens(port: int) -> bool:
    """Whether a connection to that port of 127.0.0.1 is accepted."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def kill(pid: int) -> None:
    """End a process by force, if it lives."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    """The processes that a process has started and that live."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            _, _, fields = stat.read_text().rpartition(")")
        except OSError:  # It has ended since.
            continue
        state, parent = fields.split()[:2]
        if int(parent) == pid and state != "Z":
            found.append(int(stat.parent.name))
    return found


def alive(pid: int) -> bool:
    """Whether a process lives; one that has ended and that nobody has asked about does not."""
    try:
        _, _, fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
    except OSError:
        return False
    return fields.split()[0] != "Z"
