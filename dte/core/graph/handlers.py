"""Handlers: their names, and the policy that workers announce for each."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dte.core.errors import InvalidRequest

HANDLER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:[.-][A-Za-z0-9_]+)*", re.ASCII)
"""The form of a handler's name: ``resize``, ``images.resize``, ``send-email``."""
NAME_CHARS_MAX = 200


@dataclass(frozen=True, slots=True)
class HandlerPolicy:
    """A handler's defaults, as workers announce them; a call may override them.

    Attributes:
        timeout_s: the time after which a call is stopped; None for never.
        retries: the number of retries after a failure.
        pure: equal arguments give equal results, without side effects.
    """

    timeout_s: float | None = None
    retries: int = 0
    pure: bool = False


ANY_POLICY = HandlerPolicy()
"""The policy of a handler of which workers give no more than the name."""


def check_handler(handler: str, prefix: str = "") -> None:
    """Check a handler's name.

    Raises:
        InvalidRequest: it is not a handler's name.
    """
    if len(handler) > NAME_CHARS_MAX or not HANDLER.fullmatch(handler):
        raise InvalidRequest(
            f"{prefix}{handler[:50]!r} is not a handler's name; use letters, digits and _, "
            "in parts joined by . or -"
        )
