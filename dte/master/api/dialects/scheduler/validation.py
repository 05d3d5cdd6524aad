"""Errors of a body, each with its location, in this dialect's form."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import msgspec

from dte.core.errors import InvalidRequest
from dte.wire.codec import encode
from dte.wire.misfits import misfit_of, shown_path

AT = " - at `$"
"""What is in a decoder's error before the path; an error of the whole body has no path."""
STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
"""A step of a path: to a field, or to an item of a list."""
INPUT_BYTES_MAX = 1_000
"""A longer value is cut in the error that shows it."""
NUMBERS = {"priority": int, "timeout": float}
"""The fields of a task that are numbers."""
_INTEGER = re.compile(r"\s*[+-]?\d{1,20}\s*", re.ASCII)
MISSING = re.compile(r"Object missing required field `(\w+)`")


class Fault(msgspec.Struct):
    """An error at a location in a body, and the value that is there."""

    loc: list[str | int]
    msg: str
    type: str
    input: Any = None


class Invalid(msgspec.Struct):
    """The reply to a body with errors."""

    detail: list[Fault]


class Unprocessable(InvalidRequest):
    """The body does not fit its type."""

    status = 422

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.msg)
        self.fault = fault


def fault_of(text: str, body: Any = None) -> Fault:
    """A decoder's error in this dialect's form.

    Args:
        body: the body, as far as it could be decoded.
    """
    said, at, path = text.partition(AT)
    has_path = bool(at) and path.endswith("`")
    if not has_path:
        said, path = text, ""
    steps: list[str | int] = [name or int(index) for name, index in STEP.findall(path)]
    missing = MISSING.fullmatch(said)
    if missing is not None:
        fault = fault_at(steps, "Field required", "missing", body)
        fault.loc.append(missing[1])
        return fault
    if not has_path:
        return fault_at(steps, text, "json_invalid", body)
    return fault_at(steps, said, "type_error", body)


def misfit_in(body: Any, shape: Any) -> Fault | None:
    """The part of a body that does not fit a type; None if it is one that is missing."""
    found = misfit_of(body, shape)
    if found is None or not found.path or found.has_subject:
        return None
    return fault_at(list(found.path), found.said_of(shown_path(found.path)), "type_error", body)


def fault_at(steps: list[str | int], text: str, kind: str, body: Any) -> Fault:
    """An error at a place in a body."""
    return Fault(["body", *steps], text, kind, _shown(body, steps))


def _shown(value: Any, steps: Iterable[str | int]) -> Any:
    """The value at a place in a body; a long one as the beginning of its JSON."""
    for step in steps:
        try:
            value = value[step]
        except (LookupError, TypeError):
            return None
    try:
        raw = encode(value)
    except RecursionError:
        return None
    if len(raw) <= INPUT_BYTES_MAX:
        return value
    return raw[:INPUT_BYTES_MAX].decode(errors="replace") + "…"


def with_numbers(body: dict[str, Any]) -> dict[str, Any]:
    """A body whose numbers may be texts, and whose integers may be whole floats.

    Other values stay as they are, for the decoder to refuse.
    """
    converted = dict(body)
    for name, kind in NUMBERS.items():
        value = converted.get(name)
        if isinstance(value, bool) or not isinstance(value, str | float):
            continue
        with suppress(ValueError, OverflowError):  # OverflowError: an infinity.
            number = float(value)
            if kind is float:
                converted[name] = number
            elif number == int(number):
                converted[name] = int(value) if _INTEGER.fullmatch(str(value)) else int(number)
    return converted
