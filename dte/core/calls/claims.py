"""Claims: requests of workers for calls, from opening to answer."""

from __future__ import annotations

from dte.core.calls.leases import CallLeases
from dte.core.workers.availability import AvailabilityQueue
from dte.core.workers.worker import CLAIM_BYTES_MAX, Claim, Worker


class Claims:
    """The open claims.

    A claim gets calls in one tick only; then it is closed, and answered when the hand-over of these
    calls is recorded.
    """

    def __init__(self, leases: CallLeases, workers: AvailabilityQueue) -> None:
        self._leases = leases
        self._workers = workers
        self._open: dict[Worker, Claim] = {}

    def open(self, worker: Worker, slots: int) -> Claim:
        """Open a claim of a worker that has no other, for up to `slots` calls."""
        assert worker.claim is None
        claim = worker.claim = self._open[worker] = Claim(worker, slots)
        self._workers.offer(worker)
        return claim

    def remove(self, claim: Claim) -> None:
        """Close a claim and forget it: it is answered, or nobody waits for it."""
        claim.closed = True
        if self._open.get(claim.worker) is claim:
            del self._open[claim.worker]
            claim.worker.claim = None

    def close_filled(self) -> None:
        """Close the claims that have got calls."""
        for claim in self._open.values():
            claim.closed = claim.closed or bool(claim.call_leases)

    def reopen_emptied(self) -> None:
        """Reopen the claims that have lost their calls before they could be answered."""
        for claim in self._open.values():
            if claim.closed and not claim.call_leases:
                claim.closed = False
                claim.bytes_left = CLAIM_BYTES_MAX
                self._workers.offer(claim.worker)

    def take_complete(self) -> list[Claim]:
        """Answer the claims that have work whose hand-over is recorded."""
        complete = [claim for claim in self._open.values() if self._is_complete(claim)]
        for claim in complete:
            claim.answered = True
            self.remove(claim)
        return complete

    def _is_complete(self, claim: Claim) -> bool:
        leases = map(self._leases.get, claim.call_leases)
        return bool(claim.call_leases or claim.batch_lease) and all(
            lease and lease.sent for lease in leases
        )
