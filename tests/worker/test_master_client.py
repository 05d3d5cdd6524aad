from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from harness.certificates import Authority, Pair, serving
from harness.http import HOST, Conduct, Line, Message, ServePlainly

from dte.wire.http.handshakes import PLAIN
from dte.worker import master_client
from dte.worker.master_client import MasterAway, MasterClient, Refused

from .fakes import FakeMaster

SHORT_S = 0.1
TOKEN, OTHER = "dte_w_" + "a" * 43, "dte_w_" + "b" * 43


async def test_a_long_request_is_waited_for_longer_than_a_short_one(
    fake_master: FakeMaster,
) -> None:
    """A report of many megabytes that is still being read is not sent again."""
    may_reply = asyncio.Event()
    good = fake_master.server.conduct

    async def late(request: Message, line: Line) -> None:
        await may_reply.wait()
        await good(request, line)

    fake_master.server.conduct = late
    long, short = MasterClient(fake_master.url), MasterClient(fake_master.url)
    report = b'{"worker":"w"}'
    sending = asyncio.create_task(long.post("/result", report.ljust(30_000_000), SHORT_S))
    with pytest.raises(MasterAway, match=f"no reply within {SHORT_S} s"):
        await short.post("/result", report, SHORT_S)
    may_reply.set()
    assert await sending
    assert len(fake_master.said("/result")) == 2


# What is said of a reply that refuses


@pytest.mark.parametrize("status", [400, 404, 409, 429, 500, 502])
async def test_the_error_of_a_master_is_shown_and_no_word_of_others(
    status: int, fake_master: FakeMaster
) -> None:
    for body, expected in (
        ({"error": "too many\n workers", "code": "busy"}, f"HTTP {status} too many workers"),
        (b"<html>SECRET\x1b[31m</html>", f"HTTP {status} with 24 bytes that are not from a dte"),
        ({"message": "SECRET"}, f"HTTP {status} with 21 bytes"),
        (["SECRET"], "bytes that are not"),
    ):
        fake_master.replies["/result"] = (status, body)
        with pytest.raises((MasterAway, Refused)) as caught:
            await MasterClient(fake_master.url).post("/result", b"{}")
        assert expected in str(caught.value)
        assert "SECRET" not in str(caught.value)


# What the master is shown


