"""Logs what operators need to know of jobs, workers and refused requests."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dte.core.arithmetic.lease import BatchLease
from dte.core.calls.setbacks import Setback
from dte.core.errors import DteError, TooLarge, TryAgain
from dte.core.jobs.job import Job, JobState
from dte.core.workers.worker import Worker
from dte.logs import LimitedLog, one_line
from dte.master.access.audit import fields_of

log = logging.getLogger("dte.master")

BAD = (JobState.FAILED, JobState.TIMED_OUT)
GONE = "workers that are gone"
NAMED_MAX = 5
"""Calls of a lost worker that are named; more are counted."""


@dataclass(slots=True)
class Incidents:
    """Logs incidents, few of each kind."""

    _limited: LimitedLog = field(default_factory=lambda: LimitedLog(log))
    _told: set[int] = field(default_factory=set)
    """Jobs of one call whose failure is logged already, until they end."""

    def close(self) -> None:
        """Log what has been left out."""
        self._limited.close()

    # Workers

    def lost(self, leases: Iterable[BatchLease]) -> None:
        """Log operations that workers had and did not compute."""
        for lease in leases:
            worker = lease.worker
            self._limited.add(
                GONE if worker.gone else "batches without a result",
                logging.WARNING,
                "worker %s at %s: %s; operations requeued: %d%s",
                worker.announcement.name,
                worker.announcement.address,
                lease.lost_because,
                lease.count,
                "; the worker is gone until it announces itself" if worker.gone else "",
                operations=lease.count,
                **fields_of(worker.announcement),
            )

    def gone(self, workers: Iterable[Worker]) -> None:
        """Log workers that have been silent for too long."""
        for worker in workers:
            if worker.announcement.draining:
                continue
            self._limited.add(
                GONE,
                logging.WARNING,
                "worker %s is gone: %s",
                worker.announcement.name,
                worker.last_failure or "no sign of life",
                **fields_of(worker.announcement),
            )

    # Attempts and jobs

    def setbacks(self, setbacks: Iterable[Setback]) -> None:
        """Log attempts of calls that have no result; those of a lost worker together."""
        lost: dict[tuple[str, str], list[Setback]] = {}
        for setback in setbacks:
            if setback.lost and not setback.final:
                lost.setdefault((setback.worker, setback.error), []).append(setback)
            else:
                self._attempt(setback)
        for (worker, error), calls in lost.items():
            self._lost_calls(worker, error, calls)

    def ended(self, jobs: Sequence[Job]) -> None:
        """Log jobs that failed or timed out."""
        for job in jobs:
            if job.state in BAD and job.number not in self._told:
                self._limited.add(
                    "jobs that failed",
                    logging.WARNING,
                    "job %d %s: %s",
                    job.number,
                    "failed" if job.state is JobState.FAILED else "timed out",
                    one_line(job.error or "no reason given"),
                    job=job.number,
                    state=job.state.value,
                )
        if self._told:
            self._told.difference_update(job.number for job in jobs)

    def _attempt(self, setback: Setback) -> None:
        level, kind, then = logging.INFO, "attempts that failed", "it is tried again"
        if setback.final:
            level, kind, then = logging.WARNING, "calls that failed", "it is not tried again"
            if setback.alone:
                self._told.add(setback.job)
        of = "" if setback.lost or setback.attempts_max is None else f" of {setback.attempts_max}"
        verb = "was lost" if setback.lost else "failed"
        self._limited.add(
            kind,
            level,
            "job %d, node %s: handler %s %s on attempt %d%s at worker %s, and %s: %s",
            setback.job,
            one_line(setback.node),
            one_line(setback.handler),
            verb,
            setback.attempt,
            of,
            one_line(setback.worker),
            then,
            one_line(setback.error),
            job=setback.job,
            node=setback.node,
            handler=setback.handler,
            worker=setback.worker,
            attempt=setback.attempt,
            error=one_line(setback.error),
        )

    def _lost_calls(self, worker: str, error: str, calls: list[Setback]) -> None:
        alone: dict[str, Any] = (
            {"job": calls[0].job, "node": calls[0].node} if len(calls) == 1 else {}
        )
        named = ", ".join(map(_named, calls[:NAMED_MAX]))
        more = f" and {len(calls) - NAMED_MAX} more" if len(calls) > NAMED_MAX else ""
        self._limited.add(
            "workers that lost calls",
            logging.WARNING,
            "%s; other workers get what it had: %s%s",
            one_line(
                error if error.startswith(f"worker {worker}") else f"worker {worker}: {error}"
            ),
            named,
            more,
            worker=worker,
            calls=len(calls),
            **alone,
        )

    # Requests

    def refused(
        self, method: str, path: str, status: int, error: DteError | None, why: str
    ) -> None:
        """Log a request that was refused."""
        self.refused_input(_request(method, path), status, error, why)

    def hung_up(self, method: str, path: str) -> None:
        """Log a request whose client closed the connection before its body was read."""
        self._limited.add(
            "requests whose clients closed the connection",
            logging.INFO,
            "the client closed the connection before its body was read: %s",
            _request(method, path),
        )

    def refused_input(self, what: str, status: int, error: DteError | None, why: str) -> None:
        """Log input that was refused."""
        by_bound = isinstance(error, (TryAgain, TooLarge))
        self._limited.add(
            f"requests refused with status {status}",
            logging.WARNING if by_bound else logging.INFO,
            "refused %s with status %d: %s",
            what,
            status,
            one_line(why, 300),
            status=status,
            code=error.code if error is not None else "http",
        )

    def fault(self, method: str, target: str, error: BaseException) -> None:
        """Log a fault of the master, by which it could not serve a request."""
        self._limited.add(
            "requests failed by faults of the master",
            logging.ERROR,
            "%s",
            _request(method, target),
            exception=error,
        )


def _request(method: str, target: str) -> str:
    return f"{one_line(method, 20)} {one_line(target, 200)}"


def _named(call: Setback) -> str:
    return f"job {call.job} node {one_line(call.node, 100)} ({one_line(call.handler, 100)})"
