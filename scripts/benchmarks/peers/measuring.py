"""Measures a peer: the same workloads for each, printed as JSON as soon as one is done.

A peer's program runs in a process of its own, with the names of workloads as its arguments.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Protocol

TREE_OPERATIONS = 4_095
"""A whole balanced tree, smaller than dte's: peers do about a thousandth of its operations."""
JOBS = 1_000
CHAINS = 100
REPEATS = 3
WORKERS = 2


class Peer(Protocol):
    """Another system that is running, with two workers."""

    def tree(self, numbers: Sequence[int]) -> int:
        """The sum of the numbers, added in pairs, and the sums in pairs, and so on."""

    def jobs(self, numbers: Sequence[int]) -> list[float]:
        """``2*n/4+n-5`` of each number, as four operations of which each needs the one before."""

    def chain(self, number: int) -> float:
        """The same of one number, from submission to answer."""


def measure(peer: Peer) -> None:
    """Do the workloads that the command line names.

    Prints a line of JSON for each: its name, and for `chain` seconds of each job, for the others
    operations or jobs a second of each repeat.
    """
    workloads = {"tree": tree, "batches": jobs, "chain": chain}
    peer.chain(1)  # What is started with the first job is not measured.
    peer.jobs(range(100))
    for name in sys.argv[1:]:
        print(json.dumps([name, workloads[name](peer)]), flush=True)


def tree(peer: Peer) -> list[float]:
    rates = []
    for repeat in range(REPEATS):
        numbers = range(repeat * 1_000_000, repeat * 1_000_000 + TREE_OPERATIONS + 1)
        started = time.perf_counter()
        answer = peer.tree(numbers)
        rates.append(TREE_OPERATIONS / (time.perf_counter() - started))
        assert answer == sum(numbers), answer
    return rates


def jobs(peer: Peer) -> list[float]:
    rates = []
    for repeat in range(REPEATS):
        numbers = range(repeat * 1_000_000, repeat * 1_000_000 + JOBS)
        started = time.perf_counter()
        answers = peer.jobs(numbers)
        rates.append(JOBS / (time.perf_counter() - started))
        assert answers == [2 * n / 4 + n - 5 for n in numbers]
    return rates


def chain(peer: Peer) -> list[float]:
    latencies_s = []
    for number in range(CHAINS):
        started = time.perf_counter()
        answer = peer.chain(number)
        latencies_s.append(time.perf_counter() - started)
        assert answer == 2 * number / 4 + number - 5
    return latencies_s
