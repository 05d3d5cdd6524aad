"""A worker's description of its handlers."""

from __future__ import annotations

import msgspec


class HandlerInfo(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """A worker's description of one handler.

    Attributes:
        timeout: the default timeout of a call, in seconds; null for none.
        retries: the default number of retries after a failure.
        pure: equal arguments give equal results, without side effects.
    """

    timeout: float | None = None
    retries: int = 0
    pure: bool = False


Handlers = dict[str, HandlerInfo] | list[str]
"""The handlers of a worker: descriptions by name, or the names alone."""

BUILT_IN = "builtin:"
"""Prefix of the name under which a worker runs a built-in handler that its own one replaces."""
BUILT_IN_NAMES = frozenset(
    (
        *("calculate_pi", "compute", "echo", "fibonacci", "prime", "prime_factorization", "primes"),
        *("process_data", "send_email", "sleep"),
    )
)
"""The names of the built-in handlers; no other handler can be replaced."""
NAMES = "__dte_handlers__"
"""The attribute of a function with the names of the handlers that it is."""
