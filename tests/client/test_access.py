"""Clients behind a proxy: with TLS, a path prefix, and tokens."""

from __future__ import annotations

import asyncio
import os
import pickle
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from harness.certificates import Authority, Pair, serving
from harness.front import Front
from harness.http import accepting
from harness.machine import HOST
from harness.master_thread import MasterThread

import dte
from dte.client import connecting
from dte.client.backup import Backup
from dte.wire.access import Access
from dte.wire.http import tls

TOKEN, OTHER = "dte_c_" + "a" * 43, "dte_c_" + "b" * 43
PREFIX = "/team/dte"

Compute = Callable[..., Any]


def by_blocking(url: str, **shown: Any) -> Any:
    with dte.Client(url, **shown) as client:
        return client.compute("1+2")


def by_asynchronous(url: str, **shown: Any) -> Any:
    async def compute() -> Any:
        async with dte.AsyncClient(url, **shown) as client:
            return await client.compute("1+2")

    return asyncio.run(compute())


def replying(reply: bytes) -> Callable[[socket.socket], None]:
    """A server that answers whatever it gets with some bytes."""

    def act(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(reply)

    return act


both = pytest.mark.parametrize("compute", [by_blocking, by_asynchronous])


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("DTE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def front(master: MasterThread, server_pair: Pair) -> Iterator[Front]:
    """A proxy with TLS, a prefix, and a token."""
    with Front(master.port, PREFIX, serving(server_pair), TOKEN) as running:
        yield running


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text(f"{TOKEN}\n")
    return path


@both
def test_an_answer_comes_through_tls_a_prefix_and_a_token(
    front: Front, authority: Authority, compute: Compute
) -> None:
    assert compute(front.url, token=TOKEN, tls_ca=authority.file) == 3
    assert compute(f"{front.url}/", token=TOKEN, tls_ca=authority.file) == 3
    assert all(path.startswith(f"{PREFIX}/") for _, path, _ in front.seen)


@both
def test_the_environment_is_enough(
    front: Front, authority: Authority, compute: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DTE_TOKEN", TOKEN)
    monkeypatch.setenv("DTE_TLS_CA", authority.file)
    assert compute(front.url) == 3


def test_events_come_through(front: Front, authority: Authority) -> None:
    shown: dict[str, Any] = {"token": TOKEN, "tls_ca": authority.file}
    with dte.Client(front.url, **shown) as client:
        job = client.submit("1+2")
        states = [event.state for event in client.events(job)]

    async def all_states() -> list[str]:
        async with dte.AsyncClient(front.url, **shown) as client:
            return [event.state async for event in client.events(job)]

    assert states[-1] == "succeeded"
    assert asyncio.run(all_states())[-1] == "succeeded"


def test_several_requests_use_one_secure_connection(front: Front, authority: Authority) -> None:
    with dte.Client(front.url, token=TOKEN, tls_ca=authority.file) as client:
        assert client.map([f"{n}+1" for n in range(50)]) == [n + 1 for n in range(50)]
        (connection,) = client._idle
        for _ in range(5):
            client.jobs()
        assert client._idle == [connection]


def test_a_backup_comes_through(tmp_path: Path, authority: Authority, server_pair: Pair) -> None:
    with (
        MasterThread(journal=str(tmp_path / "dte.db")) as master,
        Front(master.port, PREFIX, serving(server_pair), TOKEN) as front,
        closing(Backup(Access(front.url, token=TOKEN, tls_ca=authority.file))) as backup,
    ):
        assert b"".join(backup.pieces()).startswith(b"SQLite format 3")


# Tokens


@both
@pytest.mark.parametrize("token", ["", OTHER])
def test_a_missing_or_a_wrong_token_is_an_error_at_once(
    master: MasterThread, compute: Compute, token: str
) -> None:
    with Front(master.port, token=TOKEN) as front:
        with pytest.raises(dte.Unauthorized, match="this token is not known") as raised:
            compute(front.url, token=token)
        for expected in ("token=...", "DTE_TOKEN", "dte token new client NAME"):
            assert str(raised.value).count(expected) >= 1
        assert len(front.seen) == 1


@both
def test_a_token_that_was_replaced_in_its_file_is_read_again(
    master: MasterThread, compute: Compute, token_file: Path
) -> None:
    with (
        Front(master.port, token=TOKEN) as front,
        dte.Client(front.url, token_file=str(token_file)) as client,
    ):
        assert client.compute("1+2") == 3
        front.token = OTHER
        token_file.write_text(OTHER)
        assert client.compute("1+2") == 3
        front.token = TOKEN
        with pytest.raises(dte.Unauthorized):
            client.compute("1+2")
        token_file.unlink()
        with pytest.raises(dte.Unauthorized):
            client.compute("1+2")


def test_threads_that_are_refused_at_once_all_go_on_with_the_new_token(
    master: MasterThread, token_file: Path
) -> None:
    with (
        Front(master.port, token=TOKEN) as front,
        dte.Client(front.url, token_file=str(token_file)) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        for token in (OTHER, TOKEN, OTHER):
            client.jobs()
            front.token = token
            token_file.write_text(token)
            assert [*pool.map(lambda _: client.compute("1+2"), range(32))] == [3] * 32


def test_events_go_on_with_a_replaced_token(master: MasterThread, token_file: Path) -> None:
    with Front(master.port, token=TOKEN) as front:
        with dte.Client(front.url, token_file=str(token_file)) as client:
            job = client.submit("1+2")
            front.token = OTHER
            token_file.write_text(OTHER)
            assert [event.state for event in client.events(job)][-1] == "succeeded"
            front.token = TOKEN
            with pytest.raises(dte.Unauthorized):
                next(client.events(job))

        async def states() -> list[str]:
            async with dte.AsyncClient(front.url, token_file=str(token_file)) as client:
                token_file.write_text(TOKEN)
                return [event.state async for event in client.events(job)]

        assert asyncio.run(states())[-1] == "succeeded"


def test_a_token_of_bytes_is_a_type_error() -> None:
    for kind in (dte.Client, dte.AsyncClient):
        with pytest.raises(TypeError, match="the token must be a str, not bytes") as raised:
            kind("http://localhost:5000", token=TOKEN.encode())
        assert TOKEN not in str(raised.value)


def test_a_client_without_its_file_fails_when_it_is_made(tmp_path: Path) -> None:
    for kind in (dte.Client, dte.AsyncClient):
        with pytest.raises(dte.Unauthorized, match="cannot read the token in"):
            kind("http://localhost:5000", token_file=str(tmp_path / "missing"))


def test_neither_reprs_nor_errors_have_the_token(master: MasterThread) -> None:
    with Front(master.port, token=OTHER) as front:
        client = dte.Client(front.url, token=TOKEN)
        with closing(client), pytest.raises(dte.Unauthorized) as raised:
            client.submit("1+2")
        asynchronous = dte.AsyncClient(front.url, token=TOKEN)
        shown = f"{client!r} {asynchronous!r} {raised.value!r} {vars(raised.value)}"
        assert TOKEN not in shown
        assert TOKEN.encode() not in pickle.dumps(raised.value)
        assert front.url in repr(client)
        with pytest.raises(dte.Unreachable) as lost:
            by_blocking("http://127.0.0.1:1", token=TOKEN)
        assert TOKEN not in f"{lost.value!r} {lost.value.__cause__!r}"


# Faults of TLS, which no retry mends


@both
def test_an_authority_that_is_not_trusted_is_an_error_at_once(
    front: Front, compute: Compute
) -> None:
    with pytest.raises(dte.TlsFailed, match="DTE_TLS_CA") as raised:
        compute(front.url, token=TOKEN)
    assert front.url in str(raised.value)
    assert "may or may not have been accepted" not in str(raised.value)
    assert front.seen == []


@both
def test_a_certificate_of_another_host_is_an_error_at_once(
    master: MasterThread, authority: Authority, compute: Compute
) -> None:
    pair = authority.issue("DNS:master.example", file="elsewhere")
    with (
        Front(master.port, secure=serving(pair)) as front,
        pytest.raises(dte.TlsFailed, match=f"its certificate is not for {HOST}"),
    ):
        compute(front.url, tls_ca=authority.file)


@both
@pytest.mark.usefixtures("no_pauses")
def test_https_at_the_port_of_a_plain_master_says_so(
    master: MasterThread, compute: Compute, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "HANDSHAKE_TIMEOUT_S", 0.1)
    monkeypatch.setattr(connecting, "CONNECT_TIMEOUT_S", 0.1)
    with pytest.raises(dte.Unreachable, match="does not speak TLS, write http://") as raised:
        compute(f"https://{HOST}:{master.port}")
    assert "may or may not have been accepted" not in str(raised.value)


@both
def test_https_at_a_port_that_answers_in_clear_says_so(compute: Compute) -> None:
    with (
        accepting(replying(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as port,
        pytest.raises(dte.TlsFailed, match="does not speak TLS; if that is right, write http"),
    ):
        compute(f"https://{HOST}:{port}")


@both
@pytest.mark.usefixtures("no_pauses")
def test_http_at_a_port_with_tls_that_closes_silently_is_pointed_to_https(
    front: Front, compute: Compute
) -> None:
    with pytest.raises(dte.Unreachable, match="if that master has TLS, write https://"):
        compute(front.url.replace("https", "http"), token=TOKEN)


@both
def test_http_at_a_port_that_replies_by_an_alert_says_so(compute: Compute) -> None:
    with (
        accepting(replying(b"\x15\x03\x01\x00\x02\x02\x46")) as port,
        pytest.raises(dte.TlsFailed, match="it speaks TLS; write https://"),
    ):
        compute(f"http://{HOST}:{port}")


def test_events_of_a_master_that_is_not_trusted_are_an_error_at_once(front: Front) -> None:
    with (
        dte.Client(front.url, token=TOKEN) as client,
        pytest.raises(dte.TlsFailed, match="DTE_TLS_CA"),
    ):
        next(client.events())

    async def first() -> None:
        async with dte.AsyncClient(front.url, token=TOKEN) as client:
            async for _ in client.events():
                return

    with pytest.raises(dte.TlsFailed, match="DTE_TLS_CA"):
        asyncio.run(first())


def test_a_backup_from_a_master_that_is_not_trusted_says_so(front: Front) -> None:
    with pytest.raises(dte.TlsFailed, match="DTE_TLS_CA"):
        Backup(Access(front.url, token=TOKEN))


@both
def test_a_certificate_is_shown_to_a_master_that_demands_one(
    master: MasterThread, authority: Authority, server_pair: Pair, compute: Compute
) -> None:
    mine = authority.issue("DNS:laptop", file="laptop")
    with Front(master.port, secure=serving(server_pair, authority.file)) as front:
        shown = {"tls_cert": mine.cert, "tls_key": mine.key}
        assert compute(front.url, tls_ca=authority.file, **shown) == 3


@pytest.mark.parametrize("kind", [dte.Client, dte.AsyncClient])
def test_a_file_that_cannot_be_used_is_named_when_a_client_is_made(
    kind: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"cannot read .*missing"):
        kind("https://localhost", tls_ca=str(tmp_path / "missing"))
