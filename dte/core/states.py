"""Objects with a state: a table says which states may follow which."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import Enum
from typing import Any, ClassVar, Generic, TypeVar

State = TypeVar("State", bound=Enum)


class Stateful(Generic[State]):
    """An object whose state changes along `NEXT`; a state that none follows is terminal."""

    __slots__ = ()
    NEXT: ClassVar[Mapping[Any, Collection[Any]]]
    state: State

    @property
    def label(self) -> str:
        """Names the object in an error: ``job 7``."""
        raise NotImplementedError

    @property
    def is_terminal(self) -> bool:
        return not self.NEXT[self.state]

    def enter(self, state: State) -> None:
        """Change the state.

        Raises:
            ValueError: the table has no such change; the state stays.
        """
        if state not in self.NEXT[self.state]:
            raise ValueError(f"{self.label} is {self.state.value} and cannot become {state.value}")
        self.state = state  # type: ignore[misc]  # Subclasses have the slot.

    def replace_end(self, state: State) -> None:
        """Replace an end that nobody has seen by another one.

        Raises:
            ValueError: one of the two states is no end; the state stays.
        """
        if self.NEXT[self.state] or self.NEXT[state]:
            raise ValueError(f"{self.label} is {self.state.value} and cannot end as {state.value}")
        self.state = state  # type: ignore[misc]
