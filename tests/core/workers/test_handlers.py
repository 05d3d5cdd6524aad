"""The names of handlers that are known: bounded, and shared by owners."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from core.checked import CALLER, LIMITS
from dte.core.errors import Busy
from dte.core.graph.handlers import HandlerPolicy
from dte.core.workers.availability import AvailabilityQueue
from dte.core.workers.handlers import NAMES_MAX
from dte.core.workers.worker import Announcement


def make_queue() -> AvailabilityQueue:
    return AvailabilityQueue(LIMITS, Random(1))


def worker(number: int, first: int = 0, count: int = 1, owner: str = "") -> Announcement:
    names = (f"h{name}" for name in range(first, first + count))
    handlers = dict.fromkeys(names, HandlerPolicy())
    return replace(CALLER, address=f"10.0.3.1:{number}", handlers=handlers, owner=owner)


def test_a_worker_may_have_as_many_names_as_are_known() -> None:
    queue = make_queue()
    for number in range(1, 5):
        queue.announce(0.0, worker(number, count=NAMES_MAX))
    queue.check()


def test_one_name_more_is_refused_and_those_that_are_known_are_not() -> None:
    queue = make_queue()
    queue.announce(0.0, worker(1, count=NAMES_MAX))
    with pytest.raises(Busy, match="too many names of handlers: 1001 > 1000"):
        queue.announce(0.0, worker(2, first=NAMES_MAX))
    queue.announce(0.0, worker(2, first=NAMES_MAX - 1))
    queue.check()
    assert len(list(queue)) == 2


def test_the_names_of_one_who_left_or_says_others_are_free() -> None:
    queue = make_queue()
    first, _ = queue.announce(0.0, worker(1, count=NAMES_MAX))
    queue.announce(0.0, worker(1, first=NAMES_MAX, count=NAMES_MAX))
    queue.check()
    queue.remove(first)
    queue.announce(0.0, worker(2, first=5, count=NAMES_MAX))
    queue.check()


def test_the_names_of_those_who_are_leaving_are_free_for_others() -> None:
    queue = make_queue()
    for number in range(50):
        said = replace(worker(1 + number, NAMES_MAX * number, NAMES_MAX), draining=True)
        queue.announce(0.0, said)
        queue.check()
    assert len(list(queue)) == 1


def test_others_than_the_machine_s_own_user_have_half_of_the_names() -> None:
    queue = make_queue()
    queue.announce(0.0, worker(1, count=NAMES_MAX // 2, owner="10.0.0.5"))
    with pytest.raises(
        Busy, match=r"10\.0\.0\.5 would have 501 names of handlers; its share is 500, half of 1000"
    ):
        queue.announce(0.0, worker(2, first=NAMES_MAX // 2, owner="10.0.0.5"))
    queue.announce(0.0, worker(3, count=NAMES_MAX // 2, owner="10.0.0.5"))
    queue.announce(0.0, worker(4, NAMES_MAX // 2, NAMES_MAX // 2, owner="10.0.0.6"))
    queue.check()


def test_a_worker_that_moves_to_another_owner_counts_there() -> None:
    queue = make_queue()
    queue.announce(0.0, worker(1, count=NAMES_MAX // 2, owner="10.0.0.5"))
    queue.announce(0.0, worker(1, count=NAMES_MAX // 2, owner="10.0.0.6"))
    queue.announce(0.0, worker(2, NAMES_MAX // 2, NAMES_MAX // 2, owner="10.0.0.5"))
    queue.check()
