"""What proxies say of the requests that they pass on: who asks, for which host, and by https.

Only the proxies that the operator names are believed. Each adds the address that asked it to the
end of `X-Forwarded-For`, so the last address that is none of theirs is the client's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any

from tornado.httputil import HTTPServerRequest

PROTOCOLS = ("http", "https")


def address_in(text: str) -> IPv4Address | IPv6Address | None:
    """The address that a text is, with or without a port; None if it is none.

    An IPv4 address that is mapped to IPv6 counts as what it is.
    """
    text = text.strip().partition("%")[0]
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return mapped or found


class Networks:
    """Some networks, and whether an address is in one of them."""

    def __init__(self, networks: Sequence[IPv4Network | IPv6Network]) -> None:
        self._networks = tuple(networks)
        self.have = lru_cache(maxsize=10_000)(self._find)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def _find(self, text: str) -> bool:
        """True if an address is in one of the networks."""
        address = address_in(text)
        return address is not None and any(address in each for each in self._networks)


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
