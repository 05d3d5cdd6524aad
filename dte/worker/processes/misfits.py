"""Says why a result cannot be converted to JSON, and which part of it cannot."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from math import isfinite, isnan
from typing import Any, NamedTuple

from dte.wire.codec import encode
from dte.wire.faults import HALF
from dte.wire.misfits import Path, shown_path
from dte.worker.processes.traces import NAME_CHARS_MAX, cut, line_of, name_of

PARTS_MAX = 100_000
"""Of a longer result only these parts are looked at."""
LEVELS_MAX = 500
"""In deeper parts nothing is looked for: a list may contain itself."""
LEVELS_SHOWN = 8
DIGITS_MAX = 300_000
"""Converting a longer integer to digits takes seconds: the time grows with the square of them."""
ADVICE = "return JSON types, a dataclass or a msgspec.Struct"

_lists = (list, tuple, set, frozenset)
_plain = (int, bool, type(None))
_end = object()
_of_type = re.compile(r"objects of type (\S+) is")


def reason(result: Any, error: BaseException) -> str:
    """Say why encoding a result raised an error.

    Only values of built-in types are looked into: code of others has raised perhaps, and may again.
    """
    try:
        if type(error) is RecursionError:
            return "it nests too deep, or contains itself"
        if type(error) is ValueError and "integer string conversion" in str(error):
            return f"it has an integer of more than {DIGITS_MAX} digits; return it as a text"
        return _found(result) or _unsupported(error) or _said(error)
    except BaseException:
        return _said(error)


def repeated_name(result: Any) -> str:
    """Name a key whose name in JSON another key of the same dict has too; "" for none.

    Only keys that are no texts can have that, as 1 beside "1".
    """
    opened = [result]
    looked_at = 0
    while opened and looked_at < PARTS_MAX:
        value = opened.pop()
        if type(value) is dict:
            if not {str}.issuperset(map(type, value)) and (found := _repeated_in(value)):
                return found
            inner: Iterable[Any] = value.values()
        else:
            inner = value if type(value) in (list, tuple) else ()
        looked_at += 1 + len(inner)  # type: ignore[arg-type]
        opened.extend(each for each in inner if type(each) in (dict, list, tuple))
    return ""


def _repeated_in(value: dict[Any, Any]) -> str:
    kinds: dict[bytes, type] = {}
    for key in value:
        name = encode({key: 0}).removeprefix(b"{").removesuffix(b":0}")
        if name in kinds:
            both = f"one of type `{name_of(kinds[name])}` and one of type `{name_of(type(key))}`"
            return f"two keys of a dict have the name {cut(name.decode(), NAME_CHARS_MAX)}, {both}"
        kinds[name] = type(key)
    return ""


def _said(error: BaseException) -> str:
    return line_of(error).removeprefix("TypeError: ").removeprefix("ValueError: ")


def _unsupported(error: BaseException) -> str | None:
    """Name the type in an error of the encoder about a part of an object."""
    found = _of_type.search(line_of(error)) if type(error) is TypeError else None
    return f"it has a value of type `{found[1]}`; {ADVICE}" if found is not None else None


def _found(result: Any) -> str | None:
    """Find the first part of a built-in type, or in one, that JSON cannot represent."""
    opened: list[Iterator[tuple[Any, Path]]] = [iter([(result, ())])]
    for _ in range(PARTS_MAX):
        if not opened:
            break
        value, path = next(opened[-1], (_end, ()))
        if value is _end:
            opened.pop()
            continue
        if type(value) is dict:
            fault = next(filter(None, map(_fault_of_name, islice(value, PARTS_MAX))), None)
        else:
            fault = None if type(value) in (*_lists, *_plain) else _fault(value)
        if fault is not None:
            return f"it has {fault.what}{_place(path)}{fault.advice}"
        if len(path) < LEVELS_MAX:
            opened.append(_parts(value, path))
    return None


def _parts(value: Any, path: Path) -> Iterator[tuple[Any, Path]]:
    if type(value) is dict:
        return ((item, (*path, _shown(name))) for name, item in value.items())
    if type(value) in _lists:
        return ((item, (*path, at)) for at, item in enumerate(value))
    return iter(())


class _Fault(NamedTuple):
    """What a result has that JSON cannot represent, and what would be right."""

    what: str
    advice: str = ""


def _fault_of_name(name: Any) -> _Fault | None:
    if type(name) is str:
        return _half(name, "a name")
    if name is None or type(name) in (bool, tuple):
        what = f"a key of type `{name_of(type(name))}`"
        return _Fault(what, "; the keys of JSON are texts")
    return None


def _fault(value: Any) -> _Fault | None:
    if type(value) is str:
        return _half(value, "a text")
    if type(value) is float:
        what = "a NaN" if isnan(value) else "an infinite number"
        advice = ", which JSON cannot represent; return None instead"
        return None if isfinite(value) else _Fault(what, advice)
    try:
        encode(value)
    except TypeError as error:
        name = name_of(type(value))
        found = _of_type.search(line_of(error))
        # Another type is that of a part of the value.
        if found is not None and found[1].rpartition(".")[2] == name:
            return _Fault(f"a value of type `{name}`", f"; {ADVICE}")
    return None


def _half(text: str, what: str) -> _Fault | None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return _Fault(f"{what} with \\u{ord(text[error.start]):04x}", f", {HALF}")
    return None


def _shown(name: Any) -> str:
    return cut(name, NAME_CHARS_MAX) if type(name) is str else name_of(type(name))


def _place(path: Path) -> str:
    if not path:
        return ""
    more = ["…"] if len(path) > LEVELS_SHOWN else []
    return f" at {shown_path([*path[:LEVELS_SHOWN], *more])}"
