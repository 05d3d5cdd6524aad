"""Which workers may run which calls.

A call of dte's own clients goes to any worker that has its handler. A task of a dialect goes to
these too, and to the workers of that dialect that take every task. A call that a worker of a
dialect has failed goes to dte's own workers only: the others may not have known its handler.
"""

from __future__ import annotations

from collections.abc import Collection

from dte.core.calls.ready import Route, route_of
from dte.core.graph.call import Call
from dte.core.workers.worker import Announcement


def able(announcement: Announcement, route: Route, waiting: Collection[str]) -> Collection[str]:
    """The handlers whose calls of a route a worker takes.

    Args:
        waiting: the handlers whose calls of the route wait.
    """
    if route.refused and announcement.dialect:
        return ()
    tasks = announcement.tasks if announcement.dialect == route.origin else frozenset()
    if tasks is None:
        return waiting
    return announcement.handlers.keys() | tasks if tasks else announcement.handlers.keys()


def can_run(announcement: Announcement, call: Call) -> bool:
    """True if a worker may run a call."""
    return call.handler in able(announcement, route_of(call), (call.handler,))
