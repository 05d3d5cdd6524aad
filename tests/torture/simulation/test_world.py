"""The time of the simulated world."""

from __future__ import annotations

import pytest
from torture.simulation.world import Process, Violation, World

CLOCK_S = 262_142.13345439744
"""A clock that has run for three days; its smallest step is far larger than that of the world's."""


def test_time_passes_although_a_wait_is_shorter_than_the_world_can_tell() -> None:
    world = World(1)
    process = Process(world, "waiting", CLOCK_S)
    due_at = process.time() + 1.0 + 3e-11
    times: list[float] = []

    def wait() -> None:
        times.append(process.time())
        if process.time() < due_at:
            process.call_at(due_at, wait)

    process.call_at(due_at - 3e-11, wait)
    assert world.run(10.0, lambda: bool(times) and times[-1] >= due_at)
    assert len(times) < 10


def test_a_loop_that_never_lets_time_pass_is_found() -> None:
    world = World(1)
    process = Process(world, "busy")

    def again() -> None:
        process.call_at(process.time(), again)

    again()
    with pytest.raises(Violation, match="busy for ever"):
        world.run(10.0, lambda: False)
