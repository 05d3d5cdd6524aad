"""Commands for a master behind a proxy, with TLS, a path prefix, and tokens."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.certificates import Authority, Pair, serving
from harness.front import Front
from harness.master_thread import MasterThread

from .conftest import Dte, DteProcess, check_refused

TOKEN = "dte_c_" + "a" * 43
PREFIX = "/team/dte"


@pytest.fixture
def front(master: MasterThread, server_pair: Pair) -> Iterator[Front]:
    """A proxy with TLS, a prefix, and a token."""
    with Front(master.port, PREFIX, serving(server_pair), TOKEN) as running:
        yield running


@pytest.fixture
def token_file(tmp_path: Path) -> str:
    path = tmp_path / "my token"
    path.touch(0o600)
    path.write_text(f"{TOKEN}\n")
    return str(path)


@pytest.mark.parametrize(
    "command",
    [
        ("submit", "1+2"),
        ("jobs",),
        ("workers",),
        ("call", "echo", "1"),
        ("submit", "--no-wait", "1"),
    ],
)
def test_a_command_gets_through_by_its_options_or_by_its_environment(
    dte: Dte, front: Front, authority: Authority, token_file: str, command: tuple[str, ...]
) -> None:
    where = ("--master", front.url, "--tls-ca", authority.file)
    assert dte(*command, *where, "--token-file", token_file).exit_code == 0
    settings = {"DTE_MASTER": front.url, "DTE_TLS_CA": authority.file}
    assert dte(*command, **settings, DTE_TOKEN=TOKEN).exit_code == 0
    assert dte(*command, **settings, DTE_TOKEN_FILE=token_file).exit_code == 0


def test_a_typed_file_wins_over_the_variable(
    dte: Dte, master: MasterThread, token_file: str
) -> None:
    with Front(master.port, token=TOKEN) as front:
        asked = ("jobs", "--master", front.url)
        assert dte(*asked, "--token-file", token_file, DTE_TOKEN="dte_c_other").exit_code == 0
        assert dte(*asked, DTE_TOKEN_FILE=token_file, DTE_TOKEN="dte_c_other").exit_code == 3


def test_a_command_line_has_no_place_for_a_token(dte: Dte) -> None:
    check_refused(dte("jobs", "--token", TOKEN), 2, "--token")


@pytest.mark.parametrize("token", ["", "dte_c_other"])
@pytest.mark.parametrize("command", [("submit", "1+2"), ("jobs",), ("events",), ("job", "1")])
def test_a_missing_or_a_wrong_token_exits_with_3_and_says_where_it_comes_from(
    dte: Dte, master: MasterThread, command: tuple[str, ...], token: str
) -> None:
    with Front(master.port, token=TOKEN) as front:
        refused = dte(*command, "--master", front.url, DTE_TOKEN=token)
    words = ("this token is not known", "DTE_TOKEN", "--token-file", "dte token new client NAME")
    check_refused(refused, 3, *words)
    assert TOKEN not in refused.output


def test_the_next_step_after_a_refused_token_is_said_once(dte: Dte, master: MasterThread) -> None:
    with Front(master.port, token=TOKEN) as front:
        for command in (("jobs",), ("events",)):
            refused = dte(*command, "--master", front.url, DTE_TOKEN="of_others")
            assert refused.stderr.count("dte token new client NAME") == 1
            assert "does not begin with dte_" in refused.stderr
            assert "of_others" not in refused.output


def test_a_token_in_the_place_of_a_file_is_not_printed(dte: Dte, master: MasterThread) -> None:
    asked = ("jobs", "--master", master.url)
    check_refused(dte(*asked, "--token-file", TOKEN), 2, "use DTE_TOKEN", lines=1)
    refused = dte(*asked, DTE_TOKEN_FILE=TOKEN)
    expected = "DTE_TOKEN_FILE has a token, not a file's name; use DTE_TOKEN"
    check_refused(refused, 2, expected, lines=1)
    assert TOKEN not in refused.output


def test_a_backup_says_so_too(dte: Dte, master: MasterThread, tmp_path: Path) -> None:
    with Front(master.port, token=TOKEN) as front:
        refused = dte("backup", str(tmp_path / "copy"), "--master", front.url)
    check_refused(refused, 3, "this token is not known", "DTE_TOKEN")


def test_files_that_cannot_be_used_are_named(
    dte: Dte, front: Front, authority: Authority, server_pair: Pair, tmp_path: Path
) -> None:
    where = ("--master", front.url, "--tls-ca", authority.file)
    missing = str(tmp_path / "missing")
    for command in (("jobs",), ("backup", str(tmp_path / "copy"))):
        for options, code, expected in (
            (("--token-file", missing), 2, f"cannot read the token in {missing}"),
            (("--tls-ca", missing), 2, f"cannot read {missing}"),
            (("--tls-cert", server_pair.cert), 2, "no certificate and key"),
        ):
            given = where[:2] if options[0] == "--tls-ca" else where
            check_refused(dte(*command, *given, *options), code, expected)
    refused = dte("jobs", *where, DTE_TOKEN="two words")
    check_refused(refused, 2, "DTE_TOKEN has characters that no token has")
    assert "two words" not in refused.output


def test_faults_of_tls_exit_with_3_and_the_next_step_alone(
    dte: Dte, front: Front, tmp_path: Path
) -> None:
    for command in (("jobs",), ("submit", "1+2"), ("events",), ("backup", str(tmp_path / "copy"))):
        refused = dte(*command, "--master", front.url, DTE_TOKEN=TOKEN)
        check_refused(refused, 3, "authority that this machine does not trust", "--tls-ca", lines=1)


def test_what_is_printed_to_go_on_keeps_the_prefix_and_the_files(
    dte: Dte, idle_master: MasterThread, server_pair: Pair, authority: Authority, token_file: str
) -> None:
    with Front(idle_master.port, PREFIX, serving(server_pair), TOKEN) as front:
        where = ("--master", front.url, "--tls-ca", authority.file, "--token-file", token_file)
        waited = dte("submit", "1+2", "--timeout", "0.1", *where)
        listed = dte("workers", *where)
    more = f"--master {front.url} --tls-ca {authority.file} --token-file '{token_file}'"
    assert waited.exit_code == 4
    assert f"dte job 1 {more}" in " ".join(waited.stderr.replace(" --wait", "").split()).replace(
        f"--token-file '{token_file}' --tls-ca {authority.file}",
        f"--tls-ca {authority.file} --token-file '{token_file}'",
    )
    # A worker needs a token of its own.
    assert f"dte worker --master {front.url} --tls-ca {authority.file}\n" in listed.stderr


def test_a_token_in_clear_is_warned_of_once(dte_process: DteProcess) -> None:
    asked = dte_process(
        *("submit", "1+2", "--timeout", "0", "--master", "http://dte.invalid"), DTE_TOKEN=TOKEN
    )
    assert asked.returncode == 3
    assert asked.stderr.count("without TLS") == 1
    assert TOKEN not in asked.stderr


def test_a_file_that_others_may_read_is_warned_of_once(
    dte_process: DteProcess, master: MasterThread, token_file: str
) -> None:
    os.chmod(token_file, 0o644)
    asked = dte_process("jobs", DTE_MASTER=master.url, DTE_TOKEN_FILE=token_file)
    assert asked.returncode == 0
    assert asked.stderr.count(f"chmod 600 {token_file}") == 1
