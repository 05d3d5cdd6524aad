"""The handlers of a worker: functions that jobs call by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from inspect import iscoroutinefunction
from types import ModuleType
from typing import Any, TypeVar

from dte.core.graph.handlers import HANDLER, NAME_CHARS_MAX
from dte.handlers.arguments import Signature
from dte.handlers.modules import CannotLoad, explained, found_in_folder, hidden, load_module, place
from dte.wire.messages.handlers import HandlerInfo

F = TypeVar("F", bound=Callable[..., Any])

BUILTIN = "dte.handlers.builtin"
ENTRY_POINTS = "dte.handlers"
RETRIES_MAX = 1000


@dataclass(eq=False)
class Handler:
    """A function that jobs call by name, with the options of `handler`."""

    name: str
    function: Callable[..., Any]
    timeout: float | None = None
    retries: int = 0
    pure: bool = False

    def __post_init__(self) -> None:
        if len(self.name) > NAME_CHARS_MAX or not HANDLER.fullmatch(self.name):
            raise ValueError(
                "a handler's name has letters, digits and _, in parts separated by . or -, and at "
                f"most {NAME_CHARS_MAX} characters; {self.name[:50]!r} is not one"
            )
        _check_timeout(self.name, self.timeout)
        _check_retries(self.name, self.retries)

    @property
    def home(self) -> str:
        """The full name of the function."""
        module = getattr(self.function, "__module__", "?")
        return f"{module}.{getattr(self.function, '__qualname__', self.function)}"

    @property
    def place(self) -> str:
        """The file and the line of the function, if it is written in Python."""
        code = getattr(self.function, "__code__", None)
        return "" if code is None else place(code.co_filename, code.co_firstlineno)

    @cached_property
    def is_async(self) -> bool:
        """True if the function is ``async def``, so its calls run concurrently in one process."""
        return iscoroutinefunction(self.function)

    @cached_property
    def signature(self) -> Signature:
        return Signature(self.name, self.function)


def _check_timeout(name: str, timeout: object) -> None:
    expected = f"handler {name}: timeout must be positive seconds or None, not {timeout!r}"
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(expected)
    if not 0 < timeout <= sys.float_info.max:
        raise ValueError(expected)


def _check_retries(name: str, retries: object) -> None:
    expected = f"handler {name}: retries must be from 0 to {RETRIES_MAX}, not {retries!r}"
    if isinstance(retries, bool) or not isinstance(retries, int):
        raise TypeError(expected)
    if not 0 <= retries <= RETRIES_MAX:
        raise ValueError(expected)


_handlers: dict[str, Handler] = {}


def handler(
    name: str, *, timeout: float | None = None, retries: int = 0, pure: bool = False
) -> Callable[[F], F]:
    """Register a function as a handler, which jobs can call on workers that load its module.

    The function itself is unchanged. msgspec checks the arguments of a call against the annotations
    and converts them. The result must be convertible to JSON.

    Args:
        name: the handler's name: letters, digits and ``_``, in parts separated by ``.`` or ``-``.
        timeout: the default timeout of a call, in seconds; None for none. A call can override it.
        retries: the default number of retries after a failure, 0 to 1000. A call can override it.
        pure: equal arguments give equal results, without side effects. Equal calls in a job then
            run once.

    Raises:
        TypeError, ValueError: the name is taken, or an argument is not valid.
    """
    if not isinstance(name, str):
        raise TypeError('dte.handler needs a name: @dte.handler("name")')

    def register(function: F) -> F:
        new = Handler(name, function, timeout, retries, pure)
        old = _handlers.get(name)
        if old is not None and old.home != new.home:
            raise ValueError(f"two functions claim the handler {name!r}: {old.home}, {new.home}")
        _handlers[name] = new
        return function

    return register


def find(name: str) -> Handler | None:
    """Return the handler with this name if it is loaded."""
    return _handlers.get(name)


def infos() -> dict[str, HandlerInfo]:
    """Return the worker's description of its handlers."""
    return {
        name: HandlerInfo(each.timeout, each.retries, each.pure) for name, each in _handlers.items()
    }


def load(modules: Iterable[str] = (), *, folder_stays: bool = False) -> None:
    """Import the built-in handlers, those of installed packages, and those of modules.

    Packages name their modules in the entry-point group ``dte.handlers``. Modules are also found in
    the current folder, if nowhere else.

    Args:
        folder_stays: what handlers import when they are called is found there too.

    Raises:
        CannotLoad: a module cannot be imported, it has no handlers, or one of them is not valid.
    """
    import_module(BUILTIN)
    for point in entry_points(group=ENTRY_POINTS):
        with explained(f"{point.value}, the entry point {point.name} of {ENTRY_POINTS}"):
            point.load()
    names = list(modules)
    with found_in_folder(folder_stays) if names else nullcontext():
        for name in names:
            _load(name)
        for each in _handlers.values():
            with explained(each.home, each.place):
                Signature(each.name, each.function)


def _load(name: str) -> None:
    """Import a module that must have handlers."""
    before = set(_handlers.values())
    module = load_module(name)
    if before == set(_handlers.values()) and not _has_handlers(module):
        home = getattr(module, "__file__", None) or f"the folder {name}"
        raise CannotLoad(
            f"cannot load handlers from {name}: there is no @dte.handler in {home}{hidden(name)}"
        )


def _has_handlers(module: ModuleType) -> bool:
    """Return True if a module has, or imports, handlers that were registered earlier."""
    if module.__name__ == BUILTIN:
        return True
    # Of other objects not even the class is asked for: some raise at that.
    modules = [value for value in vars(module).values() if issubclass(type(value), ModuleType)]
    names = {each.__name__ for each in (module, *modules)}
    ours = [each for each in _handlers.values() if not each.home.startswith(BUILTIN)]
    return any(each.home.startswith(f"{name}.") for each in ours for name in names)
