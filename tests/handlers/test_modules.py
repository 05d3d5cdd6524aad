"""Modules of handlers: where they are found, and the errors when one cannot be loaded."""

from __future__ import annotations

import os
import queue
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness.wording import has

from dte.handlers import registry
from dte.handlers.modules import CannotLoad, found_in_folder

HANDLER = 'import dte\n@dte.handler("mine")\ndef mine(): ...\n'

Refused = Callable[..., str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder: empty, and not on the path. What is imported there is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    for name in set(sys.modules):
        monkeypatch.setitem(sys.modules, name, sys.modules[name])
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def refused(here: Path) -> Refused:
    """Gives the error of loading a module: ``refused("mine", mine="source")``."""

    def load(*modules: str, **sources: str) -> str:
        for name, source in sources.items():
            (here / f"{name}.py").write_text(source)
        with pytest.raises(CannotLoad) as caught:
            registry.load(modules)
        return str(caught.value)

    return load


# Where they are found


def test_the_current_folder_is_on_the_path_only_meanwhile(here: Path) -> None:
    (here / "mine.py").write_text(f"import sys\nPATH = list(sys.path)\n{HANDLER}")
    before = list(sys.path)
    registry.load(["mine"])
    assert [*before, str(here)] == sys.modules["mine"].PATH
    assert sys.path == before


def test_it_stays_on_the_path_of_processes_that_run_handlers(here: Path) -> None:
    (here / "mine.py").write_text(HANDLER)
    before = list(sys.path)
    for _ in range(2):
        registry.load(["mine"], folder_stays=True)
        assert sys.path == [*before, str(here)]


def test_without_modules_the_path_stays_as_it_is() -> None:
    before = list(sys.path)
    registry.load(folder_stays=True)
    assert sys.path == before


def test_a_module_of_the_current_folder_imports_pythons_own_modules(here: Path) -> None:
    (here / "queue.py").write_text("1/0")
    (here / "mine.py").write_text(f"import queue\n{HANDLER}")
    registry.load(["mine"])
    assert sys.modules["mine"].queue is queue


def test_a_current_folder_that_was_deleted_is_not_an_error(here: Path) -> None:
    before = list(sys.path)
    here.rmdir()
    with found_in_folder(stays=True):
        assert sys.path == before
    with pytest.raises(CannotLoad, match="the current folder has been deleted"):
        registry.load(["mine"])
    here.mkdir()


# What is not a module of handlers


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("etl.py", "etl"),
        ("./etl.py", "etl"),
        ("app/etl.py", "app.etl"),
        ("app/etl", "app.etl"),
        ("app\\etl.py", "app.etl"),
        ("./etl", "etl"),
        ("etl/", "etl"),
        ("app.etl.py", "app.etl"),
        ("app//etl/", "app.etl"),
        ("./app.etl", "app.etl"),
        ("etl/__init__.py", "etl"),
        ("etl.__init__", "etl"),
        ("./app/etl/__init__", "app.etl"),
        ("app\\etl\\__init__.py", "app.etl"),
    ],
)
def test_for_a_file_the_name_of_its_module_is_given(
    refused: Refused, given: str, name: str
) -> None:
    assert refused(given) == f"cannot load handlers from {given}: give the module's name: {name}"


def test_for_a_path_that_leads_to_the_current_folder_the_name_is_that_from_here(
    refused: Refused, here: Path
) -> None:
    for given in (
        f"{here}/app/etl.py",
        f"../{here.name}/app/etl.py",
        f"{here}/app/etl/__init__.py",
    ):
        assert refused(given).endswith(": give the module's name: app.etl")


def test_for_a_file_of_a_package_elsewhere_the_name_begins_with_the_package(
    refused: Refused, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "app").mkdir()
    (here / "app" / "__init__.py").touch()
    (here / "else").mkdir()
    monkeypatch.chdir(here / "else")
    text = "give the module's name, app.etl; the folder of app must be in PYTHONPATH"
    assert text in refused(f"{here}/app/etl.py")
    assert "give the module's name, app; its folder must be" in refused("../app/__init__.py")


@pytest.mark.parametrize("given", ["/srv/app/etl.py", "../etl.py", "/srv/my-app/etl"])
def test_for_a_file_elsewhere_the_error_names_the_way_too(refused: Refused, given: str) -> None:
    assert "give the module's name, etl; its folder must be in PYTHONPATH" in refused(given)


@pytest.mark.parametrize(
    "given", ["my-etl", ".etl", "etl.", "1", "", "a..b", "-x", "./", "..", "/", "*"]
)
def test_what_is_not_the_name_of_a_module_is_refused(refused: Refused, given: str) -> None:
    assert f"from {given!r}: that is not the name of a module" in refused(given)


@pytest.mark.parametrize("given", ["email", "email.mime", "sys", "json", "asyncio"])
def test_a_module_of_pythons_is_refused(refused: Refused, given: str) -> None:
    top = given.partition(".")[0]
    assert refused(given).endswith(f": {top} is a module of Python's standard library")
    error = refused(given, **{top: HANDLER})
    assert error.endswith(f", which hides {os.getcwd()}/{top}.py; rename that")


