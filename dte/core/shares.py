"""Shares of the bounds that all owners share.

An owner is a text: "" for the machine's own user, who may fill every bound, or a name for anybody
else. Each of the others may fill half, so that one of them never takes all.
"""

from __future__ import annotations

from dte.core.errors import Busy, TooLarge

OWN_USER = ""
"""The machine's own user."""
OF_TOKEN = "token:"
"""Prefix of owners that are tokens; keys and names of jobs are their own, too."""


def view_of(owner: str) -> str:
    """The group of owners who see each other's jobs: a token alone, or all that are none."""
    return owner if owner.startswith(OF_TOKEN) else OWN_USER


def token_of(owner: str) -> str:
    """The name of the token that an owner is; "" if it is none."""
    return view_of(owner).removeprefix(OF_TOKEN)


def scoped(owner: str, name: str) -> str:
    """A key or the name of a job, as it is looked up."""
    view = view_of(owner)
    return f"{view}\n{name}" if view and name else name


def unscoped(name: str) -> str:
    """A key or the name of a job, as its client gave it."""
    return name.partition("\n")[2] if name.startswith(OF_TOKEN) else name


class Shares:
    """The use of one bound by each owner but the machine's own user.

    Args:
        counted: the things that it bounds, for errors.
        bound: the name of its setting; "" for none.
        most: the bound.

    Attributes:
        share: the most that one owner may use.
    """

    def __init__(self, counted: str, bound: str, most: int) -> None:
        self._counted = counted
        self._bound = f"{most} ({bound})" if bound else str(most)
        self._used: dict[str, int] = {}
        self.share = max(1, most // 2)

    def used(self, owner: str) -> int:
        """The use by an owner; 0 for the machine's own user, whose use is not counted."""
        return self._used.get(owner, 0)

    def add(self, owner: str, count: int = 1) -> None:
        if owner and count:
            used = self._used.get(owner, 0) + count
            if used:
                self._used[owner] = used
            else:
                del self._used[owner]

    def remove(self, owner: str, count: int = 1) -> None:
        if owner and count:
            left = self._used.get(owner, 0) - count
            if left:
                self._used[owner] = left
            else:
                del self._used[owner]

    def has_room(self, owner: str, more: int = 1) -> bool:
        """True if an owner may use some more."""
        return not owner or self._used.get(owner, 0) + more <= self.share

    def ensure_room(self, owner: str, more: int = 1) -> None:
        """Check that an owner may use some more.

        Raises:
            Busy: it may not now; the message names the bound, the share and the use.
            TooLarge: it never may.
        """
        if not owner or self._used.get(owner, 0) + more <= self.share:
            return
        text = f"{owner} has {self._used.get(owner, 0)} {self._counted}"
        if more > 1:
            text += f" and asks for {more} more"
        text += f"; its share is {self.share}, half of {self._bound}"
        raise TooLarge(text) if more > self.share else Busy(text)
