"""What is measured: each function does one workload and gives its rows of the table."""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from system import System

from dte import AsyncClient, Client
from dte.wire.codec import Decoder, encode
from dte.wire.connection import KeptAliveConnection
from dte.wire.messages import Batch, BatchResult

Row = tuple[str, str]

BATCH = 512
REPEATS = 5
SMALL = "1+(2*3)/4-5"


def balanced_tree(first: int, last: int) -> str:
    """A sum of the integers from `first` to before `last`, in parentheses as a balanced tree."""
    if last - first == 1:
        return str(first)
    middle = (first + last) // 2
    return f"({balanced_tree(first, middle)}+{balanced_tree(middle, last)})"


def tree(system: System, operations: int) -> list[Row]:
    """A balanced tree of integer sums, and the same operations from a bare loop."""
    ceiling, rate = [], []
    with Client(system.url) as client:
        for repeat in range(REPEATS):
            ceiling.append(asyncio.run(bare_loop(system, operations)))
            # Other integers each time: nothing may be known from the last.
            first = 1 + repeat * 1_000_000
            formula = balanced_tree(first, first + operations + 1)
            started = time.perf_counter()
            answer = client.compute(formula)
            rate.append(operations / (time.perf_counter() - started))
            assert answer == sum(range(first, first + operations + 1))
    ratio = statistics.median(a / b for a, b in zip(rate, ceiling, strict=True))
    return [
        (f"bare loop, {operations:,} operations in batches of {BATCH}", per_second(ceiling)),
        (f"balanced tree of {operations:,} integer sums", per_second(rate)),
        ("  of the bare loop", f"{ratio:.0%}"),
    ]


async def bare_loop(system: System, operations: int) -> float:
    """Operations a second of a loop that only posts batches of sums to the same workers."""
    decoder: Decoder[BatchResult] = Decoder(BatchResult)
    batches = [
        list(range(start, min(start + BATCH, operations))) for start in range(0, operations, BATCH)
    ]

    async def post(port: int) -> None:
        connection = KeptAliveConnection("127.0.0.1", port)
        while batches:
            operands = batches.pop()
            body = encode(Batch(1, "+" * len(operands), operands, operands))
            _, _, reply = await connection.request("POST", "/compute", body)
            assert len(decoder.decode(reply).results) == len(operands)
        connection.close()

    started = time.perf_counter()
    await asyncio.gather(*(post(port) for port in system.worker_ports for _ in range(2)))
    return operations / (time.perf_counter() - started)


def batches(system: System, jobs: int) -> list[Row]:
    """Formulas of four operations, submitted in batches, all answers read."""
    rates = [batch(system, jobs) for _ in range(REPEATS)]
    return [(f"{jobs:,} formulas of 4 operations in batches", per_second(rates, "jobs"))]


def batch(system: System, jobs: int) -> float:
    """Jobs a second of one client that submits them in batches and reads all answers."""
    formulas = [f"{n}+(2*{n})/4-5" for n in range(jobs)]
    with Client(system.url) as client:
        started = time.perf_counter()
        answers = client.map(formulas)
        elapsed_s = time.perf_counter() - started
    assert answers == [n + (2 * n) / 4 - 5 for n in range(jobs)]
    return jobs / elapsed_s


