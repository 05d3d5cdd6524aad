"""Runs dte in simulated worlds; each failure tells its seed, which gives the same history again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from torture.simulation.simulation import simulate

TESTS = Path(__file__).parents[2]
SEEDS = 1_000
SOME_SEEDS = (1, 2, 3, 5, 8, 13)
HAPPENS = (
    "a call fails",
    "a call is lost",
    "a cancel is answered by 409",
    "a client submits again",
    "a connection breaks",
    "a job is cancelled",
    "a job is retried",
    "a lease is lost",
    "a master cannot start",
    "a message comes twice",
    "a message is late",
    "a message is lost",
    "a reply comes once more",
    "a report comes too late",
    "a result comes too late",
    "a worker answers nonsense",
    "a worker is slow",
    "an operation kills a worker",
    "calls are claimed",
    "the clock steps",
    "the disk is full",
    "the master answers 429",
    "the master answers 503",
    "the master answers 507",
    "the master is killed while it writes",
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


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    """What became of the first seeds."""
    ended = run("--seeds", str(SEEDS), "--json")
    assert ended.stdout, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def test_nothing_happens_in_many_worlds_that_must_not(figures: dict[str, Any]) -> None:
    assert figures["failures"] == {}, "to see one: scripts/simulate --seed N --trace"
    assert figures["seeds"] == SEEDS


@pytest.mark.parametrize("what", HAPPENS)
def test_what_the_worlds_are_for_happens_in_them(figures: dict[str, Any], what: str) -> None:
    assert figures["seen"].get(what, 0) > 0


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


def test_the_command_tells_what_is_wrong_with_it() -> None:
    ended = run("--trace")
    assert ended.returncode == 2
    assert "which seed" in ended.stderr
