"""Typed JSON, exact for every float and for integers up to the bound of a message."""

from __future__ import annotations

import json
from collections.abc import Generator
from typing import Any, Generic, NoReturn, TypeVar

import msgspec

from dte.core.graph.numbers import INTEGER_DIGITS_MAX

T = TypeVar("T")

BOM = b"\xef\xbb\xbf"
"""The mark that some editors write before UTF-8 text; it is no part of the text."""

_encoder = msgspec.json.Encoder()


class Malformed(ValueError):
    """The bytes are not JSON, or the JSON has another shape. The text gives fault and place."""


class Unrepresentable(Malformed):
    """The JSON has a number that cannot be represented: too many digits, or not finite."""


def encode(value: Any) -> bytes:
    """Encode a value made of structs, dicts, lists, strings, numbers and datetimes."""
    return _encoder.encode(value)


class Decoder(Generic[T]):
    """Decodes JSON into values of one type.

    Args:
        lenient: retry with a slower reader if the fast one refuses the bytes.

    Attributes:
        shape: the type.
    """

    def __init__(self, shape: Any, *, lenient: bool = True) -> None:
        self.shape = shape
        self._lenient = lenient
        self._decoder = msgspec.json.Decoder(shape)

    def decoding(self, raw: bytes) -> Generator[None, None, T]:
        """Decode like `decode`, in slices where a decoder can."""
        yield from ()
        return self.decode(raw)

    def decode(self, raw: bytes) -> T:
        """Decode one value.

        Raises:
            Unrepresentable: a number has too many digits, or is not finite.
            Malformed: the bytes are not JSON, or not of the decoder's type.
        """
        try:
            return self._decoder.decode(raw)  # type: ignore[no-any-return]
        except msgspec.ValidationError as error:
            if not self._lenient or "out of range" not in str(error):
                raise Malformed(str(error)) from None
        except RecursionError:
            raise Malformed("the JSON nests too deep") from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if not self._lenient or (b"Infinity" not in raw and b"NaN" not in raw):
                raise Malformed(str(error)) from None
        return self._decode_slowly(raw)

    def _decode_slowly(self, raw: bytes) -> T:
        """Decode one value with the standard library.

        It reads a negative integer of 4,300 digits, which msgspec refuses. It also distinguishes
        other faults from numbers without a representation, among them the ``Infinity`` and
        ``NaN`` that Python's own json writes.
        """
        try:
            value = json.loads(raw, parse_float=_finite, parse_constant=_not_finite)
            encode(value)  # The json module accepts half a surrogate pair, which cannot be encoded.
            return msgspec.convert(value, self.shape, str_keys=True)  # type: ignore[no-any-return]
        except Unrepresentable:
            raise
        except (msgspec.ValidationError, RecursionError) as error:
            raise Malformed(str(error)) from None
        except ValueError as error:
            if "integer string conversion" not in str(error):
                raise Malformed(str(error)) from None
            text = f"an integer of more than {INTEGER_DIGITS_MAX} digits"
            raise Unrepresentable(text) from None


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        _not_finite(text)
    return value


def _not_finite(text: str) -> NoReturn:
    raise Unrepresentable("not a finite number")
