"""What tasks take and give in this dialect, and what that is for handlers.

Here both are bytes, JSON as a rule. Four handlers have a form of their own here: `echo` gives its
bytes back; `sleep` takes nanoseconds and gives ``Slept for 1s``; `fibonacci` gives ``Fibonacci(10)
= 55``; `prime_factorization` gives ``{"factors":[2,2,3,7],"number":84}``. Everywhere else their
arguments and results are plain values, so the forms are put on and taken off here.

Bytes that are no JSON are ``{"base64": "…"}`` for handlers and for other dialects.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from typing import Any

from dte.core.errors import InvalidRequest
from dte.master.api.dialects.rest.durations import SECOND_NS, duration_text
from dte.wire.codec import Decoder, Malformed, encode

FIELDS = {"sleep": "duration", "fibonacci": "n", "prime_factorization": "n"}
"""Handlers whose arguments are an object with one field, whatever the case of its letters."""
EXAMPLES = {
    "sleep": '{"duration": 1000000000}',
    "fibonacci": '{"n": 10}',
    "prime_factorization": '{"n": 84}',
}
DURATION_NS_MAX = 2**63
NULL = b"null"
FIBONACCI = re.compile(rb"Fibonacci\(-?\d+\) = (\d+)")
INTEGER = re.compile(rb"-?\d+")

_json: Decoder[Any] = Decoder(Any, lenient=False)


def decoded_base64(text: str) -> bytes:
    """The bytes that a text in base64 stands for; line ends in it do not matter.

    Raises:
        InvalidRequest: it is not base64.
    """
    try:
        return b64decode(text.replace("\n", "").replace("\r", ""), validate=True)
    except (NotBase64, ValueError) as error:  # ValueError: letters beyond ASCII.
        raise InvalidRequest(f"illegal base64 data: {error}") from None


def plan_arguments(handler: str, sent: bytes) -> list[Any] | dict[str, Any]:
    """The arguments of a handler, for what a client of this dialect sent.

    Raises:
        InvalidRequest: the handler can do nothing with it.
    """
    try:
        value = _json.decode(sent)
    except Malformed:
        if handler in FIELDS and sent:
            raise _not_for(handler) from None
        return [_as_value(sent)] if sent or handler == "echo" else []
    return _arguments(handler, value)


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
    """A field by its name in any case; 0 if it is not there or null, as in Go."""
    found = [item for key, item in value.items() if key.lower() == name]
    return found[-1] if found and found[-1] is not None else 0


def sent_arguments(handler: str, args: Any) -> bytes:
    """What a client of this dialect would have sent for arguments that another one gave.

    Args:
        args: a list, or a dict of named ones; what is in it can be encoded.
    """
    whole = encode(args)
    if handler != "echo" and handler not in FIELDS:
        return whole
    try:
        values = _json.decode(whole)
    except Malformed:  # A number that does not fit, say: its handler will refuse it.
        return whole
    if isinstance(values, dict):
        values = list(values.values())
    if len(values) != 1:
        return whole
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
    if handler in FIELDS:
        try:
            return _in_own_form(handler, sent, plain)
        except (Malformed, ValueError, OverflowError):
            pass  # Not what this handler gives, so there is no form for it.
    return value


def _is_same(sent: bytes, value: bytes) -> bool:
    """Whether a value is what was sent; as JSON it may be written in another way."""
    try:
        return bool(_echoed(sent) == _json.decode(value))
    except (Malformed, RecursionError):
        return False


def _echoed(sent: bytes) -> Any:
    """The value that `echo` is given."""
    try:
        return _json.decode(sent)
    except Malformed:
        return _as_value(sent)


def _in_own_form(handler: str, sent: bytes, value: bytes) -> bytes:
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
    """The JSON of a result that a worker of this dialect gave; `given_result` gives it back."""
    if given is None:
        return NULL
    try:
        _json.decode(given)
    except Malformed:
        return _without_own_form(handler, sent, given) or _wrapped(given)
    if handler == "prime_factorization":
        return _without_own_form(handler, sent, given) or given
    # What looks like wrapped bytes would be taken for such.
    return given if _unwrapped(given) is None else _wrapped(given)


def _without_own_form(handler: str, sent: bytes, given: bytes) -> bytes | None:
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
    # Only if that can be undone.
    return plain if plain is not None and given_result(handler, sent, plain) == given else None


def _as_value(raw: bytes) -> Any:
    """Bytes that are no JSON, as a value."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": b64encode(raw).decode()}


def _wrapped(raw: bytes) -> bytes:
    return encode({"base64": b64encode(raw).decode()})


def _unwrapped(value: bytes) -> bytes | None:
    """The bytes for which JSON of the form ``{"base64": "…"}`` stands; None for any other JSON."""
    if not value.lstrip().startswith(b"{") or b'"base64"' not in value.lstrip()[:100]:
        return None
    try:
        whole = _json.decode(value)
        if list(whole) == ["base64"] and isinstance(whole["base64"], str):
            return decoded_base64(whole["base64"])
    except (Malformed, InvalidRequest):
        pass
    return None
