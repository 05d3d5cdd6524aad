"""Admits workers: each as its token allows, or as one without a token may be admitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from dte.core.errors import Conflict, Forbidden
from dte.core.graph.handlers import HandlerPolicy
from dte.core.scheduler import Scheduler
from dte.core.shares import token_of
from dte.core.workers.worker import Announcement, Worker
from dte.logs import one_line
from dte.master.access.caller import check_handler
from dte.master.access.seeds import Seeds, is_seed
from dte.master.access.tokens import LOOK_EVERY_S, Role, Token, Tokens
from dte.master.networks import Networks
from dte.wire.messages.handlers import BUILT_IN_NAMES


class Admission:
    """Restricts what workers say of themselves.

    Args:
        tokens: those of the master.
        wall_s: the wall time, in seconds.
        is_open: True while no tokens are in use.
        seeds: the networks of workers without a token.
    """

    def __init__(
        self,
        core: Scheduler,
        tokens: Tokens,
        wall_s: Callable[[], float],
        is_open: Callable[[], bool],
        seeds: Networks,
    ) -> None:
        self._core = core
        self._tokens = tokens
        self._wall_s = wall_s
        self._is_open = is_open
        self._seeds = Seeds(core, seeds)
        self._look_at = float("-inf")
        self._changes = 0

    def lapsed(self, now: float) -> list[Worker]:
        """The known workers that may get nothing more.

        While tokens are in use, that is each whose token has expired, is gone, or is another by
        now, and each without one, unless it is a seed's. They are looked for once a second, and at
        once when the tokens have changed.
        """
        if now < self._look_at and self._tokens.changes == self._changes:
            return []
        self._look_at = now + LOOK_EVERY_S
        is_open = self._is_open()
        self._changes = self._tokens.changes
        if is_open:
            return []
        known: dict[tuple[str, str], Token | None] = {}
        return [each for each in self._core.workers() if not self._may_stay(each, known)]

    def _may_stay(self, worker: Worker, known: dict[tuple[str, str], Token | None]) -> bool:
        """True if a worker may go on.

        Args:
            known: the valid tokens so far, by owner and mark.
        """
        said = worker.announcement
        if is_seed(said.owner):
            return self._seeds.may_stay(said)
        key = said.owner, said.token_mark
        if key not in known:
            token = self._token(said.owner)
            known[key] = token if token is not None and token.mark == said.token_mark else None
        token = known[key]
        return token is not None and self._nearer(token, said.name) is None

    def admit(self, said: Announcement, shown: Token | None = None) -> Announcement:
        """Return an announcement as it counts.

        Built-in handlers that the token is not for are left out, as every worker has them.

        Args:
            shown: the token of its request; None for the present one of its owner.

        Raises:
            Forbidden: the token is valid no longer, is not for the worker's name, or not for one
                of its handlers.
            Conflict: another token's worker of its dialect has the name, and is not gone.
            Busy: too many workers without a token are known.
        """
        if is_seed(said.owner):
            return self._seeds.admit(said)
        self.check_name(said.owner, said.name)
        if said.dialect:
            self.check_own(said.owner, self._core.worker(said.identity))
        token = self._token(said.owner)
        if said.token and not self._is_open() and (token is None or shown not in (None, token)):
            raise Forbidden(f"the token {said.token} has expired, or has been removed or replaced")
        if token is None:
            return said
        if token.role is Role.WORKER and "*" not in token.handlers:
            said = _fitted(said, token)
        return replace(said, token_mark=token.mark)

    def check_name(self, owner: str, name: str) -> None:
        """Check that a worker's name fits its token, see `name_of`, and no token with a longer one.

        Raises:
            Forbidden: the token is for other names, or the name is for another token.
        """
        token = self._worker_token(owner)
        if token is None:
            return
        if not _fits(token.name, name):
            raise Forbidden(
                f"the token {token.name} is for workers named {token.name} or {token.name}-…, "
                f"not {one_line(name)}"
            )
        nearer = self._nearer(token, name)
        if nearer is not None:
            raise Forbidden(f"{one_line(name)} is a name for workers of the token {nearer.name}")

    def check_own(self, owner: str, worker: Worker | None) -> None:
        """Check that a worker is not another's than an owner's, as long as it is not gone.

        Raises:
            Conflict: it is.
        """
        if worker is None or worker.gone:
            return
        self._seeds.check_own(owner, worker)
        its = worker.announcement
        if its.token and its.token != token_of(owner) and self._is_worker(owner):
            raise Conflict(f"{one_line(its.name)} is the worker of another token")

    def name_of(self, owner: str, name: str) -> str:
        """The name of a worker that is given one: it begins with that of its token."""
        token = self._worker_token(owner)
        return name if token is None else f"{token.name}-{name}"

    def _nearer(self, token: Token, name: str) -> Token | None:
        """The token whose workers a name is for, if its own name is longer than a worker token's.

        One that has expired still has its names: it may be prolonged.
        """
        fitting = name if token.role is Role.WORKER else ""
        while len(fitting) > len(token.name):
            other = self._tokens.named(fitting, float("-inf"))
            if other is not None and other.role is Role.WORKER:
                return other
            fitting = fitting.rpartition("-")[0]
        return None

    def _token(self, owner: str) -> Token | None:
        """The token of an owner, if it is one."""
        name = token_of(owner)
        return self._tokens.named(name, self._wall_s()) if name else None

    def _worker_token(self, owner: str) -> Token | None:
        """The token of an owner, if it is a worker's."""
        token = self._token(owner)
        return token if token is not None and token.role is Role.WORKER else None

    def _is_worker(self, owner: str) -> bool:
        return not token_of(owner) or self._worker_token(owner) is not None


def _fits(token: str, name: str) -> bool:
    return name == token or name.startswith(f"{token}-")


def _fitted(said: Announcement, token: Token) -> Announcement:
    for name in said.handlers:
        if name not in BUILT_IN_NAMES:
            check_handler(token, name)
    tasks = frozenset(name for name in said.tasks or () if token.may_use(name))
    return replace(
        said,
        handlers=_allowed(said.handlers, token),
        replaced=_allowed(said.replaced, token),
        tasks=tasks,
    )


def _allowed(handlers: Mapping[str, HandlerPolicy], token: Token) -> Mapping[str, HandlerPolicy]:
    return {name: policy for name, policy in handlers.items() if token.may_use(name)}
