"""Messages read from bytes: however they are cut into pieces, and only what is one."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from dte.wire.http.reader import (
    CHUNK_LINE_BYTES_MAX,
    CHUNKS_A_READ,
    FIELDS_MAX,
    HEAD_BYTES_MAX,
    INTERIM_MAX,
    BeyondBound,
    LongBody,
    LongHead,
    Message,
    MessageReader,
    NotHttp,
    origin_form,
)

BODY_BYTES_MAX = 100

GET = b"GET /health?full=1 HTTP/1.1\r\nHost: here\r\n\r\n"
POST = b"POST /compute HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
CHUNKS = b"3\r\nabc\r\n2;why=not\r\nde\r\n0\r\nX-After: all\r\n\r\n"
OPEN = b"HTTP/1.1 200 OK\r\n\r\n"


def requests() -> MessageReader:
    return MessageReader(replies=False, body_bytes_max=BODY_BYTES_MAX)


def replies() -> MessageReader:
    return MessageReader(replies=True, body_bytes_max=BODY_BYTES_MAX)


def whole(message: Message | None) -> Message:
    assert message is not None
    return message


def test_a_request_has_a_first_line_headers_and_a_body() -> None:
    reader = requests()
    assert reader.is_idle
    request = whole(
        reader.read(b"POST /a?b=c HTTP/1.1\r\nHOST:  h \r\nContent-Length: 2\r\nX:\r\n\r\n{}")
    )
    assert request.start_line == ["POST", "/a?b=c", "HTTP/1.1"]
    assert request.headers == {"host": "h", "content-length": "2", "x": ""}
    assert request.body == b"{}"
    assert reader.is_idle


def test_a_request_without_a_length_has_no_body() -> None:
    reader = requests()
    assert whole(reader.read(GET + GET)).body == b""
    assert not reader.is_idle
    assert whole(reader.read()).start_line[1] == "/health?full=1"
    assert reader.read() is None


@pytest.mark.parametrize(
    "raw",
    [
        OK,
        CHUNKED + CHUNKS,
        b"\r\n\r\n" + OK,
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,
        OK.replace(b"\r\n", b"\n"),
        b"HTTP/1.0 200\r\nContent-Length: 5\r\n\r\nabcde",
    ],
    ids=["length", "chunks", "after empty lines", "after others", "bare line ends", "no phrase"],
)
def test_a_reply_may_come_in_any_pieces(raw: bytes) -> None:
    for size in (1, 2, 7, len(raw), 2 * len(raw)):
        reader = replies()
        data = raw + raw
        bodies = []
        for start in range(0, len(data), size):
            reply = reader.read(data[start : start + size])
            while reply is not None:
                bodies.append(reply.body)
                reply = reader.read()
        assert bodies == [b"abcde", b"abcde"]
        assert reader.is_idle


def test_a_reply_without_a_length_ends_with_its_connection() -> None:
    reader = replies()
    assert reader.read(OPEN + b"abc") is None
    assert reader.read(b"de") is None
    assert whole(reader.end()).body == b"abcde"


@pytest.mark.parametrize("raw", [b"", OPEN[:-1], OK[:-1], CHUNKED + CHUNKS[:-1]])
def test_what_is_not_whole_when_its_connection_ends_is_no_reply(raw: bytes) -> None:
    reader = replies()
    assert reader.read(raw) is None
    assert reader.end() is None


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_some_replies_have_no_body_whatever_they_say(status: bytes) -> None:
    reader = replies()
    assert whole(reader.read(OK[:-5].replace(b"200 OK", status))).body == b""
    assert reader.is_idle


@pytest.mark.parametrize(
    ("version", "connection", "closes"),
    [
        (b"1.1", b"", False),
        (b"1.1", b"Connection: Close\r\n", True),
        (b"1.1", b"Connection: upgrade, close\r\n", True),
        (b"1.0", b"", True),
        (b"1.0", b"Connection: Keep-Alive\r\n", False),
        (b"1.0", b"Connection: other\r\n", True),
    ],
)
def test_a_message_says_whether_its_connection_goes_on(
    version: bytes, connection: bytes, closes: bool
) -> None:
    request = requests().read(b"GET / HTTP/%s\r\n%s\r\n" % (version, connection))
    reply = replies().read(b"HTTP/%s 204 \r\n%s\r\n" % (version, connection))
    assert whole(request).closes is whole(reply).closes is closes


def test_a_header_that_comes_twice_has_both_values() -> None:
    request = requests().read(b"GET / HTTP/1.1\r\nA: 1\r\na: 2\r\n\r\n")
    assert whole(request).headers == {"a": "1, 2"}


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"G=T / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\r\n\r\n",
        GET[:-2] + b"no header\r\n\r\n",
        GET[:-2] + b": no name\r\n\r\n",
        GET[:-2] + b"Space : x\r\n\r\n",
        GET[:-2] + b" folded: x\r\n\r\n",
        POST.replace(b"5\r\n", b"5\r\nContent-Length: 5\r\n"),
        POST.replace(b"5\r\n", b"+5\r\n"),
        POST.replace(b"5\r\n", b"\xb2\r\n"),
        POST.replace(b"5\r\n", b"101\r\n"),
        POST.replace(b"5\r\n", b"9" * 5000 + b"\r\n"),
        POST.replace(b"5\r\n", b"5\r\nTransfer-Encoding: chunked\r\n"),
        GET[:-2] + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
        GET[:-2] + b"X: " + b"x" * HEAD_BYTES_MAX,
        GET[:-2] + b"X: " + b"x" * HEAD_BYTES_MAX + b"\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(raw: bytes) -> None:
    with pytest.raises(NotHttp):
        requests().read(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 2\xb2\xb2 OK\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        b"HTTP/3 200 OK\r\n\r\n",
        OPEN + b"x" * (BODY_BYTES_MAX + 1),
        CHUNKED + b"x\r\n",
        CHUNKED + b"\r\n",
        CHUNKED + b"-1\r\n",
        CHUNKED + b"3\r\nabcde\r\n",
        CHUNKED + b"65\r\n",
        CHUNKED + b"40\r\n" + b"x" * 64 + b"\r\n40\r\n",
        CHUNKED + b"f" * 16 + b"\r\n",
        CHUNKED + b"0" * CHUNK_LINE_BYTES_MAX,
        CHUNKED + b"0\r\n" + b"X: y" * 1000 + b"\r\n" + (b"X: " + b"y" * 4000 + b"\r\n") * 20,
    ],
)
def test_what_is_no_reply_is_refused(raw: bytes) -> None:
    with pytest.raises(NotHttp):
        replies().read(raw)


def read_in_pieces(reader: MessageReader, raw: bytes, size: int) -> Message | None:
    """Give a reader some bytes at a time, and return the first message."""
    for start in range(0, len(raw), size):
        message = reader.read(raw[start : start + size])
        while message is None and reader.is_behind:
            message = reader.read()
        if message is not None:
            return message
    return None


INTERIM = b"HTTP/1.1 102 Processing\r\n\r\n"


@pytest.mark.parametrize("size", [1, 1_000, 100_000], ids=["bytes", "pieces", "whole"])
@pytest.mark.parametrize(
    ("raw", "fault", "reason"),
    [
        (OPEN[:-2] + b"a: b\r\n" * (FIELDS_MAX + 1) + b"\r\n", LongHead, "more than 100 headers"),
        (OPEN[:-2] + b"a: b\r\n" * 9_000, LongHead, "16384 bytes"),
        (b"\r\n" * 9_000, LongHead, "16384 bytes"),
        (INTERIM * (INTERIM_MAX + 1), BeyondBound, "8 interim"),
        (OPEN + b"x" * 101, LongBody, "100 bytes"),
        (OK.replace(b"5\r\n", b"101\r\n"), LongBody, "100 bytes"),
        (CHUNKED + b"1\r\nx\r\n" * 101, LongBody, "100 bytes"),
        (CHUNKED + b"0\r\n" + b"a: b\r\n" * 9_000, LongHead, "trailer"),
    ],
    ids=["fields", "head", "empty lines", "interim", "open", "length", "chunks", "trailer"],
)
def test_a_message_beyond_a_bound_is_refused_with_the_bound_however_it_comes(
    raw: bytes, fault: type[BeyondBound], reason: str, size: int
) -> None:
    reader = replies()
    with pytest.raises(fault, match=reason):
        read_in_pieces(reader, raw, size)
    assert reader.held <= HEAD_BYTES_MAX + BODY_BYTES_MAX


def test_what_is_within_the_bounds_of_a_head_is_read() -> None:
    fields = b"".join(b"x-%d: %s\r\n" % (n, b"y" * 150) for n in range(FIELDS_MAX - 1))
    head = OK.replace(b"\r\n", b"\r\n" + fields, 1)
    reader = replies()
    for _ in range(2):
        assert len(whole(reader.read(INTERIM * INTERIM_MAX + head)).headers) == FIELDS_MAX


def test_many_chunks_are_read_in_parts() -> None:
    reader = MessageReader(replies=True, body_bytes_max=10_000)
    assert reader.read(CHUNKED + b"2\r\nxy\r\n" * 1_000 + b"0\r\n\r\n" + OK) is None
    parts = 1
    while reader.is_behind and (reply := reader.read()) is None:
        parts += 1
        assert 2 * CHUNKS_A_READ * parts <= reader.held
    assert parts == 1_000 // CHUNKS_A_READ
    assert whole(reply).body == b"xy" * 1_000
    assert not reader.is_behind
    assert whole(reader.read()).body == b"abcde"


def test_what_an_incomplete_message_holds_is_counted() -> None:
    reader = replies()
    for held, data in ((10, OK[:10]), (3, OK[10:-2]), (0, OK[-2:]), (2, CHUNKED + b"2\r\nab")):
        reader.read(data)
        assert reader.held == held


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "pieces",
    [[b"%x\r\n%s\r\n" % (2, b"xy")] * 100_000, [b"x"] * 200_000],
    ids=["chunks of two", "bytes without a length"],
)
def test_a_body_in_small_pieces_takes_the_memory_and_the_time_of_its_bytes(
    pieces: list[bytes],
) -> None:
    """A list of its pieces would take 30 times as much, and adding up their sizes ten minutes."""
    reader = MessageReader(replies=True, body_bytes_max=1_000_000)
    reader.read(CHUNKED if len(pieces[0]) > 1 else OPEN)
    began = time.process_time()
    tracemalloc.start()
    try:
        for piece in pieces:
            assert reader.read(piece) is None
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert reader.held == 200_000
    assert peak < 1_000_000
    assert time.process_time() - began < 30


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a", "/a"),
        ("*", "*"),
        ("http://host/a?b=http://c", "/a?b=http://c"),
        ("HTTPS://host:1/a", "/a"),
        ("http://host", "/"),
        ("http://host?a=1", "/?a=1"),
        ("/http://host/a", "/http://host/a"),
        ("/%6aob/%31?a=%31", "/job/1?a=%31"),
        ("/a%2Fb%20%25", "/a%2Fb%20%25"),
        ("/%2e%2E/%7Ea%5f%2d", "/../~a_-"),
        ("/%zz%", "/%zz%"),
    ],
)
def test_a_target_becomes_a_path_with_its_query(target: str, path: str) -> None:
    assert origin_form(target) == path
