"""The file `.env`: it sets what dte knows, and nothing that changes the code that is loaded."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from dte.cli import options
from dte.cli.main import main
from dte.cli.settings_file import is_known, load_settings

from .conftest import DteProcess

HOSTILE = (
    *("PYTHONPATH", "PYTHONSTARTUP", "PYTHONHOME", "PYTHONWARNINGS", "PYTHONSAFEPATH"),
    *("LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "DYLD_INSERT_LIBRARIES", "PATH"),
    *("SSL_CERT_FILE", "OPENSSL_CONF", "GCONV_PATH", "TMPDIR", "HOME", "http_proxy"),
    *("DTE_SAVED_PYTHONPATH", "dte_master", "MYDTE_MASTER", ""),
)
HANDLERS = """
import os
import dte

@dte.handler("seen")
def seen():
    others = [name for name in ("DATABASE", "LD_PRELOAD", "PYTHONPATH") if name in os.environ]
    return 1000 * len(others) + int(os.environ["PRIMES_MAX_LIMIT"])

@dte.handler("hidden")
def hidden():
    import planted
    return 1
"""


def variables(command: click.Command) -> set[str]:
    found = set()
    for param in command.params:
        names = [param.envvar] if isinstance(param.envvar, str) else param.envvar or []
        found.update(names)
        if isinstance(param, options.RenamedOption):
            found.add(param._old_variable)
    for each in getattr(command, "commands", {}).values():
        found |= variables(each)
    return found


def test_every_variable_of_an_option_is_known() -> None:
    names = variables(main)
    assert "DTE_MASTER" in names
    assert "DTE_NOTIFY_SECRET" in names
    assert [name for name in names if not is_known(name)] == []


@pytest.mark.parametrize("name", HOSTILE)
def test_what_changes_other_programs_is_not_known(name: str) -> None:
    assert not is_known(name)


def test_nothing_else_is_set_and_the_environment_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("DTE_MASTER", "PRIMES_MAX_LIMIT", "WORKER_ID", "DTE_SLOTS", "DTE_PORT")
    for name in names:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DTE_PORT", "7")
    before = dict(os.environ)
    lines = [f"{name}=from-the-file" for name in (*names, *HOSTILE) if name]
    (tmp_path / ".env").write_text("\n".join([*lines, "DTE_JSON", "DTE_ZERO=a\0b", "ONE-TWO=3"]))
    monkeypatch.chdir(tmp_path)
    try:
        load_settings()
        set_now = {name for name, value in os.environ.items() if before.get(name) != value}
    finally:
        for name in set(os.environ) - before.keys():
            del os.environ[name]
    assert set_now == {"DTE_MASTER", "PRIMES_MAX_LIMIT", "WORKER_ID", "DTE_SLOTS"}


@pytest.mark.parametrize("command", ["--version", "jobs", "run"])
def test_one_warning_names_what_may_surprise(
    command: str, dte_process: DteProcess, tmp_path: Path
) -> None:
    lines = ["DATABASE=x", "PYTHONPATH=lib", "LD_PRELOAD=./evil.so", "DTE_TIMEOUT=0.1"]
    (tmp_path / ".env").write_text("\n".join(lines))
    arguments = (command, "--help") if command != "--version" else (command,)
    result = dte_process(*arguments)
    assert result.returncode == 0
    (line,) = result.stderr.splitlines()
    ignored = "DATABASE, PYTHONPATH, LD_PRELOAD" if command == "run" else "PYTHONPATH, LD_PRELOAD"
    assert f"{tmp_path / '.env'} sets only what dte knows, so these are ignored: {ignored};" in line


def test_variables_of_other_programs_are_none_of_a_clients_business(
    dte_process: DteProcess, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("DATABASE=x\nSECRET_KEY=y\n")
    assert dte_process("--version").stderr == ""


def test_a_name_in_the_file_cannot_command_the_terminal(
    dte_process: DteProcess, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("'PYTHON\x1b]0;t\x07\u202e'=1\n" * 3 + "LD_PRELOAD=1\n" * 9)
    result = dte_process("--version")
    assert "\x1b" not in result.stderr
    assert "\u202e" not in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_workers_of_run_see_what_is_known_and_the_warning_comes_once(
    dte_process: DteProcess, tmp_path: Path
) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "planted.py").write_text("")
    (tmp_path / "mine.py").write_text(HANDLERS)
    lines = ["DATABASE=x", "PYTHONPATH=lib", "LD_PRELOAD=", "PRIMES_MAX_LIMIT=9"]
    (tmp_path / ".env").write_text("\n".join(lines))
    run = ("run", "--workers", "2", "--handlers", "mine", "--json")
    result = dte_process(*run, "seen()")
    assert '"answer":9,' in result.stdout, result.stderr
    assert result.stderr.count("are ignored: DATABASE, PYTHONPATH, LD_PRELOAD;") == 1
    result = dte_process(*run, "hidden()")
    assert "ModuleNotFoundError" in result.stdout


def test_no_file_and_a_folder_of_its_name_are_no_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    load_settings()
    (tmp_path / ".env").mkdir()
    load_settings()
    assert capsys.readouterr().err == ""
