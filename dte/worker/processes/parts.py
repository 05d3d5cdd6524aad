"""A part of the state of a process, as the tables of such parts have it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import attrgetter
from typing import Any, NamedTuple


class Part(NamedTuple):
    """A part of the state.

    Attributes:
        change: a change of it, for people.
        read: returns its value.
        restore: takes the value from before; None if it cannot be set back.
        is_cheap: it is looked at while other calls run too.
        keeps_some: a part of a change may stay, and is then known.
    """

    change: str
    read: Callable[[], Any]
    restore: Callable[[Any], object] | None
    is_cheap: bool = True
    keeps_some: bool = False


def attributes(change: str, owner: Any, *names: str) -> Part:
    """Return the part that some attributes of an object are."""

    def restore(before: Any) -> None:
        for name, value in zip(names, [before] if len(names) == 1 else before, strict=True):
            setattr(owner, name, value)

    return Part(change, partial(attrgetter(*names), owner), restore)


def contents(change: str, owner: Any, name: str, more: Callable[[], object] | None = None) -> Part:
    """Return the part that a list is, which is an attribute of an object.

    Args:
        more: called when it has been set back.
    """
    original = getattr(owner, name)

    def restore(before: list[Any]) -> None:
        original[:] = before
        setattr(owner, name, original)
        if more is not None:
            more()

    return Part(change, partial(attrgetter(name), owner), restore)
