"""Requests for jobs that only the journal has: few are read at a time, each for all who wait."""

from __future__ import annotations

import asyncio

import pytest
from harness.until import until

from dte.master.past import AT_A_TIME, PastJobs


class Reads:
    """Counts readings, each of which lasts until the test lets it end."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.may_end = asyncio.Event()

    async def read(self, number: int) -> int:
        self.begun.append(number)
        await self.may_end.wait()
        return number


async def ask(jobs: PastJobs, reads: Reads, number: int, shown: list[int]) -> None:
    """Read a job and show it, as a request does."""
    reading = await jobs.enter(number)
    try:
        shown.append(await reading.once("job", lambda: reads.read(number)))
        await asyncio.sleep(0)
    finally:
        jobs.leave(reading)


async def test_all_who_wait_for_a_job_share_a_reading_and_other_jobs_wait() -> None:
    jobs, reads, shown = PastJobs(), Reads(), list[int]()
    asking = [asyncio.create_task(ask(jobs, reads, number, shown)) for number in (1, 2, 3, 4) * 100]
    await until(lambda: len(reads.begun) == AT_A_TIME, "the first is read")
    for _ in range(10):
        await asyncio.sleep(0)
    assert reads.begun == [1]
    reads.may_end.set()
    await asyncio.wait(asking)
    assert sorted(shown) == sorted((1, 2, 3, 4) * 100)
    assert reads.begun == [1, 2, 3, 4]


async def test_who_comes_when_a_reading_has_begun_does_not_keep_others_waiting() -> None:
    jobs, reads, shown = PastJobs(), Reads(), list[int]()
    asking = [asyncio.create_task(ask(jobs, reads, number, shown)) for number in (1, 2, 3)]
    await until(lambda: reads.begun == [1], "one is read")
    asking += [asyncio.create_task(ask(jobs, reads, 1, shown)) for _ in range(5)]
    reads.may_end.set()
    await asyncio.wait(asking)
    assert reads.begun == [1, 2, 3, 1]


@pytest.mark.parametrize("number", [1, 3], ids=["of a job that is read", "of one that waits"])
async def test_a_request_that_is_given_up_frees_its_place(number: int) -> None:
    jobs, reads, shown = PastJobs(), Reads(), list[int]()
    asking = [asyncio.create_task(ask(jobs, reads, each, shown)) for each in (1, 2, 3, 1)]
    await until(lambda: reads.begun == [1], "one is read")
    asking[number - 1].cancel()
    reads.may_end.set()
    await asyncio.wait(asking)
    assert len(shown) == 3
    again = [asyncio.create_task(ask(jobs, reads, each, shown)) for each in range(5, 15)]
    await asyncio.wait(again)
    assert shown[-10:] == list(range(5, 15))
    assert not jobs._begun
    assert not jobs._waiting


async def test_a_reading_that_fails_is_everybodys_own_failure() -> None:
    jobs = PastJobs()

    async def fail() -> None:
        raise OSError

    for _ in range(3 * AT_A_TIME):
        reading = await jobs.enter(1)
        with pytest.raises(OSError):  # noqa: PT011
            await reading.once("job", fail)
        jobs.leave(reading)
