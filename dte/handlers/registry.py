"""The handlers of a worker: functions that jobs call by name."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from importlib.metadata import entry_points
from inspect import iscoroutinefunction
from typing import Any, TypeVar

from dte.core.graph.handlers import HANDLER, NAME_CHARS_MAX
from dte.handlers.arguments import Signature
from dte.wire.messages.handlers import HandlerInfo

F = TypeVar("F", bound=Callable[..., Any])

BUILTIN = "dte.handlers.builtin"
ENTRY_POINTS = "dte.handlers"
RETRIES_MAX = 1000


class CannotLoad(Exception):
    """Handlers cannot be imported. The text gives the module and the reason."""


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


def load(modules: Iterable[str] = ()) -> None:
    """Import the built-in handlers, those of installed packages, and those of modules.

    Packages name their modules in the entry-point group ``dte.handlers``. Modules are also found in
    the current folder.

    Raises:
        CannotLoad: a module cannot be imported, or one of its handlers is not valid.
    """
    import_module(BUILTIN)
    for point in entry_points(group=ENTRY_POINTS):
        _attempt(point.load, f"{point.value}, the entry point {point.name} of {ENTRY_POINTS}")
    names = list(modules)
    if names and os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    for name in names:
        _attempt(partial(import_module, name), name)
    for each in _handlers.values():
        _attempt(partial(Signature, each.name, each.function), each.home)


def _attempt(step: Callable[[], Any], what: str) -> None:
    try:
        step()
    except (Exception, SystemExit) as error:
        reason = f"{type(error).__name__}: {error}"
        raise CannotLoad(f"cannot load handlers from {what}: {reason}") from error
