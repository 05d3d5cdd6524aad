"""Long bodies of dialects: the fields that may be long stay JSON, and nothing unknown is decoded.

To decode 16 MB of small values stops the loop for a second.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from dte.core.errors import InvalidRequest, TooLarge
from dte.wire.codec import Decoder, Malformed
from dte.wire.faults import plain

LONG_BYTES = 1_000_000
"""A body that is longer is long; of its fields only those may be longer that are meant to be."""
NAMES_MAX = 100_000
"""Bound on the names, and the colons in texts, of a long body."""

fields_decoder: Decoder[dict[str, msgspec.Raw]] = Decoder(dict[str, msgspec.Raw], lenient=False)

_any: Decoder[Any] = Decoder(Any, lenient=False)
_only: Decoder[tuple[msgspec.Raw]] = Decoder(tuple[msgspec.Raw], lenient=False)
_raw: Decoder[msgspec.Raw] = Decoder(msgspec.Raw, lenient=False)


def check_names(colons: int) -> None:
    """Raise `TooLarge` if a long body has too many names, by its colons."""
    if colons > NAMES_MAX:
        raise TooLarge(f"a body over {LONG_BYTES} bytes has more than {NAMES_MAX} names")


def decoded(
    fields: Mapping[str, msgspec.Raw], names: Iterable[str], long: Collection[str]
) -> dict[str, Any]:
    """Those of the fields that have these names; long ones stay JSON.

    Raises:
        InvalidRequest: a field cannot be decoded.
        TooLarge: a field is long that is not meant to be.
    """
    found: dict[str, Any] = {}
    for name in names:
        if name not in fields:
            continue
        raw = bytes(fields[name])
        if len(raw) > LONG_BYTES:
            if name not in long:
                raise TooLarge(f"{name} has more than {LONG_BYTES} bytes")
            found[name] = fields[name]
            continue
        try:
            found[name] = _any.decode(raw)
        except Malformed as error:
            raise InvalidRequest(f"{name}: {plain(error)}") from None
    return found


def is_long(value: object) -> bool:
    """True if a field was left as JSON."""
    return isinstance(value, msgspec.Raw)


def is_object(value: msgspec.Raw) -> bool:
    """True if JSON is an object."""
    return bytes(value).lstrip().startswith(b"{")


def as_list(value: bytes) -> msgspec.Raw:
    """The JSON of a list of one value."""
    return msgspec.Raw(b"[%s]" % value)


def only_item(value: bytes) -> msgspec.Raw | None:
    """The only item of a list; None if there is another number of items."""
    try:
        return _only.decode(value)[0]
    except Malformed:
        return None


def is_json(value: bytes) -> bool:
    """True if bytes are JSON, but for numbers that no reader takes."""
    try:
        _raw.decode(value)
        value.decode()
    except ValueError:
        return False
    return True
