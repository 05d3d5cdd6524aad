"""Single submissions that wait for their answer, from many clients at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence

from figures import Row, latency, rate, share
from processes import Processes, free_ports, python, wait_until_listening
from system import System

CLIENTS = 64
REPEATS = 3


def singles(jobs: int) -> list[Row]:
    """Jobs a second of dte and of a bare Tornado handler, by turns, under the same load."""
    ours, bare = [], []
    latencies_s: list[float] = []
    with System() as system, Processes() as processes:
        (bare_port,) = free_ports(1)
        processes.start(python("plain_server.py", bare_port))
        wait_until_listening(bare_port)
        for port in (bare_port, system.port):
            load(port, jobs // 10)
        for _ in range(REPEATS):
            bare.append(jobs / load(bare_port, jobs)[0])
            elapsed_s, found_s = load(system.port, jobs)
            ours.append(jobs / elapsed_s)
            latencies_s += found_s
    label = f"{jobs:,} single submits with wait, from {CLIENTS} clients"
    return [
        rate("singles", label, ours, "jobs/s"),
        latency("singles.latency", "  from submit to answer", latencies_s),
        rate("singles.bare", "  a bare Tornado handler, the same requests", bare, "requests/s"),
        share("singles.share", "    dte does, of it", ours, bare, "at least 50%"),
    ]


def load(port: int, requests: int, clients: int = CLIENTS) -> tuple[float, Sequence[float]]:
    """How long so many submissions took to a server, in seconds, and each of them."""
    with Processes() as processes:
        process = processes.start(python("load.py", port, clients, requests), reads=True)
        assert process.stdout is not None
        elapsed_s, latencies_s = json.loads(process.stdout.read())
    return elapsed_s, latencies_s
