"""Bytes that are no JSON are explained in words of dte, with the place."""

from __future__ import annotations

import json

import msgspec
import pytest

from dte.wire.faults import HALF, plain, syntax_fault

A_NAME = "where a name in double quotes should be"
A_VALUE = "where a value should be"
QUOTES = "texts need double quotes"


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b'{"a":', "the JSON ends too soon (line 1, column 6)"),
        (b"", "the JSON ends too soon (line 1, column 1)"),
        (b'{"a": 1,}', "the JSON has a comma before } (line 1, column 9)"),
        (b"[1 2]", "the JSON has 2 where a comma should be (line 1, column 4)"),
        (b"[1,\n]", "the JSON has a comma before ] (line 2, column 1)"),
        (b"{'a': 1}", f"the JSON has ' {A_NAME} (line 1, column 2)"),
        (b"{tea}", f"the JSON has tea {A_NAME} (line 1, column 2)"),
        (b'{"a":\n  xyz}', f"the JSON has xyz {A_VALUE} (line 2, column 3); {QUOTES}"),
        (b"[tea]", f"the JSON has tea {A_VALUE} (line 1, column 2); {QUOTES}"),
        (b'{"a": }', f"the JSON has }} {A_VALUE} (line 1, column 7)"),
        (b".5", f"the JSON has .5 {A_VALUE} (line 1, column 1)"),
        (b"01", "the JSON has 1 after its end (line 1, column 2)"),
        (b"\0", f"the JSON has '\\x00' {A_VALUE} (line 1, column 1)"),
        (b'["a\\x"]', "the JSON has the unknown escape \\x (line 1, column 4)"),
        (b'["\\u12g4"]', "the JSON has an unexpected u12g4 (line 1, column 4)"),
        (b'["\\ud800"]', f"the JSON has \\ud800, {HALF}"),
        (b'{"\\udc00": 1}', f"the JSON has \\udc00, {HALF}"),
        (b"{} {}", "the JSON has { after its end (line 1, column 4)"),
        (b'{"\xc3\xa9" 1}', "the JSON has 1 where a colon should be (line 1, column 6)"),
        (b'["ab\\"]', "the JSON has a text without its closing quote (line 1, column 2)"),
        (
            b'["a\nb"]',
            "the JSON has a text with a line break or another control character (line 1, column 4)",
        ),
        (b'["\xc3\xbc\xff"]', "not UTF-8: byte 0xff at position 4"),
        (b'{"a": [NaN]}', "NaN is not a finite number"),
        (b'{"a": 1e400}', "1e400 is not a finite number"),
        (b"-Infinity", "-Infinity is not a finite number"),
        (b"[" * 100_000, "the JSON nests too deep"),
        (
            b"[" + b"x" * 10_000,
            f"the JSON has {'x' * 20} {A_VALUE} (line 1, column 2); {QUOTES}",
        ),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes) else "",
)
def test_a_fault_is_named_with_its_place(raw: bytes, fault: str) -> None:
    assert syntax_fault(raw) == fault


@pytest.mark.parametrize("value", [{}, [1, 2.5], "a", None, {"a": [True, "é\n"]}, "\\ud800", "😀"])
def test_json_has_no_fault(value: object) -> None:
    assert syntax_fault(json.dumps(value).encode()) is None


def test_integers_of_any_length_are_json() -> None:
    assert syntax_fault(b"9" * 10_000) is None


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    size: int


class Outer(msgspec.Struct):
    parts: list[Inner]
    names: dict[str, int] = {}


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b'{"parts": [{"sze": 1}]}', "unknown field 'sze' in parts[0]"),
        (b'{"parts": [{}]}', "the field 'size' is missing in parts[0]"),
        (b'{"parts": [{"size": "x"}]}', "a value in parts[0].size does not have its type"),
        (b'{"parts": [], "names": {"a": "b"}}', "a value in names[...] does not have its type"),
        (b"{}", "the field 'parts' is missing"),
        (b'{"parts": ', "the JSON ends too soon"),
        (b'{"parts": x}', "the JSON is malformed at byte 1"),
        (b'{"parts": []} x', "the JSON is malformed at byte 1"),
    ],
)
def test_what_msgspec_says_is_said_in_words_of_dte(raw: bytes, fault: str) -> None:
    with pytest.raises(msgspec.DecodeError) as raised:
        msgspec.json.decode(raw, type=Outer)
    assert plain(raised.value).startswith(fault)


def test_our_own_words_are_kept() -> None:
    assert plain(ValueError("the JSON nests too deep")) == "the JSON nests too deep"
