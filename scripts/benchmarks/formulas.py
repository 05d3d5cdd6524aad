"""Formulas: one that is a tree, many small ones, one after another, and one that is a chain."""

from __future__ import annotations

import random
import time

import bare_loop
from figures import Row, latency, rate, share
from harness.cluster import Cluster
from harness.machine import free_ports
from harness.processes import until_listening
from harness.workloads import balanced_sum, small
from processes import python, starting
from singles import load
from system import running

from dte import Client

TREE_REPEATS = 7
REPEATS = 3


def tree(operations: int) -> list[Row]:
    """A balanced tree of integer sums, by turns with two bare loops that do as many."""
    own, plain, rates = [], [], []
    with running() as system, starting() as processes, Client(system.url) as client:
        plain_ports = free_ports(len(system.worker_ports))
        servers = [processes.start(program=python("plain_server.py", each)) for each in plain_ports]
        for process, port in zip(servers, plain_ports, strict=True):
            until_listening(process, port)
        for repeat in range(TREE_REPEATS):
            own.append(bare_loop.own_workers(system.worker_ports, operations))
            plain.append(bare_loop.plain_workers(plain_ports, operations))
            # Other integers each time: nothing may be known from the last.
            first = 1 + repeat * 1_000_000
            formula = balanced_sum(first, first + operations + 1)
            started = time.perf_counter()
            answer = client.compute(formula)
            rates.append(operations / (time.perf_counter() - started))
            assert answer == sum(range(first, first + operations + 1))
    unit = "operations/s"
    to_plain = f"  bare loop to plain Tornado workers, batches of {bare_loop.PLAIN_BATCH}"
    to_own = f"  bare loop to dte's workers, batches of {bare_loop.OWN_BATCH}"
    return [
        rate("tree", f"a balanced tree of {operations:,} integer sums", rates, unit),
        rate("tree.plain", to_plain, plain, unit),
        share("tree.plain_share", "    dte does, of it", rates, plain, "at least 50%"),
        rate("tree.own", to_own, own, unit),
        share("tree.own_share", "    dte does, of it", rates, own),
    ]


def batches(jobs: int) -> list[Row]:
    """Formulas of four operations, submitted in batches, all answers read."""
    with running() as system:
        rates = [batch(system, repeat * jobs, jobs) for repeat in range(REPEATS)]
    return [rate("batches", f"{jobs:,} formulas of 4 operations in batches", rates, "jobs/s")]


def batch(system: Cluster, first: int, jobs: int) -> float:
    """Jobs a second of one client that submits them in batches and reads all answers."""
    formulas = [small(number) for number in range(first, first + jobs)]
    with Client(system.url) as client:
        started = time.perf_counter()
        answers = client.map([formula.text for formula in formulas])
        elapsed_s = time.perf_counter() - started
    assert answers == [formula.answer for formula in formulas]
    return jobs / elapsed_s


def chain(jobs: int) -> list[Row]:
    """Jobs of four operations that need each other, one after another."""
    with running() as system:
        one_by_one(system, jobs // 10)
        latencies_s = one_by_one(system, jobs)
        _, plain_s = load(system.port, jobs, clients=1)
    label = f"a chain of 4 operations, submit to answer ({jobs:,} times)"
    aim = "p50 at most 1.2 ms"
    return [
        latency("chain", label, latencies_s, aim),
        latency("chain.plain", "  from a client on a plain socket", plain_s, aim),
    ]


def one_by_one(system: Cluster, jobs: int) -> list[float]:
    """Seconds from submission to answer of small formulas, one after another."""
    latencies_s = []
    with Client(system.url) as client:
        for number in range(jobs):
            formula = small(number)
            started = time.perf_counter()
            answer = client.compute(formula.text)
            latencies_s.append(time.perf_counter() - started)
            assert answer == formula.answer
    return latencies_s


def floats(numbers: int) -> list[Row]:
    """A formula that adds floats, where each sum needs the one before it."""
    randoms = random.Random(1)
    took_s = []
    with running() as system, Client(system.url) as client:
        for _ in range(REPEATS):
            terms = [randoms.random() for _ in range(numbers)]
            expected = 0.0
            for term in terms:
                expected += term
            formula = "+".join(map(repr, terms))
            started = time.perf_counter()
            answer = client.compute(formula)
            took_s.append((time.perf_counter() - started) / (numbers - 1))
            assert answer == expected
    median_ms = sorted(took_s)[REPEATS // 2] * 1e3
    label = f"a formula that adds {numbers:,} floats, an operation"
    return [Row("floats", label, "ms", median_ms, aim="at most 0.3 ms")]
