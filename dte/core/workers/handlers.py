"""The handlers that the known workers have, by their announcements.

A worker's announcement counts as long as the worker: until it leaves, is gone, or is replaced by
another incarnation. It is of that worker alone, but for two things that are known of a name.

A handler is pure while every worker that has it says so. Workers of other dialects cannot say, and
those that are leaving take no more calls, so neither count. A built-in handler that a worker has
replaced by its own is another handler from then on: of its name only those who replaced it count.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from dte.core.errors import Busy
from dte.core.graph.handlers import HandlerPolicy
from dte.core.shares import Shares
from dte.core.workers.worker import Announcement, Worker

NAMES_MAX = 1_000
"""Most names of handlers that are known at a time."""
BOUND = "the most names of handlers"


class KnownHandlers:
    """The handlers of all known workers.

    Attributes:
        replaced: the built-in handlers that a worker has replaced, with their policies.
    """

    def __init__(self) -> None:
        self._listed: dict[Worker, Announcement] = {}
        self._present: dict[Worker, Announcement] = {}
        self._names = _Names()
        self._names_of: dict[str, _Names] = {}
        self._votes: dict[str, _Votes] = {}
        self._pure: frozenset[str] | None = frozenset()
        self._unconfirmed: set[str] = set()
        self._shares = Shares("names of handlers", BOUND, NAMES_MAX)
        self.replaced: dict[str, HandlerPolicy] = {}

    # Names

    def has_room(self, worker: Worker | None, announcement: Announcement) -> bool:
        """True if the names of an announcement may be known.

        Args:
            worker: the worker whose announcement it replaces; None for a new one.
        """
        names = announcement.handlers.keys()
        old = self._listed.get(worker) if worker is not None else None
        if _has_same_names(old, announcement):
            return True
        if self._names.count_with(names, old) > NAMES_MAX:
            return False
        return not announcement.owner or self._count_of(announcement, old) <= self._shares.share

    def ensure_room(self, worker: Worker | None, announcement: Announcement) -> None:
        """Raise `Busy` unless the names of an announcement may be known, as `has_room`."""
        if self.has_room(worker, announcement):
            return
        old = self._listed.get(worker) if worker is not None else None
        count = self._names.count_with(announcement.handlers.keys(), old)
        text = f"too many names of handlers: {count} > {NAMES_MAX}"
        if count <= NAMES_MAX:
            count, share = self._count_of(announcement, old), self._shares.share
            owner = announcement.owner
            text = f"{owner} would have {count} names of handlers; its share is {share}, half of "
            text += f"{NAMES_MAX}"
        raise Busy(f"{text}, on all known workers together", retry_after_s=5)

    def _count_of(self, announcement: Announcement, old: Announcement | None) -> int:
        """The number of names that an owner's workers would have, with an announcement."""
        of_owner = self._names_of.get(announcement.owner, _Names())
        if old is not None and old.owner != announcement.owner:
            old = None
        return of_owner.count_with(announcement.handlers.keys(), old)

    # Workers

    def note(self, worker: Worker, *, known: bool = True) -> None:
        """Take in the announcement of a worker, or that it is gone, or not known any more."""
        self._list(worker, worker.announcement if known else None)
        takes_calls = known and not worker.gone and not worker.announcement.draining
        self._count(worker, worker.announcement if takes_calls else None)

    def _list(self, worker: Worker, new: Announcement | None) -> None:
        old = self._listed.get(worker)
        if new is old:
            return
        if new is None:
            del self._listed[worker]
        else:
            self._listed[worker] = new
        if new is not None and _has_same_names(old, new):
            return
        for announcement, step in ((new, 1), (old, -1)):
            if announcement is None:
                continue
            self._names.count(announcement.handlers, step)
            if announcement.owner:
                of_owner = self._names_of.setdefault(announcement.owner, _Names())
                of_owner.count(announcement.handlers, step)
                if not of_owner:
                    del self._names_of[announcement.owner]

    def _count(self, worker: Worker, new: Announcement | None) -> None:
        """Let the announcement of a worker that takes calls count for what is known of a name."""
        old = self._present.get(worker)
        if new is old:
            return
        if new is None:
            del self._present[worker]
        else:
            self._present[worker] = new
            self._note_replaced(new.replaced)
        if new is not None and _says_same(old, new):
            return
        self._pure = None
        for announcement, step in ((new, 1), (old, -1)):
            if announcement is None or announcement.dialect:
                continue
            for name, policy in announcement.handlers.items():
                votes = self._votes.get(name)
                if votes is None:
                    votes = self._votes[name] = _Votes()
                votes.count(policy, name in announcement.replaced, step)
                if not votes.all:
                    del self._votes[name]

    # What is known of a name

    @property
    def pure(self) -> frozenset[str]:
        """The handlers of which every worker that has them says that they are pure."""
        if self._pure is None:
            self._pure = frozenset(
                name for name, votes in self._votes.items() if votes.is_pure(name in self.replaced)
            )
        return self._pure

    def _note_replaced(self, replaced: Mapping[str, HandlerPolicy]) -> None:
        if replaced:
            self.replaced.update(replaced)
            self._unconfirmed.difference_update(replaced)
            self._pure = None

    def restore(self, replaced: Mapping[str, HandlerPolicy]) -> None:
        """Take over what had been replaced before a restart: calls may wait for that."""
        self._note_replaced(replaced)
        self._unconfirmed.update(replaced)

    def forget(self, needed: Collection[str]) -> None:
        """Drop what had been replaced before a restart, if no worker has announced it since.

        Args:
            needed: the handlers for which calls from before the restart wait.
        """
        for name in self._unconfirmed.difference(needed):
            del self.replaced[name]
        self._unconfirmed.intersection_update(needed)
        self._pure = None

    def check(self, workers: Iterable[Worker]) -> None:
        """Assert that these are the known workers; for tests."""
        known = list(workers)
        assert self._listed == {worker: worker.announcement for worker in known}
        assert self._present == {
            worker: worker.announcement
            for worker in known
            if not worker.gone and not worker.announcement.draining
        }
        assert self._names.keys() == {
            name for worker in known for name in worker.announcement.handlers
        }
        assert len(self._names) <= NAMES_MAX


