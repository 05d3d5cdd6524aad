"""The items of JSON are counted up to a bound, whatever is in them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dte.core.slices import at_once
from dte.wire import items
from dte.wire.items import search_more

texts = st.text(alphabet='[]{}"\\a,: ', max_size=6)
values = st.recursive(
    texts | st.integers() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(
    st.lists(values, max_size=8) | st.dictionaries(texts, values, max_size=8),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]),
)
def test_items_are_counted_whatever_is_in_them(value: Any, separators: tuple[str, str]) -> None:
    raw = json.dumps(value, separators=separators).encode()
    for most in range(1, 10):
        assert at_once(search_more(raw, most)) == (len(value) > most), (raw, most)


@pytest.mark.parametrize("raw", [b"", b"5", b'"a,b,c"', b"null"])
def test_what_has_no_items_has_not_too_many(raw: bytes) -> None:
    assert not at_once(search_more(raw, 1))


@pytest.mark.no_cover
@pytest.mark.parametrize(
    "item", [b"{}", b"[]", b"1", b'"a"', b'{"a":[{}]}', b"[[[[]],[]]]", b'{"a":"}","b":{"c":{}}}']
)
def test_counting_ends_at_the_bound_and_goes_on_in_slices(item: bytes) -> None:
    raw = b"[%s]" % b",".join([item] * 100_000)
    slices = [sum(1 for _ in search_more(raw, most)) for most in (10_000, 99_999)]
    assert slices[0] == 10_000 // items.ITEMS_IN_SLICE
    assert slices[1] == 99_999 // items.ITEMS_IN_SLICE


@pytest.mark.parametrize("item", [b'{"a":["%s"]}', b'"%s"', b'[1,["%s"],[2]]'])
def test_items_of_many_bytes_are_counted_in_slices(item: bytes) -> None:
    raw = b"[%s]" % b",".join([item % (b"x" * 10_000)] * 1_000)
    assert sum(1 for _ in search_more(raw, 900)) >= 8_000_000 // items.BYTES_IN_SLICE


@pytest.mark.no_cover
def test_a_long_item_is_passed_over_in_slices() -> None:
    raw = b"[%s,1]" % (b'{"a":[%s]}' % b",".join([b'{"b":[{}]}'] * 100_000))
    assert sum(1 for _ in search_more(raw, 5)) > 10
    assert at_once(search_more(raw, 1))
    assert not at_once(search_more(raw, 2))


@pytest.mark.parametrize("text", [b'"a"', rb'"{\"ref\":1}"', b'"' + b"a" * 1_000 + b'"'])
def test_texts_are_passed_over_in_slices_of_bytes(text: bytes) -> None:
    """A hundred at a time are matched at once."""
    several = b",".join([text] * (3_000_000 // len(text)))
    for raw in (b"[%s]" % several, b'[{"a":[1,%s,[]]},1]' % several):
        slices = sum(1 for _ in search_more(raw, 1 if raw[1:2] == b"{" else raw.count(b",")))
        assert slices >= len(raw) // (2 * items.BYTES_IN_SLICE)


def test_commas_are_counted_in_slices() -> None:
    raw = b'["%s",1]' % (b"," * 3 * items.COUNTED_BYTES)
    assert sum(1 for _ in search_more(raw, 4 * items.COUNTED_BYTES)) == 3
    assert not at_once(search_more(raw, 4 * items.COUNTED_BYTES))
