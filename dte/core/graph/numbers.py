"""Numbers and operations: symbols in the master and in batches, names in the seed's form."""

from __future__ import annotations

NAMES = {"+": "sum", "-": "sub", "*": "mul", "/": "div"}
SYMBOLS = {name: symbol for symbol, name in NAMES.items()}

Number = int | float
"""An operand or a result: an integer of any size, or a finite float."""

INTEGER_DIGITS_MAX = 4300
"""By default Python prints and reads no integer with more decimal digits; so none is sent."""

INTEGER_LIMIT: int = 10**INTEGER_DIGITS_MAX
"""The smallest positive integer that is too long."""


def describe(symbol: str, left: Number, right: Number) -> str:
    """An operation for people, with long operands cut: ``1 / 0``."""
    return f"{_brief(left)} {symbol} {_brief(right)}"


def _brief(value: Number) -> str:
    text = str(value)
    return text if len(text) <= 24 else f"{text[:10]}…{text[-4:]} ({len(text)} digits)"


def number_of(value: bytes | None) -> Number | None:
    """The number in a JSON text; None if it is not a number, or has too many digits."""
    text = (value or b"").decode(errors="replace").strip()
    digits = text.removeprefix("-")
    try:
        if digits.isascii() and digits.isdigit():
            return int(text) if len(digits) <= INTEGER_DIGITS_MAX else None
        if not digits[:1].isdigit():
            return None
        number = float(text)
    except ValueError:
        return None
    return number if number not in (float("inf"), float("-inf")) else None
