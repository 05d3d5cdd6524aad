"""The policies of calls: a call runs under that of the worker that gets it.

So an upgrade of some workers changes nothing for the calls of the others, and the announcement of a
worker means nothing once the worker is gone. An attempt that fails is judged by the policy of the
worker that made it: all failures of the call count, whoever had it.
"""

from __future__ import annotations

from dte.core.graph.call import Call
from dte.core.graph.handlers import ANY_POLICY, HandlerPolicy
from dte.core.workers.availability import AvailabilityQueue
from dte.core.workers.worker import Announcement


class Policies:
    """Knows the policy of each attempt."""

    def __init__(self, workers: AvailabilityQueue) -> None:
        self._workers = workers

    def begin(self, call: Call, announcement: Announcement) -> float | None:
        """Give a call the policy of the worker that gets it; its timeout."""
        policy = call.policy = announcement.policy(call.handler, call.origin)
        handlers = self._workers.handlers
        if call.origin and call.handler in handlers.replaced:
            call.pure = policy.pure  # It means the built-in handler.
        else:
            says_so = policy.pure or bool(announcement.dialect)
            call.pure = says_so and call.handler in handlers.pure
        return self._timeout_s(call, policy)

    def timeout_s(self, call: Call) -> float | None:
        """The timeout of a call that its last worker has, as far as it is known."""
        return self._timeout_s(call, self._of(call) or ANY_POLICY)

    def _timeout_s(self, call: Call, policy: HandlerPolicy) -> float | None:
        own_s = call.terms.timeout_s
        return policy.timeout_s if own_s is None else own_s

    def _of(self, call: Call) -> HandlerPolicy | None:
        """The policy of a call's last worker.

        After a restart a report may come before that worker has announced itself. Workers of a
        dialect may never do.
        """
        if call.policy is not None:
            return call.policy
        record = call.record
        for worker in self._workers.named(record.worker) if record.worker else ():
            if record.is_of(worker.announcement.dialect):
                return worker.announcement.policy(call.handler, call.origin)
        return ANY_POLICY if record.dialect else None

    def retries(self, call: Call) -> int | None:
        """How often a call may be tried again after a failure; None if that is not known."""
        if call.terms.retries is not None:
            return call.terms.retries
        policy = self._of(call)
        return None if policy is None else policy.retries

    def is_spent(self, call: Call, announcement: Announcement | None = None) -> bool:
        """True if a call is known to have used up its retries.

        Args:
            announcement: that of the worker which is to get it. It decides if the policy of the
                last worker is not known.
        """
        failures = call.record.failures
        if not failures:
            return False
        retries = self.retries(call)
        if retries is None and announcement is not None:
            retries = announcement.policy(call.handler, call.origin).retries
        return retries is not None and failures > retries
