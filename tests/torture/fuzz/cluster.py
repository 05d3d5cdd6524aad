"""A master and two workers in processes of their own, and how to see that they are well."""

from __future__ import annotations

import json
import re
import socket
import time
from contextlib import ExitStack
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any

from end_to_end.live import Process, Processes, alive, free_port, until

WORKERS = 2
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
FAULT = re.compile(
    r"^(?:\S+ \S+ (?:ERROR|CRITICAL) |Exception ignored|Fatal |"
    # What a handler has raised is told as well, and is no fault of the worker.
    r'Traceback(?! \(most recent call last\):\n  File ".*/worker/child\.py", line \d+, '
    r"in run(?:_async)?\n)"
    r").*",
    re.M,
)
"""How a line of a log begins that tells of a bug. Nothing that is sent stands at a line's begin."""


class Cluster:
    """A running master, its workers, and ports at which nobody listens.

    Args:
        folder: takes the logs, and is where the processes run.

    Attributes:
        master: its process.
        port: the master's.
        worker_ports: the workers'.
        silent_ports: for announced workers that are not there; nobody else can take them.
    """

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self._processes = self._stack.enter_context(Processes(folder))
        self._folder = folder
        self._read: dict[Path, int] = {}
        self._job = self._cancelled = 0
        self.silent_ports = [self._hold_a_port() for _ in range(PORTS)]
        self.port = free_port()
        self.master = self._processes.start_master(self.port, **BOUNDS)
        self._workers = [
            self._processes.start_worker(self.port, f"worker-{n}") for n in range(WORKERS)
        ]
        until(lambda: len(self.ask("GET", "/worker")) == WORKERS, "both workers are announced")
        addresses = [worker["address"] for worker in self.ask("GET", "/worker")]
        self.worker_ports = [int(address.rpartition(":")[2]) for address in addresses]

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def _hold_a_port(self) -> int:
        holder = self._stack.enter_context(socket.socket())
        holder.bind(("127.0.0.1", 0))  # Without listening, so that connections are refused.
        return int(holder.getsockname()[1])

    def ask(self, method: str, path: str, body: Any = None, port: int = 0) -> Any:
        """The value of a reply of the master, or of the worker at `port`; it must be a success."""
        connection = HTTPConnection("127.0.0.1", port or self.port, timeout=PROBE_TIMEOUT_S)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            reply = connection.getresponse()
            value = json.loads(reply.read())
            if reply.status >= 300:
                raise ValueError(f"{method} {path}: {reply.status} {value}")
            return value
        finally:
            connection.close()

    def faults(self) -> list[str]:
        """What is wrong now with the processes, what they answer, and what they have logged."""
        return [*self._dead(), *self._answered_badly(), *self._cancelled_badly(), *self._logged()]

    def _dead(self) -> list[str]:
        named = {"the master": self.master}
        named |= {f"worker {number}": worker for number, worker in enumerate(self._workers)}
        return [f"{name} has ended" for name, process in named.items() if not alive(process.pid)]

    def _answered_badly(self) -> list[str]:
        faults = []
        try:
            for port in (self.port, *self.worker_ports):
                health = self.ask("GET", "/health", port=port)
                if health["status"] != "ok":
                    faults.append(f"/health is {health}")
            for task in KNOWN:
                job = self.ask("POST", "/submit?wait=2", {"task": task})
                job = self._finished(job)
                if repr(job["answer"]) != repr(eval(task)):
                    faults.append(f"{task} gives {job}")
            job = self._finished(self.ask("POST", "/jobs?wait=2", KNOWN_CALL))
            if job["answer"] != KNOWN_ANSWER:
                faults.append(f"{KNOWN_CALL} gives {job}")
            self._job = job["job_id"]
        except (OSError, HTTPException, ValueError, KeyError, TypeError) as error:
            faults.append(f"a probe fails: {error!r}")
        return faults

    def _finished(self, job: dict[str, Any]) -> dict[str, Any]:
        deadline = time.monotonic() + PROBE_TIMEOUT_S
        while not job["finished"] and time.monotonic() < deadline:
            job = self.ask("GET", f"/job/{job['job_id']}?wait=2")
        return job

    def _cancelled_badly(self) -> list[str]:
        """Cancel what has not ended of the jobs since the last look: much waits for nobody."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PROBE_TIMEOUT_S)
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
        faults = []
        for log in sorted(self._folder.glob("*.log")):
            with log.open("rb") as lines:
                lines.seek(self._read.get(log, 0))
                text = lines.read()
                self._read[log] = lines.tell()
            found = FAULT.findall(text.decode(errors="replace"))
            faults += [f"{log.name}: {line[:300]}" for line in found[:3]]
        return faults

    def idle_faults(self) -> list[str]:
        """What is left to do when nothing should be, and how processes end that are told to."""
        faults = []
        try:
            until(lambda: not self._waiting(), "no job and no operation waits", PROBE_TIMEOUT_S)
        except (AssertionError, OSError, ValueError) as error:
            faults.append(f"{error!r}")
        for process in (*self._workers, self.master):
            try:
                code = process.end()
            except AssertionError as error:
                faults.append(str(error)[-300:])
            else:
                if code:
                    faults.append(f"a process ends with {code}")
        return [*faults, *self._logged()]

    def _waiting(self) -> bool:
        health = self.ask("GET", "/health")
        return bool(health["jobs_waiting"] or health["operations_waiting"])

    def memory_bytes(self) -> dict[str, int]:
        """The memory of each process."""
        named = {"master": self.master}
        named |= {f"worker-{number}": worker for number, worker in enumerate(self._workers)}
        return {name: _memory_bytes(process) for name, process in named.items()}

    def open_files(self) -> int:
        """How many files and sockets the master has open."""
        return len(list(Path(f"/proc/{self.master.pid}/fd").iterdir()))


def _memory_bytes(process: Process) -> int:
    try:
        status = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:  # It has ended.
        return 0
    match = re.search(r"^VmRSS:\s*(\d+) kB", status, re.M)
    return int(match[1]) * 1024 if match else 0
