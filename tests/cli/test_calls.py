"""`dte call` and `dte graph`, on real masters: what they print, and how they exit."""

from __future__ import annotations

import json
import shlex
import signal
from pathlib import Path

import click
import pytest
from harness.master_thread import MasterThread
from harness.processes import Processes, until

import dte as package
from dte.cli import calls, output
from dte.cli.calls import read_value
from dte.master import plans

from .conftest import Dte, check_refused

GRAPH = {
    "graph": {
        "a": {"handler": "primes", "args": {"limit": 12}},
        "b": {"handler": "echo", "args": [{"ref": "a"}], "retries": 2},
    },
    "answer": "b",
}


# dte call


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (("fibonacci", "100"), "354224848179261915075"),
        (("primes", "--arg", "limit=12", "--arg", "method=sieve"), "[2,3,5,7,11]"),
        (("echo", "hello"), '"hello"'),
        (("echo", '"7"'), '"7"'),
        (("echo", "-5"), "-5"),
        (("echo", "null"), "null"),
        (("echo", '{"a": [1, 2.5, true]}'), '{"a":[1,2.5,true]}'),
        (("echo", "2.50"), "2.5"),
        (("echo", "--arg", "value=a=b"), '"a=b"'),
        (("echo", "\x1b[31mé"), '"\\u001b[31mé"'),
        (("echo", "\u202e\x9b"), '"\\u202e\\u009b"'),
    ],
)
def test_call_prints_the_result_as_json(ask: Dte, arguments: tuple[str, ...], printed: str) -> None:
    result = ask("call", *arguments)
    assert (result.stdout, result.stderr, result.exit_code) == (f"{printed}\n", "", 0)


def test_call_prints_results_of_any_length(ask: Dte) -> None:
    printed = ask("call", "fibonacci", "30000").stdout
    assert (len(printed), printed[:5], printed[-4:]) == (6271, "19042", "000\n")
    job = json.loads(ask("call", "fibonacci", "30000", "--json").stdout, parse_int=str)
    assert job["answer"] == printed.strip()


@pytest.mark.parametrize("text", ["01", "1e999", "NaN", "}", "tru", "", "a b", "'a'"])
def test_what_does_not_begin_like_json_is_a_text(text: str) -> None:
    assert read_value(text) == text


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('{"a":', "the JSON ends too soon (line 1, column 6)"),
        (" [1, 2", "the JSON ends too soon (line 1, column 7)"),
        ("{'a': 1}", "the JSON has ' where a name in double quotes should be (line 1, column 2)"),
        ('"abc', "the JSON has a text without its closing quote (line 1, column 1)"),
        ("[NaN]", "NaN is not a finite number"),
        ('{"a": 1, "a": 2}', '"a" is given twice'),
        ('[{"b": {"a": 1, "\\u0061": 2}}]', '"a" is given twice in [0].b'),
    ],
)
def test_an_argument_that_begins_like_json_and_is_none_is_refused(text: str, fault: str) -> None:
    with pytest.raises(click.UsageError) as error:
        read_value(text)
    assert fault in error.value.message


def test_the_error_says_how_to_send_broken_json_as_a_text(ask: Dte) -> None:
    refused = ask("call", "echo", "{it's")
    check_refused(refused, 2)
    (again,) = shlex.split(refused.stderr.strip().rpartition("as a text: ")[2])
    assert ask("call", "echo", again).stdout == '"{it\'s"\n'


def test_an_option_that_is_given_twice_is_refused(ask: Dte) -> None:
    refused = ask("call", "echo", "1", "--priority", "1", "--priority=2")
    check_refused(refused, 2)
    assert "--priority is given 2 times; give it once" in refused.stderr


def test_call_of_what_fails_exits_with_1_and_says_why_and_what_to_do(ask: Dte) -> None:
    result = ask("call", "fibonacci", "-1")
    check_refused(result, 1)
    lines = result.stderr.splitlines()
    assert lines[0].startswith("dte: job ")
    assert " failed: ValueError: n must be 0 or more" in lines[0]
    assert "dte nodes " in lines[-2]
    assert "dte retry " in lines[-1]


