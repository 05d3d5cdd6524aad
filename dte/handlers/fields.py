"""Finds a field that the type of an argument does not have. msgspec would ignore it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, TypeAlias

from msgspec import inspect

from dte.wire.kinds import is_object, kinds_of_items, meant_of
from dte.wire.misfits import Misfit, Path

NAME_CHARS_SHOWN = 60
FIELDS_SHOWN_MAX = 20

Part: TypeAlias = tuple[Any, inspect.Type, Path]


class _Object(NamedTuple):
    """A type with named fields.

    Attributes:
        names: the names that its objects may have.
        deep: the fields whose values may have fields themselves.
    """

    names: frozenset[str]
    deep: list[tuple[str, inspect.Type]]


class Fields:
    """The fields that the objects in a value may have, by the type of the value."""

    def __init__(self, kind: inspect.Type) -> None:
        self._kind = kind
        self._deep = _deep_ones(kind)
        self._objects = {
            number: _object(each, self._deep)
            for number, each in self._deep.items()
            if is_object(each)
        }

    def unknown(self, value: Any) -> Misfit | None:
        """Return the first field in a value of the type that its object should not have."""
        if not self._deep:
            return None
        # Not recursive: values may nest deeper than Python's stack.
        opened: list[Iterator[Part]] = [iter([(value, self._kind, ())])]
        while opened:
            part = next(opened[-1], None)
            if part is None:
                opened.pop()
                continue
            value, kind, path = part
            if isinstance(kind, inspect.UnionType):
                meant = meant_of(value, kind)
                if meant is None:
                    continue  # A value without parts.
                kind = meant
            known = self._objects.get(id(kind))
            if known is not None:
                if not value.keys() <= known.names:
                    return _unknown_field(value, kind, known, path)
                if known.deep:
                    opened.append(_values(value, known, path))
            elif id(kind) in self._deep:
                items = len(kinds_of_items(kind) or ())
                if getattr(kind, "array_like", False) and len(value) > items:
                    text = f"has {len(value)} items; {_name(kind)} has {items}"
                    return Misfit(path, text)
                opened.append(_items(value, kind, path))
        return None


def _values(value: Mapping[str, Any], known: _Object, path: Path) -> Iterator[Part]:
    return ((value[name], kind, (*path, name)) for name, kind in known.deep if name in value)


def _items(value: Any, kind: Any, path: Path) -> Iterator[Part]:
    if isinstance(kind, inspect.DictType):
        return ((item, kind.value_type, (*path, name)) for name, item in value.items())
    kinds = kinds_of_items(kind)
    if kinds is None:
        return ((item, kind.item_type, (*path, at)) for at, item in enumerate(value))
    pairs = enumerate(zip(value, kinds, strict=False))
    return ((item, each, (*path, at)) for at, (item, each) in pairs)


def _deep_ones(kind: inspect.Type) -> dict[int, inspect.Type]:
    """Return the types within a type that have fields, or lead to one that has, by their ids."""
    found: dict[int, inspect.Type] = {}
    within: dict[int, list[inspect.Type]] = {}
    left = [kind]
    while left:
        each = left.pop()
        if id(each) not in within:
            found[id(each)] = each
            within[id(each)] = _types_in(each)
            left += within[id(each)]
    deep = {number for number, each in found.items() if hasattr(each, "fields")}
    size = 0
    while size < len(deep):  # Types may contain each other.
        size = len(deep)
        deep |= {
            number for number, parts in within.items() if any(id(part) in deep for part in parts)
        }
    return {number: found[number] for number in deep}


def _types_in(kind: Any) -> list[inspect.Type]:
    if hasattr(kind, "fields"):
        return [field.type for field in kind.fields]
    single = (getattr(kind, name, None) for name in ("item_type", "value_type"))
    many = (getattr(kind, name, ()) for name in ("types", "item_types"))
    return [*filter(None, single), *(each for kinds in many for each in kinds)]


def _object(kind: Any, deep: Mapping[int, inspect.Type]) -> _Object:
    names = {field.encode_name for field in kind.fields}
    tag = getattr(kind, "tag_field", None)
    inner = [(field.encode_name, field.type) for field in kind.fields if id(field.type) in deep]
    return _Object(frozenset(names if tag is None else {*names, tag}), inner)


def _unknown_field(value: Mapping[str, Any], kind: Any, known: _Object, path: Path) -> Misfit:
    name = next(name for name in value if name not in known.names)
    fields = [field.encode_name for field in kind.fields]
    shown = ", ".join(fields[:FIELDS_SHOWN_MAX]) + ", …" * (len(fields) > FIELDS_SHOWN_MAX)
    has = f"has the fields {shown}" if fields else "has no fields"
    return Misfit(path, f"unknown field {name[:NAME_CHARS_SHOWN]!r}; {_name(kind)} {has}")


def _name(kind: Any) -> str:
    return str(getattr(kind.cls, "__name__", kind.cls))
