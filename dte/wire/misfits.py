"""Says in dte's own words which part of a JSON value does not have its type."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from difflib import get_close_matches
from functools import cache
from typing import Any, NamedTuple

import msgspec
from msgspec import inspect

from dte.wire.faults import syntax_fault

READ_BYTES_MAX = 1_000_000
"""In longer JSON nothing is looked for: it would stop the loop for too long."""
SHOWN_CHARS = 40
KINDS = {
    inspect.NoneType: "null",
    inspect.BoolType: "true or false",
    inspect.IntType: "an integer",
    inspect.FloatType: "a number",
    inspect.StrType: "a text",
    inspect.DateTimeType: "a time such as 2030-01-31T12:00:00Z",
    inspect.ListType: "a list",
    inspect.DictType: "an object",
    inspect.StructType: "an object",
}
PYTHON_TYPES: dict[type[inspect.Type], tuple[type, ...]] = {
    inspect.NoneType: (type(None),),
    inspect.BoolType: (bool,),
    inspect.IntType: (int,),
    inspect.FloatType: (int, float),
    inspect.StrType: (str,),
}


class Misfit(NamedTuple):
    """A part of a value that does not have its type.

    Attributes:
        path: the names and indexes that lead to it.
        text: what is wrong with it, to be read after its path.
    """

    path: tuple[str | int, ...]
    text: str


def explained(raw: bytes, shape: Any) -> str | None:
    """Say why bytes are not the JSON of a type; None if that is not found."""
    if len(raw) > READ_BYTES_MAX:
        return None
    if (fault := syntax_fault(raw)) is not None:
        return fault
    try:
        value = json.loads(raw)
        found = next(_misfits(value, _type_of(shape), ()), None)
    except (ValueError, RecursionError):
        return None
    return None if found is None else _sentence(found)


@cache
def _type_of(shape: Any) -> inspect.Type:
    return inspect.type_info(shape)


def _sentence(found: Misfit) -> str:
    """Say what is wrong and where: ``job 1 of the request: node 'a': after[0] must be a text``."""
    shown, path = "", found.path
    if path[:1] == ("jobs",) and len(path) > 1:
        shown, path = f"job {path[1]} of the request: ", path[2:]
    if path[:1] == ("graph",) and len(path) > 1:
        shown, path = f"{shown}node {str(path[1])[:SHOWN_CHARS]!r}: ", path[2:]
    names = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    names = names.removeprefix(".")
    if not names:
        return f"{shown}{found.text}"
    is_said_of_it = found.text.startswith(("must ", "has "))
    return f"{shown}{names}{' ' if is_said_of_it else ': '}{found.text}"


def _misfits(value: Any, kind: inspect.Type, path: tuple[str | int, ...]) -> Iterator[Misfit]:
    """Yield the parts of a value that do not have their types."""
    if isinstance(kind, inspect.AnyType | inspect.RawType):
        return
    if isinstance(kind, inspect.UnionType):
        of_each = [list(_misfits(value, each, path)) for each in kind.types]
        if all(of_each):
            # An object is compared with the one type that could be meant.
            deeper = [found for found in of_each if len(found[0].path) > len(path)]
            yield from deeper[0] if deeper else [_unlike(value, kind, path)]
    elif isinstance(kind, inspect.StructType) and isinstance(value, dict):
        yield from _misfits_of_fields(value, kind, path)
    elif isinstance(kind, inspect.DictType) and isinstance(value, dict):
        for name, item in value.items():
            if isinstance(kind.key_type, inspect.IntType) and not name.lstrip("-").isdecimal():
                yield Misfit(path, f"has the key {_shown(name)}; keys are integers")
            yield from _misfits(item, kind.value_type, (*path, name))
    elif isinstance(kind, inspect.ListType) and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _misfits(item, kind.item_type, (*path, index))
    elif not _fits(value, kind):
        yield _unlike(value, kind, path)


def _misfits_of_fields(
    value: dict[str, Any], kind: inspect.StructType, path: tuple[str | int, ...]
) -> Iterator[Misfit]:
    fields = {field.encode_name: field for field in kind.fields}
    for name in value:
        if name not in fields and kind.forbid_unknown_fields:
            close = get_close_matches(name, fields, 1)
            advice = f"; did you mean {close[0]!r}?" if close else ""
            yield Misfit(path, f"unknown field {name[:SHOWN_CHARS]!r}{advice}")
    for name, field in fields.items():
        if name in value:
            yield from _misfits(value[name], field.type, (*path, name))
        elif field.required:
            yield Misfit(path, f"the field {name!r} is missing")


def _fits(value: Any, kind: inspect.Type) -> bool:
    if isinstance(kind, inspect.LiteralType):
        return value in kind.values
    if isinstance(kind, inspect.DateTimeType):
        try:
            msgspec.convert(value, datetime)
        except (msgspec.ValidationError, TypeError):
            return False
        return True
    types = PYTHON_TYPES.get(type(kind), ())
    return isinstance(value, types) and (bool in types or not isinstance(value, bool))


def _unlike(value: Any, kind: inspect.Type, path: tuple[str | int, ...]) -> Misfit:
    text = f"must be {_expected(kind)}, not {_shown(value)}"
    return Misfit(path, text if path else f"the JSON {text}")


def _expected(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.UnionType):
        names = [_expected(each) for each in kind.types if not isinstance(each, inspect.NoneType)]
        return " or ".join(dict.fromkeys(names))
    if isinstance(kind, inspect.LiteralType):
        return " or ".join(map(json.dumps, kind.values))
    return KINDS.get(type(kind), "of another type")


def _shown(value: Any) -> str:
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"
