from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dte.core.graph.numbers import INTEGER_DIGITS_MAX
from dte.wire.codec import Decoder, Malformed, Unrepresentable, encode
from dte.wire.messages.batches import Announce, BatchResult, SingleResult

NINES = "9" * INTEGER_DIGITS_MAX

result: Decoder[SingleResult] = Decoder(SingleResult)
announce: Decoder[Announce] = Decoder(Announce)


def round_trip(number: float) -> float:
    return result.decode(encode(SingleResult(number))).result


def as_result(number: str) -> bytes:
    return f'{{"result": {number}}}'.encode()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_finite_float_travels_bit_for_bit(number: float) -> None:
    back = round_trip(number)
    assert type(back) is float
    assert back.hex() == number.hex()


@given(st.integers(-(10**40), 10**40))
def test_integers_stay_integers(number: int) -> None:
    back = round_trip(number)
    assert type(back) is int
    assert back == number


@pytest.mark.parametrize(
    "number",
    [
        2**63 - 1,
        2**63,
        -(2**63),
        -(2**63) - 1,
        2**64 - 1,
        2**64,
        10 ** (INTEGER_DIGITS_MAX - 1),
        int(NINES),
        -int(NINES),
    ],
    ids=lambda number: f"{number:.3e}" if abs(number) < 1e300 else f"{len(str(number))} characters",
)
def test_integers_travel_at_every_length_up_to_the_bound(number: int) -> None:
    assert round_trip(number) == number


@pytest.mark.parametrize("sign", ["", "-"])
def test_an_integer_of_one_digit_too_many_does_not_travel(sign: str) -> None:
    with pytest.raises(Unrepresentable, match="an integer of more than 4300 digits"):
        result.decode(as_result(f"{sign}{NINES}9"))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_what_is_not_a_finite_number_does_not_travel(number: str) -> None:
    with pytest.raises(Unrepresentable, match="not a finite number"):
        result.decode(as_result(number))


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "out of range"])
def test_the_names_of_such_numbers_are_fine_in_strings(text: str) -> None:
    assert announce.decode(encode(Announce(text))).worker_name == text


def test_floats_beside_such_an_integer_are_as_exact_as_elsewhere() -> None:
    batch: Decoder[BatchResult] = Decoder(BatchResult)
    whole = BatchResult(1, [-int(NINES), 0.1, 5e-324, -0.0])
    assert encode(batch.decode(encode(whole))) == encode(whole)


def test_a_negative_integer_of_the_longest_length_is_checked_like_any_other() -> None:
    """It takes another way through the decoder, which must not be more lenient."""
    with pytest.raises(Malformed, match=r"\$\.worker_name"):
        announce.decode(f'{{"worker_name": -{NINES}}}'.encode())


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" ",
        b"{",
        b'{"result": }',
        b'{"result": 1} 2',
        b'{"result": 01}',
        b'{"result": 1_000}',
        b'{"result": NaN',
        b"NaN",
        b'{"result": "Infinity}',
        b"\xff\xfe",
        '{"result": 1}'.encode("utf-16"),
        b"\x00",
    ],
)
def test_what_is_no_json_is_malformed(raw: bytes) -> None:
    with pytest.raises(Malformed):
        result.decode(raw)


@pytest.mark.parametrize("name", [b"\xff", b"NaN\xff"])
def test_text_that_is_not_utf_8_is_malformed(name: bytes) -> None:
    with pytest.raises(Malformed):
        announce.decode(b'{"worker_name": "' + name + b'"}')


@pytest.mark.parametrize(
    "value",
    [None, 1, "1", [], {}, {"result": None}, {"result": "1"}, {"result": True}, {"result": [1]}],
)
def test_json_of_another_shape_is_malformed(value: Any) -> None:
    with pytest.raises(Malformed):
        result.decode(json.dumps(value).encode())


def test_the_text_says_what_is_wrong_and_where() -> None:
    with pytest.raises(Malformed, match=r"\$\.result"):
        result.decode(as_result('"1"'))


@pytest.mark.parametrize("number", ["1", f"-{NINES}"], ids=["fast", "slow"])
def test_json_that_nests_too_deep_is_malformed(number: str) -> None:
    deep = "[" * 100_000 + "]" * 100_000
    with pytest.raises(Malformed):
        result.decode(f'{{"result": {number}, "more": {deep}}}'.encode())


def test_a_batch_with_a_long_negative_result_may_have_errors() -> None:
    batch: Decoder[BatchResult] = Decoder(BatchResult)
    whole = BatchResult(1, [-int(NINES), 0], {1: "division by zero"})
    assert batch.decode(encode(whole)) == whole


@pytest.mark.parametrize("name", [r"\ud800", r"\ud800 NaN"])
def test_half_a_surrogate_pair_is_malformed(name: str) -> None:
    """Such a string could be taken in, and never be given out again."""
    with pytest.raises(Malformed):
        announce.decode(f'{{"worker_name": "{name}"}}'.encode())


def test_encoding_is_compact_and_for_every_language() -> None:
    assert encode({"name": "×", "numbers": [1, 2.5]}) == '{"name":"×","numbers":[1,2.5]}'.encode()
    assert math.copysign(1, json.loads(encode(-0.0))) == -1
