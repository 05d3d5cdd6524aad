"""The size of files and functions in dte: each fits into a reader's head."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import dte

ROOT = Path(dte.__file__).parent
FILE_LINES_MAX = 450
FUNCTION_LINES_MAX = 75


def long_functions(source: str, lines_max: int = FUNCTION_LINES_MAX) -> Iterator[tuple[str, int]]:
    """The functions of a source that have too many lines, with their lengths."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            lines = node.end_lineno - node.lineno + 1
            if lines > lines_max:
                yield node.name, lines


def test_no_file_is_too_long() -> None:
    lines = {path: len(path.read_text("utf-8").splitlines()) for path in ROOT.rglob("*.py")}
    assert len(lines) > 100
    assert {str(path): count for path, count in lines.items() if count > FILE_LINES_MAX} == {}


def test_no_function_is_too_long() -> None:
    found = {path: [*long_functions(path.read_text("utf-8"))] for path in ROOT.rglob("*.py")}
    assert {str(path): functions for path, functions in found.items() if functions} == {}


def test_the_check_finds_long_functions() -> None:
    source = (
        "class A:\n    def f(self):\n        a = 1\n        return a\n\nasync def g():\n    pass\n"
    )
    assert [*long_functions(source, 2)] == [("f", 3)]
