from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NamedTuple, TypedDict
from uuid import UUID

import msgspec
import pytest
from harness.wording import has, own

from dte.handlers.arguments import BadArguments, Signature
from dte.wire import misfits


class Size(msgspec.Struct):
    width: int
    height: int


def resize(
    name: str, size: Size, on: date | None = None, *, mode: Literal["fit", "fill"] = "fit"
) -> Any:
    return name, size, on, mode


def more(first: int, /, *rest: float, **named: bool) -> Any:
    return first, rest, named


def bare(x, y=2) -> Any:
    return x, y


def positive(n: Annotated[int, msgspec.Meta(gt=0)]) -> Any:
    return n


def nothing() -> Any:
    return ()


def call(function: Callable[..., Any], args: Any) -> Any:
    positional, named = Signature("it", function).bind(args)
    return function(*positional, **named)


@pytest.mark.parametrize(
    ("function", "args", "result"),
    [
        (resize, ["a", {"width": 1, "height": 2}], ("a", Size(1, 2), None, "fit")),
        (
            resize,
            {"name": "a", "size": {"width": 1, "height": 2}, "on": "2024-02-29", "mode": "fill"},
            ("a", Size(1, 2), date(2024, 2, 29), "fill"),
        ),
        (more, [1], (1, (), {})),
        (more, [1, 2, 3.5], (1, (2.0, 3.5), {})),
        (bare, ["x"], ("x", 2)),
        (bare, {"y": None, "x": [1]}, ([1], None)),
        (positive, [7**400], 7**400),
        (nothing, None, ()),
        (nothing, [], ()),
        (nothing, {}, ()),
    ],
)
def test_arguments_are_converted_to_their_annotations(
    function: Callable[..., Any], args: Any, result: Any
) -> None:
    assert call(function, args) == result


SIZE = {"width": 1, "height": 2}


@pytest.mark.parametrize(
    ("function", "args", "error"),
    [
        (resize, [1, SIZE], "it: argument 'name' must be a text, not 1; signature: it(name"),
        (resize, ["a", {"width": 1}], "it: argument 'size': the field 'height' is missing; sig"),
        (
            resize,
            ["a", SIZE, None, "fit"],
            "it takes 3 arguments, 4 were given; signature: it(name: str, size:",
        ),
        (resize, ["a"], "it: argument 'size' is missing; signature: it(name: str, size:"),
        (
            resize,
            {"name": "a", "size": SIZE, "mode": "x"},
            'it: argument \'mode\' must be "fill" or "fit", not "x"; signature: it(',
        ),
        (
            resize,
            {"name": "a", "size": SIZE, "mod": "x"},
            "it: unknown argument 'mod'; did you mean 'mode'? signature: it(",
        ),
        (resize, {"nme": "a", "size": SIZE}, "it: unknown argument 'nme'; did you mean 'name'? "),
        (resize, {"colour": "red"}, "it: unknown argument 'colour'; signature: it("),
        (resize, {"name": "a"}, "it: argument 'size' is missing"),
        (resize, ["x" * 100, 1], "it: argument 'size' must be an object, not 1; signature: it("),
        (
            resize,
            [["x" * 100], 1],
            "it: argument 'name' must be a text, not a list; signature: it(",
        ),
        (
            resize,
            ["a", "x" * 100],
            f"it: argument 'size' must be an object, not \"{'x' * 39}…; signature: it(",
        ),
        (more, [1, "x"], "it: argument 'rest' must be a number, not \"x\"; signature: it("),
        (more, {"first": 1}, "it: argument 'first' is missing"),
        (
            positive,
            [-(7**400)],
            "it: argument 'n' must be an integer above 0, not a long integer; ",
        ),
        (positive, [True], "it: argument 'n' must be an integer above 0, not true; signature: it("),
        (positive, ["1"], "it: argument 'n' must be an integer above 0, not \"1\"; signature: it("),
        (nothing, [1], "it takes 0 arguments, 1 was given; signature: it()"),
        (
            nothing,
            "text",
            'it: arguments must be a list (positional) or an object (named), not "text"',
        ),
    ],
)
def test_an_error_names_the_argument_what_is_given_and_what_is_expected(
    function: Callable[..., Any], args: Any, error: str
) -> None:
    with pytest.raises(BadArguments) as caught:
        call(function, args)
    assert has(str(caught.value), error)


