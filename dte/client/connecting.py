"""Connections of the blocking client, and why there is none, in words."""

from __future__ import annotations

import http.client
import ssl

from dte.client.exchange import NoReply
from dte.wire.access import Access
from dte.wire.http import tls
from dte.wire.http.client import CONNECT_TIMEOUT_S


class _SecureConnection(http.client.HTTPSConnection):
    """A connection with TLS. Its failures before TLS has begun leave no socket behind."""

    def connect(self) -> None:
        try:
            super().connect()
        except OSError as error:
            is_late = self.sock is not None and isinstance(error, TimeoutError)
            self.close()
            if is_late:
                raise tls.NoHandshake from error
            raise


def new_connection(access: Access) -> http.client.HTTPConnection:
    """A connection to a master, which is opened later."""
    address = access.address
    if access.tls is None:
        return http.client.HTTPConnection(address.host, address.port, CONNECT_TIMEOUT_S)
    return _SecureConnection(
        address.host, address.port, timeout=CONNECT_TIMEOUT_S, context=access.tls
    )


def no_reply(access: Access, error: Exception, *, sent: bool, silent: bool = False) -> NoReply:
    """The failure of an attempt, for the reason that an error gives."""
    error = getattr(error, "real_error", None) or error  # Of Tornado's closed streams.
    line = getattr(error, "line", "")  # Of a reply that is not HTTP.
    is_alert = tls.is_alert(line.encode("latin-1", "replace"))
    reason = tls.SPEAKS_TLS if is_alert else tls.fault(error, access.address.host)
    if reason is None:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return NoReply(
        f"no reply from {access.url}: {reason}",
        sent=sent,
        silent=silent,
        insecure=is_alert or isinstance(error, ssl.SSLError),
    )
