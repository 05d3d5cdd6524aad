"""Says in dte's own words which part of a JSON value does not have its type."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from typing import Any, NamedTuple, TypeAlias

from msgspec import inspect

from dte.wire.faults import syntax_fault
from dte.wire.kinds import (
    ITEMS,
    choice,
    expected,
    fits,
    is_object,
    kinds_of_items,
    meant_of,
    tags_of,
)

READ_BYTES_MAX = 1_000_000
"""In longer JSON nothing is looked for: it would stop the loop for too long."""
PARTS_MAX = 100_000
"""Of a longer value only these parts are compared with their types."""
SHOWN_CHARS = 40
LONG_INTEGER_BITS = 200
"""Of longer integers no digit is shown: to find millions of them takes long."""

Path: TypeAlias = tuple[str | int, ...]


class Misfit(NamedTuple):
    """A part of a value that does not have its type.

    Attributes:
        path: the names and indexes that lead to it.
        text: what is wrong with it, to be read after its path.
    """

    path: Path
    text: str

    @property
    def has_subject(self) -> bool:
        """True if the text is a sentence without the name of the part."""
        return not self.text.startswith(("must ", "has "))

    def said_of(self, name: str) -> str:
        """Return a sentence about the part, which has this name."""
        return f"{name}{': ' if self.has_subject else ' '}{self.text}"


def explained(raw: bytes, shape: Any) -> str | None:
    """Say why bytes are not the JSON of a type; None if that is not found."""
    if len(raw) > READ_BYTES_MAX:
        return None
    if (fault := syntax_fault(raw)) is not None:
        return fault
    try:
        found = first_misfit(json.loads(raw), _type_of(shape))
    except (ValueError, RecursionError):
        return None
    return None if found is None else sentence_of(found)


def misfit_of(value: Any, shape: Any) -> Misfit | None:
    """Return the first part of a value that does not fit a type; None if that is not found."""
    return first_misfit(value, _type_of(shape))


def first_misfit(value: Any, kind: inspect.Type) -> Misfit | None:
    """Return the first part of a value that does not have its type; None if that is not found."""
    return next(_misfits(value, kind, (), iter(range(PARTS_MAX))), None)


def shown_path(path: Sequence[str | int]) -> str:
    """Return a path as people write it: ``size.parts[0]``."""
    names = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return names.removeprefix(".")


@cache
def _type_of(shape: Any) -> inspect.Type:
    return inspect.type_info(shape)


def sentence_of(found: Misfit) -> str:
    """Say what is wrong and where: ``job 1 of the request: node 'a': after[0] must be a text``."""
    shown, path = "", found.path
    if path[:1] == ("jobs",) and len(path) > 1:
        shown, path = f"job {path[1]} of the request: ", path[2:]
    if path[:1] == ("graph",) and len(path) > 1:
        shown, path = f"{shown}node {str(path[1])[:SHOWN_CHARS]!r}: ", path[2:]
    if path:
        return f"{shown}{found.said_of(shown_path(path))}"
    return f"{shown}{found.text}" if shown or found.has_subject else found.said_of("the JSON")


def _misfits(value: Any, kind: inspect.Type, path: Path, left: Iterator[int]) -> Iterator[Misfit]:
    """Yield the parts of a value that do not have their types, as long as `left` yields."""
    if next(left, None) is None:
        return
    if isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(kind, inspect.UnionType):
        meant, tags = meant_of(value, kind), tags_of(kind)
        if meant is None and tags is not None and isinstance(value, Mapping):
            yield _wrong_tag(value, *tags, path)
            return
        kind = kind if meant is None else meant
    if not fits(value, kind):
        yield Misfit(path, f"must be {expected(kind)}, not {shown(value)}")
    elif is_object(kind):
        yield from _misfits_of_fields(value, kind, path, left)
    elif isinstance(kind, inspect.DictType):
        for name, item in value.items():
            if not fits(name, kind.key_type, is_key=True):
                yield Misfit(path, f"has the key {shown(name)}; {_keys(kind.key_type)}")
            yield from _misfits(item, kind.value_type, (*path, name), left)
    elif isinstance(kind, ITEMS):
        for index, item in enumerate(value):
            yield from _misfits(item, kind.item_type, (*path, index), left)
    else:
        kinds = kinds_of_items(kind) or ()
        for index, (item, each) in enumerate(zip(value if kinds else (), kinds, strict=False)):
            yield from _misfits(item, each, (*path, index), left)


def _wrong_tag(value: Mapping[str, Any], name: str, known: Sequence[Any], path: Path) -> Misfit:
    if name not in value:
        return Misfit(path, f"the field {name!r} is missing; it is {choice(known)}")
    return Misfit((*path, name), f"must be {choice(known)}, not {shown(value[name])}")


def _misfits_of_fields(
    value: Mapping[str, Any], kind: Any, path: Path, left: Iterator[int]
) -> Iterator[Misfit]:
    fields = {field.encode_name: field for field in kind.fields}
    tag = getattr(kind, "tag_field", None)
    if tag is not None and tag in value and value[tag] != kind.tag:
        yield Misfit((*path, tag), f"must be {shown(kind.tag)}, not {shown(value[tag])}")
    for name in value if getattr(kind, "forbid_unknown_fields", False) else ():
        if name not in fields and name != tag:
            close = get_close_matches(name, fields, 1)
            advice = f"; did you mean {close[0]!r}?" if close else ""
            yield Misfit(path, f"unknown field {name[:SHOWN_CHARS]!r}{advice}")
    for name, field in fields.items():
        if name in value:
            yield from _misfits(value[name], field.type, (*path, name), left)
        elif field.required:
            yield Misfit(path, f"the field {name!r} is missing")


def _keys(kind: inspect.Type) -> str:
    is_integer = isinstance(kind, inspect.IntType)
    return "keys are integers" if is_integer else f"a key must be {expected(kind)}"


def shown(value: Any) -> str:
    """Return a value as JSON, cut to some characters; of an object or a list only the kind."""
    if isinstance(value, int) and value.bit_length() > LONG_INTEGER_BITS:
        return "a long integer"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}…"
