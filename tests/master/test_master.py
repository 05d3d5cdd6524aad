"""The loop around the core: who waits is told, what is due comes, what is long is cut."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Generator
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from harness.until import until
from tornado.ioloop import IOLoop

from dte.core.errors import Busy, FormulaError, TooLarge
from dte.core.formula.formula import SLICE_CHARS, FormulaLimits, parse_in_slices
from dte.core.graph.work import Work
from dte.core.workers.worker import Announcement, Failure
from dte.master import jobs as module
from dte.master.master import Master
from dte.master.settings import Settings

from . import fakes
from .rig import Hire, Rig, StartMaster

StartAlone = Callable[..., Master]


@pytest.fixture
def start_alone(cleanup: AsyncExitStack) -> StartAlone:
    """A master with the given bounds, and without a server."""

    def start(**bounds: Any) -> Master:
        started = Master(Settings(**bounds))
        cleanup.push_async_callback(started.close)
        cleanup.push_async_callback(started.end, 0)
        cleanup.callback(started.core.check)
        return started

    return start


@pytest.fixture
def master(io_loop: IOLoop, start_alone: StartAlone) -> Master:
    async def start() -> Master:
        return start_alone()

    return io_loop.run_sync(start)


# Submitting


async def test_formulas_become_jobs_in_their_order(master: Master) -> None:
    jobs = await master.jobs.submit_all(["1+2", "3", "4/5"])
    assert [(job.number, job.task, job.is_terminal) for job in jobs] == [
        (1, "1+2", False),
        (2, "3", True),
        (3, "4/5", False),
    ]


async def test_no_formulas_are_no_jobs(master: Master) -> None:
    assert await master.jobs.submit_all([]) == []


@pytest.mark.parametrize("count", [2, 2_000])
async def test_one_bad_formula_refuses_all(count: int, master: Master) -> None:
    """The error tells which one it is, also behind many that are good."""
    tasks = ["1+2"] * count + ["1+", "2+"]
    with pytest.raises(FormulaError) as caught:
        await master.jobs.submit_all(tasks)
    assert (caught.value.index, caught.value.column, caught.value.caret) == (count, 3, "1+\n  ^")
    assert list(master.core.jobs.newest(1)) == []
    assert (await master.jobs.submit("1")).number == 1, "no id is lost"


async def test_one_long_formula_among_many_refuses_all(start_alone: StartAlone) -> None:
    master = start_alone(formula_operations_max=2)
    with pytest.raises(TooLarge, match=r"^formula 1: .*formula_operations_max"):
        await master.jobs.submit_all(["1", "1+2+3+4"])
    assert list(master.core.jobs.newest(1)) == []


@pytest.mark.parametrize("others", [[], ["1+2"]], ids=["alone", "among others"])
async def test_a_formula_of_many_slices_is_parsed_while_the_loop_turns(
    others: list[str], master: Master
) -> None:
    turns = 0
    loop = asyncio.get_running_loop()

    def count_turns() -> None:
        nonlocal turns
        turns += 1
        if not submitting.done():
            loop.call_soon(count_turns)

    long = "+".join(["1.5"] * 50_000)
    submitting = asyncio.create_task(master.jobs.submit_all([long, *others]))
    count_turns()
    jobs = await submitting
    assert jobs[0].operations == 49_999
    assert turns > 20


async def test_what_would_not_fit_is_not_parsed(start_alone: StartAlone) -> None:
    master = start_alone(jobs_waiting_max=2)
    await master.jobs.submit_all(["1+2", "3+4"])
    with pytest.raises(Busy, match="jobs_waiting_max"):
        await master.jobs.submit_all(["this is no formula"])


async def test_many_are_not_parsed_beyond_what_would_fit(start_alone: StartAlone) -> None:
    master = start_alone(operations_waiting_max=3)
    with pytest.raises(TooLarge, match="operations_waiting_max"):
        await master.jobs.submit_all(["1/2", "3/4/5/6".ljust(SLICE_CHARS), "this is no formula"])


async def test_few_very_long_formulas_are_parsed_at_a_time(
    master: Master, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes much memory while it is parsed; short ones do not wait for them."""
    under_way = most = 0

    def counted(
        text: str, limits: FormulaLimits, pure: Collection[str]
    ) -> Generator[None, None, Work]:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            return (yield from parse_in_slices(text, limits, pure))
        finally:
            under_way -= 1

    monkeypatch.setattr(module, "parse_in_slices", counted)
    monkeypatch.setattr(module, "LONG_CHARS", 30_000)
    long = "+".join(["1.5"] * 10_000)
    long_ones = [asyncio.create_task(master.jobs.submit(long)) for _ in range(5)]
    await until(lambda: under_way, "the first slice")
    await master.jobs.submit("1+2")
    assert not any(task.done() for task in long_ones)
    await asyncio.gather(*long_ones)
    assert most == module.LONG_FORMULAS


