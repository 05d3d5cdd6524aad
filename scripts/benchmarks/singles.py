"""Single submissions that wait for their answer, from many clients at a time."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence

from figures import Row, latency, rate, share
from harness.machine import free_port
from harness.processes import environment, until_listening
from processes import python, starting
from system import running

CLIENTS = 64
REPEATS = 3


def singles(jobs: int) -> list[Row]:
    """Jobs a second of dte and of a bare Tornado handler, by turns, under the same load."""
    ours, bare = [], []
    latencies_s: list[float] = []
    with running() as system, starting() as processes:
        bare_port = free_port()
        until_listening(processes.start(program=python("plain_server.py", bare_port)), bare_port)
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


def load(
    port: int, requests: int, clients: int = CLIENTS, token: str = "", ca: str = ""
) -> tuple[float, Sequence[float]]:
    """The seconds that a server took for some submissions, and for each of them.

    Args:
        token: what the clients send; "" for none.
        ca: the file of the server's authority; "" for no TLS.
    """
    command = python("load.py", port, clients, requests)
    env = environment(BENCH_TOKEN=token, BENCH_CA=ca)
    said = subprocess.run(command, stdout=subprocess.PIPE, env=env, check=True).stdout
    elapsed_s, latencies_s = json.loads(said)
    return elapsed_s, latencies_s
