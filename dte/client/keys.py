"""Idempotency keys: by its key the master knows a submission that it has accepted already."""

from __future__ import annotations

import re
import secrets
import time

KEY_CHARS_MAX = 200
# Spaces at an end of a header's value do not travel.
KEY = re.compile(rf"(?! )[ -~]{{1,{KEY_CHARS_MAX}}}(?<! )")


def key_header(key: str | None) -> dict[str, str]:
    """The header of a submission: with the caller's key, or with a new one if he has none.

    Raises:
        ValueError: it is no key.
    """
    if key is None:
        key = new_key()
    elif not isinstance(key, str) or not KEY.fullmatch(key):
        raise ValueError(
            f"key is {key!r}; 1 to {KEY_CHARS_MAX} printable ASCII characters are expected,"
            " without a space at either end"
        )
    return {"Idempotency-Key": key}


def new_key() -> str:
    """A key that nobody else has. Later ones sort later, which is cheap to keep in an index."""
    return f"{time.time_ns():016x}-{secrets.token_hex(8)}"
