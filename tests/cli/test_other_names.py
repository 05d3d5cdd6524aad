"""Settings under the names that a queue's `.env` gives them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dte.cli import other_names
from dte.cli.other_names import SWITCH
from dte.master.settings import Settings
from dte.worker.server import WorkerSettings

from .conftest import Dte, check_refused

FOR_THEM = {SWITCH: "1"}
"""Set by the scripts of the queue."""
OF_THE_MASTER = {
    "DISPATCHER_HOST": "127.0.0.1",
    "DISPATCHER_PORT": "5005",
    "DEFAULT_MAX_ATTEMPTS": "7",
    "DEFAULT_LEASE_DURATION": "100",
    "WORKER_DEATH_TIMEOUT": "2",
    "LOG_LEVEL": "CRITICAL",
}


def test_a_master_takes_them(dte: Dte, served: list[Settings]) -> None:
    result = dte("master", **FOR_THEM, **OF_THE_MASTER)
    assert result.exit_code == 0, result.output
    (settings,) = served
    assert (settings.host, settings.port) == ("127.0.0.1", 5005)
    assert settings.queue_attempts_max == 7
    assert (settings.queue_lease_s, settings.queue_dead_after_s) == (100.0, 2.0)


def test_a_name_of_its_own_comes_first(dte: Dte, served: list[Settings]) -> None:
    dte("master", **FOR_THEM, **OF_THE_MASTER, DTE_MASTER_PORT="5006", DTE_QUEUE_LEASE_S="5")
    assert (served[0].port, served[0].queue_lease_s) == (5006, 5.0)


def test_a_worker_takes_them(dte: Dte, served: list[WorkerSettings]) -> None:
    url = "http://127.0.0.1:5005"
    names = {"WORKER_DISPATCHER_URL": url, "WORKER_ID": "worker-1"}
    dte("worker", WORKER_HEARTBEAT_INTERVAL="1", **FOR_THEM, **names)
    (settings,) = served
    assert (settings.master_url, settings.name, settings.heartbeat_s) == (url, "worker-1", 1.0)


def test_the_name_that_stands_for_any_is_none(dte: Dte, served: list[WorkerSettings]) -> None:
    dte("worker", WORKER_ID="worker_auto", **FOR_THEM)
    assert served[0].name == ""


def test_heartbeats_are_never_rarer_than_a_master_expects(
    dte: Dte, served: list[WorkerSettings]
) -> None:
    dte("worker", WORKER_HEARTBEAT_INTERVAL="30", **FOR_THEM)
    dte("worker", "--heartbeat-s", "30", WORKER_HEARTBEAT_INTERVAL="1", **FOR_THEM)
    assert [settings.heartbeat_s for settings in served] == [5.0, 30.0]


def test_a_worker_takes_the_names_of_settings_of_its_spool(
    dte: Dte, served: list[WorkerSettings]
) -> None:
    cache = {"CACHE_DIR": "cache", "CACHE_RETRY_INTERVAL": "10", "CACHE_TTL_SECONDS": "60"}
    dte("worker", **FOR_THEM, **cache)
    dte("worker", "--spool", "mine", **FOR_THEM, **cache)
    assert [each.spool for each in served] == ["cache", "mine"]
    assert (served[0].spool_retry_s, served[0].spool_ttl_s) == (10.0, 60.0)


@pytest.mark.parametrize(
    "name", ["WORKER_HEARTBEAT_INTERVAL", "CACHE_RETRY_INTERVAL", "CACHE_TTL_SECONDS"]
)
@pytest.mark.parametrize("text", ["soon", "0", "-1", "nan", "inf"])
def test_a_time_that_is_none_is_refused_by_its_name(dte: Dte, name: str, text: str) -> None:
    check_refused(dte("worker", **FOR_THEM, **{name: text}), 2, name, repr(text))


def test_what_is_no_number_is_refused(dte: Dte) -> None:
    check_refused(dte("master", DEFAULT_LEASE_DURATION="long", **FOR_THEM), 2, "'long'")


def test_the_settings_of_other_programs_are_not_taken(
    dte: Dte, served: list[Settings | WorkerSettings]
) -> None:
    """Their `.env` may be in the current folder."""
    names = dict.fromkeys((*other_names.MASTER, *other_names.WORKER), "trace")
    for command in ("master", "worker"):
        result = dte(command, WORKER_HEARTBEAT_INTERVAL="often", **names)
        assert (result.exit_code, result.output) == (0, "")
    assert served[1] == WorkerSettings()
    assert served[0] == replace(Settings(), journal="dte.db")
