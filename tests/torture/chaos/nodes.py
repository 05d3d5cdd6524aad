"""Real processes that are killed, stopped and started again, each with a log of all its lives."""

from __future__ import annotations

import asyncio
import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from harness.processes import environment

END_TIMEOUT_S = 20.0
POLL_S = 0.02
ERROR_LINE = re.compile(r"^(Traceback |\S+ \S+ (ERROR|CRITICAL) |Exception ignored)", re.MULTILINE)
PR_SET_PDEATHSIG = 1


class Node:
    """A `dte master` or `dte worker` that has one life after another.

    Args:
        name: for logs.
        arguments: those of `dte`.
        folder: takes its log, and is its current folder.

    Attributes:
        fell: how its lives ended that nobody ended, as sentences.
    """

    def __init__(self, name: str, arguments: Sequence[str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.fell: list[str] = []
        self._command = [sys.executable, "-m", "dte", *arguments]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self._is_told_to_end = False
        self._started_at = 0.0

    @property
    def pid(self) -> int | None:
        """The process of its present life; None between two."""
        return self._process.pid if self._process is not None else None

    @property
    def age_s(self) -> float:
        """How long its present life has lasted."""
        return time.monotonic() - self._started_at

    @property
    def stopped(self) -> bool:
        """Whether it is stopped by `stop`."""
        return self._stopped

    def start(self) -> None:
        """Begin a life, unless it has one."""
        self.check()
        if self._process is not None:
            return
        self._started_at = time.monotonic()
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(),
                cwd=self._folder,
                start_new_session=True,  # Ctrl-C is for who started it all, and ends it in order.
                preexec_fn=_end_with_parent,
            )

    def check(self) -> None:
        """Note if it has ended although nobody ended it."""
        if self._is_told_to_end:
            return
        if self._process is not None and self._process.poll() is not None:
            code = self._process.returncode
            self.fell.append(f"{self.name} ended by itself with exit code {code}, see {self.log}")
            self._bury()

    def kill(self) -> None:
        """End its life with SIGKILL."""
        self.check()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._bury()

    def stop(self) -> None:
        """Have it stand still, with SIGSTOP."""
        self.check()
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            self._stopped = True

    def go_on(self) -> None:
        """Have it go on, with SIGCONT."""
        self.check()
        if self._process is not None and self._stopped:
            self._process.send_signal(signal.SIGCONT)
            self._stopped = False

    async def end(self) -> int | None:
        """End its life with SIGTERM.

        Returns:
            The exit code; None if it did not end, and had to be killed. 0 if it had no life, or was
            killed by somebody else meanwhile.
        """
        self.check()
        process = self._process
        if process is None:
            return 0
        self._is_told_to_end = True
        process.terminate()
        self.go_on()
        code = None
        with suppress(TimeoutError):
            async with asyncio.timeout(END_TIMEOUT_S):
                while self._process is process and (code := process.poll()) is None:
                    await asyncio.sleep(POLL_S)
        if self._process is not process:
            return 0
        process.kill()
        process.wait()
        self._bury()
        return code

    def errors_logged(self) -> list[str]:
        """The lines of its log that tell of errors of its own."""
        text = self.log.read_text(errors="replace") if self.log.exists() else ""
        starts = [match.start() for match in ERROR_LINE.finditer(text)]
        return [f"{self.name}: {text[start:].splitlines()[0]}" for start in starts]

    def _bury(self) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process = None
        self._stopped = False
        self._is_told_to_end = False


def _end_with_parent() -> None:
    """Have the kernel kill this process, even a stopped one, when its parent is killed."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
