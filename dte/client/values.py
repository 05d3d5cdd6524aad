"""Turns arguments into values that JSON keeps as they are, and refuses what it would change."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import isfinite
from typing import Any

import msgspec

from dte.wire.codec import encode

NODE_TEXT = re.compile(r"Node\(graph=<dte\.client\.graphs\.Graph object at \w+>, name='(.*?)'\)")
"""The text of a node, as in ``f"{node}"``."""

KINDS = "give texts, numbers, lists, dicts, dataclasses or msgspec.Structs"


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A call in a graph. As an argument of another call it stands for its result."""

    graph: object
    name: str


def plain(value: Any, name_of: Callable[[Node], str] | None) -> Any:
    """Replace nodes in a value by references, and protect dicts that look like references.

    Args:
        name_of: checks that a node is in the graph, and returns its name; None without a graph.

    Raises:
        TypeError, ValueError: JSON would change the value, or a node is where none can be.
    """
    if isinstance(value, Node):
        if name_of is None:
            raise ValueError(f"node {value.name!r} can only be an argument in its own graph")
        return {"ref": name_of(value)}
    if isinstance(value, dict):
        for key in value:
            _check_key(key)
        result = {key: plain(item, name_of) for key, item in value.items()}
        if len(value) == 1 and ("literal" in value or isinstance(value.get("ref"), str)):
            if any(isinstance(leaf, Node) for leaf in _leaves(value)):
                raise ValueError('a dict with only the key "literal" cannot contain nodes')
            return {"literal": value}
        return result
    if isinstance(value, list | tuple):
        return [plain(item, name_of) for item in value]
    if isinstance(value, float | str):
        _check_scalar(value)
    elif value is not None and not isinstance(value, int):
        check_value(value)
    return value


def check_value(value: Any) -> None:
    """Check a value that has no nodes.

    Raises:
        TypeError, ValueError: JSON would change a part of it, or it has a node.
    """
    for leaf in _leaves(value):
        if isinstance(leaf, Node):
            kind = type(value).__name__
            raise TypeError(f"node {leaf.name!r} is in a {kind}; put it into a list or a dict")
        _check_scalar(leaf)


def _check_key(key: Any) -> None:
    if isinstance(key, Node):
        raise TypeError(f"node {key.name!r} is a key of a dict; it can only be a value")
    if key is None or isinstance(key, bool | tuple):
        raise TypeError(f"the key {key!r} of a dict must be a text, such as {str(key)!r}")
    _check_scalar(key)


def _check_scalar(value: Any) -> None:
    if not isinstance(value, str | int | float | None):
        try:
            encode(value)
        except TypeError:
            kind = type(value).__name__
            raise TypeError(
                f"a value of type {kind} cannot be converted to JSON; {KINDS}"
            ) from None
    if isinstance(value, float) and not isfinite(value):
        raise ValueError(f"{value} cannot be converted to JSON")
    if isinstance(value, str) and "Node(graph=" in value and (found := NODE_TEXT.search(value)):
        raise TypeError(
            f"a text contains node {found[1]!r}, whose result is not known yet; pass the node "
            "itself as an argument, and let the handler make the text"
        )


def _leaves(value: Any) -> Iterator[Any]:
    """Yield all values in a value that contain no others, after a check of the keys."""
    if isinstance(value, dict):
        for key, item in value.items():
            _check_key(key)
            yield from _leaves(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield from _leaves(getattr(value, name, None))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type | Node):
        for field in dataclasses.fields(value):
            yield from _leaves(getattr(value, field.name, None))
    else:
        yield value
