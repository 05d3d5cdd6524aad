"""Checks the arguments of a call, and converts them to the annotated types of the handler."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from functools import partial
from inspect import Parameter, unwrap
from typing import Any, get_type_hints

import msgspec
from msgspec.inspect import CustomType, Type, type_info

from dte.handlers.fields import Fields
from dte.wire.misfits import Misfit, first_misfit, shown, shown_path

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_JSON = (dict, list, str, int, float, bool, type(None))
_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


class BadArguments(TypeError):
    """The arguments do not fit the handler. The text names the argument and the fault."""


class Signature:
    """The arguments of a handler, by the annotations of its function.

    Raises:
        TypeError: an annotation is unknown, or JSON cannot be converted to it.
    """

    def __init__(self, handler: str, function: Callable[..., Any]) -> None:
        self._handler = handler
        types = _types(handler, function)
        signature = inspect.signature(function, eval_str=True)
        parameters = list(signature.parameters.values())
        _ensure_bound(handler, function, parameters)
        self._types = {each.name: types.get(each.name, Any) for each in parameters}
        self._infos: dict[str, Type] = {}
        self._fields: dict[str, Fields] = {}
        for name, kind in self._types.items():
            try:
                msgspec.json.Decoder(kind)
                info = self._infos[name] = type_info(kind)
                self._fields[name] = Fields(info)
                unsupported = _unsupported(info)
            except TypeError as error:
                raise TypeError(f"argument {name!r} of handler {handler}: {error}") from None
            if unsupported is not None:
                type_name = getattr(unsupported, "__qualname__", unsupported)
                raise TypeError(
                    f"argument {name!r} of handler {handler}: JSON cannot be converted to "
                    f"{type_name}; annotate it with a type of JSON, a dataclass, a TypedDict, a "
                    "msgspec.Struct or Any"
                )
        self._positional = [each.name for each in parameters if each.kind in _POSITIONAL]
        self._named = {each.name for each in parameters if each.kind in _NAMED}
        required = [each for each in parameters if each.default is Parameter.empty]
        self._needed = [each for each in required if each.kind in (*_POSITIONAL, *_NAMED)]
        self._more = _name_of(Parameter.VAR_POSITIONAL, parameters)
        self._more_named = _name_of(Parameter.VAR_KEYWORD, parameters)
        parameters_text = str(signature.replace(return_annotation=signature.empty))
        self._text = f"signature: {handler}{parameters_text}".replace("typing.", "")

    def bind(
        self, args: Any, kwargs: dict[str, Any] | None = None
    ) -> tuple[list[Any], dict[str, Any]]:
        """Convert arguments of a call to positional and named arguments of the function.

        Args:
            args: a list of arguments, a dict of named ones, or None for no arguments.
            kwargs: named arguments beside a list.

        Raises:
            BadArguments: an argument is missing, unknown, given twice, or of another type.
        """
        if args is None:
            args = []
        if isinstance(args, dict) and not kwargs:
            args, kwargs = [], args
        if not isinstance(args, (list, tuple)) or not isinstance(kwargs or {}, dict):
            raise BadArguments(
                f"{self._handler}: arguments must be a list (positional) or an object (named), not "
                f"{shown(args)}"
            )
        named = kwargs or {}
        self._check(args, named)
        names = [*self._positional, *[str(self._more)] * (len(args) - len(self._positional))]
        positional = [
            self._convert(name, name, value) for name, value in zip(names, args, strict=False)
        ]
        return positional, self._bind_named(named)

    def _check(self, args: list[Any] | tuple[Any, ...], named: dict[Any, Any]) -> None:
        """Check that each argument is known and given once, and that none is missing."""
        if len(args) > len(self._positional) and self._more is None:
            most = len(self._positional)
            takes = f"{most} argument" if most == 1 else f"{most} arguments"
            by = " by position" if named else ""
            given = f"{len(args)} was given" if len(args) == 1 else f"{len(args)} were given"
            raise BadArguments(f"{self._handler} takes {takes}{by}, {given}{by}; {self._text}")
        taken = self._positional[: len(args)]
        for name in taken:
            if name in named and name in self._named:
                raise BadArguments(
                    f"{self._handler}: argument {name!r} is given twice, by position and by name; "
                    f"{self._text}"
                )
        for name in named:
            # It comes before what is missing: often it is that, misspelled.
            if (name not in self._named and self._more_named is None) or not isinstance(name, str):
                close = get_close_matches(str(name), self._named, 1)
                advice = f"; did you mean {close[0]!r}?" if close else ";"
                raise BadArguments(
                    f"{self._handler}: unknown argument {name!r}{advice} {self._text}"
                )
        for each in self._needed:
            by_name = each.name in named and each.kind is not Parameter.POSITIONAL_ONLY
            if each.name not in taken and not by_name:
                raise BadArguments(
                    f"{self._handler}: argument {each.name!r} is missing; {self._text}"
                )

    def _bind_named(self, args: dict[str, Any]) -> dict[str, Any]:
        declared = {name: name if name in self._named else str(self._more_named) for name in args}
        return {name: self._convert(declared[name], name, value) for name, value in args.items()}

    def _convert(self, declared: str, name: str, value: Any) -> Any:
        kind = self._types[declared]
        if kind is Any:
            return value
        try:
            converted = msgspec.convert(value, kind, str_keys=True)
        except (msgspec.ValidationError, RecursionError) as error:
            raise BadArguments(self._misfit(declared, name, value, error)) from None
        unknown = self._fields[declared].unknown(value)
        if unknown is not None:
            raise BadArguments(self._sentence(name, unknown))
        return converted

    def _misfit(self, declared: str, name: str, value: Any, error: Exception) -> str:
        """Say which part of an argument does not have its type."""
        if error.__cause__ is not None:  # It comes from code of the type.
            return self._sentence(name, Misfit((), str(error.__cause__)))
        try:
            found = first_misfit(value, self._infos[declared])
        except RecursionError:
            found = Misfit((), "it nests too deep")
        return self._sentence(name, found or Misfit((), f"{shown(value)} does not fit"))

    def _sentence(self, name: str, found: Misfit) -> str:
        argument = f"argument {name!r}"
        if found.path:
            text = f"{argument}: {found.said_of(shown_path(found.path))}"
        else:
            text = found.said_of(argument)
        return f"{self._handler}: {text}; {self._text}"


def written(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the code of a callable: of a partial its function, of an object `__call__`."""
    function = unwrap(function)
    while isinstance(function, partial):
        function = unwrap(function.func)
    if isinstance(function, type) or hasattr(function, "__name__"):
        return function
    return type(function).__call__


