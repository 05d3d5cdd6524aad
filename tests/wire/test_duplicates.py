"""A name that an object of JSON has twice is found, in JSON of any size, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dte.wire import duplicates
from dte.wire.duplicates import Duplicate, find_duplicate, search_duplicate

TWICE = [
    (b'{"a": 1, "a": 1}', (), "a"),
    (b'{"a":1,"b":2,"a":3}', (), "a"),
    (b'{"a": 1, "\\u0061": 2}', (), "a"),
    (b'{"\\u00e9": 1, "\xc3\xa9": 2}', (), "é"),
    (b'{"": 1, "": 2}', (), ""),
    (b'{"a:b": 1, "c": ":", "a:b": 2}', (), "a:b"),
    (b'{"\\"": "\\u003a", "\\"": 2}', (), '"'),
    (b'[1, "a", {"a": {"b": [[], {"c": 1, "c": {}}]}}]', (2, "a", "b", 1), "c"),
    (
        b'{"graph": {"mail": {"args": {"x": [1,2,{"y":1,"y":2}]}}}}',
        ("graph", "mail", "args", "x", 2),
        "y",
    ),
    (b'{"a": 1e400, "b": 1, "b": 2}', (), "b"),
    (b'{"a": ' + b"9" * 5_000 + b', "b": 1, "b": 2}', (), "b"),
    (b'{"a": ' + b"[" * 3_000 + b"]" * 3_000 + b', "b": 1, "b": 2}', (), "b"),
    (b'{"a": "\xff", "b": 1, "b": 2}', (), "b"),
]
ONCE = [
    b"",
    b"{}",
    b"[]",
    b"1",
    b'"a"',
    b'{"a": 1, "A": 2, " a": 3}',
    b'[{"a": 1}, {"a": 1}]',
    b'{"a": {"a": {"a": 1}}, "b": {"a": 1}}',
    b'{"a": "{\\"b\\": 1, \\"b\\": 2}", "c": "\\u003a:"}',
    b'{"a": "\\\\", "b": "\\u003A"}',
    b'{"a": [1e5, 1E5, 1.0, -0.0, "\\u00e9", "\\/"], "b": "\\ud83d\\ude00"}',
]


@pytest.fixture(params=[None, 30, 3], ids=["whole", "pieces", "small pieces"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has JSON be looked at as a whole, or in pieces."""
    if request.param is not None:
        monkeypatch.setattr(duplicates, "PIECE_BYTES", request.param)
        monkeypatch.setattr(duplicates, "TOKENS_IN_SLICE", request.param)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize(("raw", "path", "name"), TWICE)
def test_a_name_that_is_given_twice_is_found_with_its_path(
    raw: bytes, path: tuple[str | int, ...], name: str
) -> None:
    assert find_duplicate(raw) == Duplicate(path, name)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("raw", ONCE)
def test_names_that_are_alike_in_different_places_are_no_duplicates(raw: bytes) -> None:
    assert find_duplicate(raw) is None


@pytest.mark.usefixtures("pieces")
def test_objects_that_are_nested_deeper_may_have_duplicates() -> None:
    raw = b'{"results": [{"lease": 1, "result": {"a": 1, "a": 2}}]}'
    assert find_duplicate(raw, 3) is None
    assert find_duplicate(raw) == Duplicate(("results", 0, "result"), "a")
    frame = b'{"results": [{"lease": 1, "result": {"a": 1, "a": 2}, "lease": 2}]}'
    assert find_duplicate(frame, 3) == Duplicate(("results", 0), "lease")


def test_the_text_names_the_place() -> None:
    assert str(Duplicate((), "a")) == '"a" is given twice'
    assert str(Duplicate(("jobs", 1, "graph", "my node"), "args")) == (
        '"args" is given twice in jobs[1].graph["my node"]'
    )
    assert len(str(Duplicate((), "a" * 1_000))) < 100


class Twice(dict[str, Any]):
    """An object whose first name is written once more at the end."""


def written(value: Any) -> str:
    if isinstance(value, dict):
        pairs = [f"{json.dumps(key)}: {written(item)}" for key, item in value.items()]
        return f"{{{', '.join(pairs + pairs[:1] * isinstance(value, Twice))}}}"
    if isinstance(value, list):
        return f"[{','.join(map(written, value))}]"
    return json.dumps(value)


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(), inner)
        | st.dictionaries(st.text(), inner, min_size=1).map(Twice)
    ),
)


def has_twice(value: Any) -> bool:
    if isinstance(value, dict):
        return isinstance(value, Twice) or any(map(has_twice, value.values()))
    return isinstance(value, list) and any(map(has_twice, value))


@given(value=values)
def test_it_agrees_with_a_look_at_each_pair(value: Any) -> None:
    assert (find_duplicate(written(value).encode()) is not None) == has_twice(value)


@given(value=values)
def test_pieces_give_the_same_as_the_whole(value: Any) -> None:
    raw = written(value).encode()
    with pytest.MonkeyPatch.context() as patch:
        whole = find_duplicate(raw)
        patch.setattr(duplicates, "PIECE_BYTES", 5)
        assert find_duplicate(raw) == whole


def test_long_json_is_searched_in_many_slices() -> None:
    graph = {f"n{i}": {"handler": "echo", "args": [i, "a:b"]} for i in range(20_000)}
    raw = json.dumps({"graph": graph}).encode()
    assert sum(1 for _ in search_duplicate(raw)) >= len(raw) // duplicates.PIECE_BYTES
    twice = raw.replace(b'"n19999"', b'"n7"')
    assert find_duplicate(twice) == Duplicate(("graph",), "n7")


@pytest.mark.no_cover
def test_numbers_and_texts_of_many_megabytes_are_not_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = b'{"handler":"echo","args":[[' + b"1.5," * 1_000_000 + b'1],"' + b":" * 1_000_000 + b'"]}'
    decoded: list[int] = []

    class Counted:
        def decode(self, raw: bytes) -> Any:
            decoded.append(len(raw))
            return json.loads(raw)

    monkeypatch.setattr(duplicates, "_any", Counted())
    assert find_duplicate(raw) is None
    assert sum(decoded) < 1_000


def test_the_names_of_a_long_object_are_freed_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "NAMES_MAX", 10)
    monkeypatch.setattr(duplicates, "NAMES_FREED_IN_SLICE", 1_000)
    raw = json.dumps({f"k{name}": 0 for name in range(50_000)}).encode()
    tokens = 100_000 // duplicates.TOKENS_IN_SLICE
    assert sum(1 for _ in search_duplicate(raw)) >= tokens + 45
    assert find_duplicate(raw) is None