@pytest.mark.parametrize(
    "arguments", [("1", "2"), (), ("--arg", "x=1"), ("--arg", "valu=1")], ids=str
)
def test_a_retry_is_not_advised_for_arguments_that_do_not_fit(
    ask: Dte, arguments: tuple[str, ...]
) -> None:
    result = ask("call", "echo", *arguments)
    check_refused(result, 1, " failed: echo", "dte nodes ", lines=2)
    assert "dte retry" not in result.stderr


def test_the_json_of_a_job_that_is_not_waited_for_is_its_status(ask_idle: Dte) -> None:
    for command in (("call", "echo", "1"), ("submit", "1+2")):
        told = json.loads(ask_idle(*command, "--no-wait", "--json").stdout)
        assert (told["finished"], told["operations"]) == (False, 1)
        assert told["submitted_at"] is not None


def test_the_help_shows_the_bounds_of_a_priority(dte: Dte) -> None:
    assert calls.PRIORITY_MAX == plans.PRIORITY_MAX
    words = dte("call", "--help").stdout.partition("--priority")[2].partition("--call-timeout")[0]
    assert "None" not in words
    assert str(-calls.PRIORITY_MAX) in words
    assert "must be from -1,000,000" in dte("call", "echo", "--priority", "1000001").stderr


def test_call_says_that_it_took_too_long(ask: Dte) -> None:
    result = ask("call", "sleep", "20", "--call-timeout", "0.1")
    assert result.exit_code == 1
    assert " timed out: " in result.stderr
    told = ask("call", "sleep", "20", "--call-timeout", "0.1", "--json")
    assert (json.loads(told.stdout)["state"], told.stderr, told.exit_code) == ("timed_out", "", 1)


def test_call_without_waiting_prints_the_job(ask_idle: Dte) -> None:
    assert ask_idle("call", "echo", "1", "--no-wait").stdout == "job 1\n"
    assert (
        ask_idle("call", "echo", "1", "--no-wait", "--key", "a", "--priority", "5").exit_code == 0
    )
    again = ask_idle("call", "echo", "1", "--no-wait", "--key", "a", "--priority", "5", "--json")
    assert json.loads(again.stdout)["job_id"] == 2
    assert json.loads(ask_idle("job", "2", "--json").stdout)["priority"] == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("echo", "--arg", "value"), "NAME=JSON"),
        (("echo", "--arg", "=1"), "NAME=JSON"),
        (("echo", "--arg", "a=1", "--arg", "a=2"), "given twice"),
        (
            ("echo", "--value", "1"),
            "no such option: --value; to pass a named argument: --arg value=JSON",
        ),
        (("echo", "--retrys", "1"), "no such option: --retrys; did you mean --retries?"),
        (("echo", "1", "--retries", "-1"), "--retries"),
        (("echo", "1", "--notify", "ftp://x"), "notify"),
        (("echo", "1", "--after", "77"), "77"),
        ((), "HANDLER"),
    ],
)
def test_call_refuses_what_makes_no_sense(ask: Dte, arguments: tuple[str, ...], words: str) -> None:
    check_refused(ask("call", *arguments), 2, words)


def test_call_that_takes_too_long_to_wait_for_exits_with_4_and_goes_on(ask_idle: Dte) -> None:
    result = ask_idle("call", "echo", "1", "--timeout", "0.05")
    assert result.exit_code == 4
    assert "; it continues\nto see it: dte job 1" in result.stderr


def test_ctrl_c_while_a_call_is_waited_for_says_how_to_go_on(
    processes: Processes, idle_master: MasterThread, idle_client: package.Client
) -> None:
    waiting = processes.start("call", "echo", "1", DTE_MASTER=idle_master.url)
    until(lambda: len(idle_master._server.master.waiters), "it waits for its job")
    assert waiting.end(signal.SIGINT) == 130
    assert not idle_client.job(1).finished
    assert f"dte job 1 --wait --master {idle_master.url}" in waiting.output
    assert f"dte cancel 1 --master {idle_master.url}" in waiting.output
    assert "Traceback" not in waiting.output


