"""The reasons why connections fail, in words."""

from __future__ import annotations

import os

from dte.wire.http import tls


def reason_of(error: Exception, host: str) -> str:
    """Say why a connection to a host failed, or was not made."""
    if (fault := tls.fault(error, host)) is not None:
        return fault
    if isinstance(error, TimeoutError) and not error.args:
        return "no connection in time"
    if isinstance(error, OSError) and error.errno is not None:
        # The message of the loop for a refused connection repeats the address.
        return os.strerror(error.errno) if error.errno > 0 else str(error.strerror)
    return str(error) or type(error).__name__
