"""Protects: messages arrive complete and in order, however the channel cuts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress

import pytest

from dte.worker.processes.channel import (
    Begin,
    Outcome,
    ProgressUpdate,
    Receiver,
    Stop,
    packet,
    packets,
)
from worker.hostile import RUBBISH


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    for end in (reading, writing):
        with suppress(OSError):  # A test may have closed it.
            os.close(end)


def test_messages_that_are_sent_together_arrive_together(pipe: tuple[int, int]) -> None:
    receiver: Receiver[Begin | Stop] = Receiver(pipe[0], Begin | Stop)  # type: ignore[arg-type]
    orders = [Begin(7, "f", b"[1]"), Stop(8)]
    os.write(pipe[1], packet([]) + packet(orders) + packet([Stop(2**62)]))
    assert receiver.receive() == [*orders, Stop(2**62)]


def test_a_message_arrives_when_all_of_it_is_there(pipe: tuple[int, int]) -> None:
    receiver: Receiver[Outcome | ProgressUpdate] = Receiver(pipe[0], Outcome | ProgressUpdate)  # type: ignore[arg-type]
    sent = [
        Outcome(1, b"[1, 2]"),
        Outcome(2, None, "no", False, "ä"),
        ProgressUpdate(3, 0.5, "half"),
    ]
    received = []
    for byte in packet(sent[:1]) + packet(sent[1:]):
        os.write(pipe[1], bytes([byte]))
        received += receiver.receive() or []
    assert received == sent


def test_an_empty_channel_and_a_closed_channel_are_two_things(pipe: tuple[int, int]) -> None:
    receiver: Receiver[Begin | Stop] = Receiver(pipe[0], Begin | Stop)  # type: ignore[arg-type]
    with pytest.raises(BlockingIOError):
        receiver.receive()
    os.close(pipe[1])
    assert receiver.receive() is None


@pytest.mark.parametrize("name", RUBBISH)
def test_what_is_no_message_is_noticed(pipe: tuple[int, int], name: str) -> None:
    receiver: Receiver[Outcome | ProgressUpdate] = Receiver(  # type: ignore[arg-type]
        pipe[0], Outcome | ProgressUpdate, 1_000_000
    )
    first = ProgressUpdate(1, 0.5, "")
    os.write(pipe[1], packet([first]) + RUBBISH[name][:60_000])
    received = receiver.receive()
    while not receiver.is_broken:
        os.write(pipe[1], RUBBISH[name][60_000:])
        receiver.receive()
    assert received == [first]


def test_outcomes_that_are_long_together_travel_in_packets_that_are_not() -> None:
    outcomes = [Outcome(n, b'"%s"' % (b"x" * 400_000)) for n in range(5)]
    assert [len(each) < 1_000_000 for each in packets(outcomes)] == [True] * 3
    assert len([*packets([Outcome(1, b"1")] * 3)]) == 1
