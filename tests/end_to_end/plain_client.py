"""A client that knows nothing but HTTP, JSON and the document."""

from __future__ import annotations

import json
from http.client import HTTPConnection
from typing import Any

from .live import until


class PlainClient:
    """Asks a master of this machine, on a connection for each request."""

    def __init__(self, port: int) -> None:
        self._port = port

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """The status and the value of a reply."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, headers or {})
            reply = connection.getresponse()
            return reply.status, json.loads(reply.read())
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """The value of a good reply."""
        status, value = self.request("GET", path)
        assert status == 200, value
        return value

    def submit(self, task: str) -> int:
        """Submit a formula that is accepted; give the job's id."""
        status, reply = self.request("POST", "/submit", {"task": task})
        assert status == 200, reply
        return int(reply["job_id"])

    def finished(self, job_id: int) -> dict[str, Any]:
        """The job, asked for until it is finished."""
        return until(
            lambda: job if (job := self.get(f"/job/{job_id}"))["finished"] else None,
            f"job {job_id} is finished",
        )

    def compute(self, task: str) -> Any:
        """The answer to a formula."""
        return self.finished(self.submit(task))["answer"]

    def workers(self) -> dict[str, dict[str, Any]]:
        """The workers that the master knows, by name."""
        return {worker["worker_name"]: worker for worker in self.get("/worker")}
