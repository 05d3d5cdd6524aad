"""What commands print: nothing in it drives a terminal."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

import dte.cli
from dte.cli.text import printable_json, say, say_json, short

NASTY = "\x1b]0;t\x07\r\u202e\x9b31m\u2028\ud800\u200b"
OTHER_WAYS = ("click.echo", "click.secho", "print", "sys.stdout.write", "sys.stderr.write")


def test_line_breaks_stay_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"first\n  {NASTY}\n")
    shown = capsys.readouterr().out
    first, second, *rest = shown.split("\n")
    assert (first, rest) == ("first", ["", ""])
    assert second.isprintable()
    assert second == "  \\x1b]0;t\\x07\\r\\u202e\\x9b31m\\u2028\\ud800\\u200b"


def test_json_has_escapes_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    text = NASTY.replace("\ud800", "") + "\U000e0041 é 😀"
    say_json({"error": text})
    shown = capsys.readouterr().out
    assert shown.rstrip("\n").isprintable()
    assert "é 😀" in shown
    assert json.loads(shown) == {"error": text}
    assert printable_json('"é"') == '"é"'


def test_a_text_in_a_table_is_cut() -> None:
    assert short("1+\n2\t\x1b" + "x" * 100) == "1+ 2  " + "x" * 33 + "…"


def test_commands_print_in_no_other_way() -> None:
    found = [
        f"{path.name}:{node.lineno}"
        for path in Path(dte.cli.__file__).parent.glob("*.py")
        if path.name != "text.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in OTHER_WAYS
    ]
    assert found == []
