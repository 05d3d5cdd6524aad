"""Refuses the parts of a request that its route would ignore."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from dte.core.errors import InvalidRequest, Unsupported
from dte.wire.duplicates import Duplicate
from dte.wire.http.encodings import NO_BODY, encoding_fault

NAME_CHARS_SHOWN = 50


def check_query(request: str, known: Sequence[str], given: Mapping[str, Sequence[bytes]]) -> None:
    """Check that a query has only parameters that the route knows, each once.

    Args:
        request: the method and the path, for the error.

    Raises:
        InvalidRequest: the error names the parameter, and what would be right.
    """
    for name, values in given.items():
        shown = repr(name[:NAME_CHARS_SHOWN])
        if name not in known:
            raise InvalidRequest(
                f"unknown query parameter {shown}; {_advice(request, known, name)}"
            )
        if len(values) > 1:
            raise InvalidRequest(f"query parameter {shown} is given {len(values)} times; give one")


def _advice(request: str, known: Sequence[str], name: str) -> str:
    if close := get_close_matches(name.lower(), known, 1):
        return f"did you mean {close[0]!r}?"
    return f"{request} takes {' and '.join(known) or 'none'}"


def check_encoding(headers: Mapping[str, str], is_strict: bool) -> None:
    """Check that a body is neither compressed nor, if that counts, in another charset than UTF-8.

    Raises:
        Unsupported: the error names the encoding.
    """
    content_type = headers.get("Content-Type", "") if is_strict else ""
    fault = encoding_fault(headers.get("Content-Encoding", ""), content_type)
    if fault is not None:
        raise Unsupported(fault)


def check_no_body(request: str, body: bytes) -> None:
    """Raise `InvalidRequest` if a request has a body for a route that takes none."""
    if body.strip() not in NO_BODY:
        raise InvalidRequest(f"{request} takes no body")


def check_names(duplicate: Duplicate | None) -> None:
    """Raise `InvalidRequest` if an object of a body has a name twice."""
    if duplicate is not None:
        raise InvalidRequest(str(duplicate))
