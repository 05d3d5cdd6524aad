"""Protects: what is said over a line is heard whole, in order, however it is cut on its way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import pytest

from dte.worker.processes.channel import Begin, Listener, News, Outcome, Stop, message


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    for end in (reading, writing):
        with suppress(OSError):  # A test may have closed it.
            os.close(end)


def test_what_is_said_together_is_heard_together(pipe: tuple[int, int]) -> None:
    listener: Listener[Begin | Stop] = Listener(pipe[0], Begin | Stop)  # type: ignore[arg-type]
    orders = [Begin(7, "f", b"[1]"), Stop(8)]
    os.write(pipe[1], message([]) + message(orders) + message([Stop(2**62)]))
    assert listener.hear() == [*orders, Stop(2**62)]


def test_a_message_is_heard_when_all_of_it_is_there(pipe: tuple[int, int]) -> None:
    listener: Listener[Outcome | News] = Listener(pipe[0], Outcome | News)  # type: ignore[arg-type]
    said = [Outcome(1, b"[1, 2]"), Outcome(2, None, "no", False, "ä"), News(3, 0.5, "half")]
    sent = message(said[:1]) + message(said[1:])
    heard = []
    for byte in sent:
        os.write(pipe[1], bytes([byte]))
        heard += listener.hear() or []
    assert heard == said


def test_nothing_to_hear_and_nobody_to_hear_are_two_things(pipe: tuple[int, int]) -> None:
    listener: Listener[Begin | Stop] = Listener(pipe[0], Begin | Stop)  # type: ignore[arg-type]
    with pytest.raises(BlockingIOError):
        listener.hear()
    os.close(pipe[1])
    assert listener.hear() is None
