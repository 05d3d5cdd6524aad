"""Masters, workers and other programs that run beside tests, which harm and restart them."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, TypeVar

from harness.machine import HOST, children, has_pending, kill, listens
from harness.said_secrets import check_file

T = TypeVar("T")

TESTS = Path(__file__).parents[1]
DTE = (sys.executable, "-m", "dte")
FAULT = re.compile(
    r"^(?:\S+ \S+ (?:ERROR|CRITICAL) |Exception ignored|Fatal |"
    # A handler's exception is logged as well, and is no fault of the worker.
    r'Traceback(?! \(most recent call last\):\n  File ".*/worker/(?:processes/)?child\.py", '
    r"line \d+, in run(?:_async)?\n)"
    r").*",
    re.MULTILINE,
)
"""A line of a log that tells of a bug. Nothing that clients send stands at the start of a line."""


def until(condition: Callable[[], T], what: str, timeout_s: float = 60.0) -> T:
    """Poll a condition until it holds, and give its value; fail after `timeout_s` seconds."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what}")
        time.sleep(0.01)


def until_listening(server: Process, port: int) -> None:
    """Return when a process listens on a port; fail when it ends instead."""
    until(lambda: listens(port) or not server.running, f"somebody listens on port {port}")
    assert server.running, f"it has ended:\n{server.output}"


def environment(**settings: str) -> dict[str, str]:
    """This process's environment with the given settings instead of its own settings of dte.

    A master has no journal then, unless it is given one.
    """
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DTE_") and name != "PYTHONUNBUFFERED"
    }
    return kept | {"PYTHONUTF8": "1", "DTE_JOURNAL": "none"} | settings


def run(
    *command: str | bytes,
    folder: Path | None = None,
    stdin: str = "",
    timeout_s: float = 120.0,
    **settings: str,
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end.

    Args:
        folder: the folder in which it runs; None for the current one.
        stdin: what it can read there.
        settings: environment variables; see `environment`.
    """
    return subprocess.run(
        command,
        input=stdin,
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(**settings),
        timeout=timeout_s,
    )


def run_module(module: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a module of the tests to its end; the options are those of `run`."""
    return run(sys.executable, "-m", module, *arguments, **{"PYTHONPATH": str(TESTS)} | options)


class Process:
    """A program that can be ended and started again.

    Args:
        command: the program and its arguments.
        log: the file that takes what it writes to stdout and stderr, over all its lives. Its folder
            is the one in which the program runs.
        stdin: as for `subprocess.Popen`.
        settings: environment variables; see `environment`.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        *,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        **settings: str,
    ) -> None:
        self.log = log
        self._command = list(command)
        self._stdin = stdin
        self._settings = settings
        self._log_start = self._looked_to = 0
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Begin a life, as the one before was begun.

        It has a session of its own: Ctrl-C is for the program that runs the tests.
        """
        assert not self.running
        with self.log.open("ab") as output:
            self._log_start = output.tell()
            self._popen = self._open(output)

    def _open(self, output: IO[bytes], **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            stdin=self._stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment(**self._settings),
            cwd=self.log.parent,
            start_new_session=True,
            **options,
        )

    @property
    def pid(self) -> int:
        """The process of its present or last life."""
        assert self._popen is not None, "it has not been started"
        return self._popen.pid

    @property
    def running(self) -> bool:
        """It has been started and has not ended."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def output(self) -> str:
        """Its output in its present or last life."""
        return self._written_since(self._log_start)[0]

    def errors(self) -> list[str]:
        """The lines of its log, over all its lives, that tell of bugs."""
        return FAULT.findall(self._written_since(0)[0])

    def new_errors(self) -> list[str]:
        """As `errors`, since the last time."""
        text, self._looked_to = self._written_since(self._looked_to)
        return FAULT.findall(text)

    def _written_since(self, start: int) -> tuple[str, int]:
        """The rest of its log, and where that ends."""
        if not self.log.exists():
            return "", 0
        with self.log.open("rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace"), log.tell()

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, unless it has ended.

        The kernel would make one of two signals if the process has not received the first.
        """
        assert self._popen is not None
        pid = self.pid
        until(lambda: not has_pending(pid, number), f"it has received {number.name}")
        self._popen.send_signal(number)

    def exit_code(self, timeout_s: float = 60.0) -> int:
        """Wait until it ends, and give its exit code."""
        assert self._popen is not None
        try:
            return self._popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self._command} did not end:\n{self.output}") from None

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send it a signal that ends it, and give its exit code."""
        self.send(number)
        return self.exit_code()

    def hurry(self, number: signal.Signals) -> int:
        """Send it a signal until it ends, and give its exit code; one too soon does nothing."""

        def ended() -> bool:
            self.send(number)
            time.sleep(0.1)
            return not self.running

        until(ended, "it ends")
        return self.exit_code()

    def kill(self) -> None:
        """End it and what it has started by force, in whatever state they are."""
        if self._popen is None:
            return
        started = children(self.pid)
        if self.running:
            self._popen.kill()
            self._popen.wait()
        for pid in started:
            kill(pid)


class Processes:
    """Starts programs whose logs are in a folder, and leaves none behind.

    Args:
        settings: environment variables of all of them.
    """

    def __init__(self, folder: Path, **settings: str) -> None:
        self.folder = folder
        self._settings = settings
        self._started: list[Process] = []

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *raised: object) -> None:
        for process in reversed(self._started):
            process.kill()
        for process in self._started:
            check_file(process.log)

    def end_all(self) -> None:
        """End all with SIGTERM, the last first."""
        for process in reversed(self._started):
            process.end()

    def start(self, *arguments: str, program: Sequence[str] = DTE, **options: Any) -> Process:
        """Start a `dte` command, or another program; the options are those of `Process`."""
        log = self.folder / f"{len(self._started)}.log"
        process = Process([*program, *arguments], log, **self._settings | options)
        self._started.append(process)
        process.start()
        return process

    def start_master(self, port: int, **options: Any) -> Process:
        """Start a master, and wait until it answers."""
        master = self.start("master", "--host", HOST, "--port", str(port), **options)
        until_listening(master, port)
        return master

    def start_worker(self, master_port: int, name: str, *arguments: str, **options: Any) -> Process:
        """Start a worker."""
        master = f"http://{HOST}:{master_port}"
        return self.start(
            *("worker", "--master", master, "--host", HOST, "--port", "0", "--name", name),
            *arguments,
            **options,
        )
