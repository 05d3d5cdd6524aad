"""The handlers of a worker: functions that jobs call by name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from inspect import iscoroutinefunction
from types import CodeType, FrameType, ModuleType
from typing import Any, TypeVar

from dte.core.graph.handlers import HANDLER, NAME_CHARS_MAX
from dte.handlers.arguments import Signature, written
from dte.handlers.modules import CannotLoad, explained, found_in_folder, hidden, load_module, place
from dte.wire.messages.handlers import BUILT_IN, NAMES, HandlerInfo

F = TypeVar("F", bound=Callable[..., Any])

BUILTIN = "dte.handlers.builtin"
ENTRY_POINTS = "dte.handlers"
RETRIES_MAX = 1000


@dataclass(eq=False)
class Handler:
    """A function that jobs call by name, with the options of `handler`.

    Attributes:
        execution: the code that registered it; each import and each reload executes another one.
    """

    name: str
    function: Callable[..., Any]
    timeout: float | None = None
    retries: int = 0
    pure: bool = False
    execution: CodeType | None = None

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
        function = written(self.function)
        module = getattr(function, "__module__", "?")
        return f"{module}.{getattr(function, '__qualname__', function)}"

    @property
    def place(self) -> str:
        """The file and the line of the function, if it is written in Python."""
        code = getattr(written(self.function), "__code__", None)
        return "" if code is None else place(code.co_filename, code.co_firstlineno)

    @property
    def is_built_in(self) -> bool:
        return bool(getattr(self.function, "__module__", "") == BUILTIN)

    def replaces(self, old: Handler) -> bool:
        """True if it may take the place of another handler of its name: a reload of it, or itself.

        A module that is executed again has other code. So two functions of one name in one
        execution are told apart from one function that is defined again.
        """
        if old.function is self.function:
            return True
        same_execution = self.execution is not None and old.execution is self.execution
        is_another = old.place != self.place or written(self.function) is not self.function
        return old.home == self.home and not (same_execution and is_another)

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
"""The users' handlers."""
_built_in: dict[str, Handler] = {}
"""The built-in ones. A user's handler of the same name takes precedence."""
_loaded: list[ModuleType] = []
"""The modules in which handlers were found. Python imports a module only the first time."""


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
        new = Handler(name, function, timeout, retries, pure, _execution_of(function))
        known = _built_in if new.is_built_in else _handlers
        old = known.get(name)
        if old is not None and not new.replaces(old):
            raise ValueError(
                f"two functions claim the handler {name!r}: {_named(old)} and {_named(new)}"
            )
        known[name] = new
        with suppress(AttributeError, TypeError):  # Some callables take no attributes.
            names = {**dict.fromkeys(getattr(function, NAMES, ())), name: None}
            setattr(function, NAMES, tuple(names))
        return function

    return register


def _execution_of(function: Any) -> CodeType | None:
    """The code of the function's module, or of a function in it, that registers it now."""
    module = getattr(written(function), "__globals__", None)
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals is not module:
        frame = frame.f_back
    return None if frame is None else frame.f_code


def _named(each: Handler) -> str:
    return f"{each.home} ({each.place})" if each.place else each.home


def find(name: str) -> Handler | None:
    """Return the handler with this name if it is loaded.

    The name of a built-in one may have the prefix ``builtin:``, if a user's one replaces it.
    """
    if name.startswith(BUILT_IN):
        return _built_in.get(name.removeprefix(BUILT_IN))
    return _handlers.get(name) or _built_in.get(name)


def infos() -> dict[str, HandlerInfo]:
    """Return the worker's description of its handlers."""
    return {name: _info(each) for name, each in (_built_in | _handlers).items()}


def replaced() -> dict[str, HandlerInfo]:
    """Return the description of the built-in handlers that users' ones replace."""
    return {name: _info(each) for name, each in _built_in.items() if name in _handlers}


def _info(each: Handler) -> HandlerInfo:
    return HandlerInfo(each.timeout, each.retries, each.pure)


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
        for each in (*_built_in.values(), *_handlers.values()):
            with explained(each.home, each.place):
                Signature(each.name, each.function)


def _load(name: str) -> None:
    """Import a module that must have handlers."""
    before = set(_handlers.values())
    module = load_module(name)
    if any(each is module for each in _loaded):
        return
    if before == set(_handlers.values()) and not _has_handlers(module):
        home = getattr(module, "__file__", None) or f"the folder {name}"
        raise CannotLoad(
            f"cannot load handlers from {name}: there is no @dte.handler in {home}{hidden(name)}"
        )
    _loaded.append(module)


def _has_handlers(module: ModuleType) -> bool:
    """Return True if a module has, or imports, handlers that were registered earlier."""
    if module.__name__ == BUILTIN:
        return True
    values = list(vars(module).values())
    functions = {id(each.function) for each in _handlers.values()}
    if not functions.isdisjoint(map(id, values)):
        return True
    # Of other objects not even the class is asked for: some raise at that.
    modules = [value for value in values if issubclass(type(value), ModuleType)]
    names = {each.__name__ for each in (module, *modules)}
    return any(each.home.startswith(f"{name}.") for each in _handlers.values() for name in names)
