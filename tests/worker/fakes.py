"""A master that takes results over a real socket, and an executor without processes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from harness.http import HOST, Line, Message, PlainServer
from msgspec import Raw

from dte.wire.codec import encode
from dte.wire.messages.calls import Call, Progress, Report


def call(lease: int, lease_s: float = 3600.0) -> Call:
    return Call(lease, 1, "a", "echo", Raw(encode([lease])), None, 1, lease_s)


class FakeMaster:
    """A master with prepared replies, each of which a test may replace.

    Attributes:
        replies: for each path the status and the body of replies, or what makes them of a request.
        held: the paths of which requests are not answered.
        work: what claims are answered with, one after the other; then they are held.
    """

    def __init__(self) -> None:
        self.server = PlainServer(self._answer)
        self.held: set[str] = set()
        self.work: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.replies: dict[str, tuple[int, Any] | Callable[[Any], tuple[int, Any]]] = {
            "/worker": (200, {"status": "Worker registered"}),
            "/result": lambda body: (200, {"accepted": leases([body]), "stale": []}),
            "/extend": lambda body: (
                200,
                {"extended": body.get("leases", []), "lost": [], "stop": [], "lease_s": 3600.0},
            ),
        }

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server.port}"

    def said(self, path: str) -> list[Any]:
        """The bodies of the requests to a path."""
        return [each.json for each in self.server.requests if each.path == path]

    def results(self) -> dict[int, Any]:
        """The last report of each lease."""
        return {
            each["lease"]: each for body in self.said("/result") for each in body.get("results", [])
        }

    async def _answer(self, request: Message, line: Line) -> None:
        if request.path in self.held:
            return
        if request.path == "/claim" and "/claim" not in self.replies:
            if request.json.get("draining"):
                await line.reply(200, {"calls": [], "batches": []})
                return
            await line.reply(200, {"calls": [], "batches": []} | await self.work.get())
            return
        reply = self.replies[request.path]
        status, body = reply(request.json) if callable(reply) else reply
        await line.reply(status, body)


def leases(bodies: list[Any]) -> list[int]:
    """The leases that bodies of `/result` are of, in order."""
    return [
        each["lease"]
        for body in bodies
        for each in body.get("results", []) + body.get("batches", [])
    ]


class FakeExecutor:
    """Begins calls and ends them when a test says so.

    Attributes:
        begun: all calls so far.
        stopped: the leases that were to be stopped.
        heeds: whether calls that are stopped end.
    """

    def __init__(
        self, on_done: Callable[[Report], None], on_progress: Callable[[int, Progress], None]
    ) -> None:
        self.done = on_done
        self.progress = on_progress
        self.begun: list[Call] = []
        self.stopped: list[int] = []
        self.running: set[int] = set()
        self.waiting: set[int] = set()
        self.heeds = True
        self.closed = False

    def start(self, call: Call) -> None:
        self.begun.append(call)
        self.running.add(call.lease)

    def succeed(self, lease: int, result: bytes = b"1") -> None:
        self._end(Report(lease, Raw(result), state="succeeded"))

    def requeue_waiting(self) -> None:
        for lease in list(self.waiting):
            self.waiting.discard(lease)
            self._end(Report(lease, error="no slot became free", state="returned"))

    def stop(self, lease: int) -> bool:
        self.stopped.append(lease)
        if self.heeds and lease in self.running:
            self._end(Report(lease, error="cancelled", state="cancelled"))
        return lease in self.running

    async def close(self) -> None:
        self.closed = True
        for lease in list(self.running):
            if self.heeds:
                self._end(Report(lease, error="the worker is leaving", state="returned"))
        if self.running:
            await asyncio.Event().wait()

    def _end(self, report: Report) -> None:
        self.running.discard(report.lease)
        self.done(report)
