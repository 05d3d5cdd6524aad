"""The contract with workers that poll, in every dialect that has such workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from harness.until import until

from dte.master.restart import Restart
from master.api.dialects.pollers import Dialect, Queue, Scheduler
from master.rig import StartMaster

LEASE_S = 30.0
Begin = Callable[..., Awaitable[Any]]


@pytest.fixture(params=[Queue, Scheduler])
def begin(request: pytest.FixtureRequest, start: StartMaster) -> Begin:
    """Starts a master, and gives one of its dialects: ``await begin(jobs_waiting_max=1, ...)``."""

    async def begin(**bounds: Any) -> Any:
        dialect = request.param
        return dialect(await start(**{dialect.LEASE_S: LEASE_S} | bounds))

    return begin


async def test_one_task_goes_to_one_worker(begin: Begin) -> None:
    seed = await begin()
    tasks = {await seed.submit() for _ in range(5)}
    given = [await seed.poll(f"worker-{number}") for number in range(6)]
    assert {task["task_id"] for task in given if task} == tasks
    assert given[-1] is None


async def test_tasks_run_in_the_order_in_which_they_came(begin: Begin) -> None:
    seed = await begin()
    tasks = [await seed.submit() for _ in range(4)]
    assert [(await seed.polled("w"))["task_id"] for _ in tasks] == tasks


async def test_a_lease_that_runs_out_gives_the_task_to_another_worker(begin: Begin) -> None:
    seed = await begin()
    task_id = await seed.submit()
    assert await seed.poll("first")
    seed.rig.pass_over(LEASE_S)
    assert (await seed.polled("second"))["task_id"] == task_id
    assert await seed.status(task_id) == seed.RUNNING
    (node,) = (await seed.rig.nodes(int(task_id))).values()
    assert (node["attempts"], node["worker"]) == (2, "second")
    assert not await seed.counts("first", task_id)
    assert await seed.counts("second", task_id)


async def test_a_late_result_counts_as_long_as_no_other_worker_has_the_task(begin: Begin) -> None:
    seed = await begin()
    task_id = await seed.submit()
    assert await seed.poll("first")
    seed.rig.pass_over(LEASE_S)
    await until(lambda: not seed.rig.master.core.calls.leases, "the lease's end")
    assert await seed.status(task_id) == seed.WAITING
    assert await seed.counts("first", task_id)
    assert await seed.status(task_id) == seed.SUCCEEDED
    assert await seed.poll("second") is None


async def test_a_result_without_a_name_is_that_of_the_worker_that_polled(begin: Begin) -> None:
    seed = await begin()
    task_id = await seed.submit()
    assert await seed.poll("w")
    assert await seed.counts(None, task_id)
    (node,) = (await seed.rig.nodes(int(task_id))).values()
    assert (node["state"], node["worker"]) == ("succeeded", "w")


async def test_heartbeats_keep_the_task_of_a_worker_that_never_registered(begin: Begin) -> None:
    seed = await begin()
    task_id = await seed.submit()
    assert await seed.poll("w")
    for _ in range(4):
        seed.rig.pass_over(LEASE_S / 3)
        await seed.beat("w")
        assert await seed.poll("other") is None
    (node,) = (await seed.rig.nodes(int(task_id))).values()
    assert node["attempts"] == 1
    assert await seed.counts("w", task_id)


async def test_heartbeats_do_not_keep_a_task_that_its_worker_forgot(begin: Begin) -> None:
    seed = await begin()
    task_id = await seed.submit()
    assert await seed.poll("w")  # The reply is lost, for example.
    assert await seed.poll("w") is None
    for _ in range(20):
        seed.rig.pass_over(LEASE_S / 10)
        await seed.beat("w")
        task = await seed.poll("w")
        if task is not None:
            break
        await seed.next_moment()
    assert task is not None
    assert task["task_id"] == task_id


async def test_overlapping_polls_under_one_name_get_two_tasks(begin: Begin) -> None:
    seed = await begin()
    tasks = [await seed.submit(), await seed.submit()]
    given = await asyncio.gather(seed.poll("worker_auto"), seed.poll("worker_auto"))
    assert sorted(task["task_id"] for task in given if task) == tasks
    for task_id in tasks:
        assert await seed.counts("worker_auto", task_id)


async def test_a_refusal_at_a_bound_says_when_to_try_again(begin: Begin) -> None:
    seed = await begin(jobs_waiting_max=1, workers_max=1)
    await seed.submit()
    reply = await seed.ask_submit()
    assert (reply.status, reply.headers["retry-after"]) == (429, "1")
    assert b"jobs_waiting_max" in reply.body
    assert await seed.poll("w")
    reply = await seed.ask_poll("another")
    assert (reply.status, reply.headers["retry-after"]) == (429, "5")
    assert b"workers_max" in reply.body


@pytest.mark.parametrize("dialect", [Queue, Scheduler])
async def test_a_report_before_the_job_is_read_after_a_restart_is_to_be_sent_again(
    start_journaled: StartMaster, monkeypatch: pytest.MonkeyPatch, dialect: type[Dialect]
) -> None:
    seed = dialect(await start_journaled())
    task_id = await seed.submit()
    assert await seed.poll("w")
    await seed.rig.stop()

    may_read, run = asyncio.Event(), Restart.run

    async def run_later(restart: Restart) -> None:
        await may_read.wait()
        await run(restart)

    monkeypatch.setattr(Restart, "run", run_later)
    seed = dialect(await start_journaled())
    reply = await seed.ask_report("w", task_id)
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    may_read.set()
    await until(lambda: seed.rig.master.core.jobs.job(int(task_id)).calls, "the job goes on")
    assert await seed.counts("w", task_id)
