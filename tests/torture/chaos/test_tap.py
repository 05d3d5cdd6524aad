"""A tap finds whole requests and replies in pieces of any size."""

from __future__ import annotations

import pytest
from harness.http import reply_bytes, request_bytes
from torture.chaos.tap import Exchange, Tap

REQUESTS = request_bytes("POST", "/result?a=1", {"n": 1}) + request_bytes("GET", "/health")
REPLIES = b"HTTP/1.1 100 Continue\r\n\r\n" + reply_bytes(200, {"n": 2}) + reply_bytes(503, [])


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_exchanges_are_found_in_pieces_of_any_size(size: int) -> None:
    told: list[Exchange] = []
    tap = Tap("link", told.append)
    for start in range(0, len(REQUESTS), size):
        tap.request(REQUESTS[start : start + size], 1.0 + start)
    for start in range(0, len(REPLIES), size):
        tap.reply(REPLIES[start : start + size], 1000.0 + start)
    asked, answered = told[:2], told[2:]
    assert [each.path for each in asked] == ["/result", "/health"]
    assert [each.status for each in asked] == [0, 0]
    assert [each.status for each in answered] == [200, 503]
    assert answered[0].request_json == {"n": 1}
    assert answered[0].reply_json == {"n": 2}
    assert answered[0].asked_at == 1.0
    assert answered[0].at >= 1000.0


def test_a_refusal_that_does_not_wait_for_the_whole_request_is_its_reply() -> None:
    told: list[Exchange] = []
    tap = Tap("link", told.append)
    whole = request_bytes("POST", "/result", {"n": 1})
    tap.request(whole[:-3], 1.0)
    tap.reply(reply_bytes(503, []), 2.0)
    assert told == []
    tap.request(whole[-3:], 3.0)
    tap.request(request_bytes("GET", "/health"), 4.0)
    tap.reply(reply_bytes(200, {}), 5.0)
    assert [(each.path, each.status) for each in told] == [
        ("/result", 0),
        ("/result", 503),
        ("/health", 0),
        ("/health", 200),
    ]


def test_a_request_that_is_not_whole_is_none() -> None:
    told: list[Exchange] = []
    Tap("link", told.append).request(REQUESTS[:30], 1.0)
    assert told == []


def test_a_stream_that_is_not_understood_is_left_alone() -> None:
    told: list[Exchange] = []
    tap = Tap("link", told.append)
    tap.request(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 1.0)
    tap.request(REQUESTS, 2.0)
    assert told == []
