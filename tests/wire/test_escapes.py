"""Hidden escapes: a text ends at the next quote, and comes back as it was."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dte.core.slices import at_once
from dte.wire import escapes
from dte.wire.escapes import hiding, shown

TEXTS = st.text(alphabet='a\\"n\n\x01\x02é', max_size=12)


@pytest.mark.parametrize("size", [1, 2, 3, 500_000])
@given(texts=st.lists(TEXTS))
def test_no_quote_is_within_a_text(size: int, texts: list[str]) -> None:
    raw = json.dumps(texts).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(escapes, "SLICE_BYTES", size)
        hidden = at_once(hiding(raw))
    assert len(hidden) == len(raw)
    assert hidden.count(b'"') == 2 * len(texts)
    found = [shown(text) for text in hidden.split(b'"')[1::2]]
    assert [json.loads(b'"%s"' % text) for text in found] == texts


def test_json_without_escapes_is_not_copied() -> None:
    raw = b'["a"]'
    assert at_once(hiding(raw)) is raw


def test_long_json_is_changed_in_slices() -> None:
    raw = b'"%s"' % (rb"\"" * 3_000_000)
    assert sum(1 for _ in hiding(raw)) == len(raw) // escapes.SLICE_BYTES
