"""Who makes a request: the token, its role, and what it may see and use.

Jobs, keys and names belong to an owner. The owner of a client with a token is that token. Without
tokens it is an address, or the machine's own user (`dte.master.owners`), and all see all jobs.
"""

from __future__ import annotations

from dataclasses import dataclass

from dte.core.errors import Busy, Forbidden, TooLarge
from dte.core.shares import OF_TOKEN, OWN_USER, view_of
from dte.master.access.tokens import Role, Token


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request.

    Attributes:
        role: what it may do.
        owner: whose share of the bounds it uses, and whose jobs it submits.
        token: None if it has none, as none is needed.
    """

    role: Role
    owner: str
    token: Token | None = None

    @property
    def name(self) -> str:
        """The token's name; "" if there is no token."""
        return "" if self.token is None else self.token.name

    @property
    def sees_all(self) -> bool:
        """True if it sees the jobs of all owners."""
        return self.role is not Role.CLIENT

    @property
    def view(self) -> str | None:
        """The `view_of` the jobs that it sees; None for all."""
        return None if self.sees_all else view_of(self.owner)

    def sees(self, owner: str) -> bool:
        """True if it sees the jobs of an owner."""
        return self.sees_all or view_of(owner) == view_of(self.owner)

    @property
    def is_restricted(self) -> bool:
        """True if it may not use all handlers."""
        return self.token is not None and "*" not in self.token.handlers

    def check_handler(self, handler: str) -> None:
        """Check that it may use a handler.

        Raises:
            Forbidden: the token does not allow it.
        """
        if self.token is not None:
            check_handler(self.token, handler)

    def check_quota(self, waiting: int, more: int) -> None:
        """Check that it may have more unfinished jobs than those that wait.

        Raises:
            Busy: it may not now.
            TooLarge: it never may have so many.
        """
        most = None if self.token is None else self.token.jobs_waiting_max
        if most is None or waiting + more <= most:
            return
        text = f"the token {self.name} has {waiting} unfinished jobs and asks for {more} more"
        text += f", and may have {most} (jobs_waiting_max of the token)"
        raise TooLarge(text) if more > most else Busy(text)


OWN_USERS = Caller(Role.ADMIN, OWN_USER)
"""The machine's own user, who needs no token."""


def check_handler(token: Token, handler: str) -> None:
    """Check that a token is for a handler; raise `Forbidden` if not."""
    if not token.may_use(handler):
        allowed = ", ".join(token.handlers)
        raise Forbidden(
            f"the token {token.name} is not for the handler {handler!r}, but for {allowed}"
        )


def owner_named(name: str) -> str:
    """The owner of what comes with a token of this name."""
    return OF_TOKEN + name


def caller_of(owner: str) -> Caller:
    """The caller whose jobs belong to an owner; it sees those of no other token."""
    return Caller(Role.CLIENT, owner)
