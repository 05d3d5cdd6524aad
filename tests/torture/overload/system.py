"""The master that is to suffer, its workers, and who watches its memory and its health."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from end_to_end.live import Process, Processes, environment, free_port, until

from dte import Client

SAMPLE_S = 0.05


@dataclass
class Suffering:
    """What a master went through.

    Attributes:
        before_mb: its resident memory before.
        peak_mb: and the most of it meanwhile.
        health_ms: how long each answer of /health took, in order of size.
        health_others: what else /health said, with counts.
    """

    before_mb: float = 0.0
    peak_mb: float = 0.0
    health_ms: list[float] = field(default_factory=list)
    health_others: Counter[str] = field(default_factory=Counter)

    def health(self, share: float) -> float:
        """The milliseconds within which that share of the answers of /health came."""
        last = len(self.health_ms) - 1
        return self.health_ms[min(last, int(len(self.health_ms) * share))] if last >= 0 else 0.0


class System:
    """A master and workers in processes of their own.

    Args:
        folder: where their logs are written.
        workers: how many.
        settings: settings of the master, by the names of their variables without ``DTE_``.
    """

    def __init__(self, folder: Path, workers: int, settings: dict[str, str]) -> None:
        self._processes = Processes(folder)
        self._workers = workers
        settings = {"LOG_LEVEL": "warning"} | settings
        self._settings = {f"DTE_{name}": value for name, value in settings.items()}
        self.port = free_port()

    def __enter__(self) -> System:
        self.master: Process = self._processes.start_master(self.port, **self._settings)
        for number in range(self._workers):
            self._processes.start_worker(self.port, f"worker-{number + 1}")
        with Client(f"http://127.0.0.1:{self.port}") as client:
            until(lambda: len(client.workers()) == self._workers, "the workers are announced")
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.master.end(signal.SIGTERM)
        self._processes.__exit__()

    @property
    def memory_mb(self) -> float:
        """The resident memory of the master now."""
        with open(f"/proc/{self.master.pid}/status") as status:
            fields = dict(line.split(":", 1) for line in status)
        return int(fields["VmRSS"].split()[0]) * 1024 / 1e6

    @property
    def errors(self) -> list[str]:
        """The lines of the master's log that tell of a fault of its own."""
        lines = self.master.output.splitlines()
        return [line for line in lines if " ERROR " in line or line.startswith("Traceback")]


class Watch:
    """Watches a master while a ``with`` block goes on."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.seen = Suffering()

    def __enter__(self) -> Suffering:
        self.seen.before_mb = self.seen.peak_mb = self._system.memory_mb
        self._thread.start()
        self._prober = subprocess.Popen(
            [sys.executable, "-m", "torture.overload.prober", str(self._system.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(PYTHONPATH=os.pathsep.join(sys.path)),
        )
        return self.seen

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        told, _ = self._prober.communicate()
        self._over.set()
        self._thread.join()
        answers = json.loads(told)
        self.seen.health_ms = sorted(answers["answered_ms"])
        self.seen.health_others = Counter(answers["others"])

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.seen.peak_mb = max(self.seen.peak_mb, self._system.memory_mb)
