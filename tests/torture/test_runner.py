"""The commands of the long tests, in what they have in common."""

from __future__ import annotations

import os
import signal
import sys
import time
from argparse import ArgumentTypeError
from collections.abc import Callable
from typing import Any

import pytest
from harness.processes import TESTS, Processes, until
from torture import runner


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (runner.number, "0", 0),
        (runner.number, "-1", None),
        (runner.number, "1_000", None),
        (runner.number, "9" * 13, None),
        (runner.count, "7", 7),
        (runner.count, "0", None),
        (runner.seconds, "0.5", 0.5),
        (runner.seconds, "0", None),
        (runner.seconds, "inf", None),
        (runner.seconds, "nan", None),
        (runner.seconds, "soon", None),
    ],
)
def test_options_are_numbers(read: Callable[[str], Any], text: str, value: Any) -> None:
    if value is None:
        with pytest.raises(ArgumentTypeError):
            read(text)
    else:
        assert read(text) == value


def test_help_teaches_and_names_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    options = runner.parser("dive", "Go down.\n", "  scripts/dive --json\n", "it came up")
    with pytest.raises(SystemExit) as ended:
        options.parse_args(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for words in ("scripts/dive", "Go down.", "examples:\n  scripts/dive --json", "1 it came up;"):
        assert words in shown


def test_an_unknown_scenario_is_refused_with_a_list_of_all_one_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = runner.parser("dive", "Go down.\n")
    with pytest.raises(SystemExit) as ended:
        runner.chosen(options, "nosuch", ["deep dive", "dive in a cave"])
    assert ended.value.code == 2
    first, *names = capsys.readouterr().err.splitlines()
    assert first.startswith("scripts/dive: --only nosuch: ")
    assert names == ["  deep dive", "  dive in a cave"]


def test_a_refusal_of_dte_to_start_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    options = runner.parser("dive", "Go down.\n")
    with pytest.raises(SystemExit) as ended, runner.refusing(options):
        raise AssertionError("it has ended:\ndte: the journal x cannot be opened\n")
    assert ended.value.code == 2
    assert capsys.readouterr().err == "scripts/dive: the journal x cannot be opened\n"
    with pytest.raises(AssertionError, match="broken"), runner.refusing(options):
        raise AssertionError("it has ended:\nTraceback: broken\n")


def test_what_was_done_can_be_done_again() -> None:
    assert runner.again("fuzz", "http", seed=7, input=3) == "scripts/fuzz --seed 7 --input 3 http"


def test_a_folder_is_kept_if_something_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    with runner.folder("test") as good:
        (good.path / "log").touch()
    assert not good.path.exists()
    with runner.folder("test") as bad:
        bad.keep = True
    assert str(bad.path) in capsys.readouterr().err
    bad.path.rmdir()
    with pytest.raises(OSError, match="mine"), runner.folder("test") as broken:
        raise OSError("mine")
    broken.path.rmdir()
    with pytest.raises(KeyboardInterrupt), runner.folder("test") as interrupted:
        raise KeyboardInterrupt
    assert not interrupted.path.exists()


def test_progress_is_told_after_two_seconds_and_then_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    tell = runner.Progress("test").of(1_000, "seeds")
    for now in (1.0, 2.5, 3.0, 12.0, 13.0):
        tell(round(100 * now))
    assert capsys.readouterr().err == "test: 250 of 1,000 seeds\ntest: 1,300 of 1,000 seeds\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=str)
@pytest.mark.parametrize("waits", ["wait()", "asyncio.run(wait_in_a_loop())"])
def test_a_signal_unwinds_and_is_told_by_the_exit_code(
    processes: Processes, number: signal.Signals, waits: str
) -> None:
    program = (
        "import asyncio, sys, time\n"
        "from torture import runner\n"
        "def wait():\n"
        "    print('up', flush=True)\n"
        "    time.sleep(60)\n"
        "async def wait_in_a_loop():\n"
        "    print('up', flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "def main():\n"
        "    try:\n"
        f"        {waits}\n"
        "    finally:\n"
        "        print('down', flush=True)\n"
        "sys.exit(runner.run(main))\n"
    )
    process = processes.start(program=(sys.executable, "-c", program), PYTHONPATH=str(TESTS))
    until(lambda: "up" in process.output, "it has started")
    assert process.end(number) == 128 + number
    assert process.output == f"up{os.linesep}down{os.linesep}"
