"""Says in dte's own words why bytes are not JSON: a library may change its words at will."""

from __future__ import annotations

import json
import re
from math import isfinite
from typing import NoReturn

HALF = "half of a surrogate pair, which stands for no character"
SHOWN_CHARS = 20
PLACES = {
    "Expecting value": "where a value should be",
    "Expecting property name": "where a name in double quotes should be",
    "Expecting ':'": "where a colon should be",
    "Expecting ','": "where a comma should be",
    "Extra data": "after its end",
}
"""Of the beginnings of messages of Python's json, what they say of the text at their position."""

_word = re.compile(r"\s*([\w.+-]+|\S)")
_byte = re.compile(r"\(byte (\d+)\)")
_path = re.compile(r" - at `(?:key` in `)?\$(.*?)`")
_field = re.compile(r"^Object (?:missing required|contains unknown) field `(.*?)`")
_last_comma = re.compile(r",\s*(?=[]}])")


def syntax_fault(raw: bytes) -> str | None:
    """Say why and where bytes are not JSON; None if they are."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte 0x{raw[error.start]:02x} at position {error.start}"
    try:
        value = json.loads(text, parse_int=str, parse_float=_finite, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except _Constant as error:
        return f"{error} is not a finite number"
    except json.JSONDecodeError as error:
        return _misplaced(text, error)
    except UnicodeEncodeError as error:
        half = error.object[error.start]
        return f"the JSON has \\u{ord(half):04x}, {HALF}"
    except RecursionError:
        return "the JSON nests too deep"
    except ValueError:
        return "the JSON cannot be read"
    return None


def plain(error: object) -> str:
    """Say what msgspec says of JSON in our words. It knows less of it than `syntax_fault`."""
    text = str(error)
    if text == "Input data was truncated":
        return "the JSON ends too soon"
    if (byte := _byte.search(text)) is not None:
        return f"the JSON is malformed at byte {byte[1]}"
    path = _path.search(text)
    place = f" in {path[1].lstrip('.')}" if path is not None and path[1] else ""
    if (field := _field.search(text)) is not None:
        is_missing = text.startswith("Object missing")
        shown = repr(field[1])
        return (
            f"the field {shown} is missing{place}"
            if is_missing
            else f"unknown field {shown}{place}"
        )
    return f"a value{place} does not have its type" if place else text


class _Constant(ValueError):
    """A number that only Python's own json reads and writes, or that is too large for a float."""


def _no_constant(name: str) -> NoReturn:
    raise _Constant(name)


def _finite(text: str) -> str:
    return text if isfinite(float(text)) else _no_constant(text)


def _misplaced(text: str, error: json.JSONDecodeError) -> str:
    position = error.pos
    # Where a comma is the last in its object or list, versions of Python differ.
    if (comma := _last_comma.match(text, position)) is not None:
        position = comma.end()
    line = text.count("\n", 0, position) + 1
    column = position - (text.rfind("\n", 0, position) + 1) + 1
    place = f"(line {line}, column {column})"
    rest = text[position:]
    if not rest.strip():
        return f"the JSON ends too soon {place}"
    shown = _word.match(rest)[0].strip()[:SHOWN_CHARS]  # type: ignore[index]
    if shown in ("}", "]") and text[:position].rstrip().endswith(","):
        return f"the JSON has a comma before {shown} {place}"
    if rest[0] == '"' and _is_open(rest):
        return f"the JSON has a text without its closing quote {place}"
    where = next((said for words, said in PLACES.items() if error.msg.startswith(words)), "")
    if rest[0] < " " and not where:
        return f"the JSON has a text with a line break or another control character {place}"
    if rest[0] == "\\":
        return f"the JSON has the unknown escape {rest[:2]} {place}"
    shown = shown if shown.isprintable() else ascii(shown)
    if not where:
        return f"the JSON has an unexpected {shown} {place}"
    advice = "; texts need double quotes" if "value" in where and shown.isidentifier() else ""
    return f"the JSON has {shown} {where} {place}{advice}"


def _is_open(text: str) -> bool:
    """True if the text that begins with a quote has no closing quote."""
    try:
        json.JSONDecoder(strict=False).raw_decode(text)
    except json.JSONDecodeError:
        return True
    return False
