"""Holds: which worker was given which call, until when, by what passed between it and the master.

Nobody but the links knows this for certain: they read along, and are never killed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torture.chaos.tap import Exchange

OK = 200
SUCCEEDED = "succeeded"


@dataclass(slots=True, eq=False)
class Hold:
    """A lease of a call that was on its way to a worker.

    Attributes:
        lease: its number.
        job, node: the call.
        worker: the name of the worker.
        at: when it was handed over.
        renewed: when its worker was told that it goes on.
        said: the state in the report that the master acknowledged; empty for none.
        accepted_at: when it was acknowledged.
        lost_at: when its worker first was told that it has ended without that; None for never.
    """

    lease: int
    job: int
    node: str
    worker: str
    at: float
    renewed: list[float] = field(default_factory=list)
    said: str = ""
    accepted_at: float | None = None
    lost_at: float | None = None

    def __str__(self) -> str:
        said = "nothing was reported"
        if self.accepted_at is not None:
            said = f"{self.said!r} was acknowledged at {self.accepted_at:.3f}"
        renewed = ", ".join(f"{moment:.3f}" for moment in self.renewed) or "never"
        held = f"from {self.at:.3f}, renewed at {renewed}"
        lost = "" if self.lost_at is None else f", lost by {self.lost_at:.3f}"
        return f"lease {self.lease} of {self.worker} {held}{lost}, of which {said}"


@dataclass(eq=False)
class Holds:
    """Listens to the links between a master and its workers.

    Args:
        workers: the name of the worker at the end of each link, by the link's name.

    Attributes:
        by_lease: every hold.
    """

    workers: Mapping[str, str]
    by_lease: dict[int, Hold] = field(default_factory=dict)
    _by_call: dict[tuple[int, str], list[Hold]] = field(default_factory=dict)

    def listen(self, exchange: Exchange) -> None:
        """Take in a request, or a reply to one."""
        if exchange.path == "/compute" and not exchange.status and b'"calls"' in exchange.body:
            self._handed(exchange, exchange.request_json["calls"])
        elif exchange.path == "/claim" and exchange.status == OK:
            self._handed(exchange, exchange.reply_json["calls"])
        elif exchange.path == "/extend" and exchange.status == OK:
            self._renewed(exchange)
        elif exchange.path == "/result" and exchange.status == OK:
            self._acknowledged(exchange)

    def of(self, job: int, node: str) -> list[Hold]:
        """The holds of a call."""
        return self._by_call.get((job, node), [])

    def _handed(self, exchange: Exchange, calls: Iterable[Mapping[str, Any]]) -> None:
        worker = self.workers[exchange.link]
        # A claim was open for long when it was answered.
        at = exchange.at if exchange.status else exchange.asked_at
        for call in calls:
            hold = Hold(call["lease"], call["job_id"], call["node"], worker, at)
            if self.by_lease.setdefault(hold.lease, hold) is hold:
                self._by_call.setdefault((hold.job, hold.node), []).append(hold)

    def _renewed(self, exchange: Exchange) -> None:
        reply = exchange.reply_json
        for number in (*reply["extended"], *reply["stop"]):
            if number in self.by_lease:
                self.by_lease[number].renewed.append(exchange.at)
        self._lost(exchange.at, reply["lost"])

    def _lost(self, now: float, numbers: Iterable[int]) -> None:
        for number in numbers:
            hold = self.by_lease.get(number)
            if hold is not None and hold.lost_at is None and hold.accepted_at is None:
                hold.lost_at = now

    def _acknowledged(self, exchange: Exchange) -> None:
        accepted = set(exchange.reply_json["accepted"])
        self._lost(exchange.at, exchange.reply_json["stale"])
        for report in exchange.request_json.get("results", ()):
            hold = self.by_lease.get(report["lease"])
            if hold is not None and hold.lease in accepted and hold.accepted_at is None:
                by_error = "failed" if report.get("error") is not None else SUCCEEDED
                hold.said = report.get("state") or by_error
                hold.accepted_at = exchange.at
