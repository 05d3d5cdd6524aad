"""Workers that can send no token: those of the systems whose protocols a master speaks.

With tokens, a worker needs one. One of an address in --seeds may come without: it does arithmetic,
or the tasks of its own protocol: those handlers that the protocol has, whoever called them, and no
handler of a user that another worker has.
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace

from dte.core.calls.ready import Route
from dte.core.errors import Busy, Conflict, Forbidden
from dte.core.scheduler import Scheduler
from dte.core.workers.worker import Announcement, Delivery, Worker
from dte.logs import one_line
from dte.master.access.caller import Caller
from dte.master.access.tokens import Role
from dte.master.networks import Networks
from dte.master.owners import owner_of

log = logging.getLogger("dte.master")

OF_SEED = "seed:"
"""Prefix of the owners of workers without a token."""
SEEDS_MAX = 100
PORT = 6000
LOOPBACK = ("127.0.0.0/8", "::1")
NOTED_MAX = 1_000
"""Workers whose first registration has been logged, before the oldest are forgotten."""
ROUTES = re.compile(
    r"/worker|/workers(?:/.*)?|/get-task|/submit-result|/heartbeat|(?:/scheduler)?"
    r"/(?:get_task|heartbeat|register_worker|unregister_worker|unregister)/.*"
    r"|(?:/scheduler)?/task_status"
)
"""The routes by which those workers come, get work, and report it."""
ARITHMETIC = (
    "a worker without a token does arithmetic at port 6000, and nothing else; for handlers give "
    "it a token: dte token new worker NAME"
)


def is_seed(owner: str) -> bool:
    """True for the owner of a worker without a token."""
    return owner.startswith(OF_SEED)


def seed_at(address: str, path: str, networks: Networks) -> Caller | None:
    """The worker without a token that makes a request; None if that may be none."""
    if not ROUTES.fullmatch(path) or not networks.have(address):
        return None
    return Caller(Role.WORKER, OF_SEED + owner_of(address))


class Seeds:
    """The workers without a token that a master knows.

    Args:
        networks: those that such workers come from.
    """

    def __init__(self, core: Scheduler, networks: Networks) -> None:
        self._core = core
        self._networks = networks
        self._noted: dict[str, None] = {}

    def admit(self, said: Announcement) -> Announcement:
        """Return an announcement as it counts: that of a worker without a token is restricted.

        Raises:
            Forbidden: the worker wants to do more than it may.
            Conflict: another worker has its name or its address.
            Busy: too many such workers are known.
        """
        if not is_seed(said.owner):
            return said
        self.check_own(said.owner, known := self._core.worker(said.identity))
        if said.delivery is Delivery.PUSH and (
            said.handlers or not said.arithmetic or said.address.rpartition(":")[2] != str(PORT)
        ):
            raise Forbidden(ARITHMETIC)
        if known is None or known.gone:
            count = sum(
                is_seed(each.announcement.owner) and not each.gone for each in self._core.workers()
            )
            if count >= SEEDS_MAX:
                raise Busy(f"too many workers without a token: {count} are known")
        self._note(said)
        if said.delivery is not Delivery.MAILBOX:
            return said
        return replace(said, handlers={}, tasks=self._tasks(said.dialect))

    def may_stay(self, said: Announcement) -> bool:
        """True if a worker without a token still comes from where such workers may."""
        if said.delivery is Delivery.PUSH:
            return self._networks.have(said.address.rpartition(":")[0])
        known = said.owner.removeprefix(OF_SEED)
        return any(map(self._networks.meet, (known,) if known else LOOPBACK))

    def check_own(self, owner: str, worker: Worker | None) -> None:
        """Check that a worker is not another's than of an owner without a token.

        Raises:
            Conflict: it is.
        """
        if worker is not None and not worker.gone and is_seed(owner):
            its = worker.announcement
            if its.owner != owner:
                raise Conflict(f"another worker is named {one_line(its.name)}; take another name")

    def _tasks(self, dialect: str) -> frozenset[str]:
        """The handlers of tasks of a dialect that wait, but for those that other workers have."""
        waiting = set(self._core.calls.jobs.ready.handlers(Route(dialect, refused=False)))
        for worker in self._core.workers() if waiting else ():
            if not worker.gone and not is_seed(worker.announcement.owner):
                waiting -= worker.announcement.handlers.keys()
        return frozenset(waiting)

    def _note(self, said: Announcement) -> None:
        """Log the first registration of a worker."""
        if said.identity in self._noted:
            return
        if len(self._noted) >= NOTED_MAX:
            del self._noted[next(iter(self._noted))]
        self._noted[said.identity] = None
        gets = "arithmetic" if said.arithmetic else "tasks of its protocol"
        name = one_line(said.name)
        place = said.address or said.owner.removeprefix(OF_SEED) or "this machine"
        log.warning(
            "worker %s came from %s without a token (--seeds): it gets %s alone",
            *(name, place, gets),
            extra={"worker": name},
        )
