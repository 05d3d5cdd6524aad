from __future__ import annotations

import re
from pathlib import Path

import pytest

from dte.handlers import registry
from dte.handlers.registry import CannotLoad
from dte.worker.processes.channel import TRACE_CHARS_MAX
from dte.worker.processes.start_failures import CHARS_MAX, describe, not_ready


def raised(source: str, path: Path) -> BaseException:
    """The exception that a module's source raises, as that of its loading."""
    path.write_text(source)
    try:
        try:
            exec(compile(source, str(path), "exec"), {})
        except BaseException as error:
            raise CannotLoad("cannot load handlers from it") from error
    except CannotLoad as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("source", "described"),
    [
        ("raise RuntimeError('no GPU left')", "RuntimeError: no GPU left (mine.py, line 1)"),
        (
            "\n\nimport no_such_one",
            "ModuleNotFoundError: No module named 'no_such_one' (mine.py, line 3)",
        ),
        ("def f():\n    g()\ndef g():\n    raise KeyError\nf()", "KeyError (mine.py, line 4)"),
        (
            "import json\njson.loads(5)",
            "TypeError: ",
        ),
        ("raise SystemExit(3)", "SystemExit: 3 (mine.py, line 1)"),
        ("raise ValueError('a\\nb\\x1b[0m')", "ValueError: a b\\x1b[0m (mine.py, line 1)"),
    ],
)
def test_a_reason_has_the_exception_and_the_user_s_line(
    source: str, described: str, tmp_path: Path
) -> None:
    found = describe(raised(source, tmp_path / "mine.py"))
    assert found.startswith(described)
    assert found.endswith(f"(mine.py, line {found.rpartition(' ')[2][:-1]})")


def test_the_place_of_a_syntax_error_is_not_given_twice(tmp_path: Path) -> None:
    found = describe(raised("x = (", tmp_path / "mine.py"))
    assert found.startswith("SyntaxError: ")
    assert found.count("mine.py, line 1") == 1


def test_a_reason_without_a_user_s_line_is_that_of_dte() -> None:
    assert describe(CannotLoad("mine has no handlers")) == "mine has no handlers"
    assert describe(OSError(24, "Too many open files")) == "OSError: [Errno 24] Too many open files"


def test_a_trace_has_the_user_s_frames_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "outer_module.py").write_text(
        "from importlib import import_module\nimport_module('inner_module')\n"
    )
    (tmp_path / "inner_module.py").write_text("import json\njson.loads('{')\n")
    with pytest.raises(CannotLoad) as caught:
        registry.load(["outer_module"])
    message = not_ready(caught.value)
    files = re.findall(r'File "(.*)"', message.trace)
    assert files[:2] == [str(tmp_path / "outer_module.py"), str(tmp_path / "inner_module.py")]
    assert all(each.endswith(("decoder.py", "json/__init__.py")) for each in files[2:])
    assert message.reason.endswith("(inner_module.py, line 2)")


def test_hostile_exceptions_are_bounded(tmp_path: Path) -> None:
    source = (
        "class Odd(Exception):\n    def __str__(self):\n        raise ValueError\n"
        "def down(n):\n    if n: down(n - 1)\n    raise Odd\ndown(200)"
    )
    message = not_ready(raised(source, tmp_path / "mine.py"))
    assert message.reason.startswith("Odd (its text cannot be read: ")
    assert message.reason.endswith("(mine.py, line 6)")
    assert 0 < len(message.trace) <= TRACE_CHARS_MAX
    long = not_ready(raised("raise OSError('\\ud800' + 'x' * 10**7)", tmp_path / "mine.py"))
    assert len(long.reason) < CHARS_MAX + 50
    assert long.reason.encode()
