"""Streams of events: read in pieces, over as many connections as it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import aclosing, closing
from itertools import islice

import pytest

import dte
from dte.client.events import EventReader
from dte.wire.codec import encode

from .impostor import Cut, Impostor, refusal, reply

Impostors = Callable[..., Impostor]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"
BEGIN = b"retry: 1000\nid: 30\n\n"


def event(number: int, kind: str = "job", node: str = "", state: str = "running") -> bytes:
    data = {"job_id": 1, "state": state, "at": "2026-11-21T03:18:30.5Z"}
    data |= {"node": node} if node else {}
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (number, kind.encode(), encode(data))


def chunks(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


def ids(events: Iterator[dte.Event]) -> list[int]:
    return [event.id for event in events]


# Reading


def test_events_are_the_same_however_the_stream_is_cut_into_pieces() -> None:
    stream = BEGIN + event(31) + b": heartbeat\nid: 40\n\n" + event(41, "node", "ä", "failed")
    whole = list(EventReader().feed(stream))
    assert [(each.id, each.kind, each.node, each.state) for each in whole] == [
        (31, "job", "", "running"),
        (41, "node", "ä", "failed"),
    ]
    for size in (1, 2, 7):
        reader = EventReader()
        pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert [each for piece in pieces for each in reader.feed(piece)] == whole
        assert reader.last_id == 41


def test_a_comment_moves_the_place_to_go_on_from_and_is_no_event() -> None:
    reader = EventReader()
    assert not list(reader.feed(b": heartbeat\nid: 77\n\n"))
    assert reader.last_id == 77


def test_what_was_missed_says_how_much() -> None:
    (missed,) = EventReader().feed(b'id: 9\nevent: missed\ndata: {"missed":4}\n\n')
    assert (missed.kind, missed.missed, missed.id) == ("missed", 4, 9)


@pytest.mark.parametrize("stream", [b"data: {\n\n", b"x" * 1_000_001, b"data: [1]\n\n"])
def test_what_is_no_stream_of_a_master_is_its_fault(stream: bytes) -> None:
    with pytest.raises(dte.MasterFault):
        list(EventReader().feed(stream))


# Over connections


FIRST = Cut(HEAD + chunks(BEGIN, event(31), event(33, "node", "a")[:20]) + END)
SECOND = Cut(HEAD + chunks(b"retry: 1000\nid: 31\n\n", event(33, "node", "a")) + END)
THIRD = HEAD + chunks(event(35, state="succeeded"))


@pytest.mark.usefixtures("no_pauses")
def test_a_stream_that_is_cut_goes_on_after_the_last_event(impostor: Impostors) -> None:
    server = impostor(FIRST, SECOND, THIRD)
    with dte.Client(server.url) as client:
        assert ids(client.events(1)) == [31, 33, 35]
    assert server.requests == ["GET /job/1/events HTTP/1.1"] * 3
    assert server.last_ids == ["", "31", "33"]


@pytest.mark.usefixtures("no_pauses")
async def test_so_it_does_on_a_loop(impostor: Impostors) -> None:
    server = impostor(FIRST, SECOND, THIRD)
    async with dte.AsyncClient(server.url) as client:
        assert [event.id async for event in client.events(1)] == [31, 33, 35]
    assert server.last_ids == ["", "31", "33"]


def test_events_of_all_jobs_go_on_until_nobody_wants_more(impostor: Impostors) -> None:
    server = impostor(HEAD + chunks(BEGIN, *[event(n, state="failed") for n in range(31, 60)]))
    with dte.Client(server.url) as client, closing(client.events(after=12)) as events:
        assert ids(islice(events, 3)) == [31, 32, 33]
    assert (server.requests, server.last_ids) == (["GET /events HTTP/1.1"], ["12"])


async def test_nothing_is_left_behind_when_a_coroutine_wants_no_more(impostor: Impostors) -> None:
    server = impostor(HEAD + chunks(BEGIN, *[event(number) for number in range(31, 60)]))
    async with dte.AsyncClient(server.url) as client, aclosing(client.events()) as events:
        async for first in events:
            assert first.id == 31
            break


def test_who_has_heard_the_end_hears_no_more(impostor: Impostors) -> None:
    with dte.Client(impostor(b"HTTP/1.1 204 No Content\r\n\r\n").url) as client:
        assert not list(client.events(1, after=35))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (refusal("not_found", 404), dte.NotFound),
        (refusal("busy", 429), dte.Busy),
        (reply("<html>It works!</html>"), dte.MasterFault),
    ],
)
async def test_a_refusal_is_raised_by_both_clients(
    impostor: Impostors, answer: bytes, kind: type[Exception]
) -> None:
    with dte.Client(impostor(answer).url) as client, pytest.raises(kind):
        list(client.events(1))
    async with dte.AsyncClient(impostor(Cut(answer)).url) as other:
        with pytest.raises(kind):
            async for _ in other.events(1):
                pass


@pytest.mark.usefixtures("no_pauses")
def test_a_master_that_is_ending_is_asked_again(impostor: Impostors) -> None:
    server = impostor(refusal("unavailable", 503), THIRD)
    with dte.Client(server.url) as client:
        assert ids(client.events(1)) == [35]


@pytest.mark.usefixtures("no_pauses")
async def test_a_proxy_whose_master_restarts_is_asked_again(impostor: Impostors) -> None:
    server = impostor(reply("<html>Bad Gateway</html>", 502), THIRD)
    with dte.Client(server.url) as client:
        assert ids(client.events(1)) == [35]
    other = impostor(reply("<html>Bad Gateway</html>", 502), THIRD)
    async with dte.AsyncClient(other.url) as client:
        assert [event.id async for event in client.events(1)] == [35]


@pytest.mark.usefixtures("no_pauses")
async def test_a_master_that_stays_away_is_unreachable(impostor: Impostors) -> None:
    server = impostor(FIRST)
    url = server.url
    with dte.Client(url, patience_s=0.05) as client, pytest.raises(dte.Unreachable, match=url):
        ids(client.events(1))
    async with dte.AsyncClient(url, patience_s=0.05) as other:
        with pytest.raises(dte.Unreachable, match=url):
            async for _ in other.events(1):
                pass
