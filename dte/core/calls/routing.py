"""Which workers may run which calls.

A call of dte's own clients goes to any worker that has its handler. Where a worker has replaced a
built-in handler by its own, it goes only to workers that have: the built-in one is another.

A task of a dialect goes to any worker that has its handler, too, and means the built-in one where
there is one. It also goes to the workers of its dialect that take every task.

A call that a worker of a dialect has failed goes to dte's own workers only: the others may not have
known its handler. A call with arguments by position and by name needs a worker that takes both.
"""

from __future__ import annotations

from collections.abc import Collection

from dte.core.calls.ready import Route, route_of
from dte.core.graph.call import Call
from dte.core.workers.handlers import KnownHandlers
from dte.core.workers.worker import Announcement


class Routing:
    """Knows the workers for each call, by their announcements and by the replaced handlers."""

    def __init__(self, handlers: KnownHandlers) -> None:
        self._handlers = handlers

    def able(
        self, announcement: Announcement, route: Route, waiting: Collection[str]
    ) -> Collection[str]:
        """The handlers whose calls of a route a worker takes.

        Args:
            waiting: the handlers whose calls of the route wait.
        """
        if (route.refused and announcement.dialect) or (route.mixed and not announcement.mixes):
            return ()
        if not route.origin:
            return self.own(announcement, announcement.handlers.keys())
        tasks = announcement.tasks if announcement.dialect == route.origin else frozenset()
        if tasks is None:
            return waiting
        return announcement.handlers.keys() | tasks if tasks else announcement.handlers.keys()

    def own(self, announcement: Announcement, handlers: Collection[str]) -> Collection[str]:
        """The handlers of a worker without the built-in ones that another worker has replaced."""
        replaced = self._handlers.replaced
        if not replaced:
            return handlers
        kept = announcement.replaced
        return [name for name in handlers if name not in replaced or name in kept]

    def can_run(self, announcement: Announcement, call: Call) -> bool:
        """True if a worker may run a call."""
        return call.handler in self.able(announcement, route_of(call), (call.handler,))
