"""Durations as Go writes them, and results with and without their special forms."""

from __future__ import annotations

import pytest

from dte.master.api.dialects.rest.durations import duration_text
from dte.master.api.dialects.rest.payloads import given_result, kept_result


@pytest.mark.parametrize(
    ("duration_ns", "text"),
    [
        (0, "0s"),
        (1, "1ns"),
        (1_000, "1µs"),
        (1_100, "1.1µs"),
        (2_200_000, "2.2ms"),
        (250_000_000, "250ms"),
        (999_999_999, "999.999999ms"),
        (1_000_000_000, "1s"),
        (1_500_000_000, "1.5s"),
        (3_300_000_001, "3.300000001s"),
        (60_000_000_000, "1m0s"),
        (90_000_000_000, "1m30s"),
        (245_000_000_000, "4m5s"),
        (245_001_000_000, "4m5.001s"),
        (7_200_000_000_000, "2h0m0s"),
        (18_367_001_000_000, "5h6m7.001s"),
        (9_223_372_036_854_775_807, "2562047h47m16.854775807s"),
        (-1, "-1ns"),
        (-1_500_000_000, "-1.5s"),
        (-9_223_372_036_854_775_808, "-2562047h47m16.854775808s"),
    ],
)
def test_durations_are_written_as_in_go(duration_ns: int, text: str) -> None:
    assert duration_text(duration_ns) == text


@pytest.mark.parametrize(
    ("handler", "sent", "given", "kept"),
    [
        ("sleep", b'{"duration":1500000000}', b"Slept for 1.5s", b"1.5"),
        ("sleep", b'{"duration":1500000000}', b"Slept for 2s", b'{"base64":"U2xlcHQgZm9yIDJz"}'),
        ("fibonacci", b'{"n":10}', b"Fibonacci(10) = 55", b"55"),
        ("fibonacci", b'{"n":10}', b"Fibonacci(11) = 89", b'{"base64":"Rmlib25hY2NpKDExKSA9IDg5"}'),
        ("fibonacci", b'{"n":10}', b'{"base64":""}', b'{"base64":"eyJiYXNlNjQiOiIifQ=="}'),
        ("prime_factorization", b'{"n":6}', b'{"factors":[2,3],"number":6}', b"[2,3]"),
        (
            "prime_factorization",
            b'{"n":6}',
            b'{"factors": [2, 3], "number": 6}',
            b'{"factors": [2, 3], "number": 6}',
        ),
        ("custom", b"", b' {"a": 1}', b' {"a": 1}'),
        ("custom", b"", b"55\n", b"55\n"),
        ("custom", b"", b'\xef\xbb\xbf"x"', b'{"base64":"77u/Ingi"}'),
        ("custom", b"", b"", b'{"base64":""}'),
        ("custom", b"", None, b"null"),
        ("echo", b"", b"", b'""'),
        ("echo", b"hello", b"hello", b'"hello"'),
        ("echo", b"hello", b"HELLO", b'{"base64":"SEVMTE8="}'),
        ("echo", b'{"a" : 1}', b'{"a" : 1}', b'{"a" : 1}'),
    ],
)
def test_a_form_is_taken_off_only_if_it_can_be_put_on_again(
    handler: str, sent: bytes, given: bytes | None, kept: bytes
) -> None:
    assert kept_result(handler, sent, given) == kept
    assert given_result(handler, sent, kept) == given


@pytest.mark.parametrize(
    ("handler", "sent", "value", "given"),
    [
        ("echo", b'{"a" : 1.50}', b'{"a":1.5}', b'{"a" : 1.50}'),
        ("echo", b"hello", b'"hello"', b"hello"),
        ("echo", b"hello", b'"HELLO"', b'"HELLO"'),
        ("echo", b"null", b"null", b"null"),
        ("sleep", b'{"duration":1}', b'"no number"', b'"no number"'),
        ("fibonacci", b"10", b"55", b"Fibonacci(10) = 55"),
        ("fibonacci", b"[10]", b"55", b"55"),
        ("prime_factorization", b'{"n":7}', b"7", b"7"),
        ("custom", b"", b'{"base64":"!"}', b'{"base64":"!"}'),
        ("custom", b"", b'{"base64":"aGk="}', b"hi"),
        ("custom", b"", b"null", None),
    ],
)
def test_results_of_other_workers_are_put_into_form_where_they_have_one(
    handler: str, sent: bytes, value: bytes, given: bytes | None
) -> None:
    assert given_result(handler, sent, value) == given