def test_a_module_without_handlers_is_refused_with_its_file(refused: Refused, here: Path) -> None:
    error = refused("mine", mine="def resize(): ...")
    assert error == f"cannot load handlers from mine: there is no @dte.handler in {here}/mine.py"


def test_a_folder_without_handlers_is_refused(refused: Refused, here: Path) -> None:
    (here / "photos").mkdir()
    assert refused("photos").endswith("there is no @dte.handler in the folder photos")


def test_an_installed_module_that_hides_one_with_handlers_is_named(
    refused: Refused, here: Path
) -> None:
    error = refused("click", click=HANDLER)
    assert has(error, f"[…]click/__init__.py, which hides {here}/click.py; rename that")


@pytest.mark.parametrize(
    "modules", [["mine", "mine"], ["mine", "facade"], ["facade", "mine"], ["pack", "pack.inner"]]
)
def test_modules_whose_handlers_came_with_others_are_loaded(here: Path, modules: list[str]) -> None:
    (here / "mine.py").write_text(HANDLER)
    (here / "facade.py").write_text("import mine")
    (here / "pack").mkdir()
    (here / "pack" / "__init__.py").write_text("import pack.inner")
    (here / "pack" / "inner.py").write_text(HANDLER)
    registry.load(modules)
    assert "mine" in registry.infos()


@pytest.mark.parametrize(
    "source",
    [
        "from pack.inner import mine",
        "from pack.inner import mine as another",
        "from pack.inner import *",
        "import pack.inner as inner",
        "import importlib\nfor name in ['inner']: importlib.import_module(f'pack.{name}')",
    ],
)
def test_a_module_that_collects_handlers_of_others_is_loaded_again(here: Path, source: str) -> None:
    (here / "pack").mkdir()
    (here / "pack" / "inner.py").write_text(HANDLER)
    (here / "tasks.py").write_text(source)
    registry.load(["tasks"])
    registry.load(["tasks"])  # As a worker does, once it gets its first call.
    assert "mine" in registry.infos()


def test_a_module_that_takes_a_handler_out_of_another_is_loaded_after_it(here: Path) -> None:
    (here / "mine.py").write_text(HANDLER)
    (here / "facade.py").write_text("from mine import mine as another")
    registry.load(["mine", "facade"])
    assert "mine" in registry.infos()


def test_objects_of_a_module_that_raise_at_everything_do_no_harm(here: Path) -> None:
    (here / "mine.py").write_text(f"import hostile\n{HANDLER}")
    (here / "again.py").write_text(
        "import mine\n"
        "class Hostile(type):\n"
        "    def __getattribute__(cls, name): raise KeyError(name)\n"
        "    def __eq__(cls, other): raise KeyError(other)\n"
        "    __hash__ = None\n"
        "class hostile(metaclass=Hostile): ...\n"
    )
    (here / "hostile.py").write_text("")
    registry.load(["mine", "again"])


def test_the_module_of_built_in_handlers_is_one() -> None:
    registry.load(["dte.handlers.builtin"])


# Modules that cannot be imported


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("x = 1\n1/0", "ZeroDivisionError: division by zero (mine.py, line 2)"),
        ("\ndef f(:", "SyntaxError: invalid syntax (mine.py, line 2)"),
        ("import json\n\njson.loads('{a')", "JSONDecodeError: […] (mine.py, line 3)"),
        ("import inner", "KeyError: 'a' (inner.py, line 2)"),
        ("import sys\nsys.exit(1)", "SystemExit: 1 (mine.py, line 2)"),
        ("class B(BaseException): ...\nraise B", "B (mine.py, line 2)"),
        (
            "class E(Exception):\n    def __str__(self): return 1/0\nraise E",
            "E (mine.py, line 3)",
        ),
        (
            "import dte\nclass Y: ...\n@dte.handler('a')\ndef a(y: Y): ...",
            "TypeError: […]annotate it[…] (mine.py, line 3)",
        ),
        ("import dte\n@dte.handler('a b')\ndef a(): ...", "ValueError: […] (mine.py, line 2)"),
    ],
)
def test_the_exception_is_given_with_its_file_and_line(
    refused: Refused, source: str, reason: str
) -> None:
    error = refused("mine", mine=source, inner="d = {}\nd['a']")
    assert error.startswith("cannot load handlers from mine")
    assert has(error, f": {reason}"), error
    assert "\n" not in error


def test_a_module_that_is_missing_is_named_with_the_places(refused: Refused, here: Path) -> None:
    error = refused("mine")
    assert has(error, f"[…]: ModuleNotFoundError: […]; modules are installed, […], or in {here}")
    assert "line" not in error
    error = refused("mine", mine="\nimport no_such")
    assert has(error, "[…]no_such[…] (mine.py, line 2); modules are installed, […]")


@pytest.mark.parametrize("source", ["from queue import mine", "import queue\nqueue.mine"])
def test_a_file_that_pythons_module_hides_is_named(
    refused: Refused, here: Path, source: str
) -> None:
    error = refused("mine", mine=source, queue="mine = 1")
    assert error.endswith(f"; that is {queue.__file__}, which hides {here}/queue.py; rename that")


def test_a_reason_of_megabytes_is_cut(refused: Refused) -> None:
    assert len(refused("mine", mine="raise ValueError('x' * 5_000_000)")) < 3000
