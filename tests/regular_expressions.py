"""Feeds every regular expression of dte the texts on which it takes longest.

``python -m regular_expressions``, run in tests/, prints for each expression the CPU time that it
takes for the worst of a megabyte, in milliseconds. An expression that takes the square of a text's
length would need hours.
"""

from __future__ import annotations

import ast
import importlib
import json
import pkgutil
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from re import _constants as constants  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

SHORT, LONG = 2_000, 1_000_000
WORST = 4
"""Texts of which an expression gets a long one: those that take longest when short."""
ATOMS_MAX = 14
CPU_S_MAX = 10
"""An expression that takes longer is quadratic at least."""
CPU_S_IN_ALL = 300
FUNCTIONS = (
    "compile",
    "match",
    "search",
    "sub",
    "subn",
    "fullmatch",
    "split",
    "findall",
    "finditer",
)
CATEGORIES = {
    constants.CATEGORY_DIGIT: "1",
    constants.CATEGORY_NOT_DIGIT: "a",
    constants.CATEGORY_SPACE: " ",
    constants.CATEGORY_NOT_SPACE: "a",
    constants.CATEGORY_WORD: "a",
    constants.CATEGORY_NOT_WORD: "-",
}
ALWAYS = '"', "\\", " ", "1", "a", "\n"
"""Characters that each expression gets, besides its own."""

Pattern = re.Pattern[Any]


def compiled() -> dict[str, Pattern]:
    """The expressions that the modules of dte compile, by module and text."""
    found: dict[str, Pattern] = {}
    compile_it = re.compile

    def noting(pattern: Any, flags: Any = 0) -> Pattern:
        result = compile_it(pattern, flags)
        module = sys._getframe(1).f_globals.get("__name__", "")
        if module.partition(".")[0] == "dte":
            found[f"{module}: {result.pattern!r}"] = result
        return result

    re.compile = noting  # type: ignore[assignment]
    try:
        for name in module_names():
            importlib.import_module(name)
    finally:
        re.compile = compile_it
    return found


def module_names() -> list[str]:
    import dte

    names = (each.name for each in pkgutil.walk_packages(dte.__path__, "dte."))
    return ["dte", *(name for name in names if name != "dte.__main__")]


def trees() -> dict[Path, ast.Module]:
    import dte

    return {path: ast.parse(path.read_text()) for path in Path(dte.__file__).parent.rglob("*.py")}


def called() -> Iterator[tuple[str, Any, str]]:
    """The calls of ``re`` beside `compile`: the place, the expression, and the function.

    The expression is None if it is computed.
    """
    for path, tree in trees().items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                function = node.func
                is_re = isinstance(function.value, ast.Name) and function.value.id == "re"
                if is_re and function.attr in FUNCTIONS and function.attr != "compile":
                    first = node.args[0]
                    text = first.value if isinstance(first, ast.Constant) else None
                    yield f"{path.name}, line {node.lineno}", text, function.attr


def of_routes() -> Iterator[str]:
    """The expressions that the paths of routes are compared with."""
    from dte.master.api.routes import ROUTES

    for route in ROUTES:
        yield route.pattern


def all_patterns() -> Iterator[tuple[str, Pattern, set[str]]]:
    """Every expression of dte: where it stands, and the functions that dte calls with it."""
    used: dict[str, set[str]] = {}
    found = compiled()
    names = {
        pattern: name
        for module in module_names()
        for name, value in vars(sys.modules[module]).items()
        for pattern in (value.values() if isinstance(value, dict) else [value])
        if isinstance(pattern, re.Pattern)
    }
    for tree in trees().values():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr in FUNCTIONS:
                owner = node.value.value if isinstance(node.value, ast.Subscript) else node.value
                name = owner.attr if isinstance(owner, ast.Attribute) else ""
                name = owner.id if isinstance(owner, ast.Name) else name
                used.setdefault(name, set()).add(node.attr)
    for place, pattern in found.items():
        yield place, pattern, used.get(names.get(pattern, ""), set(FUNCTIONS))
    for place, text, function in called():
        if text is not None:
            yield f"{place}: {text!r}", re.compile(text), {function}
    for path in of_routes():
        yield f"route {path!r}", re.compile(path), {"fullmatch", "match"}


# Texts


