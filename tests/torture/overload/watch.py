"""Watches the memory and the health of a master that suffers."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from harness.http import BlockingClient
from harness.machine import memory_bytes
from harness.prober import Health, probed
from harness.processes import Process

SAMPLE_S = 0.05


@dataclass
class Suffering:
    """The state of a master.

    Attributes:
        before_mb: its resident memory before.
        peak_mb: the peak of it meanwhile.
        health: the replies of /health meanwhile.
    """

    before_mb: float
    peak_mb: float
    health: Health = field(default_factory=Health)


@contextmanager
def watched(master: Process, port: int) -> Iterator[Suffering]:
    """Watch a master while a ``with`` block goes on; the figures are there when it has ended."""
    before_mb = memory_mb(master)
    seen = Suffering(before_mb, before_mb)
    over = threading.Event()

    def sample() -> None:
        while not over.wait(SAMPLE_S):
            seen.peak_mb = max(seen.peak_mb, memory_mb(master))

    sampling = threading.Thread(target=sample, daemon=True)
    sampling.start()
    try:
        with probed(port) as seen.health:
            yield seen
    finally:
        over.set()
        sampling.join()


def memory_mb(process: Process) -> float:
    """The resident memory of a process now."""
    return memory_bytes(process.pid) / 1e6


def longest_turn_s(port: int) -> float:
    """The longest turn of the loop of a master."""
    return float(BlockingClient(port).get("/health").get("longest_turn_s", 0.0))