def _has_same_names(old: Announcement | None, new: Announcement) -> bool:
    return old is not None and old.owner == new.owner and old.handlers.keys() == new.handlers.keys()


def _says_same(old: Announcement | None, new: Announcement) -> bool:
    """True if an announcement says the same of each handler as the one before."""
    return (
        old is not None
        and old.dialect == new.dialect
        and old.handlers == new.handlers
        and old.replaced.keys() == new.replaced.keys()
    )


class _Names(dict[str, int]):
    """Names of handlers, with the number of workers that have each."""

    def count(self, names: Iterable[str], step: int) -> None:
        for name in names:
            count = self.get(name, 0) + step
            if count:
                self[name] = count
            else:
                del self[name]

    def count_with(self, names: Collection[str], old: Announcement | None) -> int:
        """The number of names with some more, and without those that only `old` has."""
        new = sum(name not in self for name in names)
        lost = (name for name in (old.handlers if old is not None else ()) if self[name] == 1)
        return len(self) + new - sum(name not in names for name in lost)


class _Votes:
    """What workers say of a handler: how many have it, and how many say that it is pure.

    Attributes:
        all: the workers that have it.
        own: those that have replaced the built-in one of its name by it.
    """

    __slots__ = ("all", "own", "pure", "pure_own")

    def __init__(self) -> None:
        self.all = self.pure = self.own = self.pure_own = 0

    def count(self, policy: HandlerPolicy, is_own: bool, step: int) -> None:
        self.all += step
        self.pure += step * policy.pure
        self.own += step * is_own
        self.pure_own += step * (is_own and policy.pure)

    def is_pure(self, replaced: bool) -> bool:
        if replaced:
            return 0 < self.own == self.pure_own
        return self.all == self.pure
