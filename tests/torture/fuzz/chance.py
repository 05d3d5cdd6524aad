"""Draws one of several things."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


def one(things: Sequence[T], rng: Random) -> T:
    """One of the things; twice as fast as `Random.choice`."""
    return things[int(rng.random() * len(things))]
