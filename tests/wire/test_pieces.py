"""Large JSON in pieces: the same values as at once, and nothing that is no JSON."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dte.wire import pieces
from dte.wire.codec import Malformed
from dte.wire.pieces import Values, in_pieces

TEXTS = st.text(alphabet='ab{}[],:" \\', max_size=8)
VALUES = st.recursive(
    st.one_of(st.none(), st.integers(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXTS, inner, max_size=4)),
    max_leaves=20,
)
WHOLE = st.one_of(st.lists(VALUES), st.dictionaries(TEXTS, VALUES))


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE_BYTES", 3)


def read(raw: bytes) -> list[Values]:
    found: list[Values] = []
    for _ in in_pieces(raw, found.append):
        pass
    return found


def joined(found: list[Values]) -> Any:
    if isinstance(found[0], dict):
        return {
            name: msgspec.json.decode(value) for piece in found for name, value in piece.items()
        }
    return [msgspec.json.decode(value) for piece in found for value in piece]


@given(WHOLE, st.sampled_from([None, 1]))
def test_the_pieces_have_the_values_of_the_whole(value: Any, indent: int | None) -> None:
    assert joined(read(json.dumps(value, indent=indent).encode())) == value


@given(WHOLE, st.data())
def test_what_is_no_json_is_refused(value: Any, data: st.DataObject) -> None:
    text = json.dumps(value)
    place = data.draw(st.integers(0, len(text) - 1))
    broken = text[:place] + data.draw(st.sampled_from(["", ",", "]", "}", '"'])) + text[place + 1 :]
    raw = broken.encode()
    try:
        msgspec.json.decode(raw, type=dict[str, msgspec.Raw] | list[msgspec.Raw])
    except msgspec.DecodeError:
        with pytest.raises(Malformed):
            read(raw)
    else:
        read(raw)


@pytest.mark.parametrize("size", [1, 2, 3])
@given(value=WHOLE)
def test_a_comma_is_looked_for_in_slices(size: int, value: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "LONG_BYTES", size)
        assert joined(read(json.dumps(value, indent=1).encode())) == value
        assert sum(1 for _ in in_pieces(b"[%s]" % b",".join([b"1"] * 99), list)) > 99 // size


def test_a_list_of_many_values_has_many_pieces() -> None:
    assert len(read(b"[[1],[2],[3],[4]]")) > 1


@pytest.mark.parametrize("raw", [b'{"a":{},}', b"[[],]", b"[[],,[]]", b"[[],[]", b"", b"[", b"]"])
def test_an_end_that_is_missing_or_too_much_is_refused(raw: bytes) -> None:
    with pytest.raises(Malformed):
        read(raw)
