"""The policies of handlers, as workers announced them last."""

from __future__ import annotations

from collections.abc import Mapping

from dte.core.graph.call import Call
from dte.core.graph.handlers import HandlerPolicy

ANY_POLICY = HandlerPolicy()
"""The policy of a handler of which workers give no more than the name."""


class Policies:
    """The policies by handler.

    Attributes:
        pure: the handlers that are pure.
    """

    def __init__(self) -> None:
        self._policies: dict[str, HandlerPolicy] = {}
        self.pure: frozenset[str] = frozenset()

    def learn(self, handlers: Mapping[str, HandlerPolicy]) -> None:
        """Take in an announcement; a bare name does not replace a known policy."""
        policies = self._policies
        news = {
            name: policy
            for name, policy in handlers.items()
            if policies.get(name) != policy and (policy != ANY_POLICY or name not in policies)
        }
        if news:
            policies.update(news)
            self.pure = frozenset(name for name, policy in policies.items() if policy.pure)

    def timeout_s(self, call: Call) -> float | None:
        if call.terms.timeout_s is not None:
            return call.terms.timeout_s
        return self._policies.get(call.handler, ANY_POLICY).timeout_s

    def is_spent(self, call: Call) -> bool:
        """True if a call is known to have used up its retries.

        After a restart a report may come before any worker has announced the handler. Workers of
        a dialect may never announce it.
        """
        retries = call.terms.retries
        if retries is None:
            policy = self._policies.get(call.handler, ANY_POLICY if call.record.dialect else None)
            if policy is None:
                return False
            retries = policy.retries
        return call.record.failures > retries
