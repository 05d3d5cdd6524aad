"""Admits workers: each as its token allows, or as one without a token may be admitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from dte.core.errors import Conflict, Forbidden
from dte.core.graph.handlers import HandlerPolicy
from dte.core.scheduler import Scheduler
from dte.core.shares import OF_TOKEN, view_of
from dte.core.workers.worker import Announcement, Worker
from dte.logs import one_line
from dte.master.access.seeds import Seeds, is_seed
from dte.master.access.tokens import Role, Token, Tokens
from dte.wire.messages.handlers import BUILT_IN_NAMES


class Admission:
    """Restricts what workers say of themselves.

    Args:
        tokens: those of the master.
        wall_s: the wall time, in seconds.
    """

    def __init__(self, core: Scheduler, tokens: Tokens, wall_s: Callable[[], float]) -> None:
        self._core = core
        self._tokens = tokens
        self._wall_s = wall_s
        self._seeds = Seeds(core)

    def admit(self, said: Announcement) -> Announcement:
        """Return an announcement as it counts.

        Built-in handlers that the token is not for are left out, as every worker has them.

        Raises:
            Forbidden: the token is not for the worker's name, or not for one of its handlers.
            Conflict: another token's worker of its dialect has the name, and is not gone.
            Busy: too many workers without a token are known.
        """
        if is_seed(said.owner):
            return self._seeds.admit(said)
        self.check_name(said.owner, said.name)
        if said.dialect:
            self.check_own(said.owner, self._core.worker(said.identity))
        token = self._worker_token(said.owner)
        return said if token is None or "*" in token.handlers else _fitted(said, token)

    def check_name(self, owner: str, name: str) -> None:
        """Check that a worker's name fits its token, see `name_of`.

        Raises:
            Forbidden: the token is for other names.
        """
        token = self._worker_token(owner)
        if token is not None and name != token.name and not name.startswith(f"{token.name}-"):
            raise Forbidden(
                f"the token {token.name} is for workers named {token.name} or {token.name}-…, "
                f"not {one_line(name)}"
            )

    def check_own(self, owner: str, worker: Worker | None) -> None:
        """Check that a worker is not another's than an owner's, as long as it is not gone.

        Raises:
            Conflict: it is.
        """
        if worker is None or worker.gone:
            return
        self._seeds.check_own(owner, worker)
        its = worker.announcement
        if its.token and its.token != view_of(owner) and self._is_worker(owner):
            raise Conflict(f"{one_line(its.name)} is the worker of another token")

    def name_of(self, owner: str, name: str) -> str:
        """The name of a worker that is given one: it begins with that of its token."""
        token = self._worker_token(owner)
        return name if token is None else f"{token.name}-{name}"

    def _worker_token(self, owner: str) -> Token | None:
        """The token of an owner, if it is a worker's."""
        name = view_of(owner).removeprefix(OF_TOKEN)
        token = self._tokens.named(name, self._wall_s()) if name else None
        return token if token is not None and token.role is Role.WORKER else None

    def _is_worker(self, owner: str) -> bool:
        return not view_of(owner) or self._worker_token(owner) is not None


def _fitted(said: Announcement, token: Token) -> Announcement:
    for name in said.handlers:
        if not token.may_use(name) and name not in BUILT_IN_NAMES:
            allowed = ", ".join(token.handlers)
            raise Forbidden(
                f"the token {token.name} is not for the handler {name!r}, but for {allowed}"
            )
    tasks = frozenset(name for name in said.tasks or () if token.may_use(name))
    return replace(
        said,
        handlers=_allowed(said.handlers, token),
        replaced=_allowed(said.replaced, token),
        tasks=tasks,
    )


def _allowed(handlers: Mapping[str, HandlerPolicy], token: Token) -> Mapping[str, HandlerPolicy]:
    return {name: policy for name, policy in handlers.items() if token.may_use(name)}
