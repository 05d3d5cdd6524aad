"""Refuses the parts of a request that its route would ignore."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from dte.core.errors import InvalidRequest, Unsupported
from dte.wire.duplicates import Duplicate

NAME_CHARS_SHOWN = 50
CHARSET = re.compile(r';\s*charset\s*=\s*"?([^\s";]+)', re.IGNORECASE)
UTF_8 = ("utf-8", "utf8", "us-ascii", "ascii")
STARTS = {
    b"\x1f\x8b": "compressed with gzip",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
"""The first bytes of bodies that are no UTF-8."""
NO_BODY = (b"", b"{}", b"null")
"""Bodies that mean nothing; some clients send one with each POST."""


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
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        shown = repr(encoding[:NAME_CHARS_SHOWN])
        raise Unsupported(f"the body has the Content-Encoding {shown}; send it uncompressed")
    match = CHARSET.search(headers.get("Content-Type", "")) if is_strict else None
    if match is not None and match[1].lower() not in UTF_8:
        shown = repr(match[1][:NAME_CHARS_SHOWN])
        raise Unsupported(f"the body has the charset {shown}; send it in UTF-8")


def guessed_encoding(raw: bytes) -> str | None:
    """Guess what bytes that are no JSON are instead; None if that cannot be guessed."""
    for start, name in STARTS.items():
        if raw.startswith(start):
            return f"the body seems to be {name}; send it uncompressed, in UTF-8"
    if b"\0" in raw[:4].strip(b"\0"):
        return "the body seems to be UTF-16 or UTF-32; send it in UTF-8"
    return None


def check_no_body(request: str, body: bytes) -> None:
    """Raise `InvalidRequest` if a request has a body for a route that takes none."""
    if body.strip() not in NO_BODY:
        raise InvalidRequest(f"{request} takes no body")


def check_names(duplicate: Duplicate | None) -> None:
    """Raise `InvalidRequest` if an object of a body has a name twice."""
    if duplicate is not None:
        raise InvalidRequest(str(duplicate))
