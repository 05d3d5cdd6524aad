"""The handlers that a worker has: functions that are called by name."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
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
    """Handlers cannot be imported; the text says from where, and why."""


class Handler:
    """A function that can be called by its name.

    Attributes:
        name: what it is called by.
        function: sync or async, with annotated arguments.
        timeout: seconds after which a call is stopped, unless the call says otherwise.
        retries: how often a call that fails is tried again, unless the call says otherwise.
        pure: calls with equal arguments give equal results and do nothing else.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        timeout: float | None = None,
        retries: int = 0,
        pure: bool = False,
    ) -> None:
        if len(name) > NAME_CHARS_MAX or not HANDLER.fullmatch(name):
            raise ValueError(
                f"a handler's name has letters, digits and _, in parts with . or - between them, "
                f"and up to {NAME_CHARS_MAX} characters; it is not {name[:50]!r}"
            )
        _check_timeout(name, timeout)
        _check_retries(name, retries)
        self.name = name
        self.function = function
        self.timeout = timeout
        self.retries = retries
        self.pure = pure

    @property
    def home(self) -> str:
        """Where the function is defined."""
        module = getattr(self.function, "__module__", "?")
        return f"{module}.{getattr(self.function, '__qualname__', self.function)}"

    @property
    def info(self) -> HandlerInfo:
        """What a worker says of it."""
        return HandlerInfo(self.timeout, self.retries, self.pure)

    @cached_property
    def is_async(self) -> bool:
        """Whether it is written as ``async def``, so that calls of it run beside each other."""
        return iscoroutinefunction(self.function)

    @cached_property
    def signature(self) -> Signature:
        """The arguments that it takes.

        Raises:
            TypeError: an annotation is unknown, or nothing that JSON can be converted to.
        """
        return Signature(self.name, self.function)


def _check_timeout(name: str, timeout: object) -> None:
    right = f"handler {name}: timeout is positive seconds or None, not {timeout!r}"
    if timeout is None:
        return
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(right)
    if not 0 < timeout <= sys.float_info.max:
        raise ValueError(right)


def _check_retries(name: str, retries: object) -> None:
    right = f"handler {name}: retries is an integer from 0 to {RETRIES_MAX}, not {retries!r}"
    if isinstance(retries, bool) or not isinstance(retries, int):
        raise TypeError(right)
    if not 0 <= retries <= RETRIES_MAX:
        raise ValueError(right)


_handlers: dict[str, Handler] = {}


def handler(
    name: str, *, timeout: float | None = None, retries: int = 0, pure: bool = False
) -> Callable[[F], F]:
    """Make a function a handler, which workers that load its module can call.

    The function stays as it is. Its arguments are checked against their annotations and converted
    to them (by msgspec); what it gives is to be JSON-able.

    Args:
        name: what it is called by: letters, digits and ``_``, in parts with ``.`` or ``-`` between.
        timeout: seconds after which a call is stopped; None for never. A call may say otherwise.
        retries: how often a call that fails is tried again, 0 to 1000. A call may say otherwise.
        pure: calls with equal arguments give equal results and do nothing else, so that equal
            calls in a job are done once.

    Raises:
        TypeError, ValueError: the name is taken, or an argument makes no sense.
    """
    if not isinstance(name, str):
        raise TypeError('a handler is given a name: @dte.handler("name")')

    def register(function: F) -> F:
        new = Handler(name, function, timeout, retries, pure)
        old = _handlers.get(name)
        if old is not None and old.home != new.home:
            raise ValueError(f"the handler {name} of {new.home} is already there, of {old.home}")
        _handlers[name] = new
        return function

    return register


def handlers() -> dict[str, Handler]:
    """All handlers that are loaded, by their names."""
    return dict(_handlers)


def find(name: str) -> Handler | None:
    """The handler of that name, if it is loaded."""
    return _handlers.get(name)


def infos() -> dict[str, HandlerInfo]:
    """What a worker says of its handlers."""
    return {name: each.info for name, each in _handlers.items()}


def load(modules: Iterable[str] = ()) -> None:
    """Import the built-in handlers, those of installed packages, and those of modules.

    Packages name their modules in the entry-point group ``dte.handlers``. Modules are found in the
    current folder as well.

    Args:
        modules: the modules' names, as ``package.module``.

    Raises:
        CannotLoad: a module cannot be imported, or a handler in it makes no sense.
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
        raise CannotLoad(
            f"cannot load handlers from {what}: {type(error).__name__}: {error}"
        ) from error
