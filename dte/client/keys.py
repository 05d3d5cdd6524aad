"""Idempotency keys of submissions."""

from __future__ import annotations

import secrets
import time

from dte.wire.messages.keys import KEY, KEY_CHARS_MAX


def key_header(key: str | None) -> dict[str, str]:
    """Return the header of a submission, with the caller's key or a new one."""
    if key is None:
        key = new_key()
    # A header's value is sent without spaces at its ends.
    elif not isinstance(key, str) or not KEY.fullmatch(key) or key != key.strip(" "):
        raise ValueError(
            f"key is {key!r}; 1 to {KEY_CHARS_MAX} printable ASCII characters are expected,"
            " without a space at either end"
        )
    return {"Idempotency-Key": key}


def new_key() -> str:
    """Return a unique key. Later keys sort later, which keeps an index over them small."""
    return f"{time.time_ns():016x}-{secrets.token_hex(8)}"
