"""JSON with integers of any length. Python and msgspec alone stop at 4,300 digits.

Answers of handlers may have longer integers. They are converted in parts, so the limit of the
process (`sys.set_int_max_str_digits`) neither matters nor changes.
"""

from __future__ import annotations

import json
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal, Inexact
from math import isfinite
from typing import Any, TypeVar

import msgspec

from dte.wire import codec
from dte.wire.faults import HALF

T = TypeVar("T")

PART_DIGITS = 600
"""Python converts this many digits whatever its limit is."""
PART_BYTES = 240
LONG_BITS = 1_900
"""Only integers with more bits can have more than `PART_DIGITS` digits."""


def integer(text: str) -> int:
    """Convert decimal digits to an integer, without a limit."""
    if len(text) <= PART_DIGITS:
        return int(text)
    digits = text.lstrip("-")
    ends = range(len(digits), 0, -PART_DIGITS)
    parts = [int(digits[max(0, end - PART_DIGITS) : end]) for end in ends]
    base = 10**PART_DIGITS
    while len(parts) > 1:
        if len(parts) % 2:
            parts.append(0)
        parts = [low + high * base for low, high in zip(parts[::2], parts[1::2], strict=True)]
        base *= base
    return -parts[0] if text.startswith("-") else parts[0]


def _finite(text: str) -> float:
    value = float(text)
    if not isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def decimal_digits(value: int) -> str:
    """Convert an integer to decimal digits, without a limit."""
    if value.bit_length() <= LONG_BITS:
        return str(value)
    data = abs(value).to_bytes(value.bit_length() // 8 + 1, "little")
    starts = range(0, len(data), PART_BYTES)
    parts = [Decimal(int.from_bytes(data[at : at + PART_BYTES], "little")) for at in starts]
    # The precision keeps everything exact. Decimal multiplies long numbers faster than int.
    context = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN, traps=[Inexact])
    base = Decimal(1 << (8 * PART_BYTES))
    while len(parts) > 1:
        if len(parts) % 2:
            parts.append(Decimal(0))
        pairs = zip(parts[::2], parts[1::2], strict=True)
        parts = [context.fma(high, base, low) for low, high in pairs]
        base = context.multiply(base, base)
    return f"-{parts[0]}" if value < 0 else str(parts[0])


def encode(value: Any) -> bytes:
    """Encode a value like `dte.wire.codec.encode`, with integers of any length."""
    try:
        return codec.encode(value)
    except UnicodeEncodeError as error:
        half = ord(error.object[error.start])
        raise ValueError(f"a text has \\u{half:04x}, {HALF}") from None
    except ValueError as error:
        if "integer string conversion" not in str(error):
            raise
    return codec.encode(_spelled_out(msgspec.to_builtins(value)))


def _spelled_out(value: Any) -> Any:
    """Replace long integers in a value by their JSON."""
    if isinstance(value, dict):
        return {key: _spelled_out(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_spelled_out(item) for item in value]
    if isinstance(value, int) and value.bit_length() > LONG_BITS:
        return msgspec.Raw(decimal_digits(value).encode())
    return value


class Decoder(codec.Decoder[T]):
    """A `dte.wire.codec.Decoder` that also accepts integers of any length."""

    def _decode_slowly(self, raw: bytes) -> T:
        try:
            value = json.loads(raw, parse_int=integer, parse_float=_finite, parse_constant=_finite)
            return msgspec.convert(value, self.shape, str_keys=True)  # type: ignore[no-any-return]
        except (ValueError, RecursionError) as error:
            raise codec.Malformed(str(error)) from None
