"""JSON in and out: typed, exact for every float and for integers of any length that travels."""

from __future__ import annotations

import json
from typing import Any, Generic, NoReturn, TypeVar

import msgspec

from dte.core.graph.numbers import INTEGER_DIGITS_MAX

T = TypeVar("T")

_encoder = msgspec.json.Encoder()


class Malformed(ValueError):
    """Bytes that are not JSON, or JSON of another shape; the text says what and where."""


class Unrepresentable(Malformed):
    """JSON with a number that does not travel: too many digits, or not finite."""


def encode(value: Any) -> bytes:
    """JSON of a value made of structs, dicts, lists, strings, numbers and datetimes."""
    return _encoder.encode(value)


class Decoder(Generic[T]):
    """Decodes JSON into values of one type.

    Args:
        lenient: whether to read once more, slowly, what the fast reader refuses.
    """

    def __init__(self, shape: Any, *, lenient: bool = True) -> None:
        self._shape = shape
        self._lenient = lenient
        self._decoder = msgspec.json.Decoder(shape)

    def decode(self, raw: bytes) -> T:
        """The value that `raw` stands for.

        Raises:
            Unrepresentable: a number in it does not travel.
            Malformed: it is no JSON, or not of the decoder's type.
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
        """As `decode`, with the standard library.

        It reads what msgspec refuses, a negative integer of 4,300 digits, and tells numbers that do
        not travel, among them the ``Infinity`` and ``NaN`` that Python's own json writes, from
        other faults.
        """
        try:
            value = json.loads(raw, parse_float=_finite, parse_constant=_not_finite)
            encode(value)  # Half a surrogate pair is read here, and could be written nowhere.
            return msgspec.convert(value, self._shape, str_keys=True)  # type: ignore[no-any-return]
        except Unrepresentable:
            raise
        except (msgspec.ValidationError, RecursionError) as error:
            raise Malformed(str(error)) from None
        except ValueError as error:
            if "integer string conversion" in str(error):
                raise Unrepresentable(
                    f"an integer of more than {INTEGER_DIGITS_MAX} digits"
                ) from None
            raise Malformed(str(error)) from None


def _finite(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        _not_finite(text)
    return value


def _not_finite(text: str) -> NoReturn:
    raise Unrepresentable("not a finite number")
