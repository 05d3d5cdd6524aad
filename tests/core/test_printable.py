"""Texts from elsewhere, as they are printed."""

from __future__ import annotations

import pytest

from dte.core.printable import escaped, printable

CONTROLS = [chr(code) for code in (*range(0x20), 0x7F, *range(0x80, 0xA0))]
MARKS = [chr(code) for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F)]
UNSEEN = ["\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u00ad", "\u061c", "\U000e0041"]
BREAKS = ["\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\u2029"]
HALVES = ["\ud800", "\udfff", "\udc80"]


@pytest.mark.parametrize("text", ["", "plain", "ключ 😀 \\n é", "a\tb".expandtabs()])
def test_what_can_be_printed_stays(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize("char", [*CONTROLS, *MARKS, *UNSEEN, *BREAKS, *HALVES], ids=ascii)
def test_what_drives_a_terminal_or_ends_a_line_is_escaped(char: str) -> None:
    shown = printable(f"a{char}b{char}")
    assert shown.isprintable()
    shown.encode()
    assert shown.count(repr(char)[1:-1]) == 2
    assert shown[0] == "a"


def test_a_long_text_is_escaped_character_by_character() -> None:
    assert printable("\x1b" * 1_000_000 + "b") == "\\x1b" * 1_000_000 + "b"


def test_the_escape_may_be_another() -> None:
    assert escaped("a\nb\0", lambda char: "?") == "a?b?"
