"""What programs show to a master, and where they find it."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.certificates import Authority, Pair

from dte.core.errors import Unauthorized
from dte.wire import access as access_module
from dte.wire.access import Access, NoToken, use_token
from dte.wire.http.tls import FilesRefused

URL = "http://localhost:5000"
TOKEN, OTHER = "dte_c_" + "a" * 43, "dte_c_" + "b" * 43


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No settings of dte, and nothing that was logged once before."""
    for name in list(os.environ):
        if name.startswith("DTE_"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(access_module, "_warned", set())
    return monkeypatch


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text(f"{TOKEN}\n")
    return path


def sent(access: Access) -> str | None:
    """The token that is sent."""
    headers = access.headers()
    assert headers.keys() <= {"Authorization"}
    return headers["Authorization"].removeprefix("Bearer ") if headers else None


def test_nothing_is_sent_by_default() -> None:
    access = Access(URL)
    assert access.headers() == {}
    assert access.tls is None


@pytest.mark.parametrize("text", [TOKEN, f"{TOKEN}\n", f"  {TOKEN}\r\n"])
def test_a_token_comes_from_each_place(
    file: Path, environment: pytest.MonkeyPatch, text: str
) -> None:
    file.write_bytes(text.encode())
    assert sent(Access(URL, token=text)) == TOKEN
    assert sent(Access(URL, token_file=str(file))) == TOKEN
    environment.setenv("DTE_TOKEN", text)
    assert sent(Access(URL)) == TOKEN
    environment.delenv("DTE_TOKEN")
    environment.setenv("DTE_TOKEN_FILE", str(file))
    assert sent(Access(URL)) == TOKEN


def test_what_is_given_wins_over_the_environment(
    file: Path, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("DTE_TOKEN", OTHER)
    assert sent(Access(URL, token=TOKEN)) == TOKEN
    assert sent(Access(URL, token_file=str(file))) == TOKEN
    assert sent(Access(URL, token="")) is None
    environment.setenv("DTE_TOKEN_FILE", str(file))
    assert sent(Access(URL)) == OTHER
    environment.setenv("DTE_TOKEN", "")
    assert sent(Access(URL)) == TOKEN


def test_a_token_of_the_process_wins_over_the_environment_alone(
    file: Path, environment: pytest.MonkeyPatch
) -> None:
    environment.setattr(access_module, "_own_token", "")
    environment.setattr(access_module, "_own_file", "")
    environment.setenv("DTE_TOKEN", OTHER)
    use_token(f"{TOKEN}\n")
    assert sent(Access(URL)) == TOKEN
    assert sent(Access(URL, token=OTHER)) == OTHER
    file.write_text(OTHER)
    assert sent(Access(URL, token_file=str(file))) == OTHER
    file.write_text(TOKEN)
    use_token(file=str(file))
    assert sent(Access(URL)) == TOKEN
    assert Access(URL).headers()
    assert os.environ["DTE_TOKEN"] == OTHER, "what this process starts does not get it"


def test_a_file_is_read_again_when_its_token_was_refused(file: Path) -> None:
    access = Access(URL, token_file=str(file))
    first = access.headers()
    assert not access.renew(first)
    file.write_text(OTHER)
    assert sent(access) == TOKEN
    assert access.renew(first)
    assert sent(access) == OTHER
    assert access.renew(first), "another thread has read it in between"
    assert not access.renew(access.headers())


def test_a_token_that_is_in_no_file_cannot_be_renewed(environment: pytest.MonkeyPatch) -> None:
    assert not Access(URL).renew({})
    given = Access(URL, token=TOKEN)
    assert not given.renew(given.headers())
    environment.setenv("DTE_TOKEN", TOKEN)
    assert not Access(URL).renew({})


def test_a_file_that_comes_later_is_read_then(tmp_path: Path) -> None:
    path = tmp_path / "token"
    access = Access(URL, token_file=str(path))
    with pytest.raises(NoToken, match=f"cannot read the token in {path}: No such file"):
        access.headers()
    assert not access.renew({})
    path.touch(0o600)
    path.write_text(TOKEN)
    assert sent(access) == TOKEN


def test_a_file_that_is_gone_is_named_and_is_an_error_of_tokens(file: Path) -> None:
    access = Access(URL, token_file=str(file))
    access.check()
    file.unlink()
    assert not access.renew(access.headers())
    with pytest.raises(Unauthorized, match=str(file)):
        access.headers()


@pytest.mark.parametrize(
    "text", ["", "\n", "two words", "ü", "a\r\nX-Admin: 1", "a\x00b", "x" * 1_001]
)
def test_what_is_no_token_is_refused_without_being_quoted(
    file: Path, environment: pytest.MonkeyPatch, text: str
) -> None:
    file.write_text(text, "utf-8")
    with pytest.raises(NoToken) as raised:
        Access(URL, token_file=str(file)).headers()
    assert str(file) in str(raised.value)
    if text.strip():
        assert text.strip() not in str(raised.value)
        with pytest.raises(ValueError, match="the token has"):
            Access(URL, token=text)


def test_a_file_that_others_may_read_is_used_with_a_warning(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.chmod(0o644)
    for _ in range(2):
        assert sent(Access(URL, token_file=str(file))) == TOKEN
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{file} (mode 0644)" in record.message
    assert f"chmod 600 {file}" in record.message
    assert stat.S_IMODE(file.stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("url", "warns"),
    [
        ("http://master:5000", True),
        ("http://10.0.0.1/dte", True),
        *((url, False) for url in ("http://localhost:5000", "http://127.0.0.1", "http://[::1]")),
        ("https://master:5000", False),
    ],
)
def test_a_token_that_leaves_the_machine_in_clear_is_warned_of_once(
    url: str, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(2):
        Access(url, token=TOKEN).headers()
        Access(url, token="").headers()
    assert ["without TLS" in record.message for record in caplog.records] == [True] * warns
    assert TOKEN not in caplog.text


def test_no_text_has_the_token(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for access in (Access(URL, token=TOKEN), Access(URL, token_file=str(file))):
        access.headers()
        assert TOKEN not in f"{access!r} {access} {caplog.text}"


def test_paths_are_behind_the_prefix_of_the_url() -> None:
    assert Access("https://proxy/team/dte/", token="").path("/submit") == "/team/dte/submit"
    assert Access(URL).path("/submit") == "/submit"


def test_certificates_come_from_arguments_and_from_the_environment(
    authority: Authority, server_pair: Pair, environment: pytest.MonkeyPatch
) -> None:
    url = "https://localhost:5000"
    given: dict[str, Any] = {"tls_ca": authority.file, "tls_cert": server_pair.cert}
    context = Access(url, **given, tls_key=server_pair.key).tls
    assert context is not None
    assert [each["subject"] for each in context.get_ca_certs()] == [
        ((("commonName", "authority"),),)
    ]
    environment.setenv("DTE_TLS_CA", "/nowhere/ca.pem")
    with pytest.raises(FilesRefused, match=r"cannot read /nowhere/ca\.pem"):
        Access(url).check()
    environment.setenv("DTE_TLS_CA", authority.file)
    environment.setenv("DTE_TLS_CERT", server_pair.cert)
    with pytest.raises(FilesRefused, match="no certificate and key"):
        Access(url).check()
    environment.setenv("DTE_TLS_KEY", server_pair.key)
    Access(url).check()
    Access(url, **given, tls_key=None).check()


def test_certificates_are_read_again_and_kept_if_that_fails(
    authority: Authority, tmp_path: Path
) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_bytes(Path(Authority(tmp_path, "another").file).read_bytes())
    access = Access("https://localhost", tls_ca=str(ca))
    before = access.tls
    ca.write_bytes(Path(authority.file).read_bytes())
    assert access.tls is before
    access.renew_tls()
    after = access.tls
    assert after is not None
    assert after is not before
    assert after.get_ca_certs()[0]["subject"] == ((("commonName", "authority"),),)
    ca.unlink()
    access.renew_tls()
    assert access.tls is after


def test_files_of_tls_are_not_read_without_tls(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DTE_TLS_CA", "/nowhere/ca.pem")
    Access(URL).check()
