"""The command `dte` as a whole: its help, and where settings come from."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click
import pytest
from harness.master_thread import MasterThread
from harness.wording import has

import dte as package
from dte.cli import main as module
from dte.cli.main import main

from .conftest import Dte, DteProcess

COMMANDS = [
    *("run", "master", "worker", "submit", "call", "graph", "job", "jobs"),
    *("nodes", "why", "events", "cancel", "retry", "workers", "open", "backup", "journal"),
    "token",
]
SUBMITTING = ("submit", "call", "graph")
OF_A_SUBMISSION = ("--key", "--arg", "--after")
OPTIONS = [
    pytest.param(name, option, id=f"{name} {option.opts[0]}")
    for name, command in main.commands.items()
    for option in command.params
    if isinstance(option, click.Option) and not option.hidden
]


def test_help_lists_the_commands_in_the_order_in_which_a_newcomer_needs_them(dte: Dte) -> None:
    shown = dte("--help")
    assert shown.exit_code == 0
    listed = re.findall(r"^  (\S+)  ", shown.stdout, re.MULTILINE)
    assert [word for word in listed if word in main.commands] == COMMANDS


def test_no_command_shows_the_help(dte: Dte) -> None:
    shown = dte()
    assert shown.exit_code == 2
    assert "dte run '1+(2*3)/4-5'" in shown.output


def test_the_version_is_the_packages(dte: Dte) -> None:
    assert has(dte("--version").stdout, f"dte[…]{package.__version__}\n")


def test_an_unknown_command_is_named(dte: Dte) -> None:
    result = dte("sbumit", "1+2")
    assert result.exit_code == 2
    assert "sbumit" in result.stderr


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(dte: Dte, command: str, flag: str) -> None:
    result = dte(command, flag)
    assert result.exit_code == 0
    assert f" dte {command} " in result.stdout.splitlines()[0]
    assert main.commands[command].help


@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_help_says_of_every_option_what_it_does_and_which_variable_sets_it(
    dte: Dte, command: str, option: click.Option
) -> None:
    words = " ".join(dte(command, "--help").stdout.split())
    assert option.help
    # Lines may break at spaces and at hyphens.
    assert "".join(option.help.split()) in "".join(words.split())
    if option.opts[0] in OF_A_SUBMISSION and command in SUBMITTING:
        assert option.envvar is None
        return
    assert isinstance(option.envvar, str)
    assert option.envvar.startswith("DTE_")
    assert option.envvar in re.findall(r"\w+", words)


def test_no_variable_changes_a_single_submission(dte: Dte, master: MasterThread) -> None:
    """All submissions would be one job with DTE_KEY, and wait for an old one with DTE_AFTER."""
    names = {f"DTE_{name[2:].replace('-', '_').upper()}": "7" for name in OF_A_SUBMISSION}
    result = dte("call", "echo", '"mine"', DTE_MASTER=master.url, **names)
    assert (result.exit_code, result.output) == (0, '"mine"\n')
    result = dte("submit", "1+2", "1+3", DTE_MASTER=master.url, **names)
    assert (result.exit_code, result.output) == (0, "1+2 = 3\n1+3 = 4\n")


def test_the_help_of_a_workers_name_shows_one_default(dte: Dte) -> None:
    name = dte("worker", "--help").stdout.partition("--name")[2].partition("--slots")[0]
    assert name.count("default:") == 1


@pytest.mark.parametrize("command", ["run", "submit", "master", "worker"])
def test_the_examples_in_the_help_are_commands_that_exist(dte: Dte, command: str) -> None:
    examples = [
        line.strip()
        for line in dte(command, "--help").stdout.splitlines()
        if line.strip().startswith("dte ")
    ]
    assert examples
    assert all(example.split()[1] == command for example in examples)


# Settings


def jobs_of(result: str) -> list[str]:
    return [line.split()[2] for line in result.splitlines()[1:]]


@pytest.fixture
def two_masters(master: MasterThread, idle_master: MasterThread, dte: Dte) -> tuple[str, str]:
    """The URLs of a master whose last job is 1+1, and of one whose last job is 2+2."""
    assert dte("submit", "1+1", "--no-wait", "--master", master.url).exit_code == 0
    assert dte("submit", "2+2", "--no-wait", "--master", idle_master.url).exit_code == 0
    return master.url, idle_master.url


def test_a_setting_comes_from_the_environment(dte: Dte, two_masters: tuple[str, str]) -> None:
    for url, formula in zip(two_masters, ("1+1", "2+2"), strict=True):
        assert jobs_of(dte("jobs", DTE_MASTER=url).stdout)[0] == formula


def test_an_option_wins_over_the_environment(dte: Dte, two_masters: tuple[str, str]) -> None:
    first, second = two_masters
    assert jobs_of(dte("jobs", "--master", first, DTE_MASTER=second).stdout)[0] == "1+1"


def test_a_setting_comes_from_the_file_dotenv_and_the_environment_wins_over_it(
    dte_process: DteProcess, two_masters: tuple[str, str], tmp_path: Path
) -> None:
    first, second = two_masters
    (tmp_path / ".env").write_text(f"# where the master is\nDTE_MASTER={first}\n")
    assert jobs_of(dte_process("jobs").stdout)[0] == "1+1"
    assert jobs_of(dte_process("jobs", DTE_MASTER=second).stdout)[0] == "2+2"


def test_the_entry_point_reads_dotenv_in_the_current_folder(
    two_masters: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / ".env").write_text(f"DTE_MASTER={two_masters[0]}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DTE_MASTER", "set, so that it is taken away after the test")
    monkeypatch.delenv("DTE_MASTER")
    monkeypatch.setattr(sys, "argv", ["dte", "jobs"])
    with pytest.raises(SystemExit) as left:
        module.entry()
    assert left.value.code == 0
    assert jobs_of(capsys.readouterr().out)[0] == "1+1"


def test_a_dotenv_that_is_no_text_is_an_error_that_names_the_file(
    dte_process: DteProcess, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_bytes(b"DTE_MASTER=\xff\xfe\n")
    result = dte_process("jobs")
    assert result.returncode == 2
    assert ".env" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_warning_of_a_command_looks_like_its_other_messages(
    dte_process: DteProcess, two_masters: tuple[str, str], tmp_path: Path
) -> None:
    token = tmp_path / "token\x1b[31m"
    token.write_text("dte_c_secret")
    token.chmod(0o644)
    result = dte_process("jobs", "--master", two_masters[0], DTE_TOKEN_FILE=str(token))
    assert result.stderr.startswith("dte: others may read the token in ")
    assert "\x1b" not in result.stderr
    assert "\\x1b[31m" in result.stderr


def test_a_broken_line_in_dotenv_is_named_if_it_has_a_setting_of_dte(
    dte_process: DteProcess, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("of another program\nDTE_JSON yes\n")
    result = dte_process("--version")
    assert result.returncode == 0
    file = tmp_path / ".env"
    assert result.stderr == f"dte: line 2 of {file} is ignored; write NAME=VALUE\n"
