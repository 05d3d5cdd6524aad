"""Handlers: their names, and the policy that workers announce for each."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dte.core.errors import InvalidRequest

HANDLER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:[.-][A-Za-z0-9_]+)*", re.ASCII)
"""What a handler's name looks like: ``resize``, ``images.resize``, ``send-email``."""
NAME_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class HandlerPolicy:
    """What a worker says of a handler: what holds where a call says nothing else.

    Attributes:
        timeout_s: after which a call is stopped; None for never.
        retries: how often a call that fails is tried again.
        pure: equal arguments give equal results, and nothing else happens.
    """

    timeout_s: float | None = None
    retries: int = 0
    pure: bool = False


def check_handler(handler: str, place: str = "") -> None:
    """Check a handler's name.

    Raises:
        InvalidRequest: it is none.
    """
    if len(handler) > NAME_CHARS_MAX or not HANDLER.fullmatch(handler):
        raise InvalidRequest(
            f"{place}{handler[:50]!r} is not a handler's name, which has letters, digits and _, "
            "in parts with . or - between them"
        )
