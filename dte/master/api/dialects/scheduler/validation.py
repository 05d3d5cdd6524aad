"""Errors of a body, each with its location, in this dialect's form."""

from __future__ import annotations

import re

import msgspec

from dte.core.errors import InvalidRequest

AT = re.compile(r"(?P<text>.*?)(?: - at `\$(?P<path>.*)`)?", re.DOTALL)
"""A decoder's error: the text and the path; an error of the whole body has no path."""
STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
"""A step of a path: to a field, or to an item of a list."""
MISSING = re.compile(r"Object missing required field `(\w+)`")


class Fault(msgspec.Struct):
    """An error at a location in a body."""

    loc: list[str | int]
    msg: str
    type: str


class Invalid(msgspec.Struct):
    """The reply to a body with errors."""

    detail: list[Fault]


class Unprocessable(InvalidRequest):
    """The body does not fit its type."""

    status = 422

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.msg)
        self.fault = fault


def fault_of(text: str) -> Fault:
    """A decoder's error in this dialect's form."""
    match = AT.fullmatch(text)
    assert match is not None
    path = STEP.findall(match["path"] or "")
    loc: list[str | int] = ["body", *(name or int(index) for name, index in path)]
    missing = MISSING.fullmatch(match["text"])
    if missing is not None:
        return Fault([*loc, missing[1]], "Field required", "missing")
    if match["path"] is None:
        return Fault(loc, text, "json_invalid")
    return Fault(loc, match["text"], "type_error")
