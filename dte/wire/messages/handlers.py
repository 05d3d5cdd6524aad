"""What a worker says of the handlers that it has."""

from __future__ import annotations

import msgspec


class HandlerInfo(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """What a worker says of a handler that it has.

    Attributes:
        timeout: seconds after which a call is stopped, unless the call says otherwise.
        retries: how often a call that fails is tried again, unless the call says otherwise.
        pure: calls with equal arguments give equal results and do nothing else.
    """

    timeout: float | None = None
    retries: int = 0
    pure: bool = False


Handlers = dict[str, HandlerInfo] | list[str]
"""The handlers that a worker has: their names, or more of each."""
