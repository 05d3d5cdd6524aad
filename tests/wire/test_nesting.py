"""The nesting of JSON is measured exactly, however it is cut into pieces, and in linear time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dte.wire import nesting
from dte.wire.nesting import nests_deeper, search_deeper

texts = st.text(alphabet='[]{}"\\ab,:', max_size=6)
values = st.recursive(
    texts | st.integers(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=30,
)


def levels_of(value: Any) -> int:
    if isinstance(value, list | dict):
        inner = value.values() if isinstance(value, dict) else value
        return 1 + max(map(levels_of, inner), default=0)
    return 0


@pytest.mark.parametrize(
    "raw",
    [
        b"[[1],{}]",
        b'{"a":["[[{\\\\"]}',
        b'["\\"[[[",{}]',
        b"[" + b"[]," * 1_000 + b"0]",
    ],
)
def test_levels_of_nesting_are_counted_outside_strings(raw: bytes) -> None:
    assert not nests_deeper(raw, 2)
    assert nests_deeper(raw, 1)


@given(values, st.sampled_from([1, 2, 3, 10, 65_536]))
def test_pieces_of_any_size_make_no_difference(value: Any, size: int) -> None:
    raw = json.dumps(value).encode()
    levels = levels_of(value)
    whole, nesting.PIECE_BYTES = nesting.PIECE_BYTES, size
    try:
        assert not nests_deeper(raw, levels)
        assert not levels or nests_deeper(raw, levels - 1)
    finally:
        nesting.PIECE_BYTES = whole


@pytest.mark.parametrize("levels", [nesting.PASSES - 2, nesting.PASSES, 40, 499])
def test_many_deep_values_beside_each_other_nest_as_one_of_them(levels: int) -> None:
    raw = b"[%s]" % b",".join([b"[" * levels + b"]" * levels] * 500)
    assert not nests_deeper(raw, levels + 1)
    assert nests_deeper(raw, levels)


@pytest.mark.parametrize("raw", [b"[" * 1_000_000, b'{"a":' * 200_000, b"[" * 501 + b'"\\"' * 9])
def test_what_is_no_json_is_measured_all_the_same(raw: bytes) -> None:
    assert nests_deeper(raw, 500)


def test_long_json_is_measured_in_slices() -> None:
    raw = b"[%s]" % b",".join([b'{"a":"b"}'] * 100_000)
    assert sum(1 for _ in search_deeper(raw, 500)) == len(raw) // nesting.PIECE_BYTES