def _ensure_bound(handler: str, function: Callable[..., Any], parameters: list[Parameter]) -> None:
    """Raise `TypeError` for a method that would be called without its object."""
    within = str(getattr(function, "__qualname__", "")).rpartition("<locals>.")[2]
    if "." in within and parameters and parameters[0].name in ("self", "cls"):
        raise TypeError(
            f"handler {handler}: {within} is a method, which needs an object; register a function "
            f"or a bound method: dte.handler({handler!r})(an_object.{function.__name__})"
        )


def _types(handler: str, function: Callable[..., Any]) -> dict[str, Any]:
    annotated = written(function)
    try:
        if isinstance(annotated, type):
            annotated = vars(annotated).get("__init__", annotated)
        return get_type_hints(annotated, include_extras=True)
    except NameError as error:
        raise TypeError(f"an annotation of handler {handler}: {error}") from None


def _unsupported(info: Any) -> Any:
    """Return a class in a type that msgspec cannot convert to; None if there is none."""
    seen: set[int] = set()  # A type may contain itself.
    left = [info]
    while left:
        each = left.pop()
        if isinstance(each, CustomType):
            if not _has_json(each.cls):
                return each.cls
        elif isinstance(each, (list, tuple)):
            left += each
        elif isinstance(each, msgspec.Struct) and id(each) not in seen:
            seen.add(id(each))
            left += [getattr(each, name) for name in each.__struct_fields__ if name != "default"]
    return None


def _has_json(cls: Any) -> bool:
    """Return True if some JSON value is an instance of the class without conversion."""
    try:
        return any(issubclass(each, cls) for each in _JSON)
    except TypeError:
        return False


def _name_of(kind: Any, parameters: list[Parameter]) -> str | None:
    return next((each.name for each in parameters if each.kind is kind), None)
