"""What proxies say of the requests that they pass on: who asks, for which host, and by https.

Only the proxies that the operator names are believed. Each adds the address that asked it to the
end of `X-Forwarded-For`, so the last address that is none of theirs is the client's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tornado.httputil import HTTPServerRequest

from dte.master.networks import Networks, address_in

PROTOCOLS = ("http", "https")


class Proxies:
    """The proxies that are believed."""

    def __init__(self, trusted: Networks) -> None:
        self.trusted = trusted

    def apply(self, context: Any, headers: Mapping[str, str]) -> None:
        """Note in the context of a connection who makes its next request, and for which host."""
        peer = context.address[0]
        context.remote_ip, context.forwarded_host = peer, None
        context.protocol = context._orig_protocol
        if not self.trusted.have(peer):
            return
        context.remote_ip = self._client(peer, headers.get("X-Forwarded-For", ""))
        host = _last(headers.get("X-Forwarded-Host", ""))
        context.forwarded_host = host or None
        protocol = _last(headers.get("X-Forwarded-Proto", "")).lower()
        if protocol in PROTOCOLS:
            context.protocol = protocol

    def _client(self, peer: str, forwarded_for: str) -> str:
        """The last address that is not a trusted proxy's, or the first of all if all are."""
        client = peer
        for text in reversed(forwarded_for.split(",")):
            address = address_in(text)
            if address is None:
                break  # Only what stands behind it is known to be true.
            client = str(address)
            if not self.trusted.have(client):
                break
        return client


def forwarded_host(request: HTTPServerRequest) -> str | None:
    """The host that a client asked, if a trusted proxy says so."""
    context = getattr(request.connection, "context", None)
    return getattr(context, "forwarded_host", None)


def _last(values: str) -> str:
    """The last of several values, which the nearest proxy added."""
    return values.rpartition(",")[2].strip()
