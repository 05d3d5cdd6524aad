"""Says in dte's own words why bytes are not JSON: a library may change its words at will."""

from __future__ import annotations

import json
import re
from typing import NoReturn

SHOWN_CHARS = 20

_word = re.compile(r"\s*([\w.+-]+|\S)")


def syntax_fault(raw: bytes) -> str | None:
    """Say why and where bytes are not JSON; None if they are."""
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte 0x{raw[error.start]:02x} at position {error.start}"
    try:
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_no_constant)
    except _Constant as error:
        return f"{error} is not a finite number"
    except json.JSONDecodeError as error:
        return _unexpected(text, error.pos)
    except RecursionError:
        return "the JSON nests too deep"
    except ValueError:
        return "the JSON cannot be read"
    return None


class _Constant(ValueError):
    """A number that only Python's own json reads and writes."""


def _no_constant(name: str) -> NoReturn:
    raise _Constant(name)


def _unexpected(text: str, position: int) -> str:
    line = text.count("\n", 0, position) + 1
    column = position - (text.rfind("\n", 0, position) + 1) + 1
    place = f"(line {line}, column {column})"
    rest = text[position:]
    if not rest.strip():
        return f"the JSON ends too soon {place}"
    if rest[0] == '"' and _is_open(rest):
        return f"the JSON has a text without its closing quote {place}"
    if rest[0] < " ":
        return f"the JSON has a text with a line break or another control character {place}"
    shown = _word.match(rest)[0][:SHOWN_CHARS]  # type: ignore[index]
    return f"the JSON has an unexpected {shown} {place}"


def _is_open(text: str) -> bool:
    """True if the text that begins with a quote has no closing quote."""
    try:
        json.JSONDecoder(strict=False).raw_decode(text)
    except json.JSONDecodeError:
        return True
    return False
