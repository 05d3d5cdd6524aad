"""Who may do what, over HTTP: roles by route, owners, cookies, browsers."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest
from harness.http import HOST, Line, Message, open_line, read_head, request_bytes
from harness.until import until
from tornado.ioloop import IOLoop

from dte.master.access import guesses
from dte.master.access.tokens import Role, TokenFile
from dte.master.api.openapi import documentation
from dte.master.api.routes import ROUTES
from dte.wire.http import lingering
from master.rig import Rig, StartMaster

ROLES = [None, *Role]


class Office:
    """A master with a token for each role; requests name whose token they bring."""

    def __init__(self, file: TokenFile, tokens: dict[str, str], rig: Rig) -> None:
        self.file = file
        self.tokens = tokens
        self.rig = rig
        self.master = rig.master
        self.port = rig.port

    def new(self, role: Role, name: str, **more: Any) -> None:
        self.tokens[name] = self.file.new(role, name, **more)

    async def by(
        self, name: str | None, method: str, path: str, body: Any = None, **headers: Any
    ) -> Message:
        if name is not None:
            headers["Authorization"] = f"Bearer {self.tokens[name]}"
        line = await open_line(self.port)
        try:
            return await line.ask(method, path, body, **headers)
        finally:
            line.close()

    async def submit_by(self, name: str, formula: str = "1+x(2)", **headers: Any) -> int:
        reply = await self.by(name, "POST", "/jobs", {"formula": formula}, **headers)
        assert reply.status == 201, reply.json
        return int(reply.json["job_id"])


@pytest.fixture
def office(io_loop: IOLoop, start_master: StartMaster, tmp_path: Path) -> Office:
    file = TokenFile(str(tmp_path / "dte.tokens"))
    tokens = {role.value: file.new(role, role.value) for role in Role}
    tokens["other"] = file.new(Role.CLIENT, "other")
    rig = io_loop.run_sync(lambda: start_master(tokens=file.path))
    return Office(file, tokens, rig)


def example(path: str) -> str:
    path = path.replace("{worker_id}", "worker").replace("/workers/{id}", "/workers/worker")
    return re.sub(r"\{\w+(:int)?\}", "1", path)


EACH = [
    pytest.param(route, method.upper(), id=f"{method.upper()} {route.path}")
    for route in ROUTES
    for method in route.may
]


# Roles


@pytest.mark.parametrize(("route", "method"), EACH)
async def test_a_route_serves_its_roles_alone(office: Office, route: Any, method: str) -> None:
    for role in ROLES:
        head = await _head(office, role.value if role else None, method, example(route.path))
        roles = route.may[method.lower()]
        if not roles or role in roles:
            assert head not in (401, 403) or route.path == "/session", role
        else:
            assert head == (401 if role is None else 403), role


async def _head(office: Office, name: str | None, method: str, path: str) -> int:
    """The status of a reply; its body may be a stream without an end."""
    line = await open_line(office.port)
    headers = {} if name is None else {"Authorization": f"Bearer {office.tokens[name]}"}
    await line.send(request_bytes(method, path, **headers))
    start, _ = read_head(await line.reader.readuntil(b"\r\n\r\n"))
    line.close()
    return int(start[1])


def test_every_method_of_every_route_has_roles() -> None:
    for route in ROUTES:
        route.check_roles()
        with pytest.raises(ValueError, match=re.escape(route.path)):
            route._replace(may={}).check_roles()


async def test_no_token_and_a_wrong_one_are_401(office: Office) -> None:
    for headers in ({}, {"Authorization": "Bearer dte_c_wrong"}, {"Authorization": "Basic YTpi"}):
        reply = await office.by(None, "POST", "/submit", {"task": "1+2"}, **headers)
        assert (reply.status, reply.json["code"]) == (401, "unauthorized")
        assert reply.headers["www-authenticate"] == "Bearer"
    assert "dte token new" in (await office.by(None, "GET", "/jobs")).json["error"]


async def test_a_role_that_may_not_is_403_and_names_those_that_may(office: Office) -> None:
    reply = await office.by("reader", "POST", "/submit", {"task": "1+2"})
    assert (reply.status, reply.json["code"]) == (403, "forbidden")
    assert "client or admin" in reply.json["error"]
    assert "reader" in reply.json["error"]


async def test_unknown_paths_and_methods_say_nothing_without_a_token(office: Office) -> None:
    for method, path in (("GET", "/nothing"), ("PUT", "/jobs"), ("OPTIONS", "/jobs")):
        assert (await office.by(None, method, path)).status == 401
    assert (await office.by("reader", "GET", "/nothing")).status == 404
    assert (await office.by("reader", "PUT", "/jobs")).status == 405


async def test_probes_need_no_token_and_learn_nothing(office: Office) -> None:
    assert (await office.by(None, "GET", "/live")).json == {"status": "ok"}
    assert (await office.by(None, "GET", "/ready")).json == {"status": "ok"}
    assert (await office.by(None, "GET", "/health")).json == {"status": "ok"}
    health = (await office.by("client", "GET", "/health")).json
    assert (health["auth"], health["workers"]) == ("tokens", 0)
    assert not any(secret in json.dumps(health) for secret in office.tokens.values())


async def test_a_master_that_ends_is_not_ready(office: Office) -> None:
    line = await open_line(office.port)
    assert (await line.ask("GET", "/ready")).status == 200
    office.master.jobs.close()
    reply = await line.ask("GET", "/ready")
    assert reply.status == 503
    assert "shutting down" in reply.json["error"]
    assert (await line.ask("GET", "/live")).status == 200
    line.close()


async def test_a_new_token_works_and_a_removed_one_does_not(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dte.master.access.tokens.LOOK_EVERY_S", 0.0)
    office.new(Role.CLIENT, "late")
    office.file.remove("other")
    assert (await _when(office, "late", 200)).status == 200
    assert (await office.by("other", "GET", "/jobs")).status == 401


async def _when(office: Office, name: str, status: int) -> Message:
    async with asyncio.timeout(20):
        while (reply := await office.by(name, "GET", "/jobs")).status != status:
            await asyncio.sleep(0.05)
    return reply


async def test_a_master_without_tokens_serves_everybody_until_there_is_one(
    start_master: StartMaster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dte.master.access.tokens.LOOK_EVERY_S", 0.0)
    file = TokenFile(str(tmp_path / "dte.tokens"))
    rig = await start_master(tokens=file.path)
    assert (await rig.get("/jobs")).status == 200
    assert (await rig.get("/health")).json["auth"] == "none"
    file.new(Role.CLIENT, "shop")
    while (await rig.get("/jobs")).status != 401:
        await asyncio.sleep(0.05)


# Before the body


@pytest.mark.parametrize("path", ["/submit", "/jobs", "/tasks", "/add_task", "/submit-task"])
async def test_a_refusal_does_not_wait_for_the_body(office: Office, path: str) -> None:
    line = await open_line(office.port)
    await line.send(
        f"POST {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 1000000\r\n\r\n".encode()
    )
    async with asyncio.timeout(20):
        reply = await line.read()
    assert reply is not None
    assert reply.status == 401
    line.close()


async def test_who_sends_a_long_body_gets_the_refusal(office: Office) -> None:
    reply = await office.by(None, "POST", "/submit", b"x" * 20_000_000)
    assert reply.status == 401
    await until(lambda: not lingering._lingering, "the end of the connection")


async def test_connections_linger_for_a_while_only(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering, "LINGER_S", 0.05)
    line = await open_line(office.port)
    await line.send(request_bytes("POST", "/submit", b"")[:-2] + b"Content-Type: a/b\r\n\r\n")
    assert await line.read() is not None
    await until(lambda: not lingering._lingering, "the end of the connection")
    line.close()


# Owners


async def test_a_client_does_not_see_the_jobs_of_others(office: Office) -> None:
    number = await office.submit_by("client")
    for path in ("", "/why", "/nodes", "/events"):
        assert (await office.by("other", "GET", f"/job/{number}{path}")).status == 404
    for path in ("cancel", "retry"):
        assert (await office.by("other", "POST", f"/job/{number}/{path}")).status == 404
    assert (await office.by("other", "GET", f"/jobs?ids={number}")).status == 404
    assert (await office.by("other", "GET", "/jobs")).json == []
    assert (await office.by("other", "GET", "/tasks")).json == []
    assert (await office.by("other", "GET", f"/tasks/{number:016x}")).status == 404
    assert (await office.by("other", "GET", f"/task/{number}")).status == 404
    assert (await office.by("other", "POST", f"/cancel_task/{number}")).status == 404
    own = (await office.by("client", "GET", "/jobs")).json
    assert [job["job_id"] for job in own] == [number]
    assert (await office.by("client", "GET", f"/job/{number}")).status == 200


async def test_readers_see_all_and_admins_do_all(office: Office) -> None:
    number = await office.submit_by("client")
    assert (await office.by("reader", "GET", f"/job/{number}")).status == 200
    assert len((await office.by("reader", "GET", "/jobs")).json) == 1
    assert (await office.by("reader", "POST", f"/job/{number}/cancel")).status == 403
    assert (await office.by("admin", "POST", f"/job/{number}/cancel")).status == 200


async def test_jobs_of_others_cannot_be_awaited(office: Office) -> None:
    number = await office.submit_by("client")
    body = {"handler": "echo", "after": [number]}
    reply = await office.by("other", "POST", "/jobs", body)
    assert (reply.status, reply.json["error"]) == (400, f"after: there is no job {number}")
    assert (await office.by("client", "POST", "/jobs", body)).status == 201
    task = {"func_name": "calculate_pi", "dependencies": [number]}
    assert (await office.by("other", "POST", "/add_task", task)).status == 400
    assert (await office.by("client", "POST", "/add_task", task)).status == 201


async def test_keys_are_those_of_each_client(office: Office) -> None:
    first = await office.submit_by("client", "1+x(1)", Idempotency_Key="order-17")
    second = await office.submit_by("other", "1+x(2)", Idempotency_Key="order-17")
    assert first != second
    assert await office.submit_by("client", "1+x(1)", Idempotency_Key="order-17") == first


async def test_names_of_tasks_are_those_of_each_client(office: Office) -> None:
    task = {"id": "build", "name": "n", "handler": "h"}
    for name in ("client", "other"):
        task["name"] = name
        assert (await office.by(name, "POST", "/tasks", task)).status == 201
    for name in ("client", "other"):
        reply = await office.by(name, "GET", "/tasks/build")
        assert (reply.status, f'"{name}"' in reply.body.decode()) == (200, True)
    assert (await office.by("reader", "GET", "/tasks/build")).status == 404


async def test_a_task_waits_for_its_own_clients_task(office: Office) -> None:
    waits = {"id": "late", "name": "n", "handler": "h", "dependencies": ["early"]}
    early = {"id": "early", "name": "n", "handler": "h"}
    assert (await office.by("client", "POST", "/tasks", waits)).status == 201
    assert (await office.by("other", "POST", "/tasks", early)).status == 201
    text = (await office.by("client", "GET", "/job/1/why")).json["reasons"][0]["text"]
    assert text == "starts after task early, not submitted yet"
    assert (await office.by("client", "POST", "/tasks", early)).status == 201
    await until(lambda: not office.master.core.jobs.job(1).expects, "the task")
    text = (await office.by("client", "GET", "/job/1/why")).json["reasons"][0]["text"]
    assert text == "starts after job 3"


async def test_a_stream_has_the_events_of_its_own_jobs(office: Office) -> None:
    await office.submit_by("other")
    line = await open_line(office.port)
    token = {"Authorization": f"Bearer {office.tokens['client']}"}
    await line.send(request_bytes("GET", "/events", last_event_id="0", **token))
    await office.submit_by("other")
    number = await office.submit_by("client")
    async with asyncio.timeout(20):
        text = (await line.reader.readuntil(b'"state":"waiting"')).decode()
    assert f'"job_id":{number}' in text
    assert '"job_id":1' not in text
    assert '"job_id":2' not in text
    line.close()


async def test_a_stream_ends_with_its_token(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dte.master.access.tokens.LOOK_EVERY_S", 0.0)
    line = await open_line(office.port)
    token = {"Authorization": f"Bearer {office.tokens['reader']}"}
    await line.send(request_bytes("GET", "/events", **token))
    await line.reader.readuntil(b"\r\n\r\n")
    office.file.remove("reader")
    await asyncio.sleep(0)
    while (await office.by("reader", "GET", "/jobs")).status != 401:
        await asyncio.sleep(0.05)
    await office.submit_by("client")
    async with asyncio.timeout(20):
        assert b"waiting" not in await line.reader.readuntil(b"0\r\n\r\n")
    line.close()


async def test_jobs_of_others_stay_hidden_in_the_journal(
    start_master: StartMaster, tmp_path: Path
) -> None:
    file = TokenFile(str(tmp_path / "dte.tokens"))
    tokens = {name: file.new(Role.CLIENT, name) for name in ("client", "other")}
    settings = {"tokens": file.path, "journal": str(tmp_path / "dte.db"), "jobs_kept": 1}
    office = Office(file, tokens, await start_master(**settings))
    numbers = [await office.submit_by("client", str(number)) for number in range(3)]
    await office.rig.stop()
    again = Office(file, tokens, await start_master(**settings))
    for number in numbers:
        assert (await again.by("client", "GET", f"/job/{number}")).json["finished"]
        assert (await again.by("other", "GET", f"/job/{number}")).status == 404


async def test_a_token_has_a_quota_of_jobs(office: Office) -> None:
    office.new(Role.CLIENT, "small", jobs_waiting_max=2)
    for _ in range(2):
        await office.submit_by("small")
    reply = await office.by("small", "POST", "/jobs", {"formula": "1+x(2)"})
    assert reply.status == 429
    assert "jobs_waiting_max" in reply.json["error"]
    assert (await office.by("small", "POST", "/submit", {"tasks": ["x(1)"] * 3})).status == 413
    await office.submit_by("other")


async def test_no_token_fills_more_than_half_of_a_bound(
    start_master: StartMaster, tmp_path: Path
) -> None:
    file = TokenFile(str(tmp_path / "dte.tokens"))
    tokens = {name: file.new(Role.CLIENT, name) for name in ("client", "other")}
    office = Office(file, tokens, await start_master(tokens=file.path, jobs_waiting_max=4))
    for _ in range(2):
        await office.submit_by("client")
    reply = await office.by("client", "POST", "/jobs", {"formula": "1+x(2)"})
    assert reply.status == 429
    assert "token:client" in reply.json["error"]
    await office.submit_by("other")


async def test_a_token_is_for_its_handlers(office: Office) -> None:
    office.new(Role.CLIENT, "images", handlers=("image.*", "echo"))
    for body in ({"handler": "transfer"}, {"formula": "1+transfer(2)"}):
        reply = await office.by("images", "POST", "/jobs", body)
        assert reply.status == 403
        assert "transfer" in reply.json["error"]
        assert "image.*, echo" in reply.json["error"]
    graph = {"graph": {"a": {"handler": "image.scale"}, "b": {"handler": "transfer"}}}
    assert (await office.by("images", "POST", "/jobs", graph)).status == 403
    del graph["graph"]["b"]
    assert (await office.by("images", "POST", "/jobs", graph)).status == 201
    assert (await office.by("images", "POST", "/submit", {"task": "1+2"})).status == 200


# Open clients


async def test_open_clients_submit_and_see_none_of_the_tokens_jobs(
    start_master: StartMaster, tmp_path: Path
) -> None:
    file = TokenFile(str(tmp_path / "dte.tokens"))
    tokens = {"client": file.new(Role.CLIENT, "client")}
    office = Office(file, tokens, await start_master(tokens=file.path, open_clients=True))
    hidden = await office.submit_by("client")
    reply = await office.by(None, "POST", "/submit", {"task": "1+x(2)"})
    assert reply.status == 200
    own = reply.json["job_id"]
    listed = (await office.by(None, "GET", "/jobs")).json
    assert [job["job_id"] for job in listed] == [own]
    assert (await office.by(None, "GET", f"/job/{hidden}")).status == 404
    assert (await office.by(None, "POST", "/claim", {"worker": "w"})).status == 403
    assert (await office.by(None, "POST", "/backup")).status == 403
    assert (await office.by("client", "GET", f"/job/{own}")).status == 404


# Wrong tokens


async def test_wrong_tokens_are_slowed_down_and_right_ones_are_not(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guesses, "PAUSE_FIRST_S", 60.0)
    monkeypatch.setattr(guesses, "PAUSE_MAX_S", 60.0)
    wrong = {"Authorization": "Bearer dte_c_wrong"}
    for _ in range(guesses.FREE):
        assert (await office.by(None, "GET", "/jobs", **wrong)).status == 401
    slow = asyncio.create_task(office.by(None, "GET", "/jobs", **wrong))
    assert (await office.by("client", "GET", "/jobs")).status == 200
    assert not slow.done()
    slow.cancel()


# Browsers


async def test_pages_of_other_sites_are_refused_with_a_token_and_without(
    office: Office, rig: Rig
) -> None:
    for headers, status in (
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Host": "evil.example"}, 421),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 421),
    ):
        for path in ("/submit", "/job/1/cancel", "/worker", "/result", "/nothing", "/backup"):
            assert (await office.by("admin", "POST", path, **headers)).status == status
            assert (await rig.ask("POST", path, {}, **headers)).status == status
        assert (await rig.ask("GET", "/live", **headers)).status == status
    assert rig.master.core.jobs.last == office.master.core.jobs.last == 0


async def test_replies_are_kept_from_other_pages_and_from_the_disk(rig: Rig) -> None:
    for path in ("/jobs", "/job/1", "/nothing", "/live"):
        headers = (await rig.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]


HTML = {"Accept": "text/html,*/*"}
FORM = {"Content_Type": "application/x-www-form-urlencoded"}


async def test_a_browser_logs_in_by_the_form(office: Office) -> None:
    page = await office.by(None, "GET", "/docs?a=1", **HTML)
    assert page.status == 401
    text = page.body.decode()
    assert 'action="session"' in text
    assert 'value="docs?a=1"' in text
    body = f"next=docs%3Fa%3D1&token={office.tokens['reader']}".encode()
    reply = await office.by(None, "POST", "/session", body, **FORM)
    assert (reply.status, reply.headers["location"]) == (303, "docs?a=1")
    cookie = reply.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert office.tokens["reader"] not in cookie
    session = {"Cookie": cookie.partition(";")[0]}
    assert (await office.by(None, "GET", "/docs", **HTML, **session)).status == 200
    assert (await office.by(None, "POST", "/submit", {"task": "1"}, **session)).status == 403
    known = await office.by(None, "GET", "/session", **session)
    assert known.json == {"name": "reader", "role": "reader"}
    assert (await office.by(None, "DELETE", "/session", **session)).status == 204
    assert (await office.by(None, "GET", "/jobs", **session)).status == 401


async def test_a_wrong_token_in_the_form_shows_the_form_again(office: Office) -> None:
    reply = await office.by(None, "POST", "/session", b"token=x&next=docs", **FORM)
    assert reply.status == 401
    assert "the token is unknown or has expired" in reply.body.decode()
    reply = await office.by(None, "POST", "/session", {"token": "x"})
    assert (reply.status, reply.json["code"]) == (401, "unauthorized")


@pytest.mark.parametrize(
    "wanted", ["//evil.example", "http:", "https://evil.example", "/x", "a//b"]
)
async def test_the_form_leads_to_no_other_site(office: Office, wanted: str) -> None:
    body = f"next={wanted}&token={office.tokens['reader']}".encode()
    reply = await office.by(None, "POST", "/session", body, **FORM)
    assert (reply.status, reply.headers["location"]) == (303, "docs")
    page = await office.by(None, "GET", '/"><script>', **HTML)
    assert b"<script>" not in page.body


async def test_a_link_logs_in_once(office: Office) -> None:
    reply = await office.by("reader", "POST", "/session/link")
    path = "/" + reply.json["path"]
    followed = await office.by(None, "GET", path, **HTML)
    assert (followed.status, followed.headers["location"]) == (303, "docs")
    session = {"Cookie": followed.headers["set-cookie"].partition(";")[0]}
    assert (await office.by(None, "GET", "/jobs", **session)).status == 200
    assert (await office.by(None, "GET", path)).status == 401
    page = await office.by(None, "GET", path, **HTML)
    assert page.status == 401
    assert 'value="docs"' in page.body.decode(), "the used link would lead nowhere again"
    assert "the link is used or too old" in page.body.decode()


# Every route, with every wrong token

MARK = "m4rk3r"


async def test_no_reply_to_others_has_a_word_of_a_clients_jobs(office: Office) -> None:
    """Requests of every route, as they are documented, without a token and with others'."""
    await _mark_jobs(office)
    office.tokens["wrong"] = "dte_c_" + "x" * 43
    for name in (None, "wrong", "other"):
        for route in ROUTES:
            for method, function in route.methods():
                await _try_all(office, name, method.upper(), route, documentation(function))
    assert MARK in json.dumps((await office.by("client", "GET", "/jobs")).json)


