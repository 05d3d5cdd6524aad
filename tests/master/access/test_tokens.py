"""Tokens: the file that keeps them without their secrets, and a master's view of it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dte.master.access.tokens import (
    LOOK_EVERY_S,
    NameTaken,
    NoSuchToken,
    Role,
    Token,
    TokenFile,
    Tokens,
    TokensRefused,
    file_beside,
)

SHA256 = hashlib.sha256(b"secret").hexdigest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dte.tokens"


@pytest.fixture(autouse=True)
def careless() -> Iterator[None]:
    """New files may be opened by everybody, unless a program says otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def written(path: Path, text: str) -> TokenFile:
    path.write_text(text, "utf-8")
    path.chmod(0o600)
    return TokenFile(str(path))


def line(**changes: object) -> str:
    return json.dumps({"name": "shop", "role": "client", "sha256": SHA256} | changes) + "\n"


def refusal(file: TokenFile) -> str:
    with pytest.raises(TokensRefused) as raised:
        file.read()
    return str(raised.value)


# The file


@pytest.mark.parametrize("role", Role)
def test_a_secret_names_its_role_and_is_long_enough(path: Path, role: Role) -> None:
    secret = TokenFile(str(path)).new(role, "shop")
    assert re.fullmatch(rf"dte_{role[0]}_[A-Za-z0-9_-]{{43}}", secret)
    assert TokenFile(str(path)).new(role, "other") != secret


def test_the_file_has_hashes_and_no_secrets_and_is_its_owners_alone(path: Path) -> None:
    secret = TokenFile(str(path)).new(Role.CLIENT, "shop")
    assert secret not in path.read_text()
    assert secret.rpartition("_")[2] not in path.read_text()
    assert hashlib.sha256(secret.encode()).hexdigest() in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["dte.tokens"]


def test_tokens_are_read_as_they_were_made(path: Path) -> None:
    file = TokenFile(str(path))
    file.new(Role.READER, "eye")
    file.new(
        Role.CLIENT,
        "shop",
        handlers=("a", "image.*"),
        jobs_waiting_max=7,
        expires_at=1.5e9,
        code=True,
    )
    eye, shop = file.read()
    assert (eye.name, eye.role, eye.handlers) == ("eye", Role.READER, ("*",))
    assert (eye.jobs_waiting_max, eye.expires_at, eye.code) == (None, None, False)
    assert (shop.role, shop.handlers) == (Role.CLIENT, ("a", "image.*"))
    assert (shop.jobs_waiting_max, shop.expires_at, shop.code) == (7, 1.5e9, True)
    assert len(path.read_text().splitlines()) == 2


def test_no_file_has_no_tokens(path: Path) -> None:
    assert TokenFile(str(path)).read() == ()
    assert not path.exists()


def test_a_name_is_given_once(path: Path) -> None:
    file = TokenFile(str(path))
    file.new(Role.CLIENT, "shop")
    before = path.read_text()
    with pytest.raises(NameTaken, match="shop"):
        file.new(Role.ADMIN, "shop")
    assert path.read_text() == before


def test_a_removed_token_is_gone_and_the_others_stay(path: Path) -> None:
    file = TokenFile(str(path))
    for name in ("a", "b", "c"):
        file.new(Role.CLIENT, name)
    file.remove("b")
    assert [each.name for each in file.read()] == ["a", "c"]
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(NoSuchToken, match="no token named b"):
        file.remove("b")


def test_removing_from_no_file_makes_none(path: Path) -> None:
    with pytest.raises(NoSuchToken, match="there is no file"):
        TokenFile(str(path)).remove("a")
    assert not path.exists()


@pytest.mark.parametrize("name", ["a", "A-1_b.c", "x" * 100])
def test_names_of_plain_characters_are_accepted(path: Path, name: str) -> None:
    TokenFile(str(path)).new(Role.CLIENT, name)
    assert TokenFile(str(path)).read()[0].name == name


@pytest.mark.parametrize(
    "name", ["", "x" * 101, "a b", "a/b", "ä", "a\n", "\x1b[1m", "a\u202e", "*", "٣"]
)
def test_other_names_are_refused_in_printable_words(path: Path, name: str) -> None:
    with pytest.raises(TokensRefused, match="1 to 100 letters") as raised:
        TokenFile(str(path)).new(Role.CLIENT, name)
    assert str(raised.value).isprintable()
    assert not path.exists()


def test_processes_that_make_tokens_at_once_lose_none(path: Path) -> None:
    program = (
        "import sys; from dte.master.access.tokens import *\n"
        "for i in range(10): TokenFile(sys.argv[1]).new(Role.CLIENT, f'{sys.argv[2]}-{i}')"
    )

    def run(name: str) -> int:
        return subprocess.run([sys.executable, "-c", program, str(path), name]).returncode

    with ThreadPoolExecutor(3) as pool:
        assert [*pool.map(run, "abc")] == [0, 0, 0]
    assert len(TokenFile(str(path)).read()) == 30


