"""Protects: quick calls may wait at a worker, and none waits there behind a long one."""

from __future__ import annotations

from dataclasses import replace

from dte.core.calls.prefetch import HANDLERS_MAX, QUICK_S, SLOW_S, Quickness
from dte.core.graph.call import HandlerPolicy
from dte.core.workers.availability import CALLS_A_SLOT_MAX, Announcement, Reach, Worker

SAID = Announcement(
    "w",
    "10.0.0.1:6000",
    batch_max=64,
    handlers={"quick": HandlerPolicy(), "long": HandlerPolicy()},
    handler_slots=2,
)


def holding(calls: int, said: Announcement = SAID) -> Worker:
    worker = Worker(said, 0.0, 0.0)
    worker.call_leases.update(range(calls))
    return worker


def quick(times: int = 1, handler: str = "quick") -> Quickness:
    quickness = Quickness()
    for time in range(times):
        quickness.took(time + QUICK_S / 2, handler, time)
    return quickness


def test_a_handler_is_long_until_a_call_has_been_quick() -> None:
    assert Quickness().is_long("quick")
    assert not quick().is_long("quick")
    assert quick().is_long("long")


def test_a_worker_with_a_free_slot_gets_any_call() -> None:
    assert quick().allowed(holding(1), ["quick", "long"]) == SAID.handlers


def test_a_worker_whose_slots_are_taken_gets_quick_calls_alone() -> None:
    assert list(quick().allowed(holding(2), ["long", "quick", "unknown"])) == ["quick"]
    assert list(Quickness().allowed(holding(2), ["long", "quick"])) == []


def test_the_quicker_calls_have_been_the_more_of_them_go_out() -> None:
    assert list(quick(1).allowed(holding(4), ["quick"])) == []
    assert list(quick(2).allowed(holding(4), ["quick"])) == ["quick"]
    most = quick(1_000)
    assert list(most.allowed(holding(2 * CALLS_A_SLOT_MAX - 1), ["quick"])) == ["quick"]
    assert list(most.allowed(holding(2 * CALLS_A_SLOT_MAX), ["quick"])) == []


def test_calls_that_were_handed_over_together_change_it_once() -> None:
    quickness = quick(1)
    for _ in range(100):
        quickness.took(0.02, "quick", 0.0)
    assert list(quickness.allowed(holding(4), ["quick"])) == []


def test_one_that_took_long_halves_how_many_go_out() -> None:
    quickness = quick(4)
    assert list(quickness.allowed(holding(15), ["quick"])) == ["quick"]
    for _ in range(2):
        quickness.took(100.0 + 2 * SLOW_S, "quick", 100.0)
    assert list(quickness.allowed(holding(7), ["quick"])) == ["quick"]
    assert list(quickness.allowed(holding(8), ["quick"])) == []
    for later in range(3):
        quickness.took(200.0 + later, "quick", 100.0 + later)
        quickness.took(200.0 + later, "quick", 200.0 + later - SLOW_S * 2)
    assert quickness.is_long("quick")


def test_a_worker_that_fetches_its_work_says_itself_how_much_it_takes() -> None:
    said = replace(SAID, reach=Reach.CLAIM)
    assert Quickness().allowed(holding(9, said), ["long"]) == SAID.handlers


def test_the_handlers_that_are_remembered_are_bounded() -> None:
    quickness = Quickness()
    for number in range(HANDLERS_MAX + 1):
        quickness.took(0.0, f"handler{number}", 0.0)
    assert len(quickness._depths) == 1
