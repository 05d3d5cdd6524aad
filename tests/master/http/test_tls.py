"""A master that speaks TLS: served as without it, within the same bounds."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
from harness.certificates import Authority, Pair
from harness.http import HOST, Conduct, Line, Message, PlainServer, head, request_bytes
from harness.tls import ask_tls, open_tls, trusting
from harness.until import until

from dte.master.access.tokens import Role, TokenFile
from dte.master.http import server as connections
from dte.master.http.server import BoundedServer
from dte.wire.http.tls import FilesRefused
from master.rig import Rig, StartMaster

MANY = {"tasks": ["9" * 4_300] * 600}


def server_of(rig: Rig) -> BoundedServer:
    return rig.server._http


@pytest.fixture
def secure(start_master: StartMaster, server_pair: Pair) -> Any:
    async def start(**bounds: Any) -> Rig:
        return await start_master(tls_cert=server_pair.cert, tls_key=server_pair.key, **bounds)

    return start


async def test_jobs_are_submitted_and_read_over_tls(secure: Any, authority: Authority) -> None:
    rig = await secure()
    line = await open_tls(rig.port, trusting(authority))
    for number in range(1, 20):
        assert (await line.ask("POST", "/submit", {"task": "7"})).json["job_id"] == number
        assert (await line.ask("GET", f"/job/{number}")).json["answer"] == 7
    long = " " * 3_000_000 + "8"
    assert (await line.ask("POST", "/submit?wait=20", {"task": long})).json["answer"] == 8
    line.close()


async def ask_for_much(rig: Rig, context: ssl.SSLContext) -> Line:
    """Ask for a list of megabytes on a connection that takes little, and do not read it."""
    assert (await ask_tls(rig.port, context, "POST", "/submit", MANY)).status == 200
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.setblocking(False)
    await asyncio.get_running_loop().sock_connect(connection, (HOST, rig.port))
    opened = await asyncio.open_connection(
        sock=connection, ssl=context, server_hostname=HOST, limit=1_000
    )
    line = Line(*opened)
    line.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await line.send(request_bytes("GET", "/jobs?ids=1-600"))
    return line


def unsent(rig: Rig) -> int:
    return sum(stream.unsent for stream in server_of(rig)._open)


async def test_what_a_client_does_not_take_is_counted(secure: Any, authority: Authority) -> None:
    rig = await secure()
    line = await ask_for_much(rig, trusting(authority))
    await until(lambda: unsent(rig), "the reply waits for its client")
    assert server_of(rig)._replies.bytes >= unsent(rig)
    line.writer.transport.resume_reading()  # type: ignore[attr-defined]
    reply = await line.read()
    assert reply is not None
    assert len(reply.json) == 600
    await until(lambda: not unsent(rig), "all is sent")
    assert server_of(rig)._replies.bytes == 0
    line.close()


async def test_who_does_not_take_its_reply_is_hung_up_on(
    secure: Any, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "SWEEP_S", 0.02)
    rig = await secure(slow_client_s=0.2)
    line = await ask_for_much(rig, trusting(authority))
    await until(lambda: unsent(rig), "the reply waits for its client")
    await until(lambda: not server_of(rig)._open, "it is hung up on")
    assert server_of(rig)._replies.bytes == 0
    line.writer.transport.abort()


async def test_a_client_that_resets_or_garbles_what_it_sends_is_forgotten(
    secure: Any, authority: Authority
) -> None:
    rig = await secure()
    for harm in ("reset", "garbage"):
        line = await open_tls(rig.port, trusting(authority))
        assert (await line.ask("GET", "/jobs")).status == 200
        if harm == "reset":
            line.reset()
        else:
            # Behind the back of TLS: what comes is no record of it.
            connection = line.writer.get_extra_info("socket")
            connection._sock.send(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        await until(lambda: not server_of(rig)._open, "it is forgotten")
        line.writer.transport.abort()


async def test_connections_over_tls_are_bounded(secure: Any, authority: Authority) -> None:
    rig = await secure(connections_max=2)
    context = trusting(authority)
    lines = [await open_tls(rig.port, context) for _ in range(4)]
    await until(lambda: len(server_of(rig)._open) == 3, "one connection beyond the bound is kept")
    refused = [await _reply(line) for line in lines[2:3]]
    assert [reply.status for reply in refused] == [429]
    for line in lines:
        line.close()


async def _reply(line: Line) -> Message:
    reply = await line.read()
    assert reply is not None
    return reply


async def test_the_name_in_a_clients_certificate_is_known(
    start_master: StartMaster, server_pair: Pair, authority: Authority
) -> None:
    rig = await start_master(
        tls_cert=server_pair.cert, tls_key=server_pair.key, tls_client_ca=authority.file
    )
    mine = authority.issue("DNS:shop", file="shop")
    line = await open_tls(rig.port, trusting(authority, mine))
    assert (await line.ask("GET", "/jobs")).status == 200
    assert [each.peer_name for each in server_of(rig)._open] == ["shop"]
    line.close()
    with pytest.raises((OSError, AssertionError)):
        await ask_tls(rig.port, trusting(authority), "GET", "/jobs")


@pytest.fixture
def tokens(tmp_path: Path) -> TokenFile:
    """A file with one token, of the client `shop`."""
    file = TokenFile(str(tmp_path / "dte.tokens"))
    file.new(Role.CLIENT, "shop")
    return file


@pytest.mark.parametrize(
    ("name", "status"), [("shop", 201), ("stranger", 401)], ids=["known", "unknown"]
)
async def test_a_certificate_in_the_name_of_a_token_stands_for_it(
    start_master: StartMaster,
    server_pair: Pair,
    authority: Authority,
    tokens: TokenFile,
    name: str,
    status: int,
) -> None:
    rig = await start_master(
        tls_cert=server_pair.cert,
        tls_key=server_pair.key,
        tls_client_ca=authority.file,
        tokens=tokens.path,
    )
    context = trusting(authority, authority.issue(f"DNS:{name}", file=name))
    call = {"handler": "echo", "args": [1]}
    assert (await ask_tls(rig.port, context, "POST", "/jobs", call)).status == status
    if status == 201:
        (job,) = rig.master.core.jobs.newest(1)
        assert job.owner.endswith("shop")


async def test_a_token_is_refused_over_tls_before_its_body_has_come(
    secure: Any, authority: Authority, tokens: TokenFile
) -> None:
    rig = await secure(tokens=tokens.path)
    line = await open_tls(rig.port, trusting(authority))
    await line.send(head("POST /submit HTTP/1.1", {"Host": HOST, "Content-Length": 30_000_000}))
    await line.send(b"x" * 1_000_000)
    reply = await _reply(line)
    assert reply.status == 401
    line.writer.transport.abort()


async def test_a_worker_with_tls_is_called_over_tls(
    start_master: StartMaster, authority: Authority, server_pair: Pair, serve_tls: Any
) -> None:
    rig = await start_master(tls_ca=authority.file)
    worker = await serve_tls(_compute)
    await rig.announce(worker, tls=True)
    assert (await rig.compute("1+2"))["answer"] == 3
    (listed,) = (await rig.get("/worker")).json
    assert listed["address"] == f"https://127.0.0.1:{worker.port}"


async def test_a_worker_whose_certificate_is_not_trusted_gets_no_work(
    start_master: StartMaster, serve_tls: Any
) -> None:
    rig = await start_master()
    worker = await serve_tls(_compute)
    await rig.announce(worker, tls=True)
    number = await rig.submit("1+2")

    async def says_why() -> Any:
        (listed,) = (await rig.get("/worker")).json
        return "--tls-ca" in (listed["last_failure"] or "")

    async with asyncio.timeout(20):
        while not await says_why():
            await asyncio.sleep(0.01)
    assert not (await rig.job(number))["finished"]


async def _compute(request: Message, line: Line) -> None:
    if request.path == "/health":
        await line.reply(404, {})
        return
    asked = json.loads(request.body)
    await line.reply(200, {"result": asked["op1"] + asked["op2"]})


@pytest.fixture
def serve_tls(cleanup: Any, server_pair: Pair) -> Any:
    """Starts a server with TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server_pair.cert, server_pair.key)

    async def start(conduct: Conduct) -> PlainServer:
        server = PlainServer(conduct)
        await server.start(secure=context)
        cleanup.push_async_callback(server.stop)
        return server

    return start


async def test_a_file_that_cannot_be_used_is_refused_at_the_start(
    start_master: StartMaster,
) -> None:
    for name in ("tls_cert", "tls_ca"):
        with pytest.raises(FilesRefused, match=r"missing\.pem"):
            await start_master(**{name: "missing.pem"})
