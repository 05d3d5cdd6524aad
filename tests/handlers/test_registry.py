from __future__ import annotations

import importlib
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from numbers import Number
from pathlib import Path
from typing import Any

import pytest
from harness.wording import has

import dte
from dte.handlers import registry
from dte.handlers.registry import CannotLoad, handler, infos, load
from dte.wire.messages.handlers import BUILT_IN_NAMES, HandlerInfo

MODULE = """
import dte

@dte.handler("resize_{name}", timeout=30, retries=3)
async def resize(width: int) -> int:
    return width
"""


def test_a_function_stays_what_it_is_and_is_found_by_its_name() -> None:
    @dte.handler("twice", timeout=30, retries=3, pure=True)
    def twice(x: int) -> int:
        return 2 * x

    assert twice(2) == 4
    found = registry.find("twice")
    assert found.function is twice
    assert infos()["twice"] == HandlerInfo(30, 3, True)


def test_a_handler_is_found_and_known_to_be_async_if_it_is_written_so() -> None:
    load()
    echo, sleep = registry.find("echo"), registry.find("sleep")
    assert echo is not None
    assert not echo.is_async
    assert sleep is not None
    assert sleep.is_async
    assert registry.find("nothing") is None


def test_a_name_is_taken_once() -> None:
    @handler("mine")
    def mine() -> None: ...

    with pytest.raises(ValueError, match=r"two functions claim the handler 'mine': .*mine.*other"):

        @handler("mine")
        def other() -> None: ...

    for _ in range(2):  # One function that is defined again.

        @handler("same")
        def same() -> None: ...


COPIED = """
import dte

@dte.handler("a")
def x(): ...

@dte.handler("a")
def x(): ...
"""


def test_two_functions_of_one_name_in_a_module_are_named_with_their_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "copied", raising=False)
    Path("copied.py").write_text(COPIED)
    with pytest.raises(CannotLoad) as error:
        registry.load(["copied"])
    text = str(error.value)
    assert "two functions claim the handler 'a': copied.x (" in text
    assert text.count("copied.py") >= 2
    assert "line 4" in text
    assert "line 7" in text


def test_a_module_that_is_reloaded_replaces_its_functions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "edited.py"
    path.write_text(COPIED.replace('"a"', '"edited-1"', 1).replace('"a"', '"edited-2"'))
    module = importlib.import_module("edited")
    for lines in (1, 3):
        source = "\n" * lines + path.read_text()
        path.write_text(source)
        importlib.invalidate_caches()
        importlib.reload(module)
    del sys.modules["edited"]
    again = importlib.import_module("edited")
    found = registry.find("edited-2")
    assert found is not None
    assert found.function is again.x


def test_a_user_s_handler_takes_the_place_of_a_built_in_one() -> None:
    built_in = registry.find("send_email")
    assert registry.replaced() == {}

    @handler("send_email", retries=3)
    def mine(to: str) -> str:
        return f"sent to {to}"

    found = registry.find("send_email")
    assert found is not None
    assert found.function is mine
    assert registry.find("builtin:send_email") is built_in
    assert registry.infos()["send_email"].retries == 3
    assert registry.replaced() == {"send_email": HandlerInfo()}
    assert registry.find("builtin:mine") is None


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"name": ""}, "has letters, digits and _"),
        ({"name": "x" * 201}, "at most 200 characters"),
        ({"name": "a\n"}, "has letters, digits and _"),
        ({"name": "1a"}, "has letters, digits and _"),
        ({"name": "a b"}, "'a b' is not one"),
        ({"name": "a", "timeout": 10**400}, "timeout must be positive seconds"),
        ({"name": "a", "timeout": float("nan")}, "timeout must be positive seconds"),
        ({"name": "a", "timeout": "5"}, "timeout must be positive seconds or None, not '5'"),
        ({"name": "a", "timeout": True}, "timeout must be positive seconds"),
        ({"name": "a", "retries": 1001}, "retries must be from 0 to 1000, not 1001"),
        ({"name": "a", "retries": 1.0}, "retries must be from 0 to 1000, not 1.0"),
        ({"name": "a", "retries": True}, "retries must be from 0 to 1000"),
        ({"name": "a", "retries": None}, "retries must be from 0 to 1000"),
        ({"name": "a", "timeout": 0}, "handler a: timeout must be positive seconds or None, not 0"),
        ({"name": "a", "timeout": float("inf")}, "timeout must be positive seconds"),
        ({"name": "a", "retries": -1}, "handler a: retries must be from 0 to 1000, not -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, object], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        handler(**settings)(print)  # type: ignore[arg-type]


def test_a_decorator_without_a_name_says_how_it_is_written() -> None:
    with pytest.raises(TypeError, match=r'@dte\.handler\("name"\)'):
        handler(print)  # type: ignore[arg-type]


def test_loading_brings_the_built_in_handlers() -> None:
    script = "from dte.handlers.registry import load, infos; load(); print(*sorted(infos()))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.split() == [
        *("calculate_pi", "compute", "echo", "fibonacci", "prime", "prime_factorization"),
        *("primes", "process_data", "send_email", "sleep"),
    ]
    assert set(done.stdout.split()) == BUILT_IN_NAMES