def test_a_link_stays_a_link(path: Path, tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    path.symlink_to(real / "tokens")
    TokenFile(str(path)).new(Role.CLIENT, "shop")
    assert path.is_symlink()
    assert [each.name for each in real.iterdir()] == ["tokens"]


# Files that are refused


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602, 0o660, 0o777])
def test_a_file_that_others_may_open_is_refused(path: Path, mode: int) -> None:
    file = written(path, line())
    path.chmod(mode)
    assert f"mode {mode:04o}" in refusal(file)
    assert f"chmod 600 {path}" in refusal(file)
    with pytest.raises(TokensRefused):
        file.new(Role.ADMIN, "me")


def test_a_file_of_another_user_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(path, line())
    monkeypatch.setattr("os.geteuid", lambda: 4_242)
    assert "this is the user 4242" in refusal(file)
    assert f"chown 4242 {path}" in refusal(file)


def test_a_folder_where_every_user_may_replace_the_file_is_refused(
    path: Path, tmp_path: Path
) -> None:
    secret = TokenFile(str(path)).new(Role.CLIENT, "shop")
    before = path.read_bytes()
    tmp_path.chmod(0o777)
    with pytest.raises(TokensRefused, match=f"chmod o-w {tmp_path}"):
        TokenFile(str(path)).read()
    with pytest.raises(TokensRefused, match=f"chmod o-w {tmp_path}"):
        TokenFile(str(path)).new(Role.CLIENT, "other")
    with pytest.raises(TokensRefused, match=f"chmod o-w {tmp_path}"):
        TokenFile(str(tmp_path / "other.tokens")).new(Role.CLIENT, "other")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    for mode in (0o1777, 0o775, 0o755):
        tmp_path.chmod(mode)
        assert Tokens(str(path)).find(secret, 0.0) is not None


def test_where_no_folder_is_there_are_no_tokens(path: Path, tmp_path: Path) -> None:
    path.touch(0o600)
    assert TokenFile(str(path / "dte.tokens")).read() == ()
    tmp_path.chmod(0o777)
    assert TokenFile(str(tmp_path / "other.tokens")).read() == (), "others may be there as before"


def test_neither_a_folder_nor_a_pipe_is_read(path: Path) -> None:
    os.mkfifo(path, 0o600)
    assert "not a regular file" in refusal(TokenFile(str(path)))
    assert "cannot read" in refusal(TokenFile(str(path.parent)))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(TokensRefused, match=r"cannot write .*nowhere"):
        TokenFile(str(tmp_path / "nowhere" / "dte.tokens")).new(Role.CLIENT, "shop")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "the JSON ends too soon"),
        ("[]", "a JSON object"),
        ('"shop"', "a JSON object"),
        ('{"name": "shop"}', "role"),
        (line(role="root"), "role must be client, reader, worker, admin, not 'root'"),
        (line(role=[1]), "role must be"),
        (line(name=7), "name"),
        (line(name="a b"), "letters"),
        (line(sha256="12"), "64 hexadecimal digits"),
        (line(sha256=SHA256.upper()), "lower case"),
        (line(handlers=[]), "handlers must be"),
        (line(handlers="*"), "handlers"),
        (line(jobs_waiting_max=0), "1 or more"),
        (line(jobs_waiting_max=True), "jobs_waiting_max"),
        (line(expires_at="tomorrow"), "expires_at"),
        (line(expires_at=1) + line(), "a token named shop"),
        (line(callback="10.0.0.0/8"), "unknown field 'callback'"),
    ],
)
def test_a_malformed_line_is_named_with_what_is_wrong(path: Path, text: str, expected: str) -> None:
    reason = refusal(written(path, f"\n{line(name='good')}{text}"))
    assert expected in reason
    assert f"{path}, line {4 if 'above' in reason else 3}: " in reason
    assert SHA256 not in reason


def test_a_file_that_is_too_long_is_refused(path: Path) -> None:
    assert "more than 1,000,000 bytes" in refusal(written(path, "\n" * 1_000_001))


# What a token allows


def test_a_token_is_for_the_handlers_that_its_patterns_match() -> None:
    token = Token("shop", Role.CLIENT, SHA256, ("resize", "image.*"))
    assert [
        each
        for each in ("resize", "Resize", "image.cut", "image.", "image", "resize2")
        if token.may_use(each)
    ] == ["resize", "image.cut", "image."]
    assert Token("shop", Role.CLIENT, SHA256).may_use("anything")


def test_a_token_expires_at_its_time() -> None:
    token = Token("shop", Role.CLIENT, SHA256, expires_at=10.0)
    assert [token.has_expired(wall_s) for wall_s in (9.9, 10.0, 11.0)] == [False, True, True]
    assert not Token("shop", Role.CLIENT, SHA256).has_expired(1e12)


# A master's view


