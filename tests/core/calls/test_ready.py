from __future__ import annotations

import random
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dte.core.calls.ready import ReadyCalls
from dte.core.graph import call as calls
from dte.core.graph.call import Call, CallState


def place(line: ReadyCalls, call: Call) -> int:
    """The number of calls that are ahead of a call."""
    return list(line.in_line(call)).index(call)


class Line(ReadyCalls):
    """The ready calls, checked after each step."""

    def put(self, name: str, handler: str = "f", job: int = 1, priority: int = 0) -> Call:
        call = Call(name, handler, [], job=job, priority=priority)
        call.enter(CallState.READY)
        self.add(call)
        self.check()
        return call

    def again(self, call: Call) -> None:
        call.enter(CallState.READY)
        self.add(call)
        self.check()

    def leave(self, call: Call, state: CallState = CallState.CANCELLED) -> None:
        self.drop(call)
        call.enter(state)
        self.check()

    def next(self, handlers: Collection[str] = ("f", "g")) -> str | None:
        call = self.take(handlers)
        if call is None:
            return None
        assert call.handler in handlers
        call.enter(CallState.RUNNING)
        self.check()
        return call.name

    def all(self, handlers: Collection[str] = ("f", "g")) -> str:
        names = []
        while (name := self.next(handlers)) is not None:
            names.append(name)
        return " ".join(names)


def test_calls_of_a_job_go_in_the_order_in_which_they_became_ready() -> None:
    line = Line()
    for name in "abc":
        line.put(name)
    assert (line.count, line.all(), line.count) == (3, "a b c", 0)


def test_the_highest_priority_goes_first_whatever_the_job_and_handler() -> None:
    line = Line()
    line.put("a", "f", 1, 0)
    line.put("b", "g", 2, 5)
    line.put("c", "f", 3, -5)
    line.put("d", "f", 4, 7)
    assert line.all() == "d b a c"


def test_jobs_of_a_handler_and_priority_take_turns() -> None:
    line = Line()
    for number in range(4):
        line.put(f"a{number}", job=1)
    line.put("b0", job=2)
    line.put("b1", job=2)
    line.put("c0", job=3)
    assert line.all() == "a0 b0 c0 a1 b1 a2 a3"


def test_handlers_take_turns() -> None:
    line = Line()
    for number in range(3):
        line.put(f"f{number}", "f")
        line.put(f"g{number}", "g")
    assert line.all() == "f0 g0 f1 g1 f2 g2"


def test_a_handler_whose_calls_come_one_by_one_does_not_keep_another_waiting() -> None:
    line = Line()
    for number in range(3):
        line.put(f"f{number}", "f")
    served = []
    for number in range(3):
        line.put(f"g{number}", "g")
        served += [line.next(), line.next()]
    assert sorted(filter(None, served)) == ["f0", "f1", "f2", "g0", "g1", "g2"]
    line = Line()
    line.put("f0", "f")
    line.put("f1", "f")
    line.put("g0", "g")
    assert [line.next(), line.next()] == ["f0", "g0"]
    line.put("g1", "g")
    assert [line.next(), line.next()] == ["f1", "g1"], "f was served longer ago"


def test_a_worker_gets_only_what_it_can_do() -> None:
    line = Line()
    line.put("f0", "f", priority=9)
    line.put("g0", "g")
    assert line.next(["h"]) is None
    assert line.next([]) is None
    assert line.next(["g"]) == "g0"
    assert line.next(["g"]) is None
    assert list(line.handlers()) == ["f"]
    assert line.next(["g", "h", "f"]) == "f0"
    assert list(line.handlers()) == []


def test_a_call_that_has_left_the_line_is_passed_over() -> None:
    line = Line()
    calls = [line.put(name, job=job) for name, job in (("a", 1), ("b", 1), ("c", 2), ("d", 2))]
    line.leave(calls[0])
    line.leave(calls[2])
    assert (line.count, line.all()) == (2, "b d")


def test_the_last_of_a_level_may_leave() -> None:
    line = Line()
    high = line.put("a", priority=1)
    line.put("b", priority=0)
    line.leave(high)
    assert line.all() == "b"


def test_a_call_that_comes_back_has_a_place_at_the_end() -> None:
    line = Line()
    first = line.put("a")
    line.put("b")
    line.leave(first, CallState.RUNNING)
    line.again(first)
    assert (line.count, place(line, first)) == (2, 1)
    assert line.all() == "b a"


def test_places_are_counted_as_the_line_is_taken() -> None:
    line = Line()
    calls = [line.put(f"a{n}", job=1) for n in range(3)] + [line.put("b0", job=2)]
    calls.append(line.put("c0", job=3, priority=1))
    gone = line.put("d0", job=4)
    line.leave(gone)
    line.put("g0", "g")
    assert [place(line, call) for call in calls] == [1, 3, 4, 2, 0]


@given(st.integers(0, 10**6))
def test_places_are_those_at_which_calls_are_taken(seed) -> None:
    rng, line, calls = random.Random(seed), Line(), []
    for number in range(rng.randrange(1, 25)):
        calls.append(line.put(str(number), job=rng.randrange(4), priority=rng.randrange(3)))
        if rng.random() < 0.2:
            line.leave(calls.pop(rng.randrange(len(calls))))
        if calls and rng.random() < 0.2:
            name = line.next()
            calls = [call for call in calls if call.name != name]
    places = sorted((place(line, call), call.name) for call in calls)
    assert [place for place, _ in places] == list(range(len(calls)))
    assert line.all() == " ".join(name for _, name in places)


@given(st.lists(st.integers(0, 7), max_size=60))
def test_every_call_is_taken_once_or_has_left(steps) -> None:
    line, waiting, taken = Line(), {}, []
    for number, step in enumerate(steps):
        if step < 5:
            name = str(number)
            waiting[name] = line.put(name, "fg"[step % 2], step % 3, step % 2)
        elif step == 5 and waiting:
            line.leave(waiting.pop(next(iter(waiting))))
        elif (name := line.next()) is not None:
            taken.append(name)
            del waiting[name]
        assert line.count == len(waiting)
    assert sorted([*taken, *line.all().split()]) == sorted([*taken, *waiting])


def test_long_and_short_calls_of_a_handler_take_turns_while_both_have_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(calls, "LONG_BYTES", 10)
    line, taken = Line(), []
    for number in range(6):
        call = Call(f"long{number}", "f", [], size=11)
        call.enter(CallState.READY)
        line.add(call)
    for number in range(4):  # A short call is always there.
        line.put(f"short{number}")
        taken.append(line.take(["f"], lambda route, names: names))
    assert {each.name[:4] for each in taken if each is not None} == {"long", "shor"}
    assert line.next(["f"]) is not None, "who has no room gets short ones"
    line.all(["f"])
    assert line.count > 0
    assert line.next(["f"]) is None
