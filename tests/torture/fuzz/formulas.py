"""Makes texts for the parser: formulas, formulas with a few characters changed, and garbage.

A well-formed text is made from left to right, without recursion, in a style that is drawn for the
whole of it: integers alone or floats too, one operator or all of them, with or without white space.
So chains of one operator, which the parser treats apart, are as common as mixed ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from torture.fuzz.chance import one

OPERATORS = ("+", "-", "*", "/", "+-", "*/", "+*", "+-*/", "+-*/", "+-*/×÷−", "−", "×")
SIGNS = "--+−"
WHITE_SPACE = ("", "", " ", " ", "  ", "\t", "\n", "\r\n", "\f", "\v")

INTEGERS = ("0", "1", "2", "3", "7", "10", "255", "65536", "9007199254740993", "000", "00")
FLOATS = (
    *(".5", "5.", "0.1", "0.2", "1e5", "1E5", "1e+5", "1e-3", "2E+2", "0.0", "0.", ".0", "0e0"),
    *("1e308", "1.7976931348623157e308", "1e-308", "1e-320", "5e-324", "2.2250738585072014e-308"),
    *("1e16", "9007199254740993.0", "00.5", "007e1", "1e22", "1e23", ".1e1", "0.30000000000000004"),
)
ODD_NUMBERS = (
    "2e−3",
    "1e999",
    "1e-999",
    "007",
    "01",
    "1e",
    "1e+",
    ".",
    "1.2.3",
    "0x10",
    "1_000",
    "1e5.",
)

NASTY = (
    *("\0", "\x1c", "\x7f", "\x85", "\xa0", "\u2003", "\u2028", "\u200b", "\ufeff", "\ud800"),
    *("\udfff", "٣", "１", "²", "Ⅷ", "½", "＋", "－", "（", "）", "﹢", "∕", "∗", "·", "–", "—"),
    *("_", "0x10", "1_000", "0b1", "0o7", "1j", "1L", "**", "//", "%", "@", ",", ";", "#", "'"),
    *('"', "\\", "[", "]", "{", "}", "=", ":", "!", "~", "^", "&", "|", "<", ">", "?", "$", "`"),
    *("e", "E", "x", "j", "inf", "nan", "None", "()", ")(", "(", ")", ".", "..", "...", "1e", "e5"),
    *("𝟙", "😀", "é", "e\u0301", "if", "lambda:0", " ", "\t", "\n", "×", "÷", "−", "0", "00", "9"),
)
HANDLERS = ("f", "e", "E", "e5", "inf", "now", "max.of", "x_1.2e5", "_", "if", "fibonacci", "f.e")
LANGUAGE = "00112345678999..eE++--**//(((()))) ×÷−\n"

LONG_CHAIN = 2000
"""Python itself compiles no chain of more than some 2,900 operators."""
DEEP = 3000
LONG_ROW = 1500
LONGEST_INTEGER = 4300
LONGEST_NUMBER = 8192

Number = Callable[[Random], str]


def text(rng: Random) -> str:
    """A text for the parser: half of them are well-formed, most others nearly so."""
    kind = rng.random()
    if kind < 0.5:
        return well_formed(rng)
    if kind < 0.85:
        return changed(well_formed(rng), rng)
    return garbage(rng)


def well_formed(rng: Random) -> str:
    """A formula, which Python accepts as well, but perhaps for the digits of its integers."""
    shape = rng.random()
    if shape < 0.001:
        return _chain(rng, LONG_CHAIN)
    if shape < 0.006:
        return _chain(rng, 100)
    if shape < 0.007:
        return _deep(rng)
    if shape < 0.009:
        return _row_of_signs(rng)
    if shape < 0.0093:
        return _about_the_longest_number(rng)
    made = _ordinary(rng)
    if shape < 0.1:  # Equal subexpressions become one operation.
        return f"({made}){one('+-*/', rng)}({made})"
    if shape < 0.13:
        return _with_calls(f"({made})", rng)
    return made


def changed(formula: str, rng: Random) -> str:
    """A formula with some characters dropped, doubled, exchanged, or put in between."""
    for _ in range(1 + int(3 * rng.random() ** 2)):
        at = int(rng.random() * (len(formula) + 1))
        kind = rng.random()
        if kind < 0.25:
            formula = formula[:at] + formula[at + 1 :]
        elif kind < 0.4:
            formula = formula[: at + 1] + formula[at:]
        elif kind < 0.55:
            pair = formula[at : at + 2]
            formula = formula[:at] + pair[::-1] + formula[at + 2 :]
        elif kind < 0.75:
            formula = formula[:at] + one(NASTY, rng) + formula[at:]
        elif kind < 0.95:
            formula = formula[:at] + one(LANGUAGE, rng) + formula[at:]
        else:
            formula = formula[:at] + one(ODD_NUMBERS, rng) + formula[at:]
    return formula


def garbage(rng: Random) -> str:
    """Characters without an order: of the language, of the nasty ones, or any that there are."""
    kind = rng.random()
    length = int(30 * rng.random() ** 2)
    if kind < 0.7:
        return "".join(rng.choices(LANGUAGE, k=length))
    if kind < 0.9:
        return "".join(rng.choices((*NASTY, *LANGUAGE), k=length))
    return "".join(map(chr, rng.choices(range(0x110000), k=length)))


def _ordinary(rng: Random) -> str:
    draw = rng.random
    number, operators = one(NUMBERS, rng), one(OPERATORS, rng)
    spaced = draw() < 0.2
    sign_chance = 0.3 * draw() ** 2
    open_chance, close_chance = 0.4 * draw() ** 2, 0.2 + 0.6 * draw()
    end_chance = 1 / (2 + 14 * draw() ** 2)
    parts: list[str] = []
    depth = 0
    while True:
        while draw() < sign_chance:
            parts.append(one(SIGNS, rng))
        while draw() < open_chance:
            parts.append("(")
            depth += 1
            while draw() < sign_chance:
                parts.append(one(SIGNS, rng))
        parts.append(number(rng))
        while depth and draw() < close_chance:
            parts.append(")")
            depth -= 1
        if draw() < end_chance:
            break
        parts.append(one(operators, rng))
    parts.append(")" * depth)
    if spaced:
        return "".join(part + one(WHITE_SPACE, rng) for part in ("", *parts))
    return "".join(parts)


def _with_calls(formula: str, rng: Random) -> str:
    """The formula with calls in the place of some of its parentheses."""

    def opening(_: re.Match[str]) -> str:
        if rng.random() < 0.4:
            return "("
        call = f"{one(HANDLERS, rng)}{one(WHITE_SPACE, rng)}("
        while rng.random() < 0.4:
            call += f"{_ordinary(rng)}{one((',', ', ', ' ,'), rng)}"
        return call

    made = re.sub(r"\(", opening, formula)
    return re.sub(r"(?<=[A-Za-z_])\(\d\)", "()", made)


def _chain(rng: Random, operators_max: int) -> str:
    number, operators = one(SHORT_NUMBERS, rng), one(OPERATORS, rng)
    parts = [number(rng)]
    for _ in range(int(operators_max * rng.random())):
        parts.append(one(operators, rng))
        parts.append(f"({_ordinary(rng)})" if rng.random() < 0.01 else number(rng))
    return "".join(parts)


def _deep(rng: Random) -> str:
    number = one(SHORT_NUMBERS, rng)
    openings = ("(", "-(", "(1+", "2*(", "(0.5-", "( ", "--(", "3/(", "(-", "-(0-")
    before = [one(openings, rng) for _ in range(1 + int(3 * rng.random()))]
    depth = int(DEEP * rng.random() ** 4 / len(before))
    after = one((")", ")", "+1)", "*1)", ")\n"), rng)
    return "".join(before) * depth + number(rng) + after * (depth * len(before))


def _row_of_signs(rng: Random) -> str:
    row = "".join(rng.choices("+-− ", k=int(LONG_ROW * rng.random() ** 2)))
    made = _ordinary(rng)
    return one((f"{row}{made}", f"1{row}-{made}", f"{row}({made})", f"2*{row}({made})"), rng)


def _about_the_longest_number(rng: Random) -> str:
    """A number of about as many characters as one may have, where a slice ends or elsewhere."""
    before = "1+" * (512 if rng.random() < 0.5 else int(600 * rng.random()))
    number = f"1.{'0' * (LONGEST_NUMBER - 4 + int(5 * rng.random()))}"
    return before + one((number, f"({number})", "0" * (LONGEST_INTEGER + 1)), rng) + "+1"


def _digit(rng: Random) -> str:
    return str(int(10 * rng.random()))


def _integer(rng: Random) -> str:
    if rng.random() < 0.4:
        return one(INTEGERS, rng)
    return str(rng.getrandbits(1 + int(70 * rng.random())))


def _float(rng: Random) -> str:
    kind = rng.random()
    if kind < 0.4:
        return one(FLOATS, rng)
    if kind < 0.8:
        return repr(rng.random() * 10 ** int(20 * rng.random()))
    return f"{rng.random() * 10:.17g}e{int(600 * rng.random()) - 300}"


def _zero_or_one(rng: Random) -> str:
    return one(("0", "0.0", ".0", "1", "1.0", "1"), rng)


def _any(rng: Random) -> str:
    return _integer(rng) if rng.random() < 0.6 else _float(rng)


def _long_integer(rng: Random) -> str:
    """Mostly of tens of digits; now and then as long as an integer may be, or a little longer."""
    digits = 20 + int(60 * rng.random())
    kind = rng.random()
    if kind < 0.03:
        digits = int(LONGEST_INTEGER * rng.random()) + 1
    elif kind < 0.04:
        digits = LONGEST_INTEGER - 1 + int(3 * rng.random())
    return f"{1 + int(9 * rng.random())}" + "".join(rng.choices("0123456789", k=digits - 1))


def _long_float(rng: Random) -> str:
    digits = "".join(rng.choices("0123456789", k=1 + int(200 * rng.random())))
    return f"{digits}.{digits}e-{len(digits)}"


def _mostly_short(rng: Random) -> str:
    kind = rng.random()
    return _long_integer(rng) if kind < 0.05 else _long_float(rng) if kind < 0.06 else _any(rng)


SHORT_NUMBERS: tuple[Number, ...] = (_digit, _digit, _integer, _integer, _float, _any)
NUMBERS: tuple[Number, ...] = (
    *(_digit, _digit, _digit, _digit, _integer, _integer, _integer, _float, _float, _any, _any),
    *(_any, _zero_or_one, _zero_or_one, _mostly_short, _mostly_short, _long_integer),
)
