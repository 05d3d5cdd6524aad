"""The package `dte` itself: what `import dte` gives, and what it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from harness.wording import has

import dte


def run(script: str) -> str:
    """Run a script in a fresh Python, without any module of dte, and return its output."""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_alone_loads_neither_tornado_nor_msgspec_nor_any_part() -> None:
    script = (
        "import sys, dte\n"
        "print(sorted(name for name in sys.modules if name.partition('.')[0] in "
        "('tornado', 'msgspec', 'asyncio', 'dte')))"
    )
    assert run(script) == "['dte']"


def test_every_exported_name_is_loaded_when_it_is_asked_for() -> None:
    script = "import dte\nfor name in dte.__all__: assert getattr(dte, name), name\nprint('all')"
    assert run(script) == "all"


def test_a_star_import_gives_every_exported_name() -> None:
    assert run("from dte import *\nprint(Client.__name__, JobFailed.__name__)") == (
        "Client JobFailed"
    )


def test_the_exported_names_are_those_that_type_checkers_see() -> None:
    tree = ast.parse(Path(dte.__file__).read_text("utf-8"))
    (block,) = (each for each in tree.body if isinstance(each, ast.If))
    seen = {
        alias.name: each.module
        for each in block.body
        if isinstance(each, ast.ImportFrom)
        for alias in each.names
    }
    assert seen == dte._HOMES
    assert sorted([*seen, "__version__"]) == sorted(dte.__all__)


def test_an_exported_class_is_the_one_of_its_home() -> None:
    from dte.client.blocking import Client

    assert dte.Client is Client


def test_an_unknown_attribute_is_an_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="module 'dte' has no attribute 'Clinet'"):
        dte.Clinet  # type: ignore[attr-defined]  # noqa: B018
    assert not hasattr(dte, "master_of_none")


def test_the_exported_names_are_listed_before_they_are_used() -> None:
    assert run("import dte; print(set(dte.__all__) <= set(dir(dte)))") == "True"


def test_the_version_is_that_of_the_installed_package() -> None:
    assert dte.__version__ == version("distributed-tasks-executor")


def test_python_runs_the_package_as_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dte", "--version"], capture_output=True, text=True
    )
    assert has(done.stdout, f"dte[…]{dte.__version__}\n")


def test_a_folder_of_its_name_does_not_hide_the_package(tmp_path: Path) -> None:
    """The folder that holds a checkout has one."""
    (tmp_path / "dte").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "dte", "--version"], capture_output=True, text=True, cwd=tmp_path
    )
    assert has(done.stdout, f"dte[…]{dte.__version__}\n"), done.stderr
