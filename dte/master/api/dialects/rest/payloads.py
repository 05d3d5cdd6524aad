"""Arguments and results of tasks, converted between this dialect and handlers.

In this dialect both are bytes, usually JSON. Four handlers have a special form here: `echo` returns
its bytes; `sleep` takes nanoseconds and returns ``Slept for 1s``; `fibonacci` returns
``Fibonacci(10) = 55``; `prime_factorization` returns ``{"factors":[2,2,3,7],"number":84}``. In all
other dialects their arguments and results are plain values.

Handlers and other dialects see bytes that are not JSON as ``{"base64": "…"}``.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from typing import Any

import msgspec

from dte.core.errors import InvalidRequest
from dte.master.api.dialects.long_bodies import (
    LONG_BYTES,
    as_list,
    is_json,
    is_object,
    only_item,
)
from dte.master.api.dialects.rest.durations import SECOND_NS, duration_text
from dte.wire.codec import Decoder, Malformed, encode

FIELDS = {"sleep": "duration", "fibonacci": "n", "prime_factorization": "n"}
"""Handlers that take an object with one field, whose name may be in any case."""
EXAMPLES = {
    "sleep": '{"duration": 1000000000}',
    "fibonacci": '{"n": 10}',
    "prime_factorization": '{"n": 84}',
}
DURATION_NS_MAX = 2**63
NULL = b"null"
FIBONACCI = re.compile(rb"Fibonacci\(-?\d+\) = (\d+)")
INTEGER = re.compile(rb"-?\d+")


class _Wrapping(msgspec.Struct, forbid_unknown_fields=True):
    """The JSON that bytes are wrapped in."""

    base64: str


_json: Decoder[Any] = Decoder(Any, lenient=False)
_wrapping: Decoder[_Wrapping] = Decoder(_Wrapping, lenient=False)


def decoded_base64(text: str, field: str) -> bytes:
    """Decode the base64 of a body's field; line ends are ignored.

    Raises:
        InvalidRequest: it is not base64.
    """
    try:
        return b64decode(text.replace("\n", "").replace("\r", ""), validate=True)
    except (NotBase64, ValueError) as error:  # ValueError: letters beyond ASCII.
        raise InvalidRequest(
            f"Invalid request body: {field}: illegal base64 data: {error}"
        ) from None


def plan_arguments(handler: str, sent: bytes) -> list[Any] | dict[str, Any] | msgspec.Raw:
    """The arguments of a handler, from the bytes that a client of this dialect sent.

    Long ones stay JSON.

    Raises:
        InvalidRequest: the handler does not take them.
    """
    if len(sent) > LONG_BYTES:
        return _long_arguments(handler, sent)
    try:
        value = _json.decode(sent)
    except Malformed:
        if handler in FIELDS and sent:
            raise _not_for(handler) from None
        return [_as_value(sent)] if sent or handler == "echo" else []
    return _arguments(handler, value)


def _long_arguments(handler: str, sent: bytes) -> list[Any] | msgspec.Raw:
    if handler in FIELDS:
        raise _not_for(handler)
    if not is_json(sent):
        return [_as_value(sent)]
    is_named = handler != "echo" and is_object(msgspec.Raw(sent))
    return msgspec.Raw(sent) if is_named else as_list(sent)


def _arguments(handler: str, value: Any) -> list[Any] | dict[str, Any]:
    if handler == "echo":
        return [value]
    if handler not in FIELDS:
        return value if isinstance(value, dict) else [value]
    if isinstance(value, dict) or value is None:
        field = _field(value or {}, FIELDS[handler])
        if handler != "sleep":
            return {"n": field}
        if isinstance(field, int | float) and abs(field) <= DURATION_NS_MAX:
            return {"seconds": max(0.0, field / SECOND_NS)}
    if handler == "sleep":
        raise _not_for(handler)
    return [value]


def _not_for(handler: str) -> InvalidRequest:
    return InvalidRequest(
        f"args of {handler} are the base64 of JSON, as of {EXAMPLES[handler]}, which is "
        f"{b64encode(EXAMPLES[handler].encode()).decode()}"
    )


def _field(value: dict[str, Any], name: str) -> Any:
    """A field by its name in any case; 0 if it is missing or null, as in Go."""
    found = [item for key, item in value.items() if key.lower() == name]
    return found[-1] if found and found[-1] is not None else 0


def sent_arguments(handler: str, args: Any) -> bytes:
    """The bytes that a client of this dialect would send for arguments, a list or a dict."""
    raw = encode(args)
    if handler != "echo" and handler not in FIELDS:
        return raw
    if len(raw) > LONG_BYTES:
        only = only_item(raw) if handler == "echo" else None
        return raw if only is None else bytes(only)
    try:
        values = _json.decode(raw)
    except Malformed:  # A number out of range, for example: its handler will refuse it.
        return raw
    if isinstance(values, dict):
        values = list(values.values())
    if len(values) != 1:
        return raw
    (value,) = values
    if handler == "echo":
        return encode(value)
    if handler == "sleep" and isinstance(value, int | float):
        value = round(value * SECOND_NS)
    return encode({FIELDS[handler]: value})


def given_result(handler: str, sent: bytes, value: bytes) -> bytes | None:
    """The bytes of a result in this dialect; None for null.

    Args:
        sent: the arguments, as in this dialect.
        value: the result, as JSON.
    """
    plain = value.strip()
    if handler == "echo" and _is_same(sent, plain):
        return sent
    if plain == NULL:
        return None
    if (wrapped := _unwrapped(plain)) is not None:
        return wrapped
    if handler in FIELDS and len(plain) <= LONG_BYTES:
        try:
            return _in_special_form(handler, sent, plain)
        except (Malformed, ValueError, OverflowError):
            pass  # Not a result of this handler, so it has no special form.
    return value


def _is_same(sent: bytes, value: bytes) -> bool:
    """True if a value equals what was sent, however its JSON is written, unless it is long."""
    if max(len(sent), len(value)) > LONG_BYTES:
        return (sent.strip() if is_json(sent) else encode(_as_value(sent))) == value
    try:
        return bool(_echoed(sent) == _json.decode(value))
    except (Malformed, RecursionError):
        return False


def _echoed(sent: bytes) -> Any:
    """The value that `echo` gets."""
    try:
        return _json.decode(sent)
    except Malformed:
        return _as_value(sent)


def _in_special_form(handler: str, sent: bytes, value: bytes) -> bytes:
    argument = _json.decode(sent)
    if isinstance(argument, dict) or argument is None:
        argument = _field(argument or {}, FIELDS[handler])
    if not isinstance(argument, int | float):
        raise ValueError
    if handler == "sleep":
        float(value)
        return f"Slept for {duration_text(round(argument))}".encode()
    if handler == "fibonacci":
        if not INTEGER.fullmatch(value):
            raise ValueError
        return b"Fibonacci(%s) = %s" % (encode(argument), value)
    factors = _json.decode(value)
    if not isinstance(factors, list):
        raise ValueError
    return encode({"factors": factors, "number": argument})


def kept_result(handler: str, sent: bytes, given: bytes | None) -> bytes:
    """The JSON to keep for the result of a worker of this dialect; `given_result` restores it."""
    if given is None:
        return NULL
    if len(given) > LONG_BYTES:
        return _kept_long(handler, sent, given)
    try:
        _json.decode(given)
    except Malformed:
        return _without_special_form(handler, sent, given) or _wrapped(given)
    if handler == "prime_factorization":
        return _without_special_form(handler, sent, given) or given
    # JSON that looks like wrapped bytes would be unwrapped later.
    return given if _unwrapped(given) is None else _wrapped(given)


def _kept_long(handler: str, sent: bytes, given: bytes) -> bytes:
    if is_json(given):
        return given if _unwrapped(given) is None else _wrapped(given)
    return encode(_as_value(sent)) if handler == "echo" and given == sent else _wrapped(given)


def _without_special_form(handler: str, sent: bytes, given: bytes) -> bytes | None:
    plain: bytes | None = None
    try:
        if handler == "echo" and given == sent:
            plain = encode(_echoed(sent))
        elif handler == "sleep":
            argument = _json.decode(sent)
            plain = encode(_field(argument, "duration") / SECOND_NS)
        elif handler == "fibonacci" and (match := FIBONACCI.fullmatch(given)):
            plain = match[1]
        elif handler == "prime_factorization":
            plain = encode(_json.decode(given)["factors"])
    except (Malformed, AttributeError, TypeError, KeyError, OverflowError):
        return None
    # Only if the conversion can be undone.
    return plain if plain is not None and given_result(handler, sent, plain) == given else None


def _as_value(raw: bytes) -> Any:
    """Bytes that are not JSON, as a value."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(raw).decode()}


def _wrapped(raw: bytes) -> bytes:
    return encode({"base64": b64encode(raw).decode()})


def _unwrapped(value: bytes) -> bytes | None:
    """The bytes in JSON of the form ``{"base64": "…"}``; None for other JSON."""
    if not value.lstrip().startswith(b"{") or b'"base64"' not in value.lstrip()[:100]:
        return None
    try:
        return decoded_base64(_wrapping.decode(value).base64, "base64")
    except (Malformed, InvalidRequest):
        return None
