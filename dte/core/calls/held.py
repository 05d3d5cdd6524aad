"""Jobs that wait for each other, because a call waits for a job that needs the call's own slot.

A handler may submit a job through a client and wait for it. Its call keeps its slot meanwhile. If
the job needs that slot, or the slot of another call that waits, neither job ever ends.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping
from itertools import islice

from dte.core.calls.lease import CallLease
from dte.core.calls.leases import CallLeases
from dte.core.calls.routing import Routing
from dte.core.graph.call import Call, CallState
from dte.core.jobs.table import JobTable
from dte.core.workers.worker import Worker

JOBS_MAX = 100
CALLS_MAX = 1_000
"""Bounds of a search for jobs that wait for each other, and for the calls of each."""
AWAY = ("gone", "draining", "pausing", "unreachable")

Held = Mapping[int, Collection[int]]
"""The jobs for which calls wait through a client, by the lease of the call."""


def takes_calls(worker: Worker) -> bool:
    """True if a worker gets calls as soon as it has a free slot."""
    return worker.state not in (*AWAY, "failing") and worker.silent_since <= worker.last_seen_at


class HeldCalls:
    """Calls that wait for jobs through a client, and keep their slots meanwhile.

    Args:
        held: the jobs for which calls wait, by lease.
        leases: the leases of all calls.
        table: all jobs.
        workers: all workers.
        routing: which of these may run which calls.
    """

    def __init__(
        self,
        held: Held,
        leases: CallLeases,
        table: JobTable,
        workers: Collection[Worker],
        routing: Routing,
    ) -> None:
        self._held = held
        self._table = table
        self._workers = workers
        self._routing = routing
        self._by_job: dict[int, list[CallLease]] = {}
        for number in held:
            lease = leases.get(number)
            if lease is not None:
                self._by_job.setdefault(lease.call.job, []).append(lease)

    def of(self, lease: CallLease) -> list[int]:
        """The unfinished jobs for which a call waits."""
        jobs = sorted(self._held.get(lease.number, ()))
        return [number for number in jobs if self._table.unfinished(number) is not None]

    def blame(self, call: Call, able: Collection[Worker]) -> str:
        """Name a call that holds a slot while it waits for the job of a call that needs one."""
        if not self._by_job:
            return ""
        for lease in self._holders(able):
            steps = self.path(lease, call.job)
            if steps is not None:
                holder = f"job {lease.call.job}'s call of {lease.call.handler}"
                return f"; {holder} holds one on {lease.worker_name} and {', which '.join(steps)}"
        return ""

    def path(self, start: CallLease, target: int) -> list[str] | None:
        """Explain in steps how a call waits for a job; None if it does not.

        Each step waits for a job, or for a slot that a job holds while it waits itself.
        """
        queue: deque[tuple[int, tuple[str, ...]]] = deque()
        for number in self.of(start):
            if number == target:
                own = number == start.call.job
                return ["waits for its own job" if own else f"waits for job {number}"]
            queue.append((number, (f"waits for job {number}",)))
        found = {number for number, _ in queue}
        while queue:
            number, steps = queue.popleft()
            for other, step in self._next(number):
                if other == target:
                    return [*steps, step]
                if other not in found and len(found) < JOBS_MAX:
                    found.add(other)
                    queue.append((other, (*steps, step)))
        return None

    def _next(self, number: int) -> Iterator[tuple[int, str]]:
        """The jobs for which a job waits, each with the step that leads to it."""
        job = self._table.unfinished(number)
        if job is None:
            return
        waiting = {
            call.handler: call
            for call in islice(job.each_call(), CALLS_MAX)
            if call.state is CallState.READY or (call.state is CallState.PAUSED and call.requeued)
        }
        for call in waiting.values():
            for lease in self._holders(self._able(call)):
                other, worker = lease.call.job, lease.worker_name
                yield other, f"waits for a slot that job {other} holds on worker {worker}"
        for lease in self._by_job.get(number, ()):
            for other in self.of(lease):
                yield other, f"waits for job {other}"
        for awaited in job.awaited:
            if not awaited.is_terminal:
                yield awaited.number, f"starts after job {awaited.number}"

    def _able(self, call: Call) -> list[Worker]:
        return [
            worker
            for worker in self._workers
            if self._routing.can_run(worker.announcement, call) and takes_calls(worker)
        ]

    def _holders(self, able: Collection[Worker]) -> Iterator[CallLease]:
        """The leases on these workers whose calls wait through a client."""
        for leases in self._by_job.values():
            for lease in leases:
                if lease.worker in able:
                    yield lease
