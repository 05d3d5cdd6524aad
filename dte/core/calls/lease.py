"""A lease of one call."""

from __future__ import annotations

from dataclasses import dataclass

from dte.core.graph.call import Call
from dte.core.workers.worker import Claim, Worker


@dataclass(slots=True, eq=False)
class CallLease:
    """One call, handed to one worker until a deadline that the worker puts off.

    Attributes:
        number: shared by no other lease.
        worker: who has it; None after a restart until that worker is heard of.
        worker_name: its name.
        lease_s: how long it goes on after the worker was heard of.
        timeout_at: when the call has taken too long; None for never.
        claim: what it answers, if the worker fetches its work.
        sent: whether the worker may have it; before, that it was made is recorded.
        stop: whether the worker is to stop the call.
        renewed: whether a sign of life puts the deadline off.
        is_long: whether the handler was not known to be quick.
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

    @property
    def handed(self) -> bool:
        """Whether the worker has it, as far as the core knows."""
        return self.sent and (self.claim is None or self.claim.answered)

    def is_of(self, worker: str | None) -> bool:
        """Whether a worker of that name may have it; with None, whether any may."""
        return self.sent and worker in (None, self.worker_name)
