"""What proxies say of the requests that they pass on: who asks, and by which URL.

Only the proxies that the operator names are believed. Each adds the address that asked it to the
end of `X-Forwarded-For`, so the last address that is none of theirs is the client's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tornado.httputil import HTTPServerRequest

from dte.master.networks import Networks, address_in

HOST = re.compile(r"[\w.-]+(:\d+)?|\[[0-9A-Fa-f:.]+\](:\d+)?", re.ASCII)
PROTOCOLS = ("http", "https")
PREFIX = re.compile(r"(?:/[\w.~-]+)*", re.ASCII)


class Proxies:
    """The proxies that are believed."""

    def __init__(self, trusted: Networks) -> None:
        self.trusted = trusted

    def apply(self, context: Any, headers: Mapping[str, str]) -> None:
        """Note in the context of a connection who makes its next request, and for which host."""
        peer = context.address[0]
        context.remote_ip, context.forwarded_host, context.prefix = peer, None, ""
        context.protocol = context._orig_protocol
        if not self.trusted.have(peer):
            return
        context.remote_ip = self._client(peer, headers.get("X-Forwarded-For", ""))
        host = _last(headers.get("X-Forwarded-Host", ""))
        context.forwarded_host = host or None
        protocol = _last(headers.get("X-Forwarded-Proto", "")).lower()
        if protocol in PROTOCOLS:
            context.protocol = protocol
        prefix = _last(headers.get("X-Forwarded-Prefix", "")).rstrip("/")
        if PREFIX.fullmatch(prefix):
            context.prefix = prefix

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


def url_of(request: HTTPServerRequest) -> str:
    """The URL of this server, as the client that makes a request knows it."""
    host = forwarded_host(request) or request.host
    shown = host if HOST.fullmatch(host) else "localhost:5000"
    prefix = getattr(getattr(request.connection, "context", None), "prefix", "")
    return f"{request.protocol}://{shown}{prefix}"


def _last(values: str) -> str:
    """The last of several values, which the nearest proxy added."""
    return values.rpartition(",")[2].strip()