def test_a_token_is_found_by_its_secret_and_by_its_name(path: Path) -> None:
    secret = TokenFile(str(path)).new(Role.WORKER, "gpu", expires_at=50.0)
    tokens = Tokens(str(path))
    found = tokens.find(secret, 49.0)
    assert found is not None
    assert (found.name, found.role) == ("gpu", Role.WORKER)
    assert tokens.named("gpu", 49.0) is found
    for wrong in ("", secret[:-1], secret.upper(), "gpu", found.sha256, "\udcff", "é"):
        assert tokens.find(wrong, 49.0) is None
    assert tokens.named("other", 49.0) is None


def test_an_expired_token_is_none(path: Path) -> None:
    secret = TokenFile(str(path)).new(Role.WORKER, "gpu", expires_at=50.0)
    tokens = Tokens(str(path))
    assert tokens.find(secret, 50.0) is None
    assert tokens.named("gpu", 50.0) is None
    assert tokens


def test_a_master_without_a_file_runs_without_tokens_until_there_is_one(path: Path) -> None:
    clock = Clock()
    tokens = Tokens(str(path), clock)
    assert not tokens
    secret = TokenFile(str(path)).new(Role.CLIENT, "shop")
    assert not tokens
    clock.now += LOOK_EVERY_S
    assert tokens
    assert tokens.find(secret, 0.0) is not None


def test_an_empty_file_has_no_tokens_in_use(path: Path) -> None:
    written(path, "\n")
    assert not Tokens(str(path))


def test_a_removed_token_is_refused_and_tokens_stay_in_use(path: Path) -> None:
    clock = Clock()
    secret = TokenFile(str(path)).new(Role.CLIENT, "shop")
    tokens = Tokens(str(path), clock)
    TokenFile(str(path)).remove("shop")
    assert tokens.find(secret, 0.0) is not None
    clock.now += LOOK_EVERY_S
    assert tokens.find(secret, 0.0) is None
    assert tokens.named("shop", 0.0) is None
    assert tokens


@pytest.mark.parametrize("harm", ["malformed", "open to others", "gone"])
def test_the_last_good_tokens_stay_while_the_file_is_refused(
    path: Path, harm: str, caplog: pytest.LogCaptureFixture, expected_errors: list[str]
) -> None:
    expected_errors.append("the previous tokens stay valid")
    clock = Clock()
    secret = TokenFile(str(path)).new(Role.CLIENT, "shop")
    tokens = Tokens(str(path), clock)
    if harm == "malformed":
        path.write_text("{")
    elif harm == "gone":
        path.unlink()
    else:
        path.chmod(0o644)
    for _ in range(3):
        clock.now += LOOK_EVERY_S
        assert tokens.find(secret, 0.0) is not None
    assert [(each.levelno, str(path) in each.message) for each in caplog.records] == [
        (logging.ERROR, True)
    ]
    path.unlink(missing_ok=True)
    TokenFile(str(path)).new(Role.CLIENT, "other")
    clock.now += LOOK_EVERY_S
    assert tokens.find(secret, 0.0) is None
    assert tokens.named("other", 0.0) is not None


def test_a_token_of_the_process_is_in_no_file_and_outlasts_a_change_of_it(path: Path) -> None:
    clock = Clock()
    tokens = Tokens(str(path), clock)
    secret = tokens.admit(Role.WORKER, "worker")
    assert not path.exists()
    assert not tokens, "without a token in the file, nobody else would get in"
    TokenFile(str(path)).new(Role.CLIENT, "shop")
    clock.now += LOOK_EVERY_S
    found = tokens.find(secret, 0.0)
    assert found is not None
    assert (found.name, found.role) == ("worker", Role.WORKER)
    assert tokens.named("worker", 0.0) is found
    assert tokens.named("shop", 0.0) is not None
    assert tokens


def test_a_file_that_is_wrong_at_the_start_is_refused(path: Path) -> None:
    written(path, "{")
    with pytest.raises(TokensRefused):
        Tokens(str(path))


def test_no_log_and_no_repr_has_a_secret(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    clock = Clock()
    tokens = Tokens(str(path), clock)
    secret = TokenFile(str(path)).new(Role.CLIENT, "shop")
    clock.now += LOOK_EVERY_S
    assert tokens.find(secret, 0.0)
    assert caplog.records
    assert secret not in f"{caplog.text} {tokens!r} {tokens.named('shop', 0.0)!r}"


@pytest.mark.parametrize(
    ("journal", "expected"),
    [
        ("none", "dte.tokens"),
        ("dte.db", "dte.tokens"),
        ("/var/lib/dte/jobs.db", "/var/lib/dte/dte.tokens"),
        ("data/dte.db", "data/dte.tokens"),
    ],
)
def test_the_default_file_is_beside_the_journal(journal: str, expected: str) -> None:
    assert file_beside(journal) == expected


def test_a_token_that_was_made_just_now_is_known(tmp_path: Path) -> None:
    now = 0.0
    file = TokenFile(str(tmp_path / "dte.tokens"))
    file.new(Role.CLIENT, "first")
    tokens = Tokens(file.path, lambda: now)
    secret = file.new(Role.CLIENT, "second")
    found = tokens.find(secret, 0.0)
    assert found is not None
    assert found.name == "second"
