"""Finds bodies that are no plain UTF-8, for masters and workers alike."""

from __future__ import annotations

import re

SHOWN_CHARS = 50
CHARSET = re.compile(r';\s*charset\s*=\s*"?([^\s";]+)', re.IGNORECASE)
NO_BODY = (b"", b"{}", b"null")
"""Bodies that mean nothing; some clients send one with each request."""
UTF_8 = ("utf-8", "utf8", "us-ascii", "ascii")
STARTS = {
    b"\x1f\x8b": "compressed with gzip",
    b"\x28\xb5\x2f\xfd": "compressed with zstd",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
"""The first bytes of bodies that are no UTF-8."""


def encoding_fault(content_encoding: str, content_type: str) -> str | None:
    """Name the compression or the charset of a body, from its headers; None for plain UTF-8."""
    encoding = content_encoding.strip().lower()
    if encoding not in ("", "identity"):
        shown = repr(encoding[:SHOWN_CHARS])
        return f"the body has the Content-Encoding {shown}; send it uncompressed"
    match = CHARSET.search(content_type)
    if match is not None and match[1].lower() not in UTF_8:
        return f"the body has the charset {match[1][:SHOWN_CHARS]!r}; send it in UTF-8"
    return None


def guessed_encoding(raw: bytes) -> str | None:
    """Guess what bytes that are no JSON are instead; None if that cannot be guessed."""
    for start, name in STARTS.items():
        if raw.startswith(start):
            return f"the body seems to be {name}; send it uncompressed, in UTF-8"
    if b"\0" in raw[:4].strip(b"\0"):
        return "the body seems to be UTF-16 or UTF-32; send it in UTF-8"
    return None
