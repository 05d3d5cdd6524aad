"""JSON is cut at its references exactly as it would be if it were decoded first."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dte.core.errors import TooLarge
from dte.core.graph.json_template import JsonTemplate
from dte.wire import references
from dte.wire.references import has_marks, template_of

T = TypeVar("T")


def done(steps: Generator[None, None, T]) -> T:
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: T = stop.value
            return result


def cut(raw: bytes, references_max: int = 1_000_000) -> JsonTemplate | None:
    return done(template_of(raw, references_max))


def result_of(name: str) -> Any:
    return {"the result of": name}


def by_decoding(value: Any, names: dict[str, None]) -> Any:
    """Decoded JSON with results in place of references, whose names go into `names`."""
    if isinstance(value, dict):
        if len(value) == 1:
            if "literal" in value:
                return value["literal"]
            name = value.get("ref")
            if isinstance(name, str):
                names[name] = None
                return result_of(name)
        return {key: by_decoding(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [by_decoding(item, names) for item in value]
    return value


spaces = st.sampled_from(["", "", "", " ", "\n\t", "\r "])


@st.composite
def json_texts(draw: st.DrawFn, text: str) -> str:
    """A text in one of the ways in which JSON writes it."""
    letters = [
        letter
        if draw(st.integers(0, 9)) and letter not in '"\\'
        else draw(st.sampled_from([f"\\u{ord(letter):04x}", f"\\u{ord(letter):04X}"]))
        for letter in text
    ]
    return '"' + "".join(letters) + '"'


texts = st.sampled_from(["ref", "literal", "a", "é", '{"ref":"b"}', "\\", '"', "{", '"ref":', ""])
scalars = st.sampled_from(["1", "-1.5e3", "null", "true"]) | texts.flatmap(json_texts)


@st.composite
def lists(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    items = draw(st.lists(inner, max_size=4))
    return "[" + ",".join(draw(spaces) + item + draw(spaces) for item in items) + "]"


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    names = draw(st.lists(st.sampled_from(["ref", "literal", "a", "{"]), max_size=3, unique=True))
    if names in (["ref"], ["literal"]):  # Then a name that is given twice counts once.
        names *= draw(st.integers(1, 3))
    fields = [
        draw(spaces) + draw(json_texts(name)) + draw(spaces) + ":" + draw(spaces) + draw(inner)
        for name in names
    ]
    return "{" + ",".join(field + draw(spaces) for field in fields) + "}"


values = st.recursive(scalars, lambda inner: lists(inner) | objects(inner), max_leaves=25)


@given(values, st.sampled_from([1, 5, 200_000]))
def test_cutting_gives_what_decoding_gives(text: str, size: int) -> None:
    raw = text.encode()
    names: dict[str, None] = {}
    expected = by_decoding(json.loads(raw), names)
    whole, references.SLICE_BYTES = references.SLICE_BYTES, size
    try:
        template = cut(raw)
    finally:
        references.SLICE_BYTES = whole
    if template is None:
        assert (expected, names) == (json.loads(raw), {})
        return
    filled = template.fill({name: json.dumps(result_of(name)).encode() for name in template.names})
    assert (json.loads(filled), list(template.names)) == (expected, list(names))
    assert has_marks(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'["ref", "literal"]',
        b'[{"ref": 1}, {"ref": null}, {"ref": ["a"]}, {"ref": {}}, {}]',
        b'[{"ref": "a", "x": 1}, {"x": 1, "ref": "a"}, {"reference": "a"}, {"Ref": "a"}]',
        b'["{\\"ref\\": \\"a\\"}", {"x": "{"}, "ref"]',
    ],
)
def test_nothing_is_cut_where_nothing_is_marked(raw: bytes) -> None:
    assert cut(raw) is None


def test_an_escaped_name_is_a_name() -> None:
    template = cut(b'[{"\\u0072ef": "\\u0061"}, {"litera\\u006C": {"ref": "b"}}]')
    assert template is not None
    assert (template.fill({"a": b"5"}), template.names) == (b'[5, {"ref": "b"}]', ("a",))


def test_a_bound_on_references_is_kept() -> None:
    many = b"[%s]" % b",".join([b'{"ref":"a"}'] * 10)
    assert cut(many, 10) is not None
    with pytest.raises(TooLarge, match="too many references in a call: 10 > 9"):
        cut(many, 9)
    assert cut(b'[{"literal":%s}]' % many, 0) is not None


MARKED = [b'{"ref":"a"}', b'{"literal":1}', b'{"ref":1}', b'{"ref":"a","b":1}', b'{"ref":[]}']


@pytest.mark.no_cover
@pytest.mark.parametrize("fill", [b"[]", b"{}", b'"ref"', *MARKED])
@pytest.mark.parametrize("around", [b"[%s]", b'[{"literal":[%s]}]', b'[{"ref":[%s]}]'])
def test_the_number_of_slices_grows_with_the_json(fill: bytes, around: bytes) -> None:
    few, many = (
        sum(1 for _ in template_of(around % b",".join([fill] * count), 10**6))
        for count in (20_000, 80_000)
    )
    assert many <= 4 * few + 4
    if fill in MARKED:
        assert many * 5_000 > 80_000, "a slice looks at some thousand marked objects at most"


def test_marked_objects_in_each_other_are_looked_at_once() -> None:
    """To look for the end of each of them anew would take the square of their number."""
    deep = b'{"ref":' * 400 + b"[%s]" % b",".join([b"[[]]"] * 10_000) + b"}" * 400
    slices = sum(1 for _ in template_of(b"[%s]" % deep, 10**6))
    assert slices < 40


@pytest.mark.no_cover
@pytest.mark.parametrize("fill", [b'"ref"', b'"%s"' % (b"a" * 1_000), b"[1]"])
def test_a_slice_has_so_many_bytes_however_few_marks_are_in_them(fill: bytes) -> None:
    """A hundred values are matched at once."""
    raw = b'{"ref":{"y":1},"x":[%s]}' % b",".join([fill] * (3_000_000 // len(fill)))
    slices = sum(1 for _ in template_of(raw, 10**6))
    assert slices >= len(raw) // (3 * references.SLICE_BYTES)