async def _mark_jobs(office: Office) -> None:
    """Submit jobs of a client in all dialects, each with the mark in all its texts."""
    for path, body in (
        ("/submit", {"task": f"1+{MARK}(2)"}),
        ("/jobs", {"handler": MARK, "args": [MARK]}),
        ("/jobs", {"graph": {MARK: {"handler": "h", "kwargs": {MARK: MARK}}}}),
        ("/tasks", {"id": MARK, "name": MARK, "handler": MARK, "metadata": {MARK: MARK}}),
        ("/submit-task", {"task_type": MARK, "task_data": {MARK: MARK}}),
    ):
        headers = {"Idempotency_Key": MARK} if path == "/jobs" and "handler" in body else {}
        reply = await office.by("client", "POST", path, body, **headers)
        assert reply.status in (200, 201), (path, reply.body)


async def _try_all(office: Office, name: str | None, method: str, route: Any, known: Any) -> None:
    paths = {re.sub(r"\{\w+(:int)?\}", number, route.path) for number in ("1", "2", "3", "4", "5")}
    paths |= {re.sub(r"\{\w+(:int)?\}", text, route.path) for text in (MARK, f"{4:016x}")}
    bodies = [None, *({} if known is None else known.examples).values()] if method != "GET" else []
    for path in paths:
        for body in bodies or [None]:
            told = f"{path}?ids=1-5" if path == "/jobs" and method == "GET" else path
            status, text = await _told(office, name, method, told, body)
            # An error may quote what was asked.
            assert text.count(MARK) <= path.count(MARK), (name, method, path, text)
            assert status < 500, (name, method, path, text)
            if name != "other" and route.may[method.lower()]:
                assert status == 401, (name, method, path, text)


async def _told(
    office: Office, name: str | None, method: str, path: str, body: Any
) -> tuple[int, str]:
    """The status of a reply, and its text; of a stream its beginning."""
    line = await open_line(office.port)
    headers = {} if name is None else {"Authorization": f"Bearer {office.tokens[name]}"}
    office.master.access.guesses._known.clear()  # Pauses are for other tests.
    await line.send(request_bytes(method, path, body, **headers))
    start, fields = read_head(await line.reader.readuntil(b"\r\n\r\n"))
    if "content-length" in fields:
        text = await line.reader.readexactly(int(fields["content-length"]))
    else:
        text = await _begin(line) if int(start[1]) == 200 else b""
    line.close()
    return int(start[1]), text.decode()


async def _begin(line: Line) -> bytes:
    try:
        async with asyncio.timeout(0.2):
            return await line.reader.readexactly(100_000)
    except (TimeoutError, asyncio.IncompleteReadError):
        return bytes(line.reader._buffer)  # type: ignore[attr-defined]
