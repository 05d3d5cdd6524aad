"""The parts of a master's URL."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from urllib.parse import urlsplit

HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:\d+)?", re.ASCII)
PREFIX = re.compile(r"(/[\w.~!$&'()*+,;=:@%-]+)*", re.ASCII)
PORTS = {"http": 80, "https": 443}
EXPECTED = "http://HOST:PORT is expected, or https://HOST/PATH with TLS and behind a proxy"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a master is.

    Attributes:
        prefix: the path before that of each route; empty unless a proxy has one.
    """

    is_secure: bool
    host: str
    port: int
    prefix: str = ""

    @property
    def host_field(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """True if nothing that is sent there leaves this machine."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host.rstrip(".").lower() == "localhost"


def parse(url: str) -> Address:
    """Split a URL ``http://HOST[:PORT][/PREFIX]``, or with ``https``.

    Raises:
        ValueError: it is not of this form. The text has no password that stands in it.
    """
    scheme, _, rest = url.partition("://")
    _, at, place = rest.partition("/")[0].rpartition("@")
    if at:
        raise ValueError(
            f"the URL of {place} has a user or a password; http://HOST:PORT is expected, and a "
            "token in DTE_TOKEN, or in a file that DTE_TOKEN_FILE names"
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        host, port = "", None
    prefix = rest[len(place) :].rstrip("/")
    is_good = scheme in PORTS and HOST.fullmatch(place) and PREFIX.fullmatch(prefix)
    # A port that is no number is left out by the pattern, or raises an error above.
    if not is_good or not host or {".", ".."} & {*prefix.split("/")}:
        shown = f"{scheme}://…@{rest.rpartition('@')[2]}" if "@" in rest else url
        raise ValueError(f"{shown!r} is not a master's URL; {EXPECTED}")
    return Address(scheme == "https", host, PORTS[scheme] if port is None else port, prefix)
