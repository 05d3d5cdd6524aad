from __future__ import annotations

import io
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from harness.http import Line, Message, open_line, request_bytes
from harness.until import until

from dte.master.journal import copying
from master.rig import Rig, StartMaster

LONG = "1+" + " " * 8_000_000 + "1"
"""A copy of this formula does not fit into the buffers of a connection."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "dte.db"


class Gate:
    """Holds a copy of a journal in its first step.

    Attributes:
        reached: set when a copy waits.
        open: set while copies may go on.
    """

    def __init__(self) -> None:
        self.reached, self.open = threading.Event(), threading.Event()


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate()

    def wait(_folder: Path, size: int) -> None:
        if not size:
            made.reached.set()
            assert made.open.wait(timeout=20)

    monkeypatch.setattr(copying, "_ensure_room", wait)
    yield made
    made.open.set()


async def ask(rig: Rig) -> Line:
    """Ask for a copy, and leave it to the caller to take it."""
    line = await open_line(rig.port)
    await line.send(request_bytes("POST", "/backup"))
    return line


async def take(line: Line) -> Message:
    reply = await line.read("POST")
    assert reply is not None
    line.close()
    return reply


async def test_a_copy_has_the_jobs_of_a_master_that_goes_on(
    start_master: StartMaster, path: Path
) -> None:
    rig = await start_master(journal=str(path))
    first = await rig.submit("1+1")
    reply = await rig.post("/backup")
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/vnd.sqlite3"
    assert reply.headers["content-length"] == str(len(reply.body))
    second = await rig.submit("2+2")
    copy = path.with_name("copy.db")
    copy.write_bytes(reply.body)
    with closing(sqlite3.connect(copy)) as db:
        assert db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert db.execute("SELECT number FROM waiting").fetchall() == [(first,)]
    copy.write_bytes(reply.body)
    restored = await start_master(journal=str(copy))
    assert [job["job_id"] for job in (await restored.get("/jobs")).json] == [first]
    assert await restored.submit("3+3") == second


async def test_a_master_in_memory_has_nothing_to_copy_and_says_so(rig: Rig) -> None:
    reply = await rig.post("/backup")
    assert reply.status == 409
    assert "--journal none" in reply.json["error"]


async def test_jobs_are_accepted_and_copied_while_a_copy_is_made(
    start_master: StartMaster, path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "PAGES_A_STEP", 1)
    rig = await start_master(journal=str(path))
    line = await ask(rig)
    await until(gate.reached.is_set, "the copy has begun")
    gate.open.set()
    numbers = [await rig.submit("1+1") for _ in range(5)]
    reply = await take(line)
    assert reply.status == 200
    assert numbers == [1, 2, 3, 4, 5]


async def test_one_copy_is_made_at_a_time_until_it_is_taken(
    start_master: StartMaster, path: Path, gate: Gate
) -> None:
    rig = await start_master(journal=str(path))
    await rig.submit(LONG)
    line = await ask(rig)
    await until(gate.reached.is_set, "the copy has begun")
    assert (await rig.post("/backup")).status == 409
    gate.open.set()
    first = await line.reader.read(1)
    assert first
    assert (await rig.post("/backup")).status == 409, "it has not been taken"
    line.reset()
    await until(lambda: not rig.master.recorder._has_copy, "the copy is given up")  # type: ignore[union-attr]
    assert (await rig.post("/backup")).status == 200


async def test_a_client_that_hangs_up_ends_the_copy(
    start_master: StartMaster, path: Path, gate: Gate
) -> None:
    rig = await start_master(journal=str(path))
    line = await ask(rig)
    await until(gate.reached.is_set, "the copy has begun")
    line.reset()
    await until(lambda: rig.master.recorder._stop_copying.is_set(), "it is to stop")  # type: ignore[union-attr]
    gate.open.set()
    await until(lambda: not rig.master.recorder._has_copy, "it has stopped")  # type: ignore[union-attr]
    assert sorted(os.listdir(path.parent)) == ["dte.db", "dte.db-wal"]


async def test_a_master_that_ends_in_the_midst_of_a_copy_leaves_one_whole_file(
    start_master: StartMaster, path: Path, gate: Gate
) -> None:
    rig = await start_master(journal=str(path))
    number = await rig.submit("1+1")
    line = await ask(rig)
    await until(gate.reached.is_set, "the copy has begun")
    gate.open.set()
    await rig.stop()
    line.close()
    assert os.listdir(path.parent) == ["dte.db"]
    again = await start_master(journal=str(path))
    assert [job["job_id"] for job in (await again.get("/jobs")).json] == [number]


async def test_the_blocks_of_a_copy_are_freed_beside_the_loop(
    start_master: StartMaster, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a gigabyte that takes half a second, in which nobody would be answered."""
    rig = await start_master(journal=str(path))
    journal = rig.master.recorder._journal  # type: ignore[union-attr]
    copy, closed_in = journal.copy, []

    class Watched(io.FileIO):
        def close(self) -> None:
            if not self.closed:
                closed_in.append(threading.get_ident())
            super().close()

    def watched(between: Callable[[], None]) -> Watched:
        with copy(between) as file:
            return Watched(os.dup(file.fileno()))

    monkeypatch.setattr(journal, "copy", watched)
    assert (await rig.post("/backup")).status == 200
    await until(lambda: closed_in, "the copy is closed")
    assert closed_in != [threading.get_ident()]


@pytest.mark.parametrize(
    "error", [sqlite3.OperationalError("disk I/O error"), OSError(24, "Too many open files")]
)
async def test_a_copy_that_cannot_be_written_is_an_error_of_the_copy(
    start_master: StartMaster, path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(*_: object) -> None:
        raise error

    rig = await start_master(journal=str(path))
    monkeypatch.setattr(copying, "make_complete", fail)
    reply = await rig.post("/backup")
    assert reply.status == 503
    assert "could not be copied" in reply.json["error"]
    assert sorted(os.listdir(path.parent)) == ["dte.db", "dte.db-wal"]
    await rig.submit("1+1")


async def test_without_room_for_a_copy_the_reply_says_how_much_it_needs(
    start_master: StartMaster, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = await start_master(journal=str(path))
    monkeypatch.setattr(copying, "RESERVE_BYTES", 10**18)
    reply = await rig.post("/backup")
    assert reply.status == 507
    assert "MB are free" in reply.json["error"]
    await rig.submit("1+1")