async def test_two_that_each_fit_alone_do_not_both_get_in(start_alone: StartAlone) -> None:
    """The bound counts when a job is accepted, after its parsing."""
    master = start_alone(operations_waiting_max=6_000)
    long = "+".join(["1.5"] * 5_000)
    done = await asyncio.gather(
        master.jobs.submit_all([long]), master.jobs.submit_all([long]), return_exceptions=True
    )
    assert sum(isinstance(outcome, Busy) for outcome in done) == 1
    assert master.core.jobs.waiting == 1


# Waiting


async def test_waiting_ends_when_all_jobs_have_ended(rig: Rig, hire: Hire) -> None:
    jobs = await rig.master.jobs.submit_all(["1+2", "3", "4+5", "1/0"])
    waiting = asyncio.create_task(rig.master.waiters.wait(jobs, 60))
    await until(lambda: len(rig.master.waiters) == 3, "it waits")
    await hire(rig, fakes.good)
    await waiting
    assert all(job.is_terminal for job in jobs)
    assert not len(rig.master.waiters)


# Times, workers


async def test_moments_are_shown_as_wall_time(master: Master) -> None:
    before = datetime.now(UTC)
    (job,) = await master.jobs.submit_all(["1"])
    shown = master.clock.wall_time(job.ended_at)
    assert shown is not None
    assert shown.utcoffset() == timedelta(0)
    assert abs(shown - before) < timedelta(seconds=5)
    assert master.clock.wall_time(None) is None


async def test_the_timer_ends_a_lease_when_nothing_else_happens(
    start_master: StartMaster, hire: Hire
) -> None:
    rig = await start_master(lease_s=0.1)
    worker = await hire(rig, fakes.silent)
    await rig.submit("1+2")
    await until(lambda: rig.worker(worker).last_failure, "the lease ends")
    assert len(worker.requests) == 1


async def test_the_timer_comes_for_the_earliest_of_what_is_due(
    start_master: StartMaster, hire: Hire
) -> None:
    """A pause of a tenth of a second ends although the timer stood at a lease's ten seconds."""
    rig = await start_master()
    silent = await hire(rig, fakes.silent)
    await rig.submit("1+2")
    await until(lambda: silent.requests, "a hand-over")
    first = [True]

    async def failing_once(request: Any, line: Any) -> None:
        await (fakes.hanging_up if first and first.pop() else fakes.good)(request, line)

    await hire(rig, failing_once)
    number = await rig.submit("3+4")
    assert (await rig.job(number, wait_s=5))["answer"] == 7


async def test_graphs_of_ended_jobs_are_freed_without_further_requests(
    rig: Rig, hire: Hire
) -> None:
    """They are freed in slices, each in a turn that the master asks for by itself."""
    await hire(rig, fakes.good, batch_max=100_000)
    term = "(1/0)+" + "+".join(["1.5"] * 50_000)
    assert (await rig.compute(term))["state"] == "failed"
    await until(lambda: not rig.master.core.jobs.sweeping, "all is freed")


async def test_the_log_tells_of_workers_that_come_and_go(
    master: Master, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "dte.master")
    for said in (
        Announcement("w", "127.0.0.1:7000", incarnation="1"),
        Announcement("w", "127.0.0.1:7000", incarnation="1"),
        Announcement("w", "127.0.0.1:7000", incarnation="2"),
        Announcement("w", "127.0.0.1:7000", incarnation="2", draining=True),
    ):
        await master.workers.announce(said)
    assert caplog.messages == [
        "worker w joined from 127.0.0.1:7000",
        "worker w joined from 127.0.0.1:7000",
        "worker w is leaving",
    ]


async def test_a_report_on_a_lease_that_has_ended_changes_nothing(
    master: Master, caplog: pytest.LogCaptureFixture
) -> None:
    master.core.arithmetic.complete(master.clock.now(), 7, [1], {}, None)
    for failure in Failure:
        master.core.arithmetic.fail(master.clock.now(), 7, "too late", failure)
    assert not caplog.records
    assert master.core.stale_results == 1, "results are counted, failures are not"


async def test_after_its_end_nothing_is_handed_over(rig: Rig, hire: Hire) -> None:
    worker = await hire(rig, fakes.good)
    await rig.master.jobs.submit_all(["1+2"])
    await rig.master.end(0)
    await asyncio.sleep(0)
    assert not rig.master._dispatcher._under_way
    assert not worker.requests
