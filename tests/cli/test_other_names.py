"""Settings under the names that a queue's `.env` gives them."""

from __future__ import annotations

from dte.master.settings import Settings
from dte.worker.server import WorkerSettings

from .conftest import Dte

OF_THE_MASTER = {
    "DISPATCHER_HOST": "127.0.0.1",
    "DISPATCHER_PORT": "5005",
    "DEFAULT_MAX_ATTEMPTS": "7",
    "DEFAULT_LEASE_DURATION": "100",
    "WORKER_DEATH_TIMEOUT": "2",
    "LOG_LEVEL": "CRITICAL",
}


def test_a_master_takes_them(dte: Dte, served: list[Settings]) -> None:
    result = dte("master", **OF_THE_MASTER)
    assert result.exit_code == 0, result.output
    (settings,) = served
    assert (settings.host, settings.port) == ("127.0.0.1", 5005)
    assert settings.queue_attempts_max == 7
    assert (settings.queue_lease_s, settings.queue_dead_after_s) == (100.0, 2.0)


def test_a_name_of_its_own_comes_first(dte: Dte, served: list[Settings]) -> None:
    dte("master", **OF_THE_MASTER, DTE_MASTER_PORT="5006", DTE_QUEUE_LEASE_S="5")
    assert (served[0].port, served[0].queue_lease_s) == (5006, 5.0)


def test_a_worker_takes_them(dte: Dte, served: list[WorkerSettings]) -> None:
    url = "http://127.0.0.1:5005"
    dte("worker", WORKER_DISPATCHER_URL=url, WORKER_ID="worker-1", WORKER_HEARTBEAT_INTERVAL="1")
    (settings,) = served
    assert (settings.master_url, settings.name, settings.heartbeat_s) == (url, "worker-1", 1.0)


def test_the_name_that_stands_for_any_is_none(dte: Dte, served: list[WorkerSettings]) -> None:
    dte("worker", WORKER_ID="worker_auto")
    assert served[0].name == ""


def test_heartbeats_are_never_rarer_than_a_master_expects(
    dte: Dte, served: list[WorkerSettings]
) -> None:
    dte("worker", WORKER_HEARTBEAT_INTERVAL="30")
    dte("worker", "--heartbeat-s", "30")
    assert [settings.heartbeat_s for settings in served] == [5.0, 30.0]


def test_what_is_no_number_is_refused_by_its_name(dte: Dte) -> None:
    assert "WORKER_HEARTBEAT_INTERVAL" in dte("worker", WORKER_HEARTBEAT_INTERVAL="often").stderr
    assert dte("master", DEFAULT_LEASE_DURATION="long").exit_code == 2
