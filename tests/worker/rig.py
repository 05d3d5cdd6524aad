"""An executor with child processes, and what tests of it ask for."""

from __future__ import annotations

from collections.abc import Callable, Set
from pathlib import Path
from typing import Any

import msgspec
from harness.until import until

from dte.wire.codec import encode
from dte.wire.messages.calls import Call, Progress, Report
from dte.worker.processes.executor import Executor

DEEDS = "worker.deeds"
HOSTILE = "worker.hostile"
LEAKS = "worker.leaks"
"""The modules with the handlers that are called."""


class Rig:
    """An executor with its reports and its progress so far."""

    def __init__(self, slots: int, memory_mb: int | None, **more: Any) -> None:
        self.reports: dict[int, Report] = {}
        self.progress: list[tuple[int, Progress]] = []
        self.capacities: list[tuple[int, str | None]] = []
        self._leases = 0
        self.executor = Executor(
            slots,
            [DEEDS, HOSTILE, LEAKS],
            memory_mb,
            self._done,
            lambda *update: self.progress.append(update),
            **more,
        )
        self.executor.on_capacity = lambda *change: self.capacities.append(change)
        for step in (
            "start",
            "stop",
            "on_idle",
            "on_done",
            "on_not_begun",
            "on_ending",
            "on_ended",
            "_try_again",
        ):
            setattr(self.executor, step, self._checked(getattr(self.executor, step)))

    def _checked(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """A step of the executor that asserts its invariants afterwards."""

        def call(*args: Any) -> Any:
            answer = step(*args)
            self.executor.check()
            return answer

        return call

    def _done(self, report: Report) -> None:
        assert report.lease not in self.reports
        self.reports[report.lease] = report

    @property
    def unfinished(self) -> Set[int]:
        """The leases of all calls that the executor has not reported, waiting ones included."""
        return self.executor.waiting | self.executor._running.keys()

    def start(self, handler: str, *args: Any, timeout: float | None = None, **named: Any) -> int:
        return self.start_with(handler, encode(named or list(args)), timeout)

    def start_with(self, handler: str, args: bytes, timeout: float | None = None) -> int:
        """Start a call whose arguments are this JSON."""
        self._leases += 1
        given = msgspec.Raw(args)
        self.executor.start(Call(self._leases, 1, "a", handler, given, timeout, 1, 10.0))
        return self._leases

    async def report(self, lease: int) -> Report:
        await until(lambda: lease in self.reports, f"the report of lease {lease}")
        assert lease not in self.unfinished
        return self.reports[lease]

    async def call(self, handler: str, *args: Any, **named: Any) -> Report:
        return await self.report(self.start(handler, *args, **named))

    async def value(self, handler: str, *args: Any, **named: Any) -> Any:
        return await self.value_of(self.start(handler, *args, **named))

    async def value_of(self, lease: int) -> Any:
        report = await self.report(lease)
        assert report.state == "succeeded", report
        assert isinstance(report.result, msgspec.Raw)
        return msgspec.json.decode(report.result)

    async def error(self, handler: str, *args: Any, **named: Any) -> str:
        report = await self.call(handler, *args, **named)
        assert report.state == "failed", report
        assert report.error
        return report.error


StartRig = Callable[..., Rig]


def is_gone(pid: int) -> bool:
    """Return True if a process has ended, even if its exit code has not been collected."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


async def noted(path: Path) -> int:
    """The process that a handler has noted."""
    await until(path.exists, f"a note in {path.name}")
    return int(path.read_text())
