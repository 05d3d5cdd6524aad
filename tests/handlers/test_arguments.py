from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Literal

import msgspec
import pytest
from harness.wording import has, own

from dte.handlers.arguments import BadArguments, Signature


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
        (resize, [1, SIZE], "it: argument 'name' is 1: […]; signature: it(name"),
        (resize, ["a", {"width": 1}], "it: argument 'size' is {\"width\": 1}: […]height[…]; sig"),
        (
            resize,
            ["a", SIZE, None, "fit"],
            "it takes 3 arguments, 4 were given; signature: it(name: str, size:",
        ),
        (resize, ["a"], "it: argument 'size' is missing; signature: it(name: str, size:"),
        (
            resize,
            {"name": "a", "size": SIZE, "mode": "x"},
            "it: argument 'mode' is \"x\": […]; signature: it(",
        ),
        (
            resize,
            {"name": "a", "size": SIZE, "mod": "x"},
            "it: unknown argument 'mod'; signature: it(",
        ),
        (resize, {"name": "a"}, "it: argument 'size' is missing"),
        (resize, ["x" * 100, 1], "it: argument 'size' is 1: […]; signature: it("),
        (resize, [["x" * 100], 1], f"it: argument 'name' is [\"{'x' * 58}…: […]; signature: it("),
        (more, [1, "x"], "it: argument 'rest' is \"x\": […]; signature: it("),
        (more, {"first": 1}, "it: argument 'first' is missing"),
        (positive, [-(7**400)], "it: argument 'n' is a long integer: "),
        (positive, [True], "it: argument 'n' is true: […]; signature: it("),
        (positive, ["1"], "it: argument 'n' is \"1\": […]; signature: it("),
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
        ([["a"]], {"title": 1}, "merge: argument 'title' is 1: "),
        ({"title": "a"}, {"sep": "-"}, "merge: arguments must be a list"),
    ],
)
def test_a_mix_that_does_not_fit_is_explained(args: Any, kwargs: Any, error: str) -> None:
    with pytest.raises(BadArguments) as raised:
        Signature("merge", merge).bind(args, kwargs)
    assert str(raised.value).startswith(error)
