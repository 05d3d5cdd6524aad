"""Requests that are held until jobs have ended: who is told when, and that nothing is left."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pytest

from dte.core.jobs.job import Job, JobState
from dte.master.waiting import NOTED_MAX, Waiters


def jobs_of(*states: JobState) -> list[Job]:
    return [Job(number, "1+2", 0.0, 1, None, state) for number, state in enumerate(states, 1)]


def open_jobs(count: int) -> list[Job]:
    return jobs_of(*[JobState.RUNNING] * count)


def end(waiters: Waiters, *jobs: Job) -> None:
    for job in jobs:
        job.enter(JobState.ENDING)
        job.enter(JobState.SUCCEEDED)
        waiters.ended(job)


@pytest.fixture
def waiters() -> Waiters:
    return Waiters()


async def hold(
    waiters: Waiters, jobs: Iterable[Job], gone: asyncio.Future[None] | None = None
) -> asyncio.Task[None]:
    """Begin to wait for a minute."""
    waiting = asyncio.create_task(waiters.wait(jobs, 60, gone))
    await asyncio.sleep(0)
    assert not waiting.done()
    return waiting


async def test_waiting_for_what_has_ended_takes_no_turn(waiters: Waiters) -> None:
    waiting = waiters.wait(jobs_of(JobState.SUCCEEDED, JobState.FAILED), 60)
    with pytest.raises(StopIteration):
        waiting.send(None)


async def test_not_waiting_takes_no_turn(waiters: Waiters) -> None:
    waiting = waiters.wait(open_jobs(1), 0)
    with pytest.raises(StopIteration):
        waiting.send(None)
    assert not len(waiters)


async def test_a_job_that_is_ending_is_waited_for(waiters: Waiters) -> None:
    """Nobody sees an end that is not recorded."""
    (job,) = jobs_of(JobState.ENDING)
    waiting = await hold(waiters, [job])
    job.enter(JobState.FAILED)
    waiters.ended(job)
    await waiting


async def test_waiting_goes_on_until_the_last_has_ended(waiters: Waiters) -> None:
    jobs = [*open_jobs(3), *jobs_of(JobState.SUCCEEDED)]
    waiting = await hold(waiters, jobs)
    end(waiters, jobs[2], jobs[0])
    await asyncio.sleep(0)
    assert not waiting.done()
    assert len(waiters) == 1
    end(waiters, jobs[1])
    await waiting
    assert not len(waiters)


async def test_many_may_wait_for_one_job_also_several_times(waiters: Waiters) -> None:
    jobs = open_jobs(1)
    waiting = [await hold(waiters, jobs * times) for times in (1, 1, 2)]
    end(waiters, *jobs)
    await asyncio.gather(*waiting)
    assert not len(waiters)


async def test_the_end_of_a_job_that_nobody_waits_for_is_no_news(waiters: Waiters) -> None:
    end(waiters, *open_jobs(1))
    assert not len(waiters)


async def test_waiting_ends_when_its_time_is_up_and_leaves_nothing(waiters: Waiters) -> None:
    jobs = open_jobs(2)
    await waiters.wait(jobs, 0.01)
    assert not len(waiters)
    end(waiters, *jobs)


async def test_those_who_wait_longer_are_not_forgotten_with_the_others(waiters: Waiters) -> None:
    jobs = open_jobs(1)
    longer = await hold(waiters, jobs)
    await waiters.wait(jobs, 0.01)
    end(waiters, *jobs)
    await longer


async def test_waiting_that_is_cancelled_leaves_nothing(waiters: Waiters) -> None:
    waiting = await hold(waiters, open_jobs(2))
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not len(waiters)


async def test_who_has_gone_is_not_waited_for(waiters: Waiters) -> None:
    gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    jobs = open_jobs(2)
    waiting = await hold(waiters, jobs, gone)
    others = await hold(waiters, jobs)
    gone.set_result(None)
    await waiting
    assert not others.done()
    end(waiters, *jobs)
    await others
    assert not len(waiters)


async def test_all_can_be_let_go_whatever_their_jobs_do(waiters: Waiters) -> None:
    jobs = open_jobs(3)
    waiting = [await hold(waiters, part) for part in (jobs, jobs[:1], jobs[1:])]
    waiters.give_up()
    await asyncio.gather(*waiting)
    assert not len(waiters)
    end(waiters, *jobs)
    waiters.give_up()


async def test_a_request_that_comes_as_all_are_let_go_is_left_alone(waiters: Waiters) -> None:
    jobs = open_jobs(1)
    waiting = await hold(waiters, jobs)
    late = asyncio.create_task(waiters.wait(jobs, 60))
    waiters.give_up()
    await waiting
    assert not late.done()
    end(waiters, *jobs)
    await late
    assert not len(waiters)


async def test_the_jobs_for_which_a_call_waits_are_known_as_long_as_it_waits(
    waiters: Waiters,
) -> None:
    first, second = open_jobs(2)
    waits = [
        asyncio.create_task(waiters.wait(jobs, 60, lease=9)) for jobs in ([first], [first, second])
    ]
    await asyncio.sleep(0)
    assert {lease: set(jobs) for lease, jobs in waiters.of_calls.items()} == {9: {1, 2}}
    waits[1].cancel()
    await asyncio.wait(waits[1:])
    assert {lease: set(jobs) for lease, jobs in waiters.of_calls.items()} == {9: {1}}
    end(waiters, first)
    await waits[0]
    assert not waiters.of_calls


async def test_the_wait_of_one_call_for_many_jobs_is_noted_up_to_a_bound(waiters: Waiters) -> None:
    jobs = open_jobs(NOTED_MAX + 10)
    waiting = asyncio.create_task(waiters.wait(jobs, 60, lease=9))
    await asyncio.sleep(0)
    assert len(waiters.of_calls[9]) == NOTED_MAX
    waiters.give_up()
    await waiting
    assert not waiters.of_calls
