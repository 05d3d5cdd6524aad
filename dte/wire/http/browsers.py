"""Refuses requests that a web page makes behind its user's back.

A page of another origin can send requests to any address that its browser reaches. By a name that
it lets point here (DNS rebinding) it can even read the replies. A browser says in its headers where
a request comes from, so both are refused whoever asks: with a token or without.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from http import HTTPStatus
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

PORTS = {"http": 80, "https": 443}
FOREIGN_SITES = frozenset({"cross-site", "same-site"})
"""Values of Sec-Fetch-Site for requests of pages of other origins."""
AUTHORITY = re.compile(r"(\[[0-9a-f:.]+(?:%25[\w.~-]+)?\]|[^:\[\]/?#@,\s]+)(?::(\d{0,5}))?", re.I)
"""A host and perhaps a port."""
SHORT_NAME = re.compile(r"[\w-]+", re.ASCII)
HOST_CHARS_SHOWN = 100
SAFE_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "frame-ancestors 'none'"),
)
"""Headers by which browsers keep replies from pages of other sites, and from their own disk."""


class Refusal(NamedTuple):
    """A request that is not served: its status, an error for programs, and one for people."""

    status: int
    code: str
    text: str


class HostNames:
    """The names by which a server is addressed.

    Addresses, and names without a dot, always count: no page can be served under them from
    elsewhere.

    Args:
        bound: the host that the server listens on.
        more: further names.
    """

    def __init__(self, bound: str = "", more: Iterable[str] = ()) -> None:
        self._names = frozenset(name.lower().rstrip(".") for name in (bound, *more))

    def allows(self, host: str) -> bool:
        """True if the header Host names this server."""
        return _is_known(host, self._names)


@lru_cache(maxsize=1_000)
def _is_known(host: str, names: frozenset[str]) -> bool:
    match = AUTHORITY.fullmatch(host.strip())
    if match is None:
        return False
    name = match[1].lower().rstrip(".")
    return bool(SHORT_NAME.fullmatch(name)) or name in names or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True


def refusal_of(
    headers: Mapping[str, str], names: HostNames, forwarded_host: str | None = None
) -> Refusal | None:
    """Return the refusal of a request that a page of another origin may have made; else None.

    Args:
        headers: those of the request; their names are looked up as ``Host``, ``Origin`` and
            ``Sec-Fetch-Site``.
        forwarded_host: the host that the browser asked, if a trusted proxy says so.
    """
    host = headers.get("Host")
    if host and not names.allows(host):
        shown = host[:HOST_CHARS_SHOWN]
        text = (
            f"this server is not known as {shown!r}; if that is one of its names, start it with "
            "--host-names (DTE_HOST_NAMES)"
        )
        return Refusal(HTTPStatus.MISDIRECTED_REQUEST, "misdirected", text)
    # Most requests have neither, and to look is quicker than to get.
    if "Sec-Fetch-Site" in headers and headers["Sec-Fetch-Site"] in FOREIGN_SITES:
        text = "a page of another site made this request (Sec-Fetch-Site)"
        return Refusal(HTTPStatus.FORBIDDEN, "foreign", text)
    if "Origin" in headers and not _is_own(headers["Origin"], forwarded_host or host or ""):
        origin = headers["Origin"]
        text = f"a page of {origin[:HOST_CHARS_SHOWN]!r} made this request, another origin"
        return Refusal(HTTPStatus.FORBIDDEN, "foreign", text)
    return None


@lru_cache(maxsize=1_000)
def _is_own(origin: str, host: str) -> bool:
    """True if an origin has the host and the port that a request asks."""
    try:
        parts = urlsplit(origin)
        usual = PORTS[parts.scheme]
        asked = (parts.hostname, parts.port or usual)
    except (KeyError, ValueError):
        return False
    match = AUTHORITY.fullmatch(host.strip())
    if match is None:
        return False
    return asked == (match[1].lower().strip("[]"), int(match[2] or usual))
