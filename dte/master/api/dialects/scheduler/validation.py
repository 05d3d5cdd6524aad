"""What is wrong with a body, by places, as this dialect says it."""

from __future__ import annotations

import re

import msgspec

from dte.core.errors import InvalidRequest

AT = re.compile(r"(?P<text>.*?)(?: - at `\$(?P<path>.*)`)?", re.DOTALL)
"""An error of the decoder: what is wrong, and where, unless it is the whole body."""
STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
"""A step of such a path: to a field, or to an item of a list."""
MISSING = re.compile(r"Object missing required field `(\w+)`")


class Fault(msgspec.Struct):
    """What is wrong at a place of a body."""

    loc: list[str | int]
    msg: str
    type: str


class Invalid(msgspec.Struct):
    """Why a body cannot be understood."""

    detail: list[Fault]


class Unprocessable(InvalidRequest):
    """A body of another shape than is expected."""

    status = 422

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.msg)
        self.fault = fault


def fault_of(text: str) -> Fault:
    """What the decoder says of a body, in this dialect's form."""
    match = AT.fullmatch(text)
    assert match is not None
    path = STEP.findall(match["path"] or "")
    loc: list[str | int] = ["body", *(name or int(place) for name, place in path)]
    missing = MISSING.fullmatch(match["text"])
    if missing is not None:
        return Fault([*loc, missing[1]], "Field required", "missing")
    if match["path"] is None:
        return Fault(loc, text, "json_invalid")
    return Fault(loc, match["text"], "type_error")
