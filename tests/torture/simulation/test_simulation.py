"""Runs dte in simulated worlds; each failure tells its seed, which gives the same history again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from torture.simulation.simulation import simulate

TESTS = Path(__file__).parents[2]
SEEDS = 1_000
SOME_SEEDS = (1, 2, 3, 5, 8, 13)
HAPPENS = (
    "a call begins by a clock that steps",
    "a call fails",
    "a call is given back by a failing worker",
    "a call is lost",
    "a cancel comes while a call is reported",
    "a cancel is answered by 200",
    "a cancel is answered by 409",
    "a client submits again",
    "a connection breaks",
    "a job is cancelled",
    "a job is retried",
    "a lease is lost",
    "a master cannot start",
    "a master finds that a worker cannot be called",
    "a master is told that a worker fails",
    "a message comes twice",
    "a message is late",
    "a message is lost",
    "a reply comes once more",
    "a report comes too late",
    "a result comes too late",
    "a worker answers nonsense",
    "a worker cannot be called",
    "a worker cannot start processes",
    "a worker is slow",
    "a worker moves",
    "an operation kills a worker",
    "calls are claimed",
    "the clock steps",
    "the disk is full",
    "the master answers 429",
    "the master answers 503",
    "the master answers 507",
    "the master is killed while it writes",
    "the master pauses",
)
"""What the worlds are there for, and what must not be lost from them unnoticed."""


def run(*arguments: str, hash_seed: str = "random") -> subprocess.CompletedProcess[str]:
    """Run the command, in a process whose speed no measurement of coverage takes."""
    return subprocess.run(
        [sys.executable, "-m", "torture.simulation", *arguments],
        cwd=TESTS,
        env={**os.environ, "PYTHONPATH": str(TESTS), "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_many_worlds_go_well_and_have_in_them_what_they_are_for() -> None:
    """In one test: the processes that share the tests would each run the worlds again."""
    ended = run("--seeds", str(SEEDS), "--json")
    assert ended.stdout, ended.stderr
    figures = json.loads(ended.stdout)
    assert figures["failures"] == {}, "to see one: scripts/simulate --seed N --trace"
    assert figures["seeds"] == SEEDS
    assert [what for what in HAPPENS if not figures["seen"].get(what)] == []


def test_a_seed_gives_the_same_history_again() -> None:
    for seed in SOME_SEEDS:
        assert simulate(seed, tracing=True) == simulate(seed, tracing=True)


def test_a_history_does_not_depend_on_the_order_of_hashes() -> None:
    seeds = [argument for seed in SOME_SEEDS for argument in ("--seed", str(seed))]
    one, other = (run(*seeds, "--trace", hash_seed=hash_seed) for hash_seed in ("1", "2"))
    assert one.returncode == 0, one.stderr
    assert one.stdout == other.stdout
    traced = [line for seed in SOME_SEEDS for line in simulate(seed, tracing=True).history]
    told = [line for line in one.stdout.splitlines() if not line.startswith("seed ")]
    assert told == traced


def test_seeds_differ() -> None:
    histories = {tuple(simulate(seed, tracing=True).history) for seed in SOME_SEEDS}
    assert len(histories) == len(SOME_SEEDS)


def test_a_claim_may_be_answered_at_the_moment_at_which_it_is_given_up() -> None:
    """The master paused, the worker did not wait as long, and never began what it was given."""
    course = simulate(1044120)
    assert course.failure is None
    assert course.seen["a lease is lost"]


def test_the_command_tells_what_is_wrong_with_it() -> None:
    ended = run("--trace")
    assert ended.returncode == 2
    assert "which seed" in ended.stderr
