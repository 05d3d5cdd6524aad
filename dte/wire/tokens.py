"""The text of a token: something else is refused before it is sent, and never quoted."""

from __future__ import annotations

import os
import re

PREFIX = "dte_"
SECRET = re.compile(r"dte_[a-z]_[\w-]{16,}", re.ASCII)
QUOTES = "'\"`"
CHARS_MAX = 1_000


def checked(token: str, what: str) -> str:
    """Return a token that can be sent.

    Args:
        what: names its place in an error, which does not quote it.

    Raises:
        TypeError: it is no text.
        ValueError: it is something else than a token.
    """
    if not isinstance(token, str):
        raise TypeError(f"{what} must be a str, not {type(token).__name__}")
    token = token.strip()
    if len(token) > 1 and token[0] in QUOTES and token[-1] == token[0]:
        raise ValueError(f"{what} has quotes around it; leave them out")
    if not token.startswith(PREFIX) and os.path.isfile(os.path.expanduser(token)):
        raise ValueError(
            f"{what} has the name of a file, not a token; name that file in DTE_TOKEN_FILE, "
            "--token-file or token_file"
        )
    if not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError(f"{what} has characters that no token has")
    if len(token) > CHARS_MAX:
        raise ValueError(f"{what} has more than {CHARS_MAX} characters; no token does")
    return token


def checked_file(path: str, what: str) -> str:
    """Return the name of a file with a token, which may begin with ~.

    Raises:
        ValueError: it is a token.
    """
    if SECRET.fullmatch(path.strip().strip(QUOTES)):
        raise ValueError(f"{what} has a token, not a file's name; use DTE_TOKEN")
    return os.path.expanduser(path)


def doubt(headers: dict[str, str] | None) -> str:
    """Say what may be wrong with the token in headers; "" if it looks like one, or if none is."""
    token = (headers or {}).get("Authorization", "").removeprefix("Bearer ")
    if not token or token.startswith(PREFIX):
        return ""
    return (
        f"the token that was sent does not begin with {PREFIX}, as those of dte token new do; if "
        "it is the name of a file, name that in DTE_TOKEN_FILE or --token-file"
    )