def test_a_call_that_no_worker_can_do_says_so_after_two_seconds(
    ask_idle: Dte, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "UNWATCHED_S", 0.01)
    result = ask_idle("call", "frobnicate", "1", "--timeout", "0.1")
    assert "job 1 waits: call: " in result.stderr
    assert "'frobnicate'" in result.stderr
    assert "dte worker --handlers MODULE --master http://127.0.0.1" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("submit", "fibonaci(5)+1"),
        ("call", "fibonaci", "5"),
        ("graph", "-"),
        ("job", "1", "--wait"),
    ],
    ids=lambda command: command[0],
)
def test_every_command_that_waits_says_that_no_worker_has_a_handler(
    ask: Dte, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setattr(output, "UNWATCHED_S", 0.01)
    if command[0] == "job":
        job = ask("submit", "fibonaci(5)+1", "--no-wait").stdout.split()[1].rstrip(":")
        command = ("job", job, "--wait")
    result = ask(*command, "--timeout", "0.3", stdin='{"handler": "fibonaci", "args": [5]}')
    assert result.exit_code == 4
    reason = "no connected worker has the handler 'fibonaci'; did you mean 'fibonacci'?"
    assert f": {reason}\nto start one: dte worker --handlers MODULE --master" in result.stderr


def test_events_of_a_job_that_waits_are_followed_by_the_reason(
    processes: Processes, idle_master: MasterThread, idle_client: package.Client
) -> None:
    job = idle_client.submit("foo(1)")
    watching = processes.start("events", str(job.id), DTE_MASTER=idle_master.url)
    until(lambda: "has the handler 'foo'" in watching.output, "it says why nothing happens")
    watching.kill()


# dte graph


def test_graph_prints_its_answer_from_a_file_or_stdin(ask: Dte, tmp_path: Path) -> None:
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(GRAPH))
    assert ask("graph", str(file)).stdout == "[2,3,5,7,11]\n"
    told = json.loads(ask("graph", "-", "--json", stdin=json.dumps(GRAPH)).stdout)
    assert (told["answer"], told["operations"]) == ([2, 3, 5, 7, 11], 2)


def test_graph_takes_a_file_with_the_mark_that_editors_write_before_utf8(
    ask: Dte, tmp_path: Path
) -> None:
    file = tmp_path / "graph.json"
    file.write_text(json.dumps(GRAPH), encoding="utf-8-sig")
    assert ask("graph", str(file)).stdout == "[2,3,5,7,11]\n"


def test_graph_takes_a_formula_that_calls_handlers(ask: Dte) -> None:
    assert ask("graph", "-", stdin='{"formula": "fibonacci(30) + 2*3"}').stdout == "832046\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"graph":', "stdin is not JSON: the JSON ends too soon (line 1, column 10)"),
        ('{"graph": {"a": {}, "a": {}}}', 'stdin: "a" is given twice in graph'),
        ("[]", 'stdin has no "graph"'),
        ("{}", "dte graph --help"),
        ('{"jobs": [{"handler": "echo"}]}', 'stdin has "jobs"; dte graph submits one job'),
        ('{"handler": "echo", "jobs": 1}', 'stdin has "jobs"; dte graph submits one job'),
        ('{"graph": {"a": {"handler": "echo", "args": [{"ref": "b"}]}}}', "'b'"),
        ('{"graph": {"a": {"handler": "echo"}}, "colour": "red"}', "colour"),
    ],
)
def test_graph_refuses_what_is_none_and_says_why(ask: Dte, text: str, words: str) -> None:
    check_refused(ask("graph", "-", stdin=text), 2, words)


def test_graph_of_a_file_that_is_not_there_is_named(ask: Dte) -> None:
    result = ask("graph", "nowhere.json")
    assert result.exit_code == 2
    assert "nowhere.json" in result.stderr
