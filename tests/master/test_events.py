"""The last events: numbered, bounded, and given to everybody who listens in their own time."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from harness.until import until

from dte.core.errors import Busy, Unavailable
from dte.core.jobs.facts import Event
from dte.master.events import TAKEN_BYTES, EventLog, Listener

BASE = 30_000_000_000
"""Of the third start."""


def wall_time(moment: float | None) -> datetime | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC)


def make_log(**bounds: Any) -> EventLog:
    return EventLog(3, wall_time, **({"kept": 100, "streams_max": 1_000} | bounds))


def events_of(job: int, count: int = 1, **more: Any) -> list[Event]:
    return [Event(0.0, job, "a", "progress", **more) for _ in range(count)]


def end_of(job: int) -> Event:
    return Event(5.0, job, "", "succeeded")


def blocks(data: bytes) -> list[tuple[int, str, Any]]:
    """The blocks of a stream: number, kind and data; of one without an event the last two empty."""
    found = []
    for block in data.decode().split("\n\n")[:-1]:
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        found.append(
            (int(lines["id"]), lines.get("event", ""), json.loads(lines.get("data", '""')))
        )
    return found


def numbers(listener: Listener) -> list[int]:
    """The numbers of what is taken next, counted from the start's."""
    return [number - BASE for number, _, _ in blocks(listener.take())]


# What is given


async def test_a_block_says_what_happened_to_which_job_and_when() -> None:
    log = make_log()
    listener = log.since(None)
    log.add([Event(1.5, 7, "", "running")])
    assert listener.take() == (
        b"id: 30000000001\nevent: job\n"
        b'data: {"job_id":7,"state":"running","at":"1970-01-01T00:00:01.500000Z"}\n\n'
    )


async def test_a_call_and_its_progress_have_kinds_of_their_own() -> None:
    log = make_log()
    listener = log.since(None)
    log.add([Event(0, 7, "a", "running"), Event(0, 7, "a", "progress", "half\nof it", 0.5)])
    (_, kind, call), (_, progress_kind, progress) = blocks(listener.take())
    assert (kind, call["node"], call["state"]) == ("node", "a", "running")
    assert progress_kind == "progress"
    assert (progress["fraction"], progress["text"]) == (0.5, "half\nof it")


async def test_a_long_text_is_cut() -> None:
    log = make_log()
    listener = log.since(None)
    log.add(events_of(7, text="x" * 100_000))
    ((_, _, data),) = blocks(listener.take())
    assert len(data["text"]) < 3_000


async def test_nothing_is_encoded_while_nobody_listens() -> None:
    def never(moment: float | None) -> datetime | None:
        raise AssertionError

    log = EventLog(3, never, streams_max=1)
    log.add(events_of(7, 1_000))
    assert log.last == BASE + 1_000


async def test_what_many_take_is_encoded_once() -> None:
    encoded: list[float | None] = []

    def count(moment: float | None) -> datetime | None:
        encoded.append(moment)
        return None

    log = EventLog(3, count, streams_max=1_000)
    listeners = [log.since(None) for _ in range(5)]
    log.add(events_of(7, 10))
    assert len({listener.take() for listener in listeners}) == 1
    assert len(encoded) == 10


async def test_much_is_taken_in_parts() -> None:
    log = make_log(kept=10_000)
    listener = log.since(None)
    log.add(events_of(7, 2_000))
    taken: list[int] = []
    while listener.has_more:
        data = listener.take()
        assert len(data) < TAKEN_BYTES + 1_000
        taken += [number - BASE for number, _, _ in blocks(data)]
    assert taken == list(range(1, 2_001))


# Going on


async def test_who_begins_hears_what_comes_from_now_on() -> None:
    log = make_log()
    log.add(events_of(7, 3))
    listener = log.since(None)
    assert not listener.has_more
    log.add(events_of(7, 2))
    assert numbers(listener) == [4, 5]


async def test_who_goes_on_hears_what_came_meanwhile() -> None:
    log = make_log()
    log.add(events_of(7, 5))
    assert numbers(log.since(BASE + 2)) == [3, 4, 5]
    assert numbers(log.since(BASE)) == [1, 2, 3, 4, 5]
    assert not log.since(BASE + 5).has_more


async def test_of_a_job_only_its_own_events_are_given() -> None:
    log = make_log()
    log.add([*events_of(7), *events_of(8), *events_of(7)])
    listener, later = log.since(BASE, 7), log.since(None, 7)
    log.add([*events_of(8), *events_of(7)])
    assert numbers(listener) == [1, 3, 5]
    assert numbers(later) == [5]


async def test_the_end_of_its_job_is_the_last_that_is_heard() -> None:
    log = make_log()
    listener, all_of_them = log.since(None, 7), log.since(None)
    log.add([end_of(8), *events_of(7)])
    listener.take()
    assert not listener.over
    log.add([end_of(7)])
    listener.take()
    all_of_them.take()
    assert listener.over
    assert not all_of_them.over


async def test_numbers_grow_across_starts() -> None:
    log = make_log()
    log.add(events_of(7))
    assert EventLog(4, wall_time, streams_max=1).last > log.last


# What is not kept any more


async def test_a_listener_that_falls_behind_hears_how_many_it_missed_and_goes_on() -> None:
    log = make_log(kept=100)
    listener = log.since(None)
    for _ in range(30):
        log.add(events_of(7, 10))
    (number, kind, data), *rest = blocks(listener.take())
    assert kind == "missed"
    assert number - BASE == data["missed"] > 0
    assert [each - BASE for each, _, _ in rest] == list(range(data["missed"] + 1, 301))
    assert len(rest) >= 100
    log.add(events_of(7))
    assert numbers(listener) == [301]


