"""Commands about jobs of calls: `dte nodes`, `why`, `cancel`, `retry`, `events`."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator

import pytest
from harness.master_thread import MasterThread
from harness.processes import Processes, until

import dte as package
from dte.cli.jobs import line_of

from .conftest import Dte, check_refused


@pytest.fixture
def client(master: MasterThread) -> Iterator[package.Client]:
    with package.Client(master.url) as connected:
        yield connected


def ended(client: package.Client, *call: object) -> str:
    """The id of a job that has ended."""
    job = client.submit_call(*call)  # type: ignore[arg-type]
    return str(client.wait(job, 20).id)


def test_nodes_are_a_table_with_results(ask: Dte, client: package.Client) -> None:
    result = ask("nodes", ended(client, "echo", [1, 2]))
    header, row = result.stdout.splitlines()
    assert header.split() == ["NODE", "HANDLER", "STATE", "ATTEMPTS", "WORKER", "RESULT"]
    assert row.split()[:4] == ["call", "echo", "succeeded", "1"]
    assert row.split()[-1] == "[1,2]"


def test_nodes_that_failed_say_why(ask: Dte, client: package.Client) -> None:
    number = ended(client, "echo", 1, 2)
    assert "echo takes 1 argument" in ask("nodes", number).stdout
    (node,) = json.loads(ask("nodes", number, "--json").stdout)
    assert (node["node"], node["state"], node["result"]) == ("call", "failed", None)


def test_a_formula_has_no_nodes_and_the_next_step_is_named(
    ask: Dte, client: package.Client
) -> None:
    number = str(client.wait(client.submit("1+2")).id)
    result = ask("nodes", number)
    assert (result.stdout, result.exit_code) == ("", 0)
    assert f"dte job {number}" in result.stderr


def test_why_tells_what_is_in_the_way(ask_idle: Dte) -> None:
    ask_idle("call", "frobnicate", "--no-wait")
    told = ask_idle("why", "1")
    assert told.stdout.startswith("call (ready): ")
    assert "'frobnicate'" in told.stdout
    (reason,) = json.loads(ask_idle("why", "1", "--json").stdout)["reasons"]
    assert reason["waits_for"] == "worker"


def test_why_of_a_job_that_has_ended_says_so(ask: Dte, client: package.Client) -> None:
    result = ask("why", ended(client, "echo", 1))
    assert (result.stdout, result.exit_code) == ("", 0)
    assert "is not waiting; its state is succeeded" in result.stderr


def test_cancel_and_retry_say_how_the_job_stands(ask_idle: Dte, idle_master: MasterThread) -> None:
    ask_idle("call", "echo", "1", "--no-wait")
    assert ask_idle("cancel", "1").stdout in ("job 1: cancelled\n", "job 1: cancelling\n")
    assert ask_idle("job", "1", "--wait").exit_code == 1
    assert ask_idle("cancel", "1").stdout == "job 1: cancelled\n"
    retried = ask_idle("retry", "1").stdout
    assert retried == (
        f"job 2 retries job 1; to wait for it: dte job 2 --wait --master {idle_master.url}\n"
    )
    told = json.loads(ask_idle("cancel", "2", "--json").stdout)
    assert told["job_id"] == 2


def test_a_retry_can_be_waited_for(ask: Dte, client: package.Client) -> None:
    number = ended(client, "fibonacci", -1)
    waited = ask("retry", number, "--wait", "--timeout", "60")
    assert waited.exit_code == 1
    assert f"(retry of job {number}): error: ValueError" in waited.stdout
    told = ask("retry", number, "--wait", "--json")
    assert (told.exit_code, json.loads(told.stdout)["state"]) == (1, "failed")


def test_the_wait_for_a_retry_ends_with_its_timeout(ask_idle: Dte) -> None:
    ask_idle("submit", "1+2", "--no-wait")
    assert ask_idle("cancel", "1").exit_code == 0
    result = ask_idle("retry", "1", "--wait", "--timeout", "0.1")
    check_refused(result, 4, "job 2 has not ended within 0.1 s")


def test_the_json_of_a_retry_is_the_status_of_the_new_job(ask_idle: Dte) -> None:
    ask_idle("submit", "1+2", "--no-wait")
    assert ask_idle("cancel", "1").exit_code == 0
    told = json.loads(ask_idle("retry", "1", "--json").stdout)
    assert (told["job_id"], told["retry_of"], told["operations"]) == (2, 1, 1)
    assert told["submitted_at"] is not None


@pytest.mark.parametrize("command", ["cancel", "retry"])
def test_what_has_succeeded_is_neither_cancelled_nor_retried(
    ask: Dte, client: package.Client, command: str
) -> None:
    check_refused(ask(command, ended(client, "echo", 1)), 2, "succeeded")


@pytest.mark.parametrize("command", ["nodes", "why", "cancel", "retry", "events"])
def test_a_job_that_is_not_there_exits_with_2(ask: Dte, command: str) -> None:
    check_refused(ask(command, "999999"), 2, "there is no job 999999 at ")


def test_events_of_a_job_end_with_it(ask: Dte, client: package.Client) -> None:
    number = ended(client, "echo", 1)
    told = ask("events", number)
    assert told.exit_code == 0
    assert told.stdout.splitlines()[-1].endswith(f" job {number} succeeded")
    *_, last = map(json.loads, ask("events", number, "--json").stdout.splitlines())
    assert (last["job_id"], last["state"]) == (int(number), "succeeded")
    over = ask("events", number, "--after", str(last["id"]))
    assert (over.stdout, over.stderr) == ("", f"job {number} has ended: succeeded\n")


def test_events_of_all_jobs_are_printed_until_ctrl_c(
    processes: Processes, idle_master: MasterThread, idle_client: package.Client
) -> None:
    listening = processes.start("events", DTE_MASTER=idle_master.url)

    def is_printed() -> bool:
        idle_client.submit_call("echo", 1)
        return " job " in listening.output

    until(is_printed, "an event is printed at once")
    assert listening.end(signal.SIGINT) == 130
    assert "Traceback" not in listening.output


def test_an_event_takes_a_line_and_cannot_command_a_terminal() -> None:
    event = package.Event(7, "node", 3, "failed", None, "a\nb", "\x1b[31m", 0.5)
    assert line_of(event) == "--:--:-- job 3 a b failed 50%  [31m"
    assert line_of(package.Event(kind="missed", missed=3)) == "missed 3 events"
    assert line_of(package.Event(kind="missed")) == "missed some events"
