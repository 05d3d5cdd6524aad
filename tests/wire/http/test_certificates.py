"""The certificate that a server shows, read anew on request."""

from __future__ import annotations

import os
import shutil
import ssl
from pathlib import Path

import pytest
from harness.certificates import Authority, Pair

from dte.wire.http.certificates import ServerTls, server_tls
from dte.wire.http.tls import FilesRefused


def test_without_a_certificate_a_server_speaks_plain_http() -> None:
    assert server_tls("", "", "") is None


def test_a_certificate_and_its_key_may_be_one_file(server_pair: Pair, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text(Path(server_pair.cert).read_text() + Path(server_pair.key).read_text())
    assert server_tls(str(both), "", "") is not None


@pytest.mark.parametrize(("key", "client_ca"), [("x.key", ""), ("", "ca.pem")])
def test_what_is_of_no_use_without_a_certificate_is_refused(key: str, client_ca: str) -> None:
    with pytest.raises(FilesRefused, match="needs --tls-cert"):
        server_tls("", key, client_ca)


def test_a_file_that_cannot_be_used_is_named(
    server_pair: Pair, authority: Authority, tmp_path: Path
) -> None:
    missing, garbage = str(tmp_path / "missing.pem"), tmp_path / "garbage.pem"
    garbage.write_text("nothing")
    other = authority.issue("DNS:other", file="other")
    for files, named in (
        ((missing, server_pair.key, ""), missing),
        ((server_pair.cert, missing, ""), missing),
        ((server_pair.cert, str(garbage), ""), str(garbage)),
        ((server_pair.cert, other.key, ""), other.key),
        ((server_pair.cert, server_pair.key, missing), missing),
        ((server_pair.cert, server_pair.key, str(garbage)), str(garbage)),
    ):
        with pytest.raises(FilesRefused) as caught:
            server_tls(*files)
        assert named in str(caught.value)


def test_files_that_are_replaced_are_used_when_they_are_read_again(
    server_pair: Pair, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    shutil.copy(server_pair.cert, cert)
    shutil.copy(server_pair.key, key)
    tls = ServerTls(str(cert), str(key))
    first = tls.context
    os.unlink(key)
    tls.reload()
    assert tls.context is first, "what cannot be used replaces nothing"
    assert str(key) in caplog.text
    shutil.copy(server_pair.key, key)
    tls.reload()
    assert tls.context is not first


def test_old_versions_of_tls_are_not_spoken(server_pair: Pair) -> None:
    context = ServerTls(server_pair.cert, server_pair.key).context
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