def test_a_module_is_found_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "handlers_of_here.py").write_text(MODULE.format(name="here"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    load(["handlers_of_here"])
    assert infos()["resize_here"] == HandlerInfo(30, 3, False)
    del sys.modules["handlers_of_here"]


def test_installed_packages_are_found_by_their_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "handlers_of_package.py").write_text(MODULE.format(name="package"))
    metadata = tmp_path / "a_package-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: a-package\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[dte.handlers]\nany = handlers_of_package\n")
    monkeypatch.syspath_prepend(tmp_path)
    load()
    assert "resize_package" in infos()
    del sys.modules["handlers_of_package"]
    (metadata / "entry_points.txt").write_text("[dte.handlers]\nany = no_such\n")
    with pytest.raises(CannotLoad, match="from no_such, the entry point any of dte"):
        load()


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("raise RuntimeError('broken')", "cannot load handlers from broken: RuntimeError: broken"),
        ("import sys; sys.exit(1)", "cannot load handlers from broken: SystemExit: 1"),
        ("def f(:", "cannot load handlers from broken: SyntaxError: "),
        (
            "import dte\n@dte.handler('a')\ndef f(): ...\n@dte.handler('a')\ndef g(): ...",
            "two functions claim the handler 'a': broken.f (",
        ),
        ("import dte\n@dte.handler('a')\ndef f(x: 'Y'): ...", "annotation of handler a: […]Y"),
        (
            "import dte\nclass Y: ...\n@dte.handler('a')\ndef f(x: list[Y] | None): ...",
            "TypeError: argument 'x' of handler a: JSON cannot be converted to Y; annotate it",
        ),
        (
            "import dte, dataclasses\nclass Y: ...\n@dataclasses.dataclass\nclass Z:\n    y: Y\n"
            "    z: 'Z'\n@dte.handler('a')\ndef f(x: Z): ...",
            "argument 'x' of handler a: JSON cannot be converted to Y",
        ),
        (
            "import dte\n@dte.handler('a', timeout='5')\ndef f(): ...",
            "TypeError: handler a: timeout",
        ),
    ],
)
def test_a_module_that_cannot_be_loaded_is_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, error: str
) -> None:
    (tmp_path / "broken.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CannotLoad) as caught:
        load(["broken"])
    assert has(str(caught.value), error)
    sys.modules.pop("broken", None)


@dataclass
class Node:
    value: object
    next: Node | None = None


def test_annotations_of_all_that_json_can_become_are_taken() -> None:
    @handler("walk")
    def walk(node: Node, any_: object, number: Number, more: dict[str, list[Node]]) -> None: ...

    load()
    bound, _ = registry.find("walk").signature.bind([{"value": 1}, "x", 2.5, {}])
    assert bound == [Node(1), "x", 2.5, {}]


def add(a: int, b: int) -> int:
    return a + b


class Adder:
    def __init__(self, a: int) -> None:
        self.a = a

    def __call__(self, b: int) -> int:
        return self.a + b

    def add(self, b: int) -> int:
        return self.a + b


@pytest.mark.parametrize(
    ("function", "home"),
    [
        (partial(add, 1), "add"),
        (partial(partial(add, 1)), "add"),
        (Adder(1), "Adder.__call__"),
        (Adder(1).add, "Adder.add"),
    ],
)
def test_any_callable_can_be_a_handler(function: Any, home: str) -> None:
    handler("adds")(function)
    found = registry.find("adds")
    assert found is not None
    positional, named = found.signature.bind([2])
    assert found.function(*positional, **named) == 3
    assert found.home == f"{__name__}.{home}"
    assert "test_registry.py, line " in found.place
    with pytest.raises(TypeError, match="argument 'b' must be an integer"):
        found.signature.bind(["2"])


def test_a_class_can_be_a_handler() -> None:
    handler("makes")(Adder)
    found = registry.find("makes")
    assert found is not None
    with pytest.raises(TypeError, match="argument 'a' must be an integer"):
        found.signature.bind(["2"])


def test_a_method_without_its_object_is_an_error_that_says_so() -> None:
    handler("adds")(Adder.add)
    found = registry.find("adds")
    assert found is not None
    with pytest.raises(TypeError, match=r"handler adds: Adder\.add is a method, which needs an"):
        _ = found.signature


def test_two_partials_under_one_name_are_two_functions() -> None:
    handler("adds")(partial(add, 1))
    with pytest.raises(ValueError, match="two functions claim the handler 'adds'"):
        handler("adds")(partial(add, 2))