def test_an_annotation_that_makes_no_sense_is_an_error_at_the_start() -> None:
    def strange(x: list[int] | set[int]) -> None: ...

    with pytest.raises(TypeError, match="argument 'x' of handler it"):
        Signature("it", strange)

    def unknown(x: Nowhere) -> None: ...  # type: ignore[name-defined] # noqa: F821

    with pytest.raises(TypeError, match=own("annotation of handler it: […]Nowhere")):
        Signature("it", unknown)


def merge(parts: list[str], /, title: str, *rest: int, sep: str = ",", **more: int) -> str:
    return sep.join([title, *parts])


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ([["a"]], {"title": "all"}),
        ([["a"], "all"], {"sep": "-"}),
        ([["a"], "all", 1, 2], {"more": 3, "parts": 4}),
        ([["a"]], {"title": "all", "sep": "-"}),
    ],
)
def test_arguments_by_position_and_by_name_can_be_mixed(args: Any, kwargs: Any) -> None:
    assert Signature("merge", merge).bind(args, kwargs) == (args, kwargs)


@pytest.mark.parametrize(
    ("args", "kwargs", "error"),
    [
        ([["a"], "all"], {"title": "b"}, "merge: argument 'title' is given twice, by position and"),
        ([], {"title": "b"}, "merge: argument 'parts' is missing"),
        ([["a"]], {"sep": "-"}, "merge: argument 'title' is missing"),
        ([["a"]], {"title": 1}, "merge: argument 'title' must be a text, not 1; "),
        ({"title": "a"}, {"sep": "-"}, "merge: arguments must be a list"),
    ],
)
def test_a_mix_that_does_not_fit_is_explained(args: Any, kwargs: Any, error: str) -> None:
    with pytest.raises(BadArguments) as raised:
        Signature("merge", merge).bind(args, kwargs)
    assert str(raised.value).startswith(error)


class Photo(msgspec.Struct, rename="camel"):
    file_name: str
    size: Size | None = None


class Circle(msgspec.Struct, tag="circle"):
    radius: float


class Square(msgspec.Struct, tag="square"):
    side: float


class Pair(msgspec.Struct, array_like=True):
    left: int
    right: int = 0


class Point(NamedTuple):
    x: int
    y: int = 0


class Mode(Enum):
    FIT = "fit"
    FILL = "fill"


@dataclass
class Box:
    left: int
    parts: list[Box] = field(default_factory=list)
    named: dict[str, Point] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.left < 0:
            raise ValueError("left is outside the picture")


class Options(TypedDict, total=False):
    quality: int


def refusal(kind: Any, value: Any) -> str:
    """What is said of an argument of a type, without the signature."""

    def it(x) -> None: ...

    it.__annotations__ = {"x": kind}
    with pytest.raises(BadArguments) as raised:
        Signature("it", it).bind([value])
    return str(raised.value).removeprefix("it: ").partition("; signature:")[0]


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (Box, {"left": 1, "lft": 2}, "unknown field 'lft'; Box has the fields left, parts, named"),
        (
            Box,
            {"left": 1, "parts": [{"left": 2, "parts": [{"left": 3, "top": 4}]}]},
            "parts[0].parts[0]: unknown field 'top'; Box has the fields left, parts, named",
        ),
        (Size, {**SIZE, "depth": 3}, "unknown field 'depth'; Size has the fields width, height"),
        (Options, {"qualty": 9}, "unknown field 'qualty'; Options has the fields quality"),
        (
            Photo,
            {"fileName": "a", "file_name": "b"},
            "unknown field 'file_name'; Photo has the fields fileName, size",
        ),
        (
            list[Photo | None],
            [None, {"fileName": "a", "size": {**SIZE, "x": 1}}],
            "[1].size: unknown field 'x'; Size has the fields width, height",
        ),
        (
            dict[str, Circle | Square],
            {"a": {"type": "square", "side": 1, "radius": 2}},
            "a: unknown field 'radius'; Square has the fields side",
        ),
        (tuple[int, Size], [1, {**SIZE, "x": 1}], "[1]: unknown field 'x'; Size has the fields"),
    ],
)
def test_a_field_that_the_type_of_an_argument_does_not_have_is_an_error(
    kind: Any, value: Any, text: str
) -> None:
    shown = refusal(kind, value).removeprefix("argument 'x'").removeprefix(": ")
    assert shown.startswith(text)


