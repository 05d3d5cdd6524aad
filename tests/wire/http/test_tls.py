"""Connections with TLS, to servers that are trusted and to others."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from harness.certificates import Authority, Pair, serving
from harness.http import Line, Message, ServePlainly, accepting, drain
from harness.until import until

from dte.wire.http import tls
from dte.wire.http.client import ConnectionFailed, KeptAliveConnection

LONG = 5_000_000


async def echo(request: Message, line: Line) -> None:
    await line.reply(200, request.body)


def secure(
    cleanup: AsyncExitStack, port: int, context: ssl.SSLContext, host: str = "localhost"
) -> KeptAliveConnection:
    connection = KeptAliveConnection(host, port, secure=context)
    cleanup.callback(connection.close)
    return connection


async def failure(connection: KeptAliveConnection) -> ConnectionFailed:
    with pytest.raises(ConnectionFailed) as raised:
        await connection.request("POST", "/", b"1")
    return raised.value


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_requests_go_over_one_secure_connection(
    serve_plainly: ServePlainly,
    cleanup: AsyncExitStack,
    authority: Authority,
    server_pair: Pair,
    host: str,
) -> None:
    server = await serve_plainly(echo, secure=serving(server_pair))
    connection = secure(cleanup, server.port, tls.client_context(authority.file), host)
    for body in (b"1", b"", os.urandom(100_000), b"x" * LONG, b"2"):
        assert (await connection.request("POST", "/", body)).body == body
        # The tickets of a session come after the handshake, and are no reason to connect again.
        await asyncio.sleep(0)
    assert len(server.lines) == 1


async def test_a_long_request_and_its_reply_pass_in_both_directions_at_once(
    serve_plainly: ServePlainly, cleanup: AsyncExitStack, authority: Authority, server_pair: Pair
) -> None:
    server = await serve_plainly(echo, secure=serving(server_pair))
    context = tls.client_context(authority.file)
    bodies = [os.urandom(LONG) for _ in range(4)]
    connections = [secure(cleanup, server.port, context) for _ in bodies]
    requests = (
        connection.request("POST", "/", body)
        for connection, body in zip(connections, bodies, strict=True)
    )
    assert [reply.body for reply in await asyncio.gather(*requests)] == bodies


async def test_a_connection_that_the_server_closed_is_opened_again(
    serve_plainly: ServePlainly, cleanup: AsyncExitStack, authority: Authority, server_pair: Pair
) -> None:
    server = await serve_plainly(echo, secure=serving(server_pair))
    connection = secure(cleanup, server.port, tls.client_context(authority.file))
    assert (await connection.request("POST", "/", b"1")).body == b"1"
    server.lines[0].close()
    await until(lambda: not connection.is_open, "the end of the connection is seen")
    assert (await connection.request("POST", "/", b"2")).body == b"2"


async def test_an_unknown_authority_is_named_with_the_option_to_set(
    serve_plainly: ServePlainly, cleanup: AsyncExitStack, server_pair: Pair, tmp_path: Path
) -> None:
    server = await serve_plainly(echo, secure=serving(server_pair))
    others = Authority(tmp_path, "another")
    for context in (tls.client_context(others.file), tls.client_context()):
        error = await failure(secure(cleanup, server.port, context))
        assert "authority that this machine does not trust" in str(error)
        assert "--tls-ca or DTE_TLS_CA" in str(error)
        assert error.insecure
        assert not error.sent
    assert server.requests == []


async def test_a_certificate_of_another_name_is_refused(
    serve_plainly: ServePlainly, cleanup: AsyncExitStack, authority: Authority
) -> None:
    pair = authority.issue("DNS:master.example", file="other")
    server = await serve_plainly(echo, secure=serving(pair))
    for host in ("localhost", "127.0.0.1"):
        context = tls.client_context(authority.file)
        error = await failure(secure(cleanup, server.port, context, host))
        assert f"its certificate is not for {host}" in str(error)
        assert error.insecure
    assert server.requests == []


async def test_a_server_without_tls_is_told_from_an_unsafe_one(cleanup: AsyncExitStack) -> None:
    def act(connection: socket.socket) -> None:
        connection.recv(1)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with accepting(act) as port:
        error = await failure(secure(cleanup, port, tls.client_context()))
    assert str(error) == "it does not speak TLS; if that is right, write http://"
    assert not error.sent


async def test_a_server_that_ends_the_handshake_is_no_riddle(cleanup: AsyncExitStack) -> None:
    with accepting(lambda connection: connection.recv(100_000)) as port:
        error = await failure(secure(cleanup, port, tls.client_context()))
    assert "perhaps it does not speak TLS" in str(error)
    assert not error.sent


async def test_a_server_with_tls_that_answers_plain_http_by_an_alert_is_recognised(
    cleanup: AsyncExitStack,
) -> None:
    def act(connection: socket.socket) -> None:
        connection.recv(100_000)
        connection.sendall(b"\x15\x03\x01\x00\x02\x02\x46")

    with accepting(act) as port:
        connection = KeptAliveConnection("127.0.0.1", port)
        cleanup.callback(connection.close)
        assert str(await failure(connection)) == "it speaks TLS; write https://"


def demanding(pair: Pair, client_ca: str) -> Callable[[socket.socket], None]:
    """A server that demands a certificate, and tells a client by an alert what is wrong."""
    context = serving(pair, client_ca)

    def act(connection: socket.socket) -> None:
        begun = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with begun:
            try:
                begun.do_handshake()
            except ssl.SSLError:
                drain(begun)
                raise
            begun.recv(100_000)
            begun.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    return act


async def test_a_server_that_demands_a_certificate_gets_the_one_that_is_given(
    cleanup: AsyncExitStack, authority: Authority, server_pair: Pair
) -> None:
    mine = authority.issue("DNS:worker", file="mine")
    context = tls.client_context(authority.file, mine.cert, mine.key)
    with accepting(demanding(server_pair, authority.file)) as port:
        assert (await secure(cleanup, port, context).request("GET", "/", b"")).status == 200
        error = await failure(secure(cleanup, port, tls.client_context(authority.file)))
    assert "it demands a certificate" in str(error)
    assert "--tls-cert and --tls-key" in str(error)
    assert error.insecure


async def test_a_certificate_of_an_authority_that_the_server_does_not_know_is_refused(
    cleanup: AsyncExitStack, authority: Authority, server_pair: Pair, tmp_path: Path
) -> None:
    mine = Authority(tmp_path, "another").issue("DNS:worker", file="mine")
    context = tls.client_context(authority.file, mine.cert, mine.key)
    with accepting(demanding(server_pair, authority.file)) as port:
        error = await failure(secure(cleanup, port, context))
    assert "does not trust the authority of this program's certificate" in str(error)


async def test_a_silent_server_is_given_up(
    cleanup: AsyncExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        error = await failure(secure(cleanup, port, tls.client_context()))
    assert "if it does not speak TLS, write http://" in str(error)


@pytest.mark.parametrize(
    ("code", "expected"), [(10, "has expired"), (9, "clocks"), (23, "revoked at noon")]
)
def test_other_faults_of_a_certificate_are_said(code: int, expected: str) -> None:
    error = ssl.SSLCertVerificationError()
    error.verify_code, error.verify_message = code, "revoked at noon"
    assert expected in str(tls.fault(error, "master"))


def test_an_error_that_is_not_of_tls_has_no_fault() -> None:
    assert tls.fault(ConnectionResetError(), "master") is None


# Files


def test_files_that_cannot_be_used_are_named(
    authority: Authority, server_pair: Pair, tmp_path: Path
) -> None:
    text, missing = tmp_path / "text.pem", str(tmp_path / "missing.pem")
    text.write_text("no certificate")
    other = authority.issue("DNS:other", file="unlike")
    ca = authority.file
    for arguments, expected in (
        ((missing,), f"cannot read {missing}: No such file"),
        ((str(text),), f"{text} has no certificate of an authority in PEM"),
        ((ca, missing, server_pair.key), f"cannot read {missing}"),
        ((ca, server_pair.cert, missing), f"cannot read {missing}"),
        ((ca, str(text), server_pair.key), f"{text} and {server_pair.key} have no certificate"),
        ((ca, server_pair.cert), f"{server_pair.cert} has no certificate and key"),
        ((ca, server_pair.cert, other.key), f"the key in {other.key} is not the one of"),
        ((ca, "", server_pair.key), "a key without a certificate"),
    ):
        with pytest.raises(tls.FilesRefused) as raised:
            tls.client_context(*arguments)
        assert expected in str(raised.value)


def test_one_file_may_have_the_certificate_and_its_key(server_pair: Pair, tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(Path(server_pair.cert).read_bytes() + Path(server_pair.key).read_bytes())
    assert tls.client_context("", str(both)).verify_mode is ssl.CERT_REQUIRED


def test_servers_are_checked_and_old_versions_are_refused(authority: Authority) -> None:
    for context in (tls.client_context(), tls.client_context(authority.file)):
        assert context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
