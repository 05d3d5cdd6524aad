"""Free memory goes back to the system."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from harness.until import until

from dte.master import heap
from dte.master.heap import Heap, give_large_blocks_back, resident_bytes

is_glibc = pytest.mark.skipif(heap._malloc_trim is None, reason="another C library")


class Trims:
    """Stands in for `malloc_trim`: each lasts until a test lets it end."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.may_end = threading.Event()
        self.may_end.set()

    def __call__(self, pad: int) -> int:
        self.threads.append(threading.current_thread())
        self.may_end.wait(20)
        return 1


@pytest.fixture
def trims(monkeypatch: pytest.MonkeyPatch) -> Iterator[Trims]:
    """Look every millisecond, and let the memory stay as it is."""
    trims = Trims()
    monkeypatch.setattr(heap, "LOOK_S", 0.001)
    monkeypatch.setattr(heap, "_malloc_trim", trims)
    monkeypatch.setattr(heap, "resident_bytes", lambda: 0)
    yield trims
    trims.may_end.set()


async def started(ended: list[int]) -> Heap:
    """A heap that has looked at once, as it does for the first time."""
    one = Heap(lambda: sum(ended))
    one.start()
    return one


async def test_memory_is_given_back_after_large_jobs_beside_the_loop(trims: Trims) -> None:
    ended = [0]
    one = await started(ended)
    await until(lambda: trims.threads, "the first look")
    for count in (2, 3):
        ended.append(heap.MUCH_BYTES + 1)
        await until(lambda count=count: len(trims.threads) == count, "it is given back")
    ended.append(heap.MUCH_BYTES // 2)
    await asyncio.sleep(0.05)
    one.stop()
    assert len(trims.threads) == 3, "small jobs are not worth it"
    assert threading.main_thread() not in trims.threads


async def test_one_at_a_time(trims: Trims) -> None:
    ended = [0]
    trims.may_end.clear()
    one = await started(ended)
    await until(lambda: trims.threads, "the first look")
    for _ in range(5):
        ended.append(heap.MUCH_BYTES + 1)
        await asyncio.sleep(0.005)
    assert len(trims.threads) == 1
    trims.may_end.set()
    await until(lambda: len(trims.threads) == 2, "the rest is given back")
    one.stop()


async def test_growth_is_noticed_without_jobs(
    trims: Trims, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Replies and refused bodies take memory as well."""
    one = await started([0])
    await until(lambda: trims.threads, "the first look")
    monkeypatch.setattr(heap, "resident_bytes", lambda: heap.MUCH_BYTES + 1)
    await until(lambda: len(trims.threads) == 2, "it is given back")
    one.stop()


async def test_nothing_is_done_with_another_c_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "LOOK_S", 0.001)
    monkeypatch.setattr(heap, "_malloc_trim", None)
    monkeypatch.setattr(heap, "_mallopt", None)
    give_large_blocks_back()
    one = await started([0])
    await asyncio.sleep(0.01)
    one.stop()


FRAGMENTED = """
from dte.master import heap
heap.give_large_blocks_back()
small, large = [], []
for _ in range(1_000):
    large.append(b"x" * 50_000)
    small.append(bytes(1_000))
before = heap.resident_bytes()
large.clear()
heap._malloc_trim(0)
print(before - heap.resident_bytes())
"""
LARGE = """
from dte.master import heap
heap.give_large_blocks_back()
bytearray(b"x") * 30_000_000  # By itself the C library would keep blocks of this size from then on.
beyond, large = [], []
for _ in range(10):
    large.append(b"x" * 15_000_000)
    beyond.append(bytes(100_000))
before = heap.resident_bytes()
large.clear()
print(before - heap.resident_bytes())
"""


@is_glibc
@pytest.mark.parametrize(
    ("program", "least"),
    [(FRAGMENTED, 40_000_000), (LARGE, 140_000_000)],
    ids=["between small blocks", "in large blocks"],
)
def test_the_memory_of_a_process_shrinks(program: str, least: int) -> None:
    """In a process of its own, whose options this test may change."""
    command = [sys.executable, "-c", program]
    freed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(freed) > least


@is_glibc
def test_the_memory_of_this_process_is_known() -> None:
    assert resident_bytes() > 10_000_000