def atoms_of(parsed: Any) -> Iterator[str]:
    """Characters that matter to an expression."""
    for what, value in parsed:
        if what in (constants.LITERAL, constants.NOT_LITERAL):
            yield chr(value)
        elif what is constants.IN:
            for kind, inner in value:
                if kind is constants.LITERAL:
                    yield chr(inner)
                elif kind is constants.RANGE:
                    yield chr(inner[0])
                elif kind is constants.CATEGORY:
                    yield CATEGORIES[inner]
        elif what is constants.BRANCH:
            for branch in value[1]:
                yield from atoms_of(branch)
        elif isinstance(value, tuple):
            for inner in value:
                if isinstance(inner, parser.SubPattern):
                    yield from atoms_of(inner)
        elif isinstance(value, parser.SubPattern):
            yield from atoms_of(value)


def sample_of(parsed: Any, choice: int) -> str:
    """A short text that an expression matches, more or less; `choice` picks among branches."""
    text = ""
    for what, value in parsed:
        if what is constants.LITERAL:
            text += chr(value)
        elif what is constants.IN:
            text += next(iter(atoms_of([(what, value)])), "a")
        elif what in (constants.ANY, constants.NOT_LITERAL):
            text += "a"
        elif what is constants.BRANCH:
            text += sample_of(value[1][choice % len(value[1])], choice)
        elif what is constants.SUBPATTERN:
            text += sample_of(value[-1], choice)
        elif what in (constants.MAX_REPEAT, constants.MIN_REPEAT, constants.POSSESSIVE_REPEAT):
            text += sample_of(value[2], choice) * max(1, min(value[0], 3))
        elif what is constants.ATOMIC_GROUP:
            text += sample_of(value, choice)
    return text


def texts_of(pattern: Pattern) -> Iterator[Callable[[int], str]]:
    """Makers of texts of any length on which an expression may take long."""
    source = pattern.pattern
    source = source.decode("latin-1") if isinstance(source, bytes) else source
    parsed = parser.parse(source, pattern.flags & ~re.UNICODE & ~re.DEBUG)
    atoms = list(islice(dict.fromkeys((*ALWAYS, *atoms_of(parsed))), ATOMS_MAX))
    samples = dict.fromkeys(sample_of(parsed, choice) for choice in range(4))
    starts = dict.fromkeys(
        sample[:count] for sample in samples for count in range(1, min(len(sample), 25) + 1)
    )
    for unit in (*atoms, *starts, *(one + other for one in atoms for other in atoms)):
        yield lambda length, unit=unit: (unit * (length // len(unit) + 1))[:length]  # type: ignore[misc]
    for start in starts:
        for unit in atoms:
            yield lambda length, start=start, unit=unit: start + unit * length + "\0"  # type: ignore[misc]
            yield (
                lambda length, start=start, unit=unit: (
                    (start + "\\" + unit)
                    * (  # type: ignore[misc]
                        length // (len(start) + 2)
                    )
                )
            )


def taken_s(pattern: Pattern, used: set[str], text: str) -> float:
    """The CPU time for everything that dte does with an expression and a text."""
    given = text.encode("latin-1", "replace") if isinstance(pattern.pattern, bytes) else text
    began = time.process_time()
    if used - {"match", "fullmatch"}:
        for _ in pattern.finditer(given):
            pass
    if "match" in used:
        pattern.match(given)
    if "fullmatch" in used:
        pattern.fullmatch(given)
    return time.process_time() - began


def worst_ms(pattern: Pattern, used: set[str], short: int = SHORT, long: int = LONG) -> float:
    """The CPU time for the worst long text."""
    makers = list(texts_of(pattern))
    makers.sort(key=lambda make: taken_s(pattern, used, make(short)), reverse=True)
    return 1_000 * max(taken_s(pattern, used, make(long)) for make in makers[:WORST])


class TooSlow(BaseException):
    """An expression has taken `CPU_S_MAX`."""


def main() -> None:
    def stop(*_: object) -> None:
        raise TooSlow  # The matching looks for signals now and then.

    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S_IN_ALL, CPU_S_IN_ALL))
    signal.signal(signal.SIGVTALRM, stop)
    took: dict[str, float | None] = {}
    for name, pattern, used in all_patterns():
        signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S_MAX)
        try:
            took[name] = round(worst_ms(pattern, used), 1)
        except TooSlow:
            took[name] = None
        finally:
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    print(json.dumps(took))


if __name__ == "__main__":
    main()