def test_items_that_a_type_does_not_have_are_an_error() -> None:
    assert refusal(list[Pair], [[1], [1, 2, 3]]) == "argument 'x': [1] has 3 items; Pair has 2"


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Circle | Square, {"type": "circle", "radius": 1}),
        (Circle, {"type": "circle", "radius": 1}),
        (Photo, {"fileName": "a", "size": None}),
        (dict[str, Any], {"anything": {"goes": 1}}),
        (Pair, [1]),
        (Options, {}),
    ],
)
def test_fields_that_a_type_has_are_taken(kind: Any, value: Any) -> None:
    def it(x) -> None: ...

    it.__annotations__ = {"x": kind}
    assert Signature("it", it).bind([value])


def test_a_value_that_nests_as_deep_as_is_allowed_is_looked_through() -> None:
    def it(x: Box) -> None: ...

    value: dict[str, Any] = {"left": 0}
    for _ in range(240):
        value = {"left": 0, "parts": [value]}
    assert Signature("it", it).bind([value])
    value = {"left": 0, "parts": [value, {"lft": 1, "left": 1}]}
    with pytest.raises(BadArguments, match=r"parts\[1\]: unknown field 'lft'"):
        Signature("it", it).bind([value])


def test_keys_of_an_object_are_converted() -> None:
    def it(x: dict[int, str]) -> Any:
        return x

    assert call(it, [{"7": "a"}]) == {7: "a"}


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (int, "7", 'must be an integer, not "7"'),
        (int | None, "7", 'must be an integer, not "7"'),
        (bool, 1, "must be true or false, not 1"),
        (list[int], [1, "2"], ': [1] must be an integer, not "2"'),
        (list[int], {}, "must be a list, not an object"),
        (
            Annotated[list[int], msgspec.Meta(max_length=2)],
            [1, 2, 3],
            "must be a list of at most 2",
        ),
        (tuple[int, str], [1], "must be a list of 2 items, not a list"),
        (Point, [1, 2, 3], "must be a list of 1 to 2 items, not a list"),
        (Point, ["a"], ': [0] must be an integer, not "a"'),
        (set[int], ["a"], ': [0] must be an integer, not "a"'),
        (dict[int, str], {"a": "b"}, 'has the key "a"; keys are integers'),
        (dict[Mode, int], {"a": 1}, 'has the key "a"; a key must be "fit" or "fill"'),
        (dict[str, int], {"a": "b"}, ': a must be an integer, not "b"'),
        (Mode, "fitt", 'must be "fit" or "fill", not "fitt"'),
        (date, "today", 'must be a date such as 2030-01-31, not "today"'),
        (datetime, "today", 'must be a time such as 2030-01-31T12:00:00Z, not "today"'),
        (timedelta, "1 h", 'must be a duration such as PT90S, not "1 h"'),
        (UUID, "abc", 'must be a UUID, not "abc"'),
        (Decimal, "one", 'must be a decimal number, not "one"'),
        (bytes, "?", 'must be a text in base64, not "?"'),
        (Annotated[int, msgspec.Meta(ge=1, le=5)], 7, "must be an integer from 1 to 5, not 7"),
        (Annotated[float, msgspec.Meta(ge=0)], -1, "must be a number of at least 0, not -1"),
        (Annotated[str, msgspec.Meta(pattern="^a")], "b", "must be a text that matches ^a, not"),
        (Box, {"left": "1"}, ': left must be an integer, not "1"'),
        (Box, {"parts": []}, ": the field 'left' is missing"),
        (Box, {"left": -1}, ": left is outside the picture"),
        (Circle | Square, {"type": "oval"}, ': type must be "circle" or "square", not "oval"'),
        (
            Circle | Square,
            {"side": 1},
            """: the field 'type' is missing; it is "circle" or "squa""",
        ),
        (Circle, {"type": "oval", "radius": 1}, ': type must be "circle", not "oval"'),
    ],
)
def test_a_fault_is_said_in_words_of_dte_with_its_place(kind: Any, value: Any, text: str) -> None:
    shown = refusal(kind, value).removeprefix("argument 'x'").strip()
    assert shown.startswith(text)


def test_a_long_argument_is_compared_in_part_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(misfits, "PARTS_MAX", 10)
    assert refusal(list[int], [1] * 20 + ["x"]) == "argument 'x': a list does not fit"
