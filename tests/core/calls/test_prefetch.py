"""Protects: quick calls may wait at a worker, and none waits there behind a long one."""

from __future__ import annotations

from dataclasses import replace

from dte.core.calls.prefetch import HANDLERS_MAX, QUICK_S, SLOW_S, Prefetch
from dte.core.graph.handlers import HandlerPolicy
from dte.core.workers.worker import PREFETCH_MAX, Announcement, Delivery, Worker

SAID = Announcement(
    "w",
    "10.0.0.1:6000",
    batch_max=64,
    handlers={"quick": HandlerPolicy(), "long": HandlerPolicy()},
    handler_slots=2,
)


def holding(calls: int, announcement: Announcement = SAID) -> Worker:
    worker = Worker(announcement, 0.0, 0.0)
    worker.call_leases.update(range(calls))
    return worker


def quick(times: int = 1, handler: str = "quick") -> Prefetch:
    prefetch = Prefetch()
    for time in range(times):
        prefetch.took(time + QUICK_S / 2, handler, time)
    return prefetch


def test_a_handler_is_long_until_a_call_has_been_quick() -> None:
    assert Prefetch().is_long("quick")
    assert not quick().is_long("quick")
    assert quick().is_long("long")


def test_a_worker_with_a_free_slot_gets_any_call() -> None:
    assert quick().allowed(holding(1), ["quick", "long"]) == SAID.handlers


def test_a_worker_whose_slots_are_taken_gets_quick_calls_alone() -> None:
    assert list(quick().allowed(holding(2), ["long", "quick", "unknown"])) == ["quick"]
    assert list(Prefetch().allowed(holding(2), ["long", "quick"])) == []


def test_the_quicker_calls_have_been_the_more_of_them_go_out() -> None:
    assert list(quick(1).allowed(holding(4), ["quick"])) == []
    assert list(quick(2).allowed(holding(4), ["quick"])) == ["quick"]
    most = quick(1_000)
    assert list(most.allowed(holding(2 * PREFETCH_MAX - 1), ["quick"])) == ["quick"]
    assert list(most.allowed(holding(2 * PREFETCH_MAX), ["quick"])) == []


def test_calls_that_were_handed_over_together_change_it_once() -> None:
    prefetch = quick(1)
    for _ in range(100):
        prefetch.took(0.02, "quick", 0.0)
    assert list(prefetch.allowed(holding(4), ["quick"])) == []


def test_one_that_took_long_halves_how_many_go_out() -> None:
    prefetch = quick(4)
    assert list(prefetch.allowed(holding(15), ["quick"])) == ["quick"]
    for _ in range(2):
        prefetch.took(100.0 + 2 * SLOW_S, "quick", 100.0)
    assert list(prefetch.allowed(holding(7), ["quick"])) == ["quick"]
    assert list(prefetch.allowed(holding(8), ["quick"])) == []
    for later in range(3):
        prefetch.took(200.0 + later, "quick", 100.0 + later)
        prefetch.took(200.0 + later, "quick", 200.0 + later - SLOW_S * 2)
    assert prefetch.is_long("quick")


def test_a_worker_that_fetches_its_work_says_itself_how_much_it_takes() -> None:
    announcement = replace(SAID, delivery=Delivery.PULL)
    assert Prefetch().allowed(holding(9, announcement), ["long"]) == SAID.handlers


def test_the_handlers_that_are_remembered_are_bounded() -> None:
    prefetch = Prefetch()
    for number in range(HANDLERS_MAX + 1):
        prefetch.took(0.0, f"handler{number}", 0.0)
    assert len(prefetch._depths) == 1
