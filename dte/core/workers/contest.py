"""Contests: another start of a worker, or a stranger, announces itself as a worker that is known.

A worker with a session is known by it, and proves it in each request. Whoever has another session
is another process: the same worker after a restart, a second worker of its name, or a stranger. It
gets the name or the address at once if it shows the token of the first and begins anew; otherwise
only when the first gives no signs of life.
"""

from __future__ import annotations

from enum import Enum

from dte.core.workers.worker import Announcement, Delivery, Worker


class Contest(Enum):
    """The standing of an announcement against the worker that is known so far."""

    NONE = "none"
    """It is the worker's own, or may replace it."""
    ASK = "ask"
    """It may replace the worker if it proves that it is the process at the address."""
    LOST = "lost"
    """The worker is another one, and alive."""


def contest(
    now: float, known: Worker | None, said: Announcement, lease_s: float, *, begins: bool = True
) -> Contest:
    """Decide whether an announcement may replace that of a known worker.

    Args:
        known: the worker with the identity of the announcement; None if there is none.
        lease_s: the silence that ends leases, of which half is a sign of death.
        begins: the process has no session yet, so it has just been started.
    """
    if known is None or known.gone or _is_same(known.announcement, said):
        return Contest.NONE
    had = known.announcement
    if said.draining and had.session:
        return Contest.LOST
    is_called = said.delivery is Delivery.PUSH
    is_alive = known.unreachable is None if is_called else gives_signs(now, known, lease_s)
    if had.token and had.token != said.token:
        return Contest.LOST if is_alive else Contest.NONE
    if had.session:
        if said.token and begins:
            return Contest.NONE
        if is_called:
            return Contest.ASK
        return Contest.LOST if is_alive else Contest.NONE
    is_other = bool(had.incarnation) and had.incarnation != said.incarnation
    claims = said.delivery is Delivery.PULL and not had.draining
    is_lost = is_other and claims and is_at_work(now, known, lease_s)
    return Contest.LOST if is_lost else Contest.NONE


def _is_same(had: Announcement, said: Announcement) -> bool:
    """True if an announcement is that of the process that made another."""
    return bool(had.session) and had.session == said.session


def is_at_work(now: float, worker: Worker, lease_s: float) -> bool:
    """True if a worker that is not called waits for work, or keeps what it has."""
    silent_s = now - worker.last_seen_at
    return worker.claim is not None or (worker.lease_count > 0 and silent_s < lease_s / 2)


def gives_signs(now: float, worker: Worker, lease_s: float) -> bool:
    """True if a worker that is not called is alive, as far as is known."""
    if is_at_work(now, worker, lease_s):
        return True
    if worker.announcement.draining or worker.hung_up_at >= worker.last_seen_at:
        return False
    return now - worker.last_seen_at < lease_s / 2