@pytest.fixture
def token_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file with the token of this process."""
    monkeypatch.delenv("DTE_TOKEN", raising=False)
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_text(f"{TOKEN}\n")
    monkeypatch.setenv("DTE_TOKEN_FILE", str(path))
    return path


def knowing(token: str) -> Conduct:
    """A master that knows one token."""

    async def conduct(request: Message, line: Line) -> None:
        is_known = request.headers.get("authorization") == f"Bearer {token}"
        await line.reply(200 if is_known else 401, {"error": "the token is unknown"})

    return conduct


async def test_the_token_is_sent_with_each_request(
    serve_plainly: ServePlainly, token_file: Path
) -> None:
    server = await serve_plainly(knowing(TOKEN))
    client = MasterClient(f"http://{HOST}:{server.port}/team/dte/")
    for _ in range(2):
        await client.post("/claim", b"{}", headers={"X-Mine": "7"})
    client.close()
    assert [each.path for each in server.requests] == ["/team/dte/claim"] * 2
    assert [each.headers["x-mine"] for each in server.requests] == ["7", "7"]
    assert len(server.lines) == 1


async def test_a_token_that_was_replaced_is_read_again(
    serve_plainly: ServePlainly, token_file: Path
) -> None:
    server = await serve_plainly(knowing(TOKEN))
    client = MasterClient(f"http://{HOST}:{server.port}")
    await client.post("/worker", b"{}")
    server.conduct = knowing(OTHER)
    with pytest.raises(MasterAway, match="the token is unknown"):
        await client.post("/worker", b"{}")
    token_file.write_text(OTHER)
    await client.post("/worker", b"{}")
    client.close()


async def test_a_wrong_token_is_no_end_and_points_to_the_right_one(
    serve_plainly: ServePlainly, token_file: Path
) -> None:
    """A refusal for good would drop results that the master takes with another token."""
    server = await serve_plainly(knowing(OTHER))
    client = MasterClient(f"http://{HOST}:{server.port}")
    with pytest.raises(MasterAway, match="dte token new worker NAME") as raised:
        await client.post("/result", b"{}")
    client.close()
    assert "DTE_TOKEN" in str(raised.value)
    assert TOKEN not in str(raised.value)
    assert len(server.requests) == 1


async def test_a_token_that_may_not_is_refused_for_good(serve_plainly: ServePlainly) -> None:
    async def forbid(request: Message, line: Line) -> None:
        await line.reply(403, {"error": "a client"})

    server = await serve_plainly(forbid)
    client = MasterClient(f"http://{HOST}:{server.port}")
    with pytest.raises(Refused, match="a client"):
        await client.post("/result", b"{}")
    client.close()


@pytest.mark.parametrize("status", [401, 403])
async def test_a_token_that_stays_refused_is_logged_again_with_the_step_for_workers(
    serve_plainly: ServePlainly,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    status: int,
) -> None:
    async def refuse(request: Message, line: Line) -> None:
        await line.reply(status, {"error": "the token shop is for a client"})

    server = await serve_plainly(refuse)
    client = MasterClient(f"http://{HOST}:{server.port}")

    async def refused() -> str:
        with pytest.raises((MasterAway, Refused)) as raised:
            await client.post("/worker", b"{}")
        return str(raised.value)

    assert "dte token new worker NAME" in await refused()
    assert "--token-file" in await refused()
    assert caplog.records == [], "the first time, callers say it; then it is too soon"
    monkeypatch.setattr(master_client, "REMIND_EVERY_S", 0.0)
    await refused()
    client.close()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "dte token new worker NAME" in record.message


@pytest.mark.parametrize(
    ("status", "body", "is_final"),
    [
        (404, b"<html>Not Found</html>", False),
        (301, b"<html>Moved</html>", False),
        (502, b"<html>Bad Gateway</html>", False),
        (421, {"error": "another host"}, False),
        (400, b"<html>The plain HTTP request was sent to HTTPS port</html>", False),
        (400, PLAIN, False),
        (404, {"error": "no such route"}, True),
        (413, b"<html>Request Entity Too Large</html>", True),
        (400, {"error": "malformed"}, True),
    ],
)
async def test_what_a_proxy_replies_is_no_refusal_by_the_master(
    serve_plainly: ServePlainly, status: int, body: Any, is_final: bool
) -> None:
    async def conduct(request: Message, line: Line) -> None:
        await line.reply(status, body)

    server = await serve_plainly(conduct)
    client = MasterClient(f"http://{HOST}:{server.port}")
    with pytest.raises(Refused if is_final else MasterAway, match=str(status)):
        await client.post("/result", b"{}")
    client.close()


async def test_a_file_with_a_token_may_come_later(
    serve_plainly: ServePlainly, token_file: Path
) -> None:
    server = await serve_plainly(knowing(TOKEN))
    client = MasterClient(f"http://{HOST}:{server.port}")
    token_file.unlink()
    with pytest.raises(MasterAway, match=f"cannot read the token in {token_file}"):
        await client.post("/worker", b"{}")
    assert server.requests == []
    token_file.touch(0o600)
    token_file.write_text(TOKEN)
    await client.post("/worker", b"{}")
    client.close()


async def test_a_master_with_tls_is_trusted_by_its_authority_which_may_come_later(
    serve_plainly: ServePlainly,
    authority: Authority,
    server_pair: Pair,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def good(request: Message, line: Line) -> None:
        await line.reply(200, {})

    server = await serve_plainly(good, secure=serving(server_pair))
    ca = tmp_path / "ca.pem"
    ca.write_bytes(Path(Authority(tmp_path, "another").file).read_bytes())
    monkeypatch.setenv("DTE_TLS_CA", str(ca))
    client = MasterClient(f"https://localhost:{server.port}/dte")
    with pytest.raises(MasterAway, match="--tls-ca or DTE_TLS_CA"):
        await client.post("/worker", b"{}")
    ca.write_bytes(Path(authority.file).read_bytes())
    await client.post("/worker", b"{}")
    ca.unlink()
    await client.post("/worker", b"{}")
    client.close()
    assert [each.path for each in server.requests] == ["/dte/worker"] * 2
