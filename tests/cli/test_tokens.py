"""The commands `dte token new`, `ls` and `rm`."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
from harness.processes import DTE

from dte.master.access.tokens import Role, TokenFile, Tokens

from .conftest import Dte, DteProcess, check_refused


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_token_alone_is_printed_and_all_else_goes_to_stderr(
    dte_process: DteProcess, folder: Path
) -> None:
    made = dte_process("token", "new", "client", "shop")
    assert made.returncode == 0
    secret = made.stdout.removesuffix("\n")
    assert secret.startswith("dte_c_")
    assert "\n" not in secret
    assert secret not in made.stderr
    assert "DTE_TOKEN" in made.stderr
    assert "refuses requests without one" in made.stderr
    found = Tokens(str(folder / "dte.tokens")).find(secret, time.time())
    assert found is not None
    assert (found.name, found.role) == ("shop", Role.CLIENT)


def test_a_token_that_cannot_be_printed_is_not_made(folder: Path) -> None:
    with open("/dev/full", "wb") as full:
        command = [*DTE, "token", "new", "client", "shop"]
        made = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert made.returncode == 3
    assert "cannot write" in made.stderr
    assert TokenFile(str(folder / "dte.tokens")).read() == ()


def test_only_the_first_token_changes_what_a_master_demands(dte: Dte) -> None:
    assert "first" in dte("token", "new", "admin", "me").stderr
    assert "first" not in dte("token", "new", "reader", "eye").stderr


def test_the_bounds_of_a_token_are_kept(dte: Dte, folder: Path) -> None:
    before = time.time()
    more = ("--jobs-waiting", "7", "--expires", "3", "--code")
    dte("token", "new", "client", "shop", "--handlers", "a,b.*", "--handlers", "c", *more)
    (token,) = TokenFile("dte.tokens").read()
    assert (token.handlers, token.jobs_waiting_max, token.code) == (("a", "b.*", "c"), 7, True)
    assert token.expires_at is not None
    assert before + 3 * 86_400 <= token.expires_at <= time.time() + 3 * 86_400


def test_the_modules_of_a_worker_are_not_taken_for_handlers_of_a_token(dte: Dte) -> None:
    dte("token", "new", "client", "shop", DTE_HANDLERS="my.module", DTE_CODE="1")
    (token,) = TokenFile("dte.tokens").read()
    assert (token.handlers, token.code) == (("*",), False)


@pytest.mark.parametrize(
    ("settings", "options", "expected"),
    [
        ({}, (), "dte.tokens"),
        ({"DTE_JOURNAL": "none"}, (), "dte.tokens"),
        ({"DTE_JOURNAL": "data/jobs.db"}, (), "data/dte.tokens"),
        ({"DTE_TOKENS": "mine", "DTE_JOURNAL": "data/jobs.db"}, (), "mine"),
        ({"DTE_TOKENS": "mine"}, ("--tokens", "data/other"), "data/other"),
    ],
)
def test_the_file_is_the_one_of_a_master_with_the_same_settings(
    dte: Dte, folder: Path, settings: dict[str, str], options: tuple[str, ...], expected: str
) -> None:
    (folder / "data").mkdir()
    assert dte("token", "new", "client", "shop", *options, **settings).exit_code == 0
    assert [str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()] == [
        expected
    ]
    assert "shop" in dte("token", "ls", *options, **settings).stdout
    assert dte("token", "rm", "shop", *options, **settings).exit_code == 0


def test_a_taken_name_is_refused_with_the_way_out(dte: Dte) -> None:
    dte("token", "new", "client", "shop", "--tokens", "my tokens")
    again = dte("token", "new", "client", "shop", "--tokens", "my tokens")
    check_refused(again, 2, "has a token named shop", "dte token rm shop --tokens 'my tokens'")


@pytest.mark.parametrize("name", ["", "a b", "x" * 101, "\x1b[1m", "a/b"])
def test_a_name_of_other_characters_is_refused(dte: Dte, folder: Path, name: str) -> None:
    check_refused(dte("token", "new", "client", name), 2, "1 to 100 letters")
    check_refused(dte("token", "rm", name), 2, "1 to 100 letters")
    assert not [*folder.iterdir()]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("boss", "me"), "client"),
        (("client",), "NAME"),
        (("client", "me", "--expires", "0"), "from 1 to 36,500"),
        (("client", "me", "--jobs-waiting", "0"), "1 or more"),
        (("reader", "me", "--handlers", "a"), "--handlers is for clients and workers"),
        (("worker", "me", "--jobs-waiting", "5"), "--jobs-waiting is for clients"),
        (("worker", "me", "--code"), "--code is for clients"),
        (("client", "me", "--tokens", "nowhere/dte.tokens"), "cannot write nowhere"),
        (("client", "me", "--tokens", "."), "cannot read ."),
    ],
)
def test_what_is_wrong_is_named(dte: Dte, options: tuple[str, ...], expected: str) -> None:
    check_refused(dte("token", "new", *options), 2, expected)


def test_the_list_has_everything_but_secrets(dte: Dte, folder: Path) -> None:
    secrets = [
        dte("token", "new", "client", "shop", "--jobs-waiting", "7", "--code").stdout.strip(),
        dte("token", "new", "worker", "gpu", "--handlers=a,b.*", "--expires", "3").stdout.strip(),
    ]
    for result in (dte("token", "ls"), dte("token", "ls", "--json")):
        assert result.exit_code == 0
        assert not any(each in result.output for each in secrets)
        assert not any(each.sha256 in result.output for each in TokenFile("dte.tokens").read())
        for expected in ("shop", "client", "7", "gpu", "worker", "b.*"):
            assert expected in result.stdout
    shop, gpu = json.loads(dte("token", "ls", "--json").stdout)
    assert (shop["expires_at"], shop["code"], shop["expired"]) == (None, True, False)
    assert gpu["handlers"] == ["a", "b.*"]
    assert gpu["expires_at"].endswith("Z")


def test_the_list_says_which_tokens_have_expired(dte: Dte) -> None:
    TokenFile("dte.tokens").new(Role.CLIENT, "old", expires_at=time.time() - 1)
    assert "expired" in dte("token", "ls").stdout
    assert json.loads(dte("token", "ls", "--json").stdout)[0]["expired"] is True


def test_an_empty_list_says_how_to_make_a_token(dte: Dte, folder: Path) -> None:
    listed = dte("token", "ls")
    assert (listed.exit_code, listed.stdout) == (0, "")
    assert "dte token new client NAME" in listed.stderr
    assert json.loads(dte("token", "ls", "--json").stdout) == []
    assert not [*folder.iterdir()]


def test_a_removed_token_is_gone_and_the_last_one_is_pointed_out(dte: Dte) -> None:
    dte("token", "new", "client", "a")
    dte("token", "new", "client", "b")
    assert "last" not in dte("token", "rm", "a").stderr
    assert [each.name for each in TokenFile("dte.tokens").read()] == ["b"]
    check_refused(dte("token", "rm", "a"), 2, "no token named a", "dte token ls")
    assert "last" in dte("token", "rm", "b").stderr


@pytest.mark.parametrize("command", [("new", "client", "b"), ("ls",), ("rm", "a")])
def test_a_file_that_others_may_open_is_refused_with_the_way_out(
    dte: Dte, folder: Path, command: tuple[str, ...]
) -> None:
    dte("token", "new", "client", "a")
    (folder / "dte.tokens").chmod(0o644)
    check_refused(dte("token", *command), 2, "chmod 600 dte.tokens")


@pytest.mark.parametrize("empty", ["", " ", ","])
def test_an_empty_list_of_handlers_allows_not_all(dte: Dte, tmp_path: Path, empty: str) -> None:
    file = tmp_path / "dte.tokens"
    result = dte("token", "new", "client", "shop", "--handlers", empty, "--tokens", str(file))
    assert result.exit_code == 2
    assert "leave it out to allow all handlers" in result.stderr
    assert not file.exists()


def test_a_token_goes_into_a_file_for_its_owner_alone(dte: Dte, folder: Path) -> None:
    made = dte("token", "new", "client", "shop", "--to", "my shop.token")
    assert (made.exit_code, made.stdout) == (0, "")
    assert "--token-file 'my shop.token'" in made.stderr
    written = folder / "my shop.token"
    assert written.stat().st_mode & 0o777 == 0o600
    secret = written.read_text().strip()
    assert secret not in made.stderr
    assert Tokens("dte.tokens").find(secret, time.time()) is not None


def test_a_file_with_a_token_stays_when_the_same_is_asked_for_again(dte: Dte, folder: Path) -> None:
    command = ("token", "new", "client", "shop", "--to", "shop.token")
    dte(*command)
    before = (folder / "shop.token").read_text()
    check_refused(dte(*command), 2, "shop.token exists already", "--to", lines=1)
    assert (folder / "shop.token").read_text() == before
    other = ("token", "new", "client", "other", "--to", "shop.token")
    check_refused(dte(*other), 2, "shop.token exists already")
    assert [each.name for each in TokenFile("dte.tokens").read()] == ["shop"]


def test_no_file_stays_of_a_token_that_was_not_made(dte: Dte, folder: Path) -> None:
    dte("token", "new", "client", "shop")
    taken = dte("token", "new", "client", "shop", "--to", "shop.token")
    check_refused(taken, 2, "has a token named shop")
    assert not (folder / "shop.token").exists()
    nowhere = dte("token", "new", "client", "other", "--to", "nowhere/other.token")
    check_refused(nowhere, 2, "cannot write nowhere/other.token")
    assert [each.name for each in TokenFile("dte.tokens").read()] == ["shop"]


def test_the_first_token_names_the_whole_path_of_its_file(dte: Dte, folder: Path) -> None:
    (folder / "data").mkdir()
    made = dte("token", "new", "client", "shop", DTE_JOURNAL="data/jobs.db")
    assert f"a master with {folder}/data/dte.tokens" in made.stderr


def test_the_help_does_not_name_what_does_nothing_yet(dte: Dte) -> None:
    assert "--code" not in dte("token", "new", "--help").stdout
