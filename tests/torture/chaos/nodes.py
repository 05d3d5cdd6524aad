"""Masters and workers that are harmed and started again, and must not end by themselves."""

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
from typing import IO, Any

from harness.processes import DTE, Process
from harness.services import signal_all

END_TIMEOUT_S = 20.0
POLL_S = 0.02
PR_SET_PDEATHSIG = 1
HARM = re.compile(
    r"^.*(?:stopping and returning unfinished calls|ended the process of others).*", re.MULTILINE
)
"""A line of a worker's log about calls that outlasted its grace, or harmed others.

No call of the load lasts as long as the grace, nor can any do harm.
"""

NAMESAKE = "another worker named"
"""In a line of a worker: a claim of its killed predecessor came late, out of a slow link."""


class Node(Process):
    """A `dte master` or `dte worker`, whose harms may overlap.

    Args:
        name: of its log, and for sentences.
        arguments: those of `dte`.
        folder: takes its log, and is its current folder.
        program: what takes the arguments.
        settings: environment variables.

    Attributes:
        fell: sentences about the lives that nobody ended.
        stopped: whether it is stopped by `stop`.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        folder: Path,
        *,
        program: Sequence[str] = DTE,
        **settings: str,
    ) -> None:
        log = folder / f"{name}.log"
        super().__init__([*program, *arguments], log, stdin=subprocess.PIPE, **settings)
        self.name = name
        self.fell: list[str] = []
        self.stopped = False
        self._lives = False
        self._is_told_to_end = False
        self._started_at = self._stopped_at = 0.0

    @property
    def lives(self) -> bool:
        """It has been started and not been ended since, as far as `check` knows."""
        return self._lives

    @property
    def leaves(self) -> bool:
        """It was told to end, and has not ended yet."""
        return self._lives and self._is_told_to_end

    @property
    def age_s(self) -> float:
        """The length of its present life, without the time for which it was stopped."""
        now = self._stopped_at if self.stopped else time.monotonic()
        return now - self._started_at

    def start(self) -> None:
        """Begin a life, unless it has one."""
        self.check()
        if not self._lives:
            self._started_at = time.monotonic()
            super().start()
            self._lives = True

    def _open(self, output: IO[bytes], **options: Any) -> subprocess.Popen[bytes]:
        return super()._open(output, preexec_fn=_end_with_parent, **options)

    def check(self) -> None:
        """Note if it has ended although nobody ended it."""
        if self._lives and not self._is_told_to_end and not self.running:
            code = self.exit_code()
            self.fell.append(f"{self.name} ended by itself with exit code {code}, see {self.log}")
            self._bury()

    def die(self) -> None:
        """End its life with SIGKILL."""
        self.check()
        if self._lives:
            self.end(signal.SIGKILL)
            self._bury()

    def stop(self) -> None:
        """Have it stand still, with SIGSTOP."""
        self.check()
        if self._lives:
            self.send(signal.SIGSTOP)
            self.stopped = True
            self._stopped_at = time.monotonic()

    def go_on(self) -> None:
        """Have it go on, with SIGCONT."""
        self.check()
        if self._lives and self.stopped:
            self.send(signal.SIGCONT)
            self.stopped = False
            self._started_at += time.monotonic() - self._stopped_at

    def errors(self) -> list[str]:
        """The lines of its log, over all its lives, that tell of bugs or of harm to calls."""
        faults = [line for line in super().errors() if NAMESAKE not in line]
        return faults + HARM.findall(self._written_since(0)[0])

    async def leave(self, *, whole: bool = False) -> int | None:
        """End its life with SIGTERM.

        Args:
            whole: its child processes get the signal too, as by a service manager.

        Returns:
            The exit code; None if it did not end, and had to be killed. 0 if it had no life, or was
            killed by somebody else meanwhile.
        """
        self.check()
        if not self._lives:
            return 0
        life = self.pid
        self._is_told_to_end = True
        if whole:
            signal_all(life, signal.SIGTERM)
        else:
            self.send(signal.SIGTERM)
        self.go_on()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_TIMEOUT_S):
                while self._is_still(life) and self.running:
                    await asyncio.sleep(POLL_S)
        if not self._is_still(life):
            return 0
        code = None if self.running else self.exit_code()
        self.end(signal.SIGKILL)
        self._bury()
        return code

    def _is_still(self, life: int) -> bool:
        return self._lives and self.pid == life

    def _bury(self) -> None:
        assert self._popen is not None
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        self.stopped = self._is_told_to_end = self._lives = False


def _end_with_parent() -> None:
    """Have the kernel kill this process, even a stopped one, when its parent is killed."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
