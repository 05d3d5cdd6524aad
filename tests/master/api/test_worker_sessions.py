"""Nobody takes over, drains, reports for or occupies a worker that has a session."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from harness.http import Dial, Line, Message, ServePlainly, request_bytes
from harness.until import until
from tornado.ioloop import IOLoop

from dte.master import presence
from master import fakes
from master.calling import copied
from master.rig import Rig, StartMaster

NAME = "puller"
SECRET = "s" * 43
OTHER_SECRET = "t" * 43


def shown(session: str) -> dict[str, str]:
    return {"X-Dte-Session": session} if session else {}


async def claim(rig: Rig, session: str = "", status: int = 200, **more: Any) -> Any:
    """Claim as a worker of dte does, or as a stranger; the reply."""
    said = {"worker": NAME, "handlers": ["echo"], "incarnation": "a", "sessions": True}
    reply = await rig.post("/claim", said | {"wait": 0} | more, **shown(session))
    assert reply.status == status, reply.json
    return reply.json


async def claimed(rig: Rig, **more: Any) -> tuple[str, int, int]:
    """A worker with a call: its session, its lease and the job."""
    number = await rig.accept(handler="echo", args=[1])
    reply = await claim(rig, wait=20, **more)
    (call,) = reply["calls"]
    return reply["session"], call["lease"], number


async def report(rig: Rig, lease: int, session: str = "", worker: str = NAME) -> Message:
    body = {"worker": worker, "results": [{"lease": lease, "result": "FORGED"}]}
    return await rig.post("/result", body, **shown(session))


class Called:
    """A worker with a secret, on a port of its own.

    Attributes:
        requests: what came, without greetings.
        greetings: how many came.
    """

    def __init__(self, secret: str = SECRET) -> None:
        self.secret = secret
        self.requests: list[Message] = []
        self.greetings = 0

    async def conduct(self, request: Message, line: Line) -> None:
        if request.path == "/hello":
            self.greetings += 1
            challenge = request.json["challenge"].encode()
            proof = hmac.new(self.secret.encode(), challenge, hashlib.sha256).hexdigest()
            await line.reply(200, {"proof": proof})
            return
        self.requests.append(request)
        if request.body and "calls" in request.json:
            await line.reply(202, {})
        else:
            await fakes.good(request, line)


async def announce(
    rig: Rig, port: int, session: str = "", status: int = 200, **more: Any
) -> dict[str, Any]:
    said = {"worker_name": "w", "port": port, "incarnation": "a", "batch_max": 64}
    said |= {"handlers": ["echo"], "handler_slots": 4, "secret": SECRET}
    sent = {name: value for name, value in (said | more).items() if value is not None}
    reply = await rig.post("/worker", sent, **shown(session))
    assert reply.status == status, reply.json
    return dict(reply.json)


# Reports and extensions


@pytest.mark.parametrize("session", ["", "x" * 43])
@pytest.mark.parametrize("worker", [NAME, "another"])
async def test_nobody_reports_for_another(rig: Rig, session: str, worker: str) -> None:
    own, lease, number = await claimed(rig)
    refused = await report(rig, lease, session, worker)
    assert refused.json.get("accepted", []) == []
    assert refused.status == (200 if session else 403)
    guessed = await rig.post(
        "/result",
        {"worker": NAME, "results": [{"lease": lease + n, "result": "GUESSED"} for n in range(49)]},
    )
    assert guessed.json.get("accepted", []) == []
    assert not (await rig.job(number))["finished"]
    assert (await report(rig, lease, own)).json["accepted"] == [lease]


async def test_the_refusal_of_a_report_names_the_header(rig: Rig) -> None:
    _, lease, _ = await claimed(rig)
    assert "X-Dte-Session" in (await report(rig, lease)).json["error"]


async def test_nobody_extends_for_another(rig: Rig) -> None:
    own, lease, _ = await claimed(rig)
    body = {"worker": NAME, "leases": [lease], "progress": {str(lease): {"fraction": 0.5}}}
    assert (await rig.post("/extend", body)).status == 403
    wrong = await rig.post("/extend", body, **shown("x" * 43))
    assert (wrong.json["extended"], wrong.json["lost"]) == ([], [lease])
    (known,) = rig.master.core.calls.leases
    assert known.call.progress is None
    assert (await rig.post("/extend", body, **shown(own))).json["extended"] == [lease]


async def test_progress_in_a_report_is_nobody_else_s_either(rig: Rig) -> None:
    _, lease, _ = await claimed(rig)
    result = {"lease": lease, "error": "no", "progress": {"fraction": 0.5}}
    reply = await rig.post("/result", {"worker": NAME, "results": [result]})
    assert reply.status == 403
    (known,) = rig.master.core.calls.leases
    assert known.call.progress is None


async def test_nobody_reports_arithmetic_for_another(rig: Rig) -> None:
    number = await rig.submit("2+2")
    reply = await claim(rig, batch_max=64, wait=20)
    (batch,) = reply["batches"]
    body = {"worker": NAME, "batches": [{"lease": batch["lease"], "results": [666]}]}
    for session in ("", "x" * 43):
        assert (await rig.post("/result", body, **shown(session))).json["accepted"] == []
    body["batches"] = [{"lease": batch["lease"], "results": [4]}]
    await rig.post("/result", body, **shown(reply["session"]))
    assert (await rig.job(number, wait_s=20))["answer"] == 4


async def test_a_lease_of_a_worker_without_a_session_needs_none(rig: Rig) -> None:
    await rig.accept(handler="echo", args=[1])
    said = {"worker": "shell", "handlers": ["echo"], "wait": 20}
    reply = await rig.post("/claim", said)
    assert "session" not in reply.json
    (call,) = reply.json["calls"]
    assert (await report(rig, call["lease"], worker="shell")).json["accepted"] == [call["lease"]]


# Names


@pytest.mark.parametrize("incarnation", ["", "b"])
async def test_nobody_takes_a_name_while_its_worker_waits_for_work(
    rig: Rig, incarnation: str
) -> None:
    session = (await claim(rig))["session"]
    said = {"worker": NAME, "handlers": ["echo"], "incarnation": "a", "sessions": True, "wait": 20}
    waiting = asyncio.create_task(rig.post("/claim", said, **shown(session)))
    await until(lambda: rig.master.workers._claims, "it waits")
    await claim(rig, status=409, incarnation=incarnation)
    await claim(rig, status=409, incarnation=incarnation, sessions=False)
    await claim(rig, "x" * 43, status=409, incarnation=incarnation)
    assert len(rig.master.workers._claims) == 1, "the first still waits"
    await rig.accept(handler="echo", args=[1])
    assert len((await waiting).json["calls"]) == 1


@pytest.mark.parametrize("session", ["", "x" * 43])
async def test_nobody_drains_another(rig: Rig, session: str) -> None:
    own, lease, _ = await claimed(rig)
    for incarnation in ("", "a", "b"):
        await claim(rig, session, status=409, incarnation=incarnation, draining=True)
    assert rig.master.core.calls.leases.get(lease) is not None
    await claim(rig, own, draining=True)
    (worker,) = rig.master.core.workers()
    assert worker.state == "draining"
    assert (await report(rig, lease, own)).json["accepted"] == [lease]


async def test_the_same_start_gets_its_session_again(rig: Rig) -> None:
    own, lease, _ = await claimed(rig)
    assert (await claim(rig))["session"] == own
    assert rig.master.core.calls.leases.get(lease) is not None


async def test_a_worker_that_hung_up_without_work_is_replaced_at_once(rig: Rig, dial: Dial) -> None:
    said = {"worker": NAME, "incarnation": "a", "sessions": True, "wait": 20}
    line = await dial(rig.port)
    await line.send(request_bytes("POST", "/claim", said))
    await until(lambda: rig.master.workers._claims, "it waits")
    line.close()
    await until(lambda: not rig.master.workers._claims, "it waits no more")
    assert (await claim(rig, incarnation="b"))["session"]


# Addresses


async def test_a_worker_with_a_secret_gets_work_and_is_shown_it(
    rig: Rig, serve_plainly: ServePlainly
) -> None:
    called = Called()
    worker = await serve_plainly(called.conduct)
    session = (await announce(rig, worker.port))["session"]
    assert (await rig.compute("1+2"))["answer"] == 3
    await rig.accept(handler="echo", args=[1])
    await until(lambda: len(called.requests) == 2, "a call")
    assert called.greetings
    for request in called.requests:
        assert request.headers["authorization"] == f"Bearer {SECRET}"
    lease = called.requests[1].json["calls"][0]["lease"]
    assert (await report(rig, lease, worker="w")).status == 403
    assert (await report(rig, lease, session, "w")).json["accepted"] == [lease]


async def test_a_program_without_the_secret_gets_nothing_but_greetings(
    rig: Rig, serve_plainly: ServePlainly, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence, "CHECK_AFTER_S", 0.0)
    other = Called(OTHER_SECRET)
    port = (await serve_plainly(other.conduct)).port
    await announce(rig, port)
    number = await rig.accept(handler="echo", args=["alice", 12_345])
    formula = await rig.submit("1+2")
    await until(lambda: rig.worker(port).unreachable, "it is found out")
    assert not (await rig.job(number))["finished"]
    assert not (await rig.job(formula))["finished"]
    assert other.greetings
    assert other.requests == []
    (call,) = (await rig.nodes(number)).values()
    assert call["attempts"] == 0


async def test_no_text_of_a_stranger_s_reply_is_shown(
    rig: Rig, serve_plainly: ServePlainly, caplog: pytest.LogCaptureFixture
) -> None:
    async def mark(request: Message, line: Line) -> None:
        await line.reply(418, {"error": "MARK", "worker_name": "MARK", "status": "MARK"})

    caplog.set_level(logging.DEBUG, "dte.master")
    port = (await serve_plainly(mark)).port
    await announce(rig, port, secret=None)
    await rig.accept(handler="echo", args=[1])
    await until(lambda: rig.worker(port).failures, "it fails")
    reply = await announce(rig, port, secret=None)
    listed = (await rig.get("/worker")).body
    assert b"418" in listed
    assert "MARK" not in f"{reply}{listed!r}{caplog.text}"


async def test_nobody_takes_the_address_of_a_worker_that_listens_there(
    rig: Rig, serve_plainly: ServePlainly
) -> None:
    called = Called()
    port = (await serve_plainly(called.conduct)).port
    session = (await announce(rig, port))["session"]
    await rig.accept(handler="echo", args=[1])
    await until(lambda: called.requests, "a call")
    other = {"secret": OTHER_SECRET, "incarnation": "b"}
    await announce(rig, port, status=409, **other)
    await announce(rig, port, status=409, worker_name="mallory", **other)
    await announce(rig, port, status=409, secret=None, incarnation=None)
    await announce(rig, port, status=409, secret=None, incarnation="b")
    await announce(rig, port, status=409, draining=True)
    assert rig.worker(port).announcement.name == "w"
    assert rig.worker(port).state == "busy"
    lease = called.requests[0].json["calls"][0]["lease"]
    assert (await report(rig, lease, session, "w")).json["accepted"] == [lease]


async def test_nobody_takes_the_port_of_a_worker_by_saying_that_it_speaks_tls(
    rig: Rig, serve_plainly: ServePlainly
) -> None:
    port = (await serve_plainly(Called().conduct)).port
    await announce(rig, port)
    for more in ({"secret": None}, {"secret": OTHER_SECRET}, {"secret": None, "draining": True}):
        await announce(rig, port, status=409, tls=True, incarnation="b", **more)
    assert rig.worker(port).announcement.name == "w"


async def test_a_restart_at_the_address_is_taken_at_its_word_once_it_proves_it(
    rig: Rig, serve_plainly: ServePlainly
) -> None:
    called = Called()
    port = (await serve_plainly(called.conduct)).port
    first = (await announce(rig, port))["session"]
    await rig.accept(handler="echo", args=[1])
    await until(lambda: called.requests, "a call")
    called.secret = OTHER_SECRET
    second = (await announce(rig, port, secret=OTHER_SECRET, incarnation="b"))["session"]
    assert second != first
    await until(lambda: len(called.requests) == 2, "the call is handed over again")
    lease = called.requests[0].json["calls"][0]["lease"]
    assert (await report(rig, lease, first, "w")).json["stale"] == [lease]


async def test_a_program_without_a_secret_gets_the_address_of_one_that_has_ended(
    rig: Rig, serve_plainly: ServePlainly
) -> None:
    called = Called()
    port = (await serve_plainly(called.conduct)).port
    await announce(rig, port)
    called.secret = OTHER_SECRET
    await announce(rig, port, secret=None, incarnation=None, worker_name="seed")
    assert (await rig.compute("1+2"))["answer"] == 3


async def test_a_secret_is_not_shown_and_not_kept(
    rig: Rig, serve_plainly: ServePlainly, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    called = Called()
    port = (await serve_plainly(called.conduct)).port
    session = (await announce(rig, port, incarnation="INCARNATION"))["session"]
    await rig.accept(handler="echo", args=[1])
    await until(lambda: called.requests, "a call")
    await announce(rig, port, status=409, incarnation="b", secret=OTHER_SECRET)
    refused = await rig.post("/worker", {"worker_name": "w", "port": port, "secret": SECRET})
    assert refused.status == 400
    seen = [(await rig.get(path)).body.decode() for path in ("/worker", "/workers", "/health")]
    seen += [refused.body.decode(), caplog.text]
    for hidden in (SECRET, session, "INCARNATION"):
        assert hidden not in "".join(seen)
    assert SECRET not in f"{rig.worker(port)!r}{list(rig.master._pool._idle)}"


@pytest.mark.parametrize(
    "secret", ["short", "s" * 15, "s" * 201, "s" * 20 + "\r\nX: y", "s" * 20 + "é"]
)
async def test_a_secret_that_cannot_be_shown_is_refused(rig: Rig, secret: str) -> None:
    assert secret not in (await announce(rig, 6000, status=400, secret=secret))["error"]


# Restarts of the master


@pytest.fixture
def rig_on_disk(io_loop: IOLoop, start_master: StartMaster, tmp_path: Path) -> Rig:
    return io_loop.run_sync(lambda: start_master(journal=str(tmp_path / "journal.db")))


def journal_of(rig: Rig) -> str:
    return rig.master.settings.journal


async def test_a_result_of_before_a_restart_counts_for_its_session_alone(
    rig_on_disk: Rig, start_master: StartMaster, tmp_path: Path
) -> None:
    session, lease, number = await claimed(rig_on_disk)
    again = await start_master(journal=copied(journal_of(rig_on_disk), tmp_path / "copy.db"))
    await until(lambda: again.master.core.calls.leases.get(lease), "the job is read")
    assert (await report(again, lease)).status == 403
    assert (await report(again, lease, "x" * 43)).json["accepted"] == []
    assert (await claim(again, "", incarnation="b"))["session"] != session
    assert (await report(again, lease, session)).json["accepted"] == [lease]
    assert (await again.job(number, wait_s=20))["answer"] == "FORGED"


async def test_a_worker_goes_on_with_its_session_after_a_restart(
    rig_on_disk: Rig, start_master: StartMaster, tmp_path: Path
) -> None:
    session, lease, _ = await claimed(rig_on_disk)
    again = await start_master(journal=copied(journal_of(rig_on_disk), tmp_path / "copy.db"))
    assert (await claim(again, session))["session"] == session
    await until(lambda: again.master.core.calls.leases.get(lease), "the job is read")
    body = {"worker": NAME, "leases": [lease]}
    assert (await again.post("/extend", body, **shown(session))).json["extended"] == [lease]
    assert (await claim(again, session))["session"] == session
    (worker,) = again.master.core.workers()
    assert worker.call_leases == {lease}


async def test_the_journal_has_the_digest_of_a_session_alone(
    rig_on_disk: Rig, start_master: StartMaster, tmp_path: Path
) -> None:
    session, lease, _ = await claimed(rig_on_disk)
    path = copied(journal_of(rig_on_disk), tmp_path / "copy.db")
    digest = hashlib.sha256(session.encode()).hexdigest()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT lease, session FROM call").fetchall() == [(lease, digest)]
    assert session.encode() not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