def journal(systems: Mapping[str, System], jobs: int) -> list[Row]:
    """What the journal costs: the same workloads with and without it, by turns.

    Args:
        systems: by what their commits survive; ``none`` has no journal.
        jobs: in batches; a twentieth of them one after another.
    """
    rates: dict[str, list[float]] = {name: [] for name in systems}
    latencies_s: dict[str, list[float]] = {name: [] for name in systems}
    for _ in range(REPEATS):
        for name, system in systems.items():
            rates[name].append(batch(system, jobs))
            latencies_s[name] += one_by_one(system, jobs // 20 // REPEATS)
    rows = []
    for name in systems:
        ratio = statistics.median(a / b for a, b in zip(rates[name], rates["none"], strict=True))
        share = "" if name == "none" else f", {ratio:.0%}"
        rows.append((f"--journal-sync {name}" if share else "--journal none", ""))
        rows.append(
            (f"  {jobs:,} formulas in batches", f"{per_second(rates[name], 'jobs')}{share}")
        )
        rows.append(("  single submits with wait", percentiles(latencies_s[name])))
    return rows


def one_by_one(system: System, jobs: int) -> list[float]:
    """How long single submits take from submission to answer, in seconds."""
    latencies_s = []
    with Client(system.url) as client:
        for _ in range(jobs):
            started = time.perf_counter()
            assert client.compute(SMALL) == -2.5
            latencies_s.append(time.perf_counter() - started)
    return latencies_s


def singles(system: System, jobs: int) -> list[Row]:
    """Single submits that wait for their answer, one after another and from 64 clients."""
    latencies_s = one_by_one(system, jobs)
    together_s: list[float] = []
    started = time.perf_counter()
    asyncio.run(from_clients(system, 64, jobs // 64, together_s))
    rate = len(together_s) / (time.perf_counter() - started)
    return [
        (f"{jobs:,} single submits with wait, one after another", percentiles(latencies_s)),
        (f"{jobs:,} single submits with wait, from 64 clients", percentiles(together_s)),
        ("  together", f"{rate:,.0f} jobs/s"),
    ]


async def from_clients(system: System, clients: int, jobs: int, latencies_s: list[float]) -> None:
    async def submit() -> None:
        async with AsyncClient(system.url) as client:
            for _ in range(jobs):
                started = time.perf_counter()
                assert await client.compute(SMALL) == -2.5
                latencies_s.append(time.perf_counter() - started)

    await asyncio.gather(*(submit() for _ in range(clients)))


def large(system: System, operations: int) -> list[Row]:
    """One large formula, and how responsive the master is from its submission to its answer."""
    randoms = random.Random(1)
    numbers = [randoms.randrange(1, 1_000_000) for _ in range(operations + 1)]
    operators = [*randoms.choices("+-*", k=operations), ""]
    formula = "".join(f"{number}{sign}" for number, sign in zip(numbers, operators, strict=True))
    answer = left_to_right(numbers, operators)
    before_mb = system.master_memory_mb("VmRSS")
    elapsed_s, health_s, small_s = asyncio.run(large_and_small(system, formula, answer))
    peak_mb = system.master_memory_mb("VmHWM")
    return [
        (f"a formula of {operations:,} operations", f"{elapsed_s:.1f} s"),
        ("  master's memory before it, and at most", f"{before_mb:.0f} MB, {peak_mb:.0f} MB"),
        ("  of it, an operation", f"{(peak_mb - before_mb) * 1e6 / operations:.0f} bytes"),
        (f"  meanwhile GET /job/1 ({len(health_s):,} times)", percentiles(health_s)),
        (f"  meanwhile jobs of 4 operations ({len(small_s):,})", percentiles(small_s)),
    ]


async def large_and_small(
    system: System, formula: str, answer: int
) -> tuple[float, list[float], list[float]]:
    body = json.dumps({"task": formula}).encode()
    asked_s: list[float] = []
    small_s: list[float] = []
    over = asyncio.Event()

    async def repeat(request: Callable[[], Awaitable[object]], latencies_s: list[float]) -> None:
        while not over.is_set():
            started = time.perf_counter()
            await request()
            latencies_s.append(time.perf_counter() - started)
            await asyncio.sleep(0.01)

    async with AsyncClient(system.url) as client, AsyncClient(system.url) as other:
        await client.compute(SMALL)
        connection = KeptAliveConnection("127.0.0.1", system.port)
        meanwhile = [
            asyncio.create_task(repeat(lambda: client.job(1), asked_s)),
            asyncio.create_task(repeat(lambda: other.compute(SMALL), small_s)),
        ]
        started = time.perf_counter()
        status, _, reply = await connection.request("POST", "/submit", body)
        assert status == 200, reply
        job = await client.wait(json.loads(reply)["job_id"])
        elapsed_s = time.perf_counter() - started
        over.set()
        await asyncio.gather(*meanwhile)
        connection.close()
    assert job.answer == answer
    return elapsed_s, asked_s, small_s


def left_to_right(numbers: Sequence[int], operators: Sequence[str]) -> int:
    """The value of a formula of sums, differences and products, which Python is too deep for."""
    total, product = 0, numbers[0]
    for operator, number in zip(operators, numbers[1:], strict=False):
        if operator == "*":
            product *= number
        else:
            total += product
            product = number if operator == "+" else -number
    return total + product


def per_second(rates: Sequence[float], of: str = "operations") -> str:
    return f"{statistics.median(rates):,.0f} {of}/s"


def percentiles(latencies_s: Sequence[float]) -> str:
    ordered = sorted(latencies_s)
    p50, p99 = (ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
    return f"p50 {p50 * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms"