async def test_of_a_job_only_its_own_count_as_missed() -> None:
    log = make_log(kept=100)
    listener, quiet = log.since(None, 7), log.since(None, 9)
    log.add([*events_of(7, 3), *events_of(8, 2)])
    for _ in range(30):
        log.add(events_of(8, 10))
    log.add([*events_of(7), *events_of(9)])
    (_, kind, data), (last, _, _) = blocks(listener.take())
    assert (kind, data) == ("missed", {"missed": 3})
    assert last == BASE + 306
    assert [kind for _, kind, _ in blocks(quiet.take())] == ["progress"]


@pytest.mark.parametrize("number", [0, 7, BASE - 1, 2 * BASE, 10**18 - 1])
async def test_of_a_number_from_another_start_nobody_knows_how_many_are_missed(
    number: int,
) -> None:
    log = make_log()
    log.add(events_of(7, 2))
    listener = log.since(number)
    assert listener.lost
    assert blocks(listener.take())[0] == (BASE, "missed", {"missed": None})
    assert not listener.has_more


async def test_of_a_number_that_is_not_kept_any_more_it_is_counted() -> None:
    log = make_log(kept=10)
    for _ in range(30):
        log.add(events_of(7, 10))
    first, *rest = blocks(log.since(BASE + 1).take())
    assert first[1] == "missed"
    assert first[2]["missed"] + len(rest) == 299


async def test_of_a_job_all_goes_on_with_what_is_next() -> None:
    log = make_log(kept=10)
    for _ in range(30):
        log.add(events_of(7, 10))
    listener = log.since(BASE + 1, 7)
    assert listener.lost
    assert blocks(listener.take()) == [(BASE + 300, "missed", {"missed": None})]
    log.add(events_of(7))
    assert numbers(listener) == [301]


async def test_no_more_than_twice_as_many_are_kept_as_at_least() -> None:
    log = make_log(kept=100)
    for size in (1, 99, 150, 1_000, 7):
        log.add(events_of(7, size))
        assert len(log._events) <= 200
    log.add(events_of(7, 5_000))
    assert len(log._events) == 100


async def test_long_texts_are_bounded_together() -> None:
    log = make_log(texts_bytes_max=50_000)
    for place in range(100):
        log.add(events_of(7, text=f"{place}" + "x" * 9_000))
        assert sum(len(event.text or "") for event in log._events) <= 50_000
    log.add(events_of(7, text="x" * 60_000))
    assert log._texts_bytes == 0
    log.add(events_of(7, 3, text="short"))
    listener = log.since(log.last - 3)
    assert len(blocks(listener.take())) == 3


async def test_a_listener_that_leaves_when_it_has_been_told_takes_nothing() -> None:
    log = make_log()
    listener = log.since(None, 7)
    waiting = asyncio.create_task(listener.ready())
    await asyncio.sleep(0)
    log.add(events_of(7))
    listener.wake()
    listener.leave()
    assert not await waiting
    assert not listener.has_more


async def test_of_listeners_that_leave_nothing_is_left() -> None:
    log = make_log()
    listeners = [log.since(None), log.since(None, 7), log.since(None, 7)]
    waiting = [asyncio.create_task(listener.ready()) for listener in listeners]
    await asyncio.sleep(0)
    for listener in listeners:
        listener.leave()
    assert await asyncio.gather(*waiting) == [False] * 3
    assert len(log) == 0
    assert not log._watched
    assert not log._idle
    assert log._beating is None


# Whose turn it is


async def test_a_listener_is_woken_by_an_event_that_is_for_it_alone() -> None:
    log = make_log()
    listener = log.since(None, 7)
    waiting = asyncio.create_task(listener.ready())
    await asyncio.sleep(0)
    log.add(events_of(8, 5))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    log.add(events_of(7))
    assert await waiting
    assert numbers(listener) == [6]
    listener.leave()


async def test_many_listeners_get_their_turns_one_after_the_other() -> None:
    log = make_log()
    listeners = [log.since(None) for _ in range(40)]
    waiting = [asyncio.create_task(listener.ready()) for listener in listeners]
    await asyncio.sleep(0)
    log.add(events_of(7))
    most, done = 0, 0
    while done < 40:
        await asyncio.sleep(0)
        before, done = done, sum(task.done() for task in waiting)
        most = max(most, done - before)
    assert most < 10
    log.close()


async def test_who_has_nothing_to_hear_hears_a_heartbeat_with_where_to_go_on_from() -> None:
    log = make_log(heartbeat_s=0.01)
    listener = log.since(None, 7)
    for _ in range(3):
        log.add(events_of(8))
        assert await listener.ready()
        assert listener.take() == b": heartbeat\nid: %d\n\n" % log.last
    listener.leave()


async def test_so_many_may_listen() -> None:
    log = make_log(streams_max=2)
    listeners = [log.since(None), log.since(None, 7)]
    with pytest.raises(Busy, match="streams_max"):
        log.since(None)
    listeners[0].leave()
    log.since(None).leave()
    listeners[1].leave()


async def test_when_it_is_closed_all_hear_so_and_nobody_else_may_listen() -> None:
    log = make_log()
    listener = log.since(None)
    waiting = asyncio.create_task(listener.ready())
    await asyncio.sleep(0)
    log.close()
    await until(waiting.done, "it hears so")
    assert not waiting.result()
    assert not await listener.ready()
    with pytest.raises(Unavailable):
        log.since(None)
