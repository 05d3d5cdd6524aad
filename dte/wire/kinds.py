"""Says in dte's own words what a type expects of a JSON value."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
from msgspec import inspect

WITH_FIELDS = (inspect.StructType, inspect.DataclassType, inspect.TypedDictType)
ITEMS = (
    inspect.ListType,
    inspect.SetType,
    inspect.FrozenSetType,
    inspect.VarTupleType,
    inspect.CollectionType,
)
"""Types of lists whose items have one type."""
CHOICES_MAX = 20
"""Of more choices only the first are shown."""
_LEAVES: dict[type[inspect.Type], tuple[Any, str]] = {
    inspect.NoneType: (None, "null"),
    inspect.BoolType: (bool, "true or false"),
    inspect.IntType: (int, "an integer"),
    inspect.FloatType: (float, "a number"),
    inspect.StrType: (str, "a text"),
    inspect.BytesType: (bytes, "a text in base64"),
    inspect.ByteArrayType: (bytearray, "a text in base64"),
    inspect.MemoryViewType: (memoryview, "a text in base64"),
    inspect.DateTimeType: (datetime, "a time such as 2030-01-31T12:00:00Z"),
    inspect.DateType: (date, "a date such as 2030-01-31"),
    inspect.TimeType: (time, "a time of day such as 12:30:00"),
    inspect.TimeDeltaType: (timedelta, "a duration such as PT90S"),
    inspect.DecimalType: (Decimal, "a decimal number"),
    inspect.UUIDType: (UUID, "a UUID"),
}


def is_object(kind: inspect.Type) -> bool:
    """True of types with named fields."""
    return isinstance(kind, WITH_FIELDS) and not getattr(kind, "array_like", False)


def is_list(kind: inspect.Type) -> bool:
    return isinstance(kind, ITEMS) or kinds_of_items(kind) is not None


def kinds_of_items(kind: inspect.Type) -> Sequence[inspect.Type] | None:
    """The types of the items of a list of fixed length; None for other types."""
    if isinstance(kind, inspect.TupleType):
        return kind.item_types
    if isinstance(kind, inspect.NamedTupleType):
        return [field.type for field in kind.fields]
    if isinstance(kind, inspect.StructType) and kind.array_like:
        tag = [inspect.LiteralType((kind.tag,))] if kind.tag is not None else []
        return [*tag, *(field.type for field in kind.fields)]
    return None


def meant_of(value: Any, kind: inspect.UnionType) -> inspect.Type | None:
    """Return the one type of a union that an object or a list can be meant to have."""
    if isinstance(value, Mapping):
        meant = [
            each for each in kind.types if is_object(each) or isinstance(each, inspect.DictType)
        ]
        if tags_of(kind):
            meant = [each for each in meant if value.get(each.tag_field) == each.tag]  # type: ignore[attr-defined]
    elif isinstance(value, list | tuple):
        meant = [each for each in kind.types if is_list(each)]
    else:
        return None
    return meant[0] if len(meant) == 1 else None


def tags_of(kind: inspect.UnionType) -> tuple[str, list[Any]] | None:
    """Return the field by which the objects of a union differ, and its values."""
    tagged: list[Any] = [each for each in kind.types if getattr(each, "tag", None) is not None]
    return (tagged[0].tag_field, [each.tag for each in tagged]) if len(tagged) > 1 else None


def fits(value: Any, kind: inspect.Type, *, is_key: bool = False) -> bool:
    """True if a value has a type, whatever the parts of an object or a list have."""
    if isinstance(kind, inspect.Metadata):
        return fits(value, kind.type, is_key=is_key)
    if isinstance(kind, inspect.AnyType | inspect.RawType | inspect.CustomType):
        return True
    if isinstance(kind, inspect.UnionType):
        return any(fits(value, each, is_key=is_key) for each in kind.types)
    if is_object(kind) or isinstance(kind, inspect.DictType):
        return isinstance(value, Mapping) and _has_length(value, kind)
    if isinstance(kind, ITEMS):
        return isinstance(value, list | tuple) and _has_length(value, kind)
    if (kinds := kinds_of_items(kind)) is not None:
        return isinstance(value, list | tuple) and _least(kind) <= len(value) <= len(kinds)
    try:
        msgspec.convert(
            {value: None} if is_key else value, _python_type(kind, is_key), str_keys=True
        )
    except (msgspec.ValidationError, TypeError, ValueError):
        return False
    return True


def expected(kind: inspect.Type) -> str:
    """Say what a value of a type is: ``an integer from 1 to 10``."""
    if isinstance(kind, inspect.Metadata):
        return expected(kind.type)
    if isinstance(kind, inspect.UnionType):
        names = [expected(each) for each in kind.types if not isinstance(each, inspect.NoneType)]
        if "a number" in names:
            names = [name for name in names if name != "an integer"]
        return " or ".join(dict.fromkeys(names))
    if isinstance(kind, inspect.LiteralType):
        return choice(kind.values)
    if isinstance(kind, inspect.EnumType):
        return choice([each.value for each in kind.cls])
    if is_object(kind) or isinstance(kind, inspect.DictType):
        return f"an object{_lengths(kind, 'fields')}"
    if isinstance(kind, ITEMS):
        return f"a list{_lengths(kind, 'items')}"
    if (kinds := kinds_of_items(kind)) is not None:
        least, most = _least(kind), len(kinds)
        return f"a list of {most if least == most else f'{least} to {most}'} items"
    name = _LEAVES[type(kind)][1] if type(kind) in _LEAVES else "of another type"
    if isinstance(kind, inspect.StrType) and kind.pattern is not None:
        name += f" that matches {kind.pattern}"
    return f"{name}{_bounds(kind)}{_lengths(kind, 'characters')}"


def _least(kind: inspect.Type) -> int:
    """The number of items that a list of fixed length has at least."""
    if isinstance(kind, inspect.TupleType):
        return len(kind.item_types)
    fields: Sequence[inspect.Field] = kind.fields  # type: ignore[attr-defined]
    tags = int(getattr(kind, "tag", None) is not None)
    return tags + sum(field.required for field in fields)


def _has_length(value: Any, kind: inspect.Type) -> bool:
    least, most = getattr(kind, "min_length", None), getattr(kind, "max_length", None)
    return (least or 0) <= len(value) and (most is None or len(value) <= most)


def _python_type(kind: inspect.Type, is_key: bool) -> Any:
    """Return a type of Python for a type without parts."""
    if isinstance(kind, inspect.EnumType):
        of_value: Any = kind.cls
    elif isinstance(kind, inspect.LiteralType):
        of_value = Literal[kind.values]
    else:
        names = [name for name in kind.__struct_fields__ if getattr(kind, name) is not None]
        of_value = _LEAVES.get(type(kind), (Any,))[0]
        if names:
            meta = msgspec.Meta(**{name: getattr(kind, name) for name in names})
            of_value = Annotated[of_value, meta]
    return dict[of_value, Any] if is_key else of_value


def choice(values: Sequence[Any]) -> str:
    """Say which values there are: ``"fit" or "fill"``."""
    shown = [json.dumps(value, ensure_ascii=False) for value in values[:CHOICES_MAX]]
    return " or ".join([*shown, *["another of them"] * (len(values) > CHOICES_MAX)])


def _bounds(kind: inspect.Type) -> str:
    """Say the bounds of a number, if it has some."""
    above, least = getattr(kind, "gt", None), getattr(kind, "ge", None)
    below, most = getattr(kind, "lt", None), getattr(kind, "le", None)
    multiple = getattr(kind, "multiple_of", None)
    if least is not None and most is not None:
        texts = [f"from {least} to {most}"]
    else:
        named = {"above": above, "of at least": least, "below": below, "of at most": most}
        texts = [f"{name} {bound}" for name, bound in named.items() if bound is not None]
    if multiple is not None:
        texts.append(f"divisible by {multiple}")
    return f" {' and '.join(texts)}" if texts else ""


def _lengths(kind: inspect.Type, what: str) -> str:
    """Say the bounds of a length, if there are some."""
    least, most = getattr(kind, "min_length", None), getattr(kind, "max_length", None)
    if least is not None and most is not None:
        return f" of {least} to {most} {what}" if least != most else f" of {least} {what}"
    if least is not None:
        return f" of at least {least} {what}"
    return f" of at most {most} {what}" if most is not None else ""
