"""Rows that SQLite refuses: their jobs fail, and the journal serves all others."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from tornado.ioloop import IOLoop

from dte.master.journal.schema import JournalFailed
from master.calling import claim, claim_one, report
from master.rig import Rig, StartMaster

from .book import Book

LENGTH_MAX = 1_500_000
"""Longer than the texts in which short rows go together."""
LONG = "x" * 2_000_000
HANDLERS = {"pure": {"pure": True}, "effect": {}}


@pytest.fixture
def rig(
    io_loop: IOLoop, start_master: StartMaster, tmp_path: Path, expected_errors: list[str]
) -> Rig:
    """A master whose SQLite takes no long values, as any does from 1 GB on."""
    expected_errors.append("the journal refused")
    rig = io_loop.run_sync(lambda: start_master(journal=str(tmp_path / "journal.db")))
    rig.master.recorder._journal._db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LENGTH_MAX)
    return rig


async def is_well(rig: Rig) -> bool:
    health = (await rig.get("/health")).json
    return health["status"] == "ok" and (await rig.compute("3"))["answer"] == 3


async def test_a_job_that_cannot_be_recorded_is_refused_and_the_others_are_accepted(
    rig: Rig,
) -> None:
    long = {"handler": "effect", "args": [LONG]}
    replies = await asyncio.gather(
        *(rig.post("/jobs", long if at == 3 else {"formula": f"{at}"}) for at in range(6))
    )
    assert [reply.status for reply in replies] == [201, 201, 201, 413, 201, 201]
    assert "cannot be recorded: " in replies[3].json["error"]
    assert "SQLITE_TOOBIG" in replies[3].json["error"]
    for at in (0, 1, 2, 4, 5):
        assert (await rig.job(replies[at].json["job_id"], wait_s=20))["answer"] == at
    assert await is_well(rig)


@pytest.mark.parametrize("handler", ["effect", "pure"])
@pytest.mark.parametrize("last", ["long", "short"])
async def test_a_result_that_cannot_be_recorded_fails_its_job_alone(
    rig: Rig, start_master: StartMaster, handler: str, last: str
) -> None:
    other = await rig.accept(handler="other", args=[])
    assert await claim(rig, handlers=HANDLERS, wait=0) == []
    graph = {name: {"handler": handler, "args": [name]} for name in ("long", "short")}
    graph[last]["after"] = [name for name in graph if name != last]
    number = await rig.accept(graph=graph, answer="long")
    for _ in graph:
        calls = await claim(rig, handlers=HANDLERS, wait=1)
        for call in calls:
            result = LONG if call["node"] == "long" else 1
            await report(rig, call["lease"], result=result)
    job = await rig.job(number, wait_s=20)
    assert (job["state"], job["answer"]) == ("failed", None)
    assert "cannot be recorded: string or blob too big (SQLITE_TOOBIG)" in job["error"]
    nodes = await rig.nodes(number)
    assert await is_well(rig)
    await report(rig, (await claim_one(rig, handlers=["other"]))["lease"], result=2)
    assert (await rig.job(other, wait_s=20))["answer"] == 2
    await rig.stop()
    rig = await start_master(journal=rig.master.settings.journal)
    again = await rig.job(number)
    assert (again["state"], again["error"]) == (job["state"], job["error"])
    if handler == "effect":
        for name, node in (await rig.nodes(number)).items():
            assert (node["state"], node["error"]) == (nodes[name]["state"], nodes[name]["error"])
        assert nodes["long"]["state"] == "failed", "also before the restart"
    retry = (await rig.post(f"/job/{number}/retry")).json["job_id"]
    assert (await rig.nodes(retry))["long"]["state"] in ("waiting", "ready")


async def test_an_end_that_is_refused_whatever_it_says_keeps_no_other_from_being_written(
    rig: Rig,
) -> None:
    numbers = [await rig.accept(handler="effect", args=[at]) for at in range(3)]
    rig.master.recorder._journal._db.execute(
        f"CREATE TEMP TRIGGER no BEFORE INSERT ON main.ended WHEN NEW.number = {numbers[1]} "
        "BEGIN SELECT raise(ABORT, 'no such job'); END"
    )
    cancels = [asyncio.create_task(rig.post(f"/job/{number}/cancel", {})) for number in numbers[1:]]
    assert (await cancels[1]).status == 200
    assert (await rig.job(numbers[2], wait_s=20))["state"] == "cancelled"
    assert await is_well(rig)
    await report(rig, (await claim_one(rig, handlers=["effect"]))["lease"], result=2)
    assert (await rig.job(numbers[0], wait_s=20))["answer"] == 2
    assert not (await rig.job(numbers[1]))["finished"]
    assert await is_well(rig)
    cancels[0].cancel()


def test_facts_that_are_tried_leave_nothing_behind(tmp_path: Path) -> None:
    book = Book(tmp_path / "dte.db")
    book.accept("1+1", key="a")
    facts = book.jobs.facts()
    assert facts is not None
    assert not book.journal.refused(facts, book.now)
    assert (book.count("waiting"), book.count("submission")) == (0, 0)
    book.journal.write(facts, book.now)
    assert (book.count("waiting"), book.count("submission")) == (1, 1)
    book.close()


def test_a_file_that_fails_refuses_no_fact(tmp_path: Path) -> None:
    book = Book(tmp_path / "dte.db")
    book.accept("1+1")
    facts = book.jobs.facts()
    assert facts is not None
    book.journal._db.execute("PRAGMA query_only = ON")
    with pytest.raises(JournalFailed) as caught:
        book.journal.refused(facts, book.now)
    assert not caught.value.of_row
    book.close()
