"""A call lease: one call that one worker has, until a deadline which the worker renews."""

from __future__ import annotations

from dataclasses import dataclass

from dte.core.graph.call import Call
from dte.core.workers.worker import Claim, Worker


@dataclass(slots=True, eq=False)
class CallLease:
    """One hand-over of a call.

    Attributes:
        number: shared by no other lease.
        worker: None after a restart, until that worker is seen again.
        worker_name: the worker's name.
        lease_s: silence of the worker that ends the lease.
        timeout_at: the moment at which the call has taken too long; None for never.
        claim: the claim that it answers, if the worker pulls.
        sent: the worker may have it; before, its making is being recorded.
        stop: the worker must stop the call.
        renewed: signs of life that name no lease renew it.
        is_long: the handler was not known to be quick.
        unsent: the bytes of its arguments that count as on their way.
        address: the address to which they are on their way.
    """

    number: int
    call: Call
    worker: Worker | None
    worker_name: str
    leased_at: float
    lease_s: float
    deadline: float
    timeout_s: float | None = None
    timeout_at: float | None = None
    claim: Claim | None = None
    sent: bool = False
    stop: bool = False
    renewed: bool = True
    is_long: bool = True
    unsent: int = 0
    address: str = ""

    @property
    def handed(self) -> bool:
        """The worker has the call, as far as the core knows."""
        return self.sent and (self.claim is None or self.claim.answered)

    def is_of(self, worker: str, dialect: str = "", session: str = "") -> bool:
        """True if the worker of that name in a dialect, and of that session, may have the call.

        The lease of a worker with a session is that session's, whatever the worker's name.
        """
        record = self.call.record
        if record.session or session:
            return self.sent and record.session == session
        return self.sent and worker == self.worker_name and record.is_of(dialect)


def restored_lease(
    now: float, call: Call, least_s: float, default_lease_s: float, timeout_s: float | None
) -> CallLease:
    """The lease of a call that a worker has from before a restart, for `least_s` at least."""
    record = call.record
    lease_s = record.lease_s or default_lease_s
    deadline = now + max(lease_s, least_s)
    lease = CallLease(
        record.lease, call, None, record.worker, now, lease_s, deadline, timeout_s, sent=True
    )
    if timeout_s is not None:
        lease.timeout_at = now + timeout_s + default_lease_s
    return lease
