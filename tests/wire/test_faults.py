"""Bytes that are no JSON are explained in words of dte, with the place."""

from __future__ import annotations

import json

import pytest

from dte.wire.faults import syntax_fault


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (b'{"a":', "the JSON ends too soon (line 1, column 6)"),
        (b"", "the JSON ends too soon (line 1, column 1)"),
        (b'{"a": 1,}', "the JSON has an unexpected } (line 1, column 9)"),
        (b"[1 2]", "the JSON has an unexpected 2 (line 1, column 4)"),
        (b"{'a': 1}", "the JSON has an unexpected ' (line 1, column 2)"),
        (b'{"a":\n  xyz}', "the JSON has an unexpected xyz (line 2, column 3)"),
        (b"{} {}", "the JSON has an unexpected { (line 1, column 4)"),
        (b'{"\xc3\xa9" 1}', "the JSON has an unexpected 1 (line 1, column 6)"),
        (b'["ab\\"]', "the JSON has a text without its closing quote (line 1, column 2)"),
        (
            b'["a\nb"]',
            "the JSON has a text with a line break or another control character (line 1, column 4)",
        ),
        (b'["\xc3\xbc\xff"]', "not UTF-8: byte 0xff at position 4"),
        (b'{"a": [NaN]}', "NaN is not a finite number"),
        (b"-Infinity", "-Infinity is not a finite number"),
        (b"[" * 100_000, "the JSON nests too deep"),
        (b"[" + b"x" * 10_000, f"the JSON has an unexpected {'x' * 20} (line 1, column 2)"),
    ],
    ids=lambda value: value[:20] if isinstance(value, bytes) else "",
)
def test_a_fault_is_named_with_its_place(raw: bytes, fault: str) -> None:
    assert syntax_fault(raw) == fault


@pytest.mark.parametrize("value", [{}, [1, 2.5], "a", None, {"a": [True, "é\n"]}])
def test_json_has_no_fault(value: object) -> None:
    assert syntax_fault(json.dumps(value).encode()) is None


def test_integers_of_any_length_are_json() -> None:
    assert syntax_fault(b"9" * 10_000) is None
