"""Setbacks: attempts of calls without a result, for whoever tells operators."""

from __future__ import annotations

from dataclasses import dataclass

from dte.core.graph.call import Call
from dte.core.jobs.job import Job

SETBACKS_MAX = 1_000
"""Most setbacks that are kept until the next tick; further ones are dropped."""


@dataclass(frozen=True, slots=True)
class Setback:
    """An attempt that failed, took too long, or was lost with its worker.

    Attributes:
        node: the call's name in its job.
        attempt: its number, from 1.
        attempts_max: the most attempts that may fail; None if that is not known.
        lost: nobody knows how it ended.
        final: the call has ended by it.
        alone: the call is all of its job.
    """

    job: int
    node: str
    handler: str
    worker: str
    attempt: int
    attempts_max: int | None
    error: str
    lost: bool
    final: bool
    alone: bool


class Setbacks:
    """The setbacks since the last tick."""

    def __init__(self) -> None:
        self._setbacks: list[Setback] = []

    def add(
        self, job: Job, call: Call, retries: int | None, error: str, *, lost: bool, final: bool
    ) -> None:
        """Note a setback of a call, whose record still names the worker."""
        if len(self._setbacks) < SETBACKS_MAX:
            record = call.record
            self._setbacks.append(
                Setback(
                    call.job,
                    call.name,
                    call.handler,
                    record.worker,
                    record.attempts,
                    None if retries is None else retries + 1,
                    error,
                    lost,
                    final,
                    job.operations == 1,
                )
            )

    def take(self) -> list[Setback]:
        setbacks, self._setbacks = self._setbacks, []
        return setbacks
