"""Receiving a copy of a journal: all of it, or an error."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest
from harness.machine import free_port
from harness.master_thread import MasterThread

import dte
from dte.client.backup import Backup
from dte.client.errors import MasterFault
from dte.wire.access import Access

from .impostor import REFUSALS, Cut, Impostor, reply

Start = Callable[..., Impostor]
"""The fixture `impostor`."""


def test_a_copy_comes_in_pieces_that_are_the_whole(impostor: Start) -> None:
    content = "x" * 600_000
    master = impostor(reply(content))
    with closing(Backup(Access(master.url))) as backup:
        assert backup.size == len(content)
        assert b"".join(backup.pieces()) == content.encode()
    assert master.requests == ["POST /backup HTTP/1.1"]


def test_a_copy_that_is_cut_off_is_an_error_that_says_how_much_there_is(impostor: Start) -> None:
    whole = reply("x" * 1_000)
    master = impostor(Cut(whole[:-400]))
    with (
        closing(Backup(Access(master.url))) as backup,
        pytest.raises(dte.Unreachable, match="600 of 1000 bytes"),
    ):
        list(backup.pieces())


@pytest.mark.parametrize(("answer", "error"), REFUSALS)
def test_a_refusal_is_raised_at_once(
    impostor: Start, answer: bytes, error: type[Exception]
) -> None:
    master = impostor(answer)
    with pytest.raises(error, match="the master's words"):
        Backup(Access(master.url))


def test_a_reply_without_a_length_is_no_copy(impostor: Start) -> None:
    master = impostor(Cut(b"HTTP/1.1 200 OK\r\n\r\nhello"))
    with pytest.raises(MasterFault):
        Backup(Access(master.url))


def test_a_master_that_is_not_there_is_unreachable() -> None:
    with pytest.raises(dte.Unreachable, match="no reply from"):
        Backup(Access(f"http://127.0.0.1:{free_port()}"))


def test_a_master_in_memory_refuses() -> None:
    with MasterThread() as master, pytest.raises(dte.Conflict, match="in memory"):
        Backup(Access(master.url))
