from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from harness.until import until
from msgspec import Raw

from dte.logs import LINES_MAX
from dte.wire.http.client import CONNECT_TIMEOUT_S
from dte.wire.messages.batches import BatchResult
from dte.wire.messages.calls import Report
from dte.worker import reporter as module
from dte.worker.master_client import TIMEOUT_S
from dte.worker.reporter import Reporter
from dte.worker.session import Session
from dte.worker.spool import Spool

from .fakes import FakeMaster, leases

NEVER_S = 3600.0

StartReporter = Callable[..., Reporter]


def succeeded(lease: int, result: bytes = b"1") -> Report:
    return Report(lease, Raw(result), state="succeeded")


@pytest.fixture
def start_reporter(
    fake_master: FakeMaster, cleanup: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> StartReporter:
    """Starts a reporter that is closed after the test, and then does not wait for its master."""
    monkeypatch.setattr(module, "CLOSE_S", 0.0)

    def start(worker: str = "w", **more: Any) -> Reporter:
        reporter = Reporter(worker, fake_master.url, **more)
        reporter.start()
        cleanup.push_async_callback(reporter.close)
        return reporter

    return start


@pytest.fixture
def settled() -> list[int]:
    return []


async def test_a_result_is_sent_at_once_as_it_is(
    fake_master: FakeMaster, start_reporter: StartReporter, settled: list[int]
) -> None:
    reporter = start_reporter()
    reporter.on_settled = settled.append
    reporter.report(succeeded(7, b'{"digits":[1,2.50]}'))
    await until(lambda: settled, "the master has it")
    assert fake_master.server.requests[0].body == (
        b'{"worker":"w","results":[{"lease":7,"result":{"digits":[1,2.50]},"state":"succeeded"}]}'
    )


async def test_results_of_arithmetic_go_the_same_way(
    fake_master: FakeMaster, start_reporter: StartReporter
) -> None:
    start_reporter().report(BatchResult(9, [1, 2.5], {1: "no"}))
    await until(lambda: fake_master.said("/result"), "a report")
    batch = {"lease": 9, "results": [1, 2.5], "errors": {"1": "no"}}
    assert fake_master.said("/result") == [{"worker": "w", "batches": [batch]}]


async def test_what_finishes_while_a_request_is_under_way_is_sent_together(
    fake_master: FakeMaster, start_reporter: StartReporter, settled: list[int]
) -> None:
    reporter = start_reporter()
    reporter.on_settled = settled.append

    def finish_more(body: Any) -> tuple[int, Any]:
        if len(fake_master.said("/result")) == 1:
            for lease in range(2, 50):
                reporter.report(succeeded(lease))
        return 200, {"accepted": [], "stale": []}

    fake_master.replies["/result"] = finish_more
    reporter.report(succeeded(1))
    await until(lambda: len(settled) == 49, "the master has all")
    assert [len(body["results"]) for body in fake_master.said("/result")] == [1, 48]
    assert len(fake_master.server.lines) == 1, "one connection"


async def test_a_request_has_a_bound(
    fake_master: FakeMaster,
    start_reporter: StartReporter,
    settled: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "REQUEST_RESULTS_MAX", 3)
    monkeypatch.setattr(module, "REQUEST_BYTES_MAX", 1000)
    reporter = start_reporter()
    reporter.on_settled = settled.append
    for lease in range(7):
        reporter.report(succeeded(lease))
    for lease in (7, 8):
        reporter.report(succeeded(lease, b"1" * 2000))
    await until(lambda: len(settled) == 9, "the master has all")
    assert [leases([body]) for body in fake_master.said("/result")] == [
        [0, 1, 2],
        [3, 4, 5],
        [6],
        [7],
        [8],
    ]


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_a_master_that_cannot_now_is_asked_again(
    fake_master: FakeMaster, start_reporter: StartReporter, settled: list[int], status: int
) -> None:
    good = fake_master.replies["/result"]
    fake_master.replies["/result"] = (status, {"error": "not now"})
    reporter = start_reporter()
    reporter.on_settled = settled.append
    reporter.report(succeeded(1))
    await until(lambda: len(fake_master.said("/result")) == 2, "it tries again by itself")
    fake_master.replies["/result"] = good
    reporter.hurry()
    await until(lambda: settled == [1], "the master has it")


async def test_pauses_grow_to_the_longest_and_a_hurry_ends_one(
    fake_master: FakeMaster, start_reporter: StartReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    timeout = asyncio.timeout
    pauses: list[float] = []

    def none(delay: float) -> asyncio.Timeout:
        if delay in (TIMEOUT_S, CONNECT_TIMEOUT_S):  # Of a request.
            return timeout(delay)
        pauses.append(delay)
        return timeout(0 if len(pauses) < 8 else delay)

    monkeypatch.setattr(asyncio, "timeout", none)
    fake_master.replies["/result"] = (503, None)
    reporter = start_reporter(retry_s=3.0)
    reporter.report(succeeded(1))
    await until(lambda: len(pauses) == 8, "eight attempts")
    assert pauses == [0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 3.0, 3.0]
    reporter.hurry()
    await until(lambda: len(fake_master.said("/result")) == 9, "another attempt", 2.5)


async def test_a_master_that_is_away_gets_results_when_it_is_back(
    fake_master: FakeMaster,
    start_reporter: StartReporter,
    settled: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    reporter = start_reporter()
    reporter.on_settled = settled.append
    port = fake_master.server.port
    await fake_master.server.stop()
    reporter.report(succeeded(1))
    reporter.report(succeeded(2))
    await until(lambda: "cannot report results" in caplog.text, "it finds nobody")
    await fake_master.server.start(port=port)
    await until(lambda: sorted(settled) == [1, 2], "the master has both")
    assert caplog.text.count("cannot report results") == 1


# A result that is refused


@pytest.mark.usefixtures("errors_are_logged")
async def test_a_result_that_is_refused_does_not_hinder_others_and_is_reported_as_a_failure(
    fake_master: FakeMaster, start_reporter: StartReporter, settled: list[int]
) -> None:
    taken: list[Any] = []

    def small_only(body: Any) -> tuple[int, Any]:
        if any(len(str(each.get("result"))) > 100 for each in body["results"]):
            return 413, {"error": "too large"}
        taken.extend(body["results"])
        return 200, {"accepted": leases([body]), "stale": []}

    fake_master.replies["/result"] = small_only
    reporter = start_reporter()
    reporter.on_settled = settled.append
    for lease in range(1, 10):
        reporter.report(succeeded(lease, b"7" if lease != 5 else b"1" * 200))
    await until(lambda: len(taken) == 9, "the master has an end of each")
    failure = next(each for each in taken if each["lease"] == 5)
    assert failure["state"] == "failed"
    assert failure["retry"] is False
    assert "413" in failure["error"]
    assert "too large" in failure["error"]
    assert sorted(each["lease"] for each in taken) == list(range(1, 10))


@pytest.mark.usefixtures("errors_are_logged")
async def test_a_failure_that_is_refused_is_dropped(
    fake_master: FakeMaster, start_reporter: StartReporter, settled: list[int]
) -> None:
    fake_master.replies["/result"] = (400, {"error": "Invalid request"})
    reporter = start_reporter()
    reporter.on_settled = settled.append
    reporter.report(Report(1, error="ValueError: no", state="failed"))
    await until(lambda: settled == [1], "it is dropped")
    assert len(fake_master.said("/result")) == 1


async def test_a_result_that_came_too_late_is_done_with(
    fake_master: FakeMaster, start_reporter: StartReporter, settled: list[int]
) -> None:
    fake_master.replies["/result"] = (200, {"accepted": [], "stale": [1]})
    reporter = start_reporter()
    reporter.on_settled = settled.append
    reporter.report(succeeded(1))
    await until(lambda: settled == [1], "it is done with")


# The spool


async def test_a_result_is_on_disk_while_the_master_cannot_take_it(
    fake_master: FakeMaster, start_reporter: StartReporter, tmp_path: Path
) -> None:
    good = fake_master.replies["/result"]
    fake_master.replies["/result"] = (503, None)
    reporter = start_reporter(spool=Spool(tmp_path, NEVER_S))
    reporter.report(succeeded(7))
    await until((tmp_path / "7.json").exists, "it is on disk")
    fake_master.replies["/result"] = good
    reporter.hurry()
    await until(lambda: not (tmp_path / "7.json").exists(), "it is removed")
    assert not list(tmp_path.iterdir())


async def test_a_result_that_the_master_takes_never_touches_the_disk(
    start_reporter: StartReporter,
    tmp_path: Path,
    settled: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kept: list[int] = []
    monkeypatch.setattr(Spool, "keep", lambda self, worker, report: kept.append(report.lease))
    reporter = start_reporter(spool=Spool(tmp_path, NEVER_S))
    reporter.on_settled = settled.append
    reporter.report(succeeded(7))
    await until(lambda: settled, "the master has it")
    assert not kept


async def test_what_an_earlier_worker_left_is_sent_at_once_in_its_name(
    fake_master: FakeMaster, start_reporter: StartReporter, tmp_path: Path
) -> None:
    spool = Spool(tmp_path, NEVER_S)
    spool.keep("old", succeeded(1))
    spool.keep("old", succeeded(2))
    spool.keep("older", succeeded(3))
    start_reporter("new", spool=Spool(tmp_path, NEVER_S))
    await until(lambda: not list(tmp_path.iterdir()), "the spool is empty")
    said = {body["worker"]: sorted(leases([body])) for body in fake_master.said("/result")}
    assert said == {"old": [1, 2], "older": [3]}


@pytest.mark.usefixtures("errors_are_logged")
async def test_a_result_in_the_spool_that_is_refused_goes_from_there_too(
    fake_master: FakeMaster, start_reporter: StartReporter, tmp_path: Path
) -> None:
    fake_master.replies["/result"] = (413, None)
    spool = Spool(tmp_path, NEVER_S)
    spool.keep("w", succeeded(1))
    start_reporter(spool=spool)
    await until(lambda: not list(tmp_path.iterdir()), "the spool is empty")


async def test_results_are_dropped_when_their_time_is_over(
    fake_master: FakeMaster,
    start_reporter: StartReporter,
    tmp_path: Path,
    settled: list[int],
    caplog: pytest.LogCaptureFixture,
) -> None:
    fake_master.replies["/result"] = (503, None)
    reporter = start_reporter(spool=Spool(tmp_path, 0.2), retry_s=0.01, ttl_s=0.2)
    reporter.on_settled = settled.append
    reporter.report(succeeded(1))
    await until((tmp_path / "1.json").exists, "it is on disk")
    await until(lambda: settled == [1], "it is dropped")
    assert not list(tmp_path.iterdir())
    assert "dropping" in caplog.text


async def test_many_results_that_are_refused_or_dropped_are_few_lines_of_the_log(
    fake_master: FakeMaster, start_reporter: StartReporter, caplog: pytest.LogCaptureFixture
) -> None:
    fake_master.replies["/result"] = (503, None)
    reporter = start_reporter(retry_s=0.01, ttl_s=0.1)
    settled: list[int] = []
    reporter.on_settled = settled.append
    for lease in range(3 * LINES_MAX):
        reporter.report(succeeded(lease))
    await until(lambda: len(settled) == 3 * LINES_MAX, "all are dropped")
    assert caplog.text.count("dropping") == LINES_MAX
    await reporter.close()
    assert "more dropped results" in caplog.text


# The end


async def test_closing_sends_what_there_is(
    fake_master: FakeMaster, start_reporter: StartReporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLOSE_S", 10.0)
    reporter = start_reporter()
    reporter.report(succeeded(1))
    await reporter.close()
    assert leases(fake_master.said("/result")) == [1]


async def test_closing_while_the_master_is_away_leaves_results_to_the_next(
    fake_master: FakeMaster, start_reporter: StartReporter, tmp_path: Path
) -> None:
    fake_master.held.add("/result")
    reporter = start_reporter(spool=Spool(tmp_path, NEVER_S))
    reporter.report(succeeded(1))
    await until(lambda: fake_master.said("/result"), "a report")
    await reporter.close()
    assert [each.name for each in tmp_path.iterdir()] == ["1.json"]


async def test_closing_without_a_spool_says_which_results_are_lost(
    fake_master: FakeMaster, start_reporter: StartReporter, caplog: pytest.LogCaptureFixture
) -> None:
    fake_master.held.add("/result")
    reporter = start_reporter()
    reporter.report(succeeded(41))
    with caplog.at_level(logging.WARNING, "dte.worker"):
        await reporter.close()
    assert "lost the result of lease 41" in caplog.text


async def test_a_result_outlasts_a_token_that_is_refused(
    fake_master: FakeMaster, start_reporter: StartReporter, settled: list[int]
) -> None:
    good = fake_master.replies["/result"]
    fake_master.replies["/result"] = (401, {"error": "the token has expired"})
    reporter = start_reporter()
    reporter.on_settled = settled.append
    reporter.report(succeeded(7))
    await until(lambda: len(fake_master.said("/result")) > 1, "the result is sent again")
    assert settled == []
    fake_master.replies["/result"] = good
    await until(lambda: settled == [7], "the master has it")


# Sessions


def header_of(fake_master: FakeMaster, number: int) -> str | None:
    """The session that a request with results shows."""
    shown = [each.headers for each in fake_master.server.requests if each.path == "/result"]
    return shown[number].get("x-dte-session")


async def test_nothing_is_reported_before_the_session_is_known(
    fake_master: FakeMaster, start_reporter: StartReporter
) -> None:
    session = Session()
    reporter = start_reporter(session=session, retry_s=0.01)
    reporter.report(succeeded(7))
    await asyncio.sleep(0.05)
    assert fake_master.said("/result") == []
    session.replied("S")
    reporter.hurry()
    await until(fake_master.results, "a report")
    assert header_of(fake_master, 0) == "S"


async def test_results_in_the_spool_are_reported_under_their_own_sessions(
    fake_master: FakeMaster, start_reporter: StartReporter, tmp_path: Path
) -> None:
    """Their leases may still be those of earlier starts."""
    spool = Spool(tmp_path, NEVER_S)
    for lease, session in ((1, "FIRST"), (2, "SECOND"), (3, "")):
        spool.keep("w", succeeded(lease), session)
    reporter = start_reporter(spool=spool, session=Session())
    reporter.report(succeeded(4))
    await until(lambda: len(fake_master.results()) == 3, "the reports")
    by_lease = {
        each.json["results"][0]["lease"]: each.headers.get("x-dte-session")
        for each in fake_master.server.requests
    }
    assert by_lease == {1: "FIRST", 2: "SECOND", 3: None}


async def test_the_spool_keeps_the_session_of_a_result(
    fake_master: FakeMaster, start_reporter: StartReporter, tmp_path: Path
) -> None:
    session, spool = Session(), Spool(tmp_path, NEVER_S)
    session.replied("S")
    fake_master.replies["/result"] = (503, {})
    start_reporter(spool=spool, session=session).report(succeeded(7))
    await until(spool.read, "the result is kept")
    ((spooled, _),) = spool.read()
    assert spooled.session == "S"
    assert "'S'" not in repr(spooled)
