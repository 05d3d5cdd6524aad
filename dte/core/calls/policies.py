"""The policies of handlers, as workers announced them last."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from dte.core.graph.call import Call
from dte.core.graph.handlers import ANY_POLICY, HandlerPolicy

NONE_REPLACED: Mapping[str, HandlerPolicy] = {}


class Policies:
    """The policies by handler.

    A built-in handler that a worker has replaced by its own has two policies: that of the own one,
    for calls of dte's own clients, and its own, for tasks of dialects.

    Attributes:
        pure: the handlers that are pure.
        replaced: the built-in handlers that a worker has replaced, with their policies.
    """

    def __init__(self) -> None:
        self._policies: dict[str, HandlerPolicy] = {}
        self.pure: frozenset[str] = frozenset()
        self.replaced: dict[str, HandlerPolicy] = {}
        self._unconfirmed: set[str] = set()

    def learn(
        self,
        handlers: Mapping[str, HandlerPolicy],
        replaced: Mapping[str, HandlerPolicy] = NONE_REPLACED,
    ) -> None:
        """Take in an announcement; a bare name does not replace a known policy.

        Args:
            replaced: the built-in handlers that the worker's own ones replace.
        """
        policies = self._policies
        self.replaced.update(replaced)
        self._unconfirmed.difference_update(replaced)
        if self.replaced:
            own = {name: handlers[name] for name in replaced}
            handlers = {each: handlers[each] for each in handlers if each not in self.replaced}
            if any(policies.get(name) != policy for name, policy in own.items()):
                policies.update(own)
                self._note_pure()
        news = {
            name: policy
            for name, policy in handlers.items()
            if policies.get(name) != policy and (policy != ANY_POLICY or name not in policies)
        }
        if news:
            policies.update(news)
            self._note_pure()

    def restore(self, replaced: Mapping[str, HandlerPolicy]) -> None:
        """Take over what had been replaced before a restart: calls may wait for that."""
        self.replaced.update(replaced)
        self._unconfirmed.update(replaced)

    def forget(self, needed: Collection[str]) -> None:
        """Drop what had been replaced before a restart, if no worker has announced it since.

        Args:
            needed: the handlers for which calls from before the restart wait.
        """
        for name in self._unconfirmed.difference(needed):
            self._policies.setdefault(name, self.replaced.pop(name))
        self._unconfirmed.intersection_update(needed)
        self._note_pure()

    def _note_pure(self) -> None:
        self.pure = frozenset(name for name, policy in self._policies.items() if policy.pure)

    def _of(self, call: Call) -> HandlerPolicy | None:
        if call.origin and call.handler in self.replaced:
            return self.replaced[call.handler]
        return self._policies.get(call.handler)

    def timeout_s(self, call: Call) -> float | None:
        if call.terms.timeout_s is not None:
            return call.terms.timeout_s
        return (self._of(call) or ANY_POLICY).timeout_s

    def retries(self, call: Call) -> int | None:
        """How often a call may be tried again after a failure; None if that is not known.

        After a restart a report may come before any worker has announced the handler. Workers of
        a dialect may never announce it.
        """
        if call.terms.retries is not None:
            return call.terms.retries
        policy = self._of(call) or (ANY_POLICY if call.record.dialect else None)
        return None if policy is None else policy.retries

    def is_spent(self, call: Call) -> bool:
        """True if a call is known to have used up its retries."""
        retries = self.retries(call)
        return retries is not None and call.record.failures > retries
