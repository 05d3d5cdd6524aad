"""A master and two workers as processes, and how to see that they are well."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from harness.cluster import Cluster
from harness.earlier_master import EarlierMaster
from harness.http import BlockingClient
from harness.machine import HOST, memory_bytes
from harness.processes import TESTS, Process, Processes, until

PORTS = 5
"""How many workers may be announced that are not there."""
BOUNDS = {
    "DTE_BODY_BYTES_MAX": "1000000",
    "DTE_BODIES_BYTES_MAX": "20000000",
    "DTE_FORMULA_CHARS_MAX": "50000",
    "DTE_FORMULA_OPERATIONS_MAX": "20000",
    "DTE_FORMULAS_MAX": "500",
    "DTE_JOBS_KEPT": "2000",
    "DTE_JOBS_KEPT_BYTES": "10000000",
    "DTE_WAIT_MAX_S": "2",
    "DTE_VALUE_BYTES_MAX": "100000",
    "DTE_CALLS_MAX": "500",
    "DTE_STREAMS_MAX": "100",
    "DTE_LEASE_S": "2",
    "DTE_RETRY_PAUSE_MAX_S": "1",
    "DTE_QUEUE_LEASE_S": "2",
    "DTE_QUEUE_DEAD_AFTER_S": "2",
    "DTE_SCHEDULER_DEAD_AFTER_S": "2",
    "DTE_NOTIFY_FOR_S": "2",
    "DTE_JOURNAL": "none",
}
"""Settings of the master: small, so that bounds are met and what is not given back adds up."""
PROBE_TIMEOUT_S = 10.0
KNOWN_CALL = {"handler": "prime_factorization", "args": [360], "timeout": 5}
"""Of a handler that no script announces."""
KNOWN_ANSWER = [2, 2, 2, 3, 3, 5]
KNOWN = ("1+(2*3)/4-5", "0.1+0.2", "2*3*7", "-(0.0+0)", "(1+2)*(1+2)-10/4")
SHOWN_CHARS, ERRORS_SHOWN = 300, 3
PROBE_FAILS = (AssertionError, OSError, HTTPException, ValueError, KeyError, TypeError)
"""What a reply raises that is missing or wrong."""


class FuzzedCluster(Cluster):
    """A running cluster, and ports at which nobody listens.

    Args:
        folder: takes the logs, and is where the processes run.

    Attributes:
        silent_ports: for announced workers that are not there; nobody else can take them.
    """

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self._job = self._cancelled = 0
        self.silent_ports = [self._hold_a_port() for _ in range(PORTS)]
        processes = self._stack.enter_context(Processes(folder, PYTHONPATH=str(TESTS)))
        super().__init__(processes, options=("--handlers", "worker.hostile"), **BOUNDS)
        self._client = BlockingClient(self.port, PROBE_TIMEOUT_S)
        self.worker_ports.append(self._start_open_worker())

    def _start_open_worker(self) -> int:
        """Start a worker that demands no secret, so that more than its refusal is met."""
        earlier = EarlierMaster()
        self._stack.callback(earlier.close)
        options = ("--handlers", "worker.hostile")
        self.workers["open"] = self.processes.start_worker(earlier.port, "open", *options)
        return until(lambda: earlier.worker_port, "it is announced")

    def __enter__(self) -> FuzzedCluster:
        return self

    def __exit__(self, *raised: object) -> None:
        self._stack.close()

    def _hold_a_port(self) -> int:
        holder = self._stack.enter_context(socket.socket())
        holder.bind((HOST, 0))  # Without listening, so that connections are refused.
        return int(holder.getsockname()[1])

    @property
    def _named(self) -> dict[str, Process]:
        return {"master": self.master} | self.workers

    def faults(self) -> list[str]:
        """The present faults of the processes, of their replies, and of their logs."""
        return [*self._dead(), *self._answered_badly(), *self._cancelled_badly(), *self._logged()]

    def _dead(self) -> list[str]:
        return [f"{name} has ended" for name, each in self._named.items() if not each.running]

    def _answered_badly(self) -> list[str]:
        faults = []
        try:
            for port in (self.port, *self.worker_ports):
                health = BlockingClient(port, PROBE_TIMEOUT_S).get("/health")
                if health["status"] != "ok":
                    faults.append(f"/health is {health}")
            for task in KNOWN:
                job = self._client.value("POST", "/submit?wait=2", {"task": task})
                job = self._finished(job)
                if repr(job["answer"]) != repr(eval(task)):
                    faults.append(f"{task} gives {job}")
            job = self._finished(self._client.value("POST", "/jobs?wait=2", KNOWN_CALL))
            if job["answer"] != KNOWN_ANSWER:
                faults.append(f"{KNOWN_CALL} gives {job}")
            self._job = job["job_id"]
        except PROBE_FAILS as error:
            faults.append(f"a probe fails: {error!r}")
        return faults

    def _finished(self, job: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + PROBE_TIMEOUT_S
        while not job["finished"] and time.monotonic() < deadline:
            job = self._client.get(f"/job/{job['job_id']}?wait=2")
        return job

    def _cancelled_badly(self) -> list[str]:
        """Cancel what has not ended of the jobs since the last look: much waits for nobody."""
        connection = HTTPConnection(HOST, self.port, timeout=PROBE_TIMEOUT_S)
        faults = []
        try:
            while self._cancelled < self._job:
                self._cancelled += 1
                connection.request("POST", f"/job/{self._cancelled}/cancel")
                reply = connection.getresponse()
                said = reply.read()
                if reply.status not in (200, 404, 409):
                    faults.append(f"cancelling job {self._cancelled}: {reply.status} {said!r}")
        except (OSError, HTTPException) as error:
            faults.append(f"cancelling fails: {error!r}")
        finally:
            connection.close()
        return faults[:3]

    def _logged(self) -> list[str]:
        return [
            f"{name}: {line[:SHOWN_CHARS]}"
            for name, process in self._named.items()
            for line in process.new_errors()[:ERRORS_SHOWN]
        ]

    def idle_faults(self) -> list[str]:
        """Work that is left when none should be, and processes that do not end as they should."""
        faults = []
        try:
            until(lambda: not self._waiting(), "no job and no operation waits", PROBE_TIMEOUT_S)
        except PROBE_FAILS as error:
            faults.append(f"{error!r}")
        for process in (*self.workers.values(), self.master):
            try:
                code = process.end()
            except AssertionError as error:
                faults.append(str(error)[-300:])
            else:
                if code:
                    faults.append(f"a process ends with {code}")
        return [*faults, *self._logged()]

    def _waiting(self) -> bool:
        health = self._client.get("/health")
        return bool(health["jobs_waiting"] or health["operations_waiting"])

    def memory_bytes(self) -> dict[str, int]:
        """The memory of each process."""
        return {name: memory_bytes(process.pid) for name, process in self._named.items()}

    def open_files(self) -> int:
        """The number of files and sockets that the master has open."""
        return len(list(Path(f"/proc/{self.master.pid}/fd").iterdir()))
