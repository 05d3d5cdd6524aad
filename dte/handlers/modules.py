"""Imports modules of handlers, and describes what keeps one from being imported.

The current folder is the last place in which modules are found. So its files never take the place
of Python's own modules or of installed ones.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from traceback import walk_tb
from types import ModuleType, TracebackType

REASON_CHARS_MAX = 2000
PACKAGE = str(Path(__file__).parents[1])
LIBRARY = sysconfig.get_path("stdlib")
IMPORTERS = ("<", PACKAGE, os.path.join(LIBRARY, "importlib"))
SITES = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


class CannotLoad(Exception):
    """Handlers cannot be imported. The text gives the module, the reason, the file and the line."""


@contextmanager
def found_in_folder(stays: bool) -> Iterator[None]:
    """Let modules be found in the current folder as well, if nowhere else.

    Args:
        stays: they are found there after the ``with`` block too.
    """
    before = list(sys.path)
    folder = current_folder()
    if folder is not None and folder not in sys.path:
        sys.path.append(folder)
    try:
        yield
    finally:
        if not stays:
            sys.path[:] = before


def current_folder() -> str | None:
    """Return the current folder; None if it has been deleted."""
    try:
        return os.getcwd()
    except OSError:
        return None


def load_module(name: str) -> ModuleType:
    """Import a module.

    Raises:
        CannotLoad: the name is not that of a module, or the module cannot be imported.
    """
    _check_name(name)
    with explained(name):
        return import_module(name)


def _check_name(name: str) -> None:
    """Refuse what cannot be a module of handlers: files, paths, and Python's own modules."""
    module, is_here = _module_of(name)
    top, dot, _ = module.partition(".")
    if module != name and _is_name(module):
        advice = f"give the module's name{':' if is_here else ','} {module}"
        if not is_here:
            whose = f"the folder of {top}" if dot else "its folder"
            advice += f"; {whose} must be in PYTHONPATH, or be the current folder"
        raise CannotLoad(f"cannot load handlers from {name}: {advice}")
    if not _is_name(name):
        raise CannotLoad(f"cannot load handlers from {name!r}: that is not the name of a module")
    if top in sys.stdlib_module_names:
        raise CannotLoad(
            f"cannot load handlers from {name}: {top} is a module of Python's standard library"
            f"{hidden(top)}"
        )


def _module_of(given: str) -> tuple[str, bool]:
    """Return the module that a name or a path means; False if it is not in the current folder.

    A package is meant by its folder, and by its file ``__init__.py``.
    """
    path, is_here = given.replace("\\", "/").removesuffix(".py"), True
    if "/" in path:
        here = current_folder()
        path = os.path.relpath(path) if here is not None else os.path.normpath(path)
        path = path.removesuffix("/__init__")
        if path.startswith(("/", "../")):
            is_here = False
            folder, path = os.path.split(path)
            while os.path.exists(os.path.join(folder, "__init__.py")):
                folder, package = os.path.split(folder)
                path = f"{package}/{path}"
    return path.replace("/", ".").removesuffix(".__init__"), is_here


def _is_name(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def hidden(name: str) -> str:
    """Return a text about the file of the current folder that a module of the same name hides."""
    top, folder = name.partition(".")[0], current_folder()
    if folder is None:
        return ""
    module = sys.modules.get(top)
    file = getattr(module, "__file__", None)
    used = {str(path) for path in getattr(module, "__path__", ())} | {file}
    mine = [os.path.join(folder, f"{top}.py"), os.path.join(folder, top)]
    found = [path for path in mine if os.path.exists(path)]
    return f", which hides {found[0]}; rename that" if found and used.isdisjoint(mine) else ""


@contextmanager
def explained(what: str, place: str = "") -> Iterator[None]:
    """Turn an exception into a `CannotLoad` that gives the exception, its file and its line.

    Args:
        what: the module or the function that is loaded.
        place: the file and the line, if the exception has none.
    """
    try:
        yield
    except (KeyboardInterrupt, CannotLoad):
        raise
    except BaseException as error:  # A module may raise SystemExit, or what it likes.
        text = _text(error)
        kind = type(error).__name__
        reason = (f"{kind}: {text}" if text else kind)[:REASON_CHARS_MAX]
        where = _place(error) or place
        reason += f" ({where})" if where else ""
        raise CannotLoad(f"cannot load handlers from {what}: {reason}{_hint(error)}") from error


def _text(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return error.msg
    try:
        return str(error)
    except Exception:
        return ""


def _place(error: BaseException) -> str:
    """Return the deepest file and line that are the user's, or at least not Python's."""
    if isinstance(error, SyntaxError) and error.filename:
        return place(error.filename, error.lineno or 1)
    found = last_line(error.__traceback__)
    return place(*found) if found is not None else ""


def last_line(traceback: TracebackType | None, mine: bool = False) -> tuple[str, int] | None:
    """Return the deepest file and line of a traceback that are the user's.

    Args:
        mine: return None if none is; otherwise prefer installed packages to Python's own modules.
    """
    calls = [
        (frame.f_code.co_filename, line)
        for frame, line in walk_tb(traceback)
        if not frame.f_code.co_filename.startswith(IMPORTERS)
    ]
    found = min(reversed(calls), key=_strangeness, default=None)
    return None if mine and found is not None and _strangeness(found) else found


def _strangeness(call: tuple[str, int]) -> int:
    file, _ = call
    return 1 if any(site in file for site in SITES) else 2 if file.startswith(LIBRARY) else 0


def place(file: str, line: int) -> str:
    """Return a file, from the current folder if it is there, and a line."""
    folder = current_folder()
    if folder is not None:
        file = file.removeprefix(os.path.join(folder, ""))
    return f"{file}, line {line}"


def _hint(error: BaseException) -> str:
    """Return what explains a module that is missing, or that is not the one that was meant."""
    if isinstance(error, ModuleNotFoundError):
        folder = current_folder()
        if folder is None:
            return "; the current folder has been deleted"
        return f"; modules are installed, in a folder of PYTHONPATH, or in {folder}"
    name = error.name if isinstance(error, ImportError) else None
    if isinstance(error, AttributeError) and isinstance(error.obj, ModuleType):
        name = error.obj.__name__
    hides = hidden(name) if name else ""
    return f"; that is {_home(name)}{hides}" if name and hides else ""


def _home(name: str) -> str:
    module = sys.modules.get(name)
    return getattr(module, "__file__", None) or f"Python's own module {name}"


def files_of(names: Iterable[str]) -> list[str]:
    """Return the files of loaded modules, and those of the user's modules that they import."""
    tops = {name.partition(".")[0] for name in names}
    found = set()
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if not isinstance(file, str) or file.startswith(PACKAGE):
            continue
        if name.partition(".")[0] in tops or _strangeness((file, 0)) == 0:
            found.add(file)
    for name in tops:
        for folder in getattr(sys.modules.get(name), "__path__", ()):
            found.update(map(str, Path(folder).rglob("*.py")))
    return sorted(found)
