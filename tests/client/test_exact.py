"""JSON with integers of any length."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dte.client import exact
from dte.client.job import Job
from dte.wire.codec import Malformed

LENGTHS = [1, 599, 600, 601, 1199, 1201, 4300, 4301, 20_899]
anything: exact.Decoder[Any] = exact.Decoder(Any)
read_job: exact.Decoder[Job] = exact.Decoder(Job)


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("sign", ["", "-"])
def test_integers_of_any_length_are_read_and_written_exactly(length: int, sign: str) -> None:
    text = sign + "7" * length
    value = exact.integer(text)
    assert value == (-1 if sign else 1) * 7 * (10**length - 1) // 9
    assert exact.decimal_digits(value) == text


@given(st.integers(0, 3_000), st.integers(-1, 1), st.sampled_from([1, -1]))
def test_integers_around_powers_of_ten_keep_their_zeros(
    exponent: int, more: int, sign: int
) -> None:
    value = sign * (10**exponent + more)
    text = exact.decimal_digits(value)
    assert exact.integer(text) == value
    assert text == str(value)


def test_the_limit_of_the_process_neither_matters_nor_changes() -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        value = anything.decode(b"[%s]" % (b"9" * 5000))[0]
        assert exact.encode([value]) == b"[%s]" % (b"9" * 5000)
        assert sys.get_int_max_str_digits() == 640
    finally:
        sys.set_int_max_str_digits(before)
    assert value == 10**5000 - 1


def test_a_job_keeps_a_long_answer_and_all_else() -> None:
    raw = (
        b'{"job_id": 1, "finished": true, "answer": {"a": [%s, 0.1, "x"]}, "state": "succeeded",'
        b' "ended_at": "2026-11-21T03:18:30.5Z"}' % (b"1" * 9000)
    )
    job = read_job.decode(raw)
    assert (job.answer["a"][0], job.answer["a"][1:]) == ((10**9000 - 1) // 9, [0.1, "x"])
    assert job.ended_at is not None
    written = json.loads(exact.encode(job), parse_int=exact.integer)
    assert written["answer"] == job.answer


@pytest.mark.parametrize(
    "raw",
    [
        b"{",
        b'{"job_id": 1}',
        b"[" * 100_000,
        b"1" * 5000,
        b'{"job_id": 1, "finished": true, "answer": NaN}',
        b'{"job_id": 1, "finished": true, "answer": 1e999}',
    ],
)
def test_what_is_no_job_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        read_job.decode(raw)


def test_what_json_has_nothing_for_is_refused() -> None:
    with pytest.raises(TypeError, match="unsupported"):
        exact.encode([10**5000, object()])


@pytest.mark.parametrize("value", ["\ud800", ["a\ud800"], {"\ud800": 1}])
def test_half_of_a_surrogate_pair_is_named(value: object) -> None:
    with pytest.raises(ValueError, match=r"a text has \\ud800, half of a surrogate pair"):
        exact.encode(value)
