"""A master whose journal is on a disk of its own, with a worker, in processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from end_to_end.live import Process, Processes, environment, free_port, until
from end_to_end.plain_client import PlainClient

JOURNAL = "dte.db"


@dataclass
class Health:
    """What /health answered, to somebody who asked it 50 times a second.

    Attributes:
        answered_ms: how long the answers took, in order of size.
        others: what else came, with counts.
    """

    answered_ms: list[float] = field(default_factory=list)
    others: dict[str, int] = field(default_factory=dict)

    def within_ms(self, share: float) -> float:
        """How long that share of the answers took at most."""
        return within(self.answered_ms, share)


def within(ordered: list[float], share: float) -> float:
    """The value that this share of ordered values does not exceed."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class System:
    """A master and a worker.

    Args:
        folder: where their logs are written.
        disk: the folder with the journal.
        settings: environment variables of the master.
    """

    def __init__(self, folder: Path, disk: Path, **settings: str) -> None:
        self._processes = Processes(folder)
        self._settings = {"DTE_JOURNAL": str(disk / JOURNAL)} | settings
        self.port = free_port()
        self.client = PlainClient(self.port)

    def __enter__(self) -> System:
        try:
            self.start()
            self._processes.start_worker(self.port, "worker")
            until(self.client.workers, "the worker is announced")
        except BaseException:
            self._processes.__exit__()
            raise
        return self

    def __exit__(self, *raised: object) -> None:
        self._processes.__exit__()

    def start(self) -> None:
        """Start a master."""
        self.master: Process = self._processes.start_master(self.port, **self._settings)

    def start_in_vain(self) -> tuple[int, str]:
        """Start a master that cannot start; its exit code, and what it said."""
        arguments = ("master", "--host", "127.0.0.1", "--port", str(self.port))
        master = self._processes.start(*arguments, **self._settings)
        return master.exit_code(), master.output

    def kill(self) -> None:
        """End the master as if its process had never been."""
        self.master.end(signal.SIGKILL)

    def health(self) -> dict[str, Any]:
        """What /health says."""
        return dict(self.client.get("/health"))

    @contextmanager
    def watched(self) -> Iterator[Health]:
        """Ask for /health while a ``with`` block goes on."""
        seen = Health()
        path = os.pathsep.join(sys.path)
        prober = subprocess.Popen(
            [sys.executable, "-m", "torture.overload.prober", str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(PYTHONPATH=path),
        )
        try:
            yield seen
        finally:
            told, _ = prober.communicate()
        answers = json.loads(told)
        seen.answered_ms, seen.others = sorted(answers["answered_ms"]), answers["others"]


async def until_true(condition: Any, what: str, timeout_s: float = 20.0) -> None:
    """Let the loop run until a condition holds; fail after `timeout_s` seconds."""
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)
