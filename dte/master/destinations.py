"""The addresses that webhooks may go to: public ones, unless the master's settings name others.

The URL of a webhook comes from a client, and the master reaches what clients do not: its own
machine and the networks behind it. So a URL that names an address is checked when its job is
submitted. A name is resolved when there is something to post, once, and only the addresses that
pass the same check are returned: a name may have another address each time it is asked for.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Any
from urllib.parse import urlsplit

from dte.core.errors import InvalidRequest
from dte.master.settings import Settings
from dte.wire.http.listening import is_local

PUBLIC = "public"
LOCALHOST = "localhost"
URL_CHARS_MAX = 2_000
URLS_NOTED_MAX = 1_000
"""URLs that were checked last: many jobs of a request often have the same."""
NAMES_AT_A_TIME = 130
"""As many as webhooks are posted. Names of a stranger may take long to resolve, and must not use up
the threads that resolve the names of others, and those in which the loop does other work."""
PORTS = {"http": 80, "https": 443}
PORT_MIN = 1_024
"""Ports below it belong to other services, except those of `PORTS`."""

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
SocketAddress = tuple[int, Any]
"""The family of an address, and what a socket of it connects to."""

_host = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*\.?", re.IGNORECASE)
_place = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:]*))(?::([0-9]{1,5}))?", re.IGNORECASE)

SPECIAL = {
    "unspecified": ("0.0.0.0/8", "::/128"),
    "loopback": ("127.0.0.0/8", "::1/128"),
    "link-local": ("169.254.0.0/16", "fe80::/10"),
    "private": (
        *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"),
        *("fc00::/7", "fec0::/10", "64:ff9b:1::/48"),
    ),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
    "reserved": (
        *("192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24"),
        *("203.0.113.0/24", "240.0.0.0/4", "2001::/23", "2001:db8::/32", "3fff::/20"),
    ),
}
"""Networks that nobody reaches over the internet, by their kind."""
_special = [(kind, ip_network(each)) for kind, some in SPECIAL.items() for each in some]
_unicast = IPv6Network("2000::/3")
"""All public addresses of IPv6 are in this network."""
_carriers = (
    (IPv6Network("::ffff:0:0/96"), 0),  # Mapped.
    (IPv6Network("::/96"), 0),  # Compatible, which nobody uses any more.
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64.
    (IPv6Network("2002::/16"), 80),  # 6to4.
)
"""Networks of IPv6 whose addresses stand for one of IPv4, and the bits after that."""


class NotAllowed(Exception):
    """A webhook may not go where its URL leads. The text says why."""


@dataclass(frozen=True, slots=True)
class Place:
    """The place that a URL names.

    Attributes:
        host: in lower case, without a last full stop.
        literal: the address, if the host is one, however it is written.
    """

    scheme: str
    host: str
    port: int
    literal: Address | None


@dataclass(frozen=True, slots=True)
class Allowed:
    """Places to which webhooks may go; by default all public addresses.

    Attributes:
        scheme: the scheme of its URLs; "" for both.
        host: a name, or ``*.`` and the end of names; "" if it is no name.
        port: the port; None for all that are no port of other services.
        network: its addresses; None for all that are public, or those of the host.
    """

    scheme: str = ""
    host: str = ""
    port: int | None = None
    network: Network | None = None

    def fits(self, place: Place) -> bool:
        """True if it allows the place, or some of the addresses that its name may have."""
        if self.scheme not in ("", place.scheme):
            return False
        if self.port is None:
            if place.port < PORT_MIN and place.port not in PORTS.values():
                return False
        elif self.port != place.port:
            return False
        return not self.host or self._is_host(place.host)

    def has(self, address: Address) -> bool:
        """True for an address of a place that fits."""
        if self.host:
            return True
        if self.network is None:
            return kind_of(address) is None
        return address in self.network or bare(address) in self.network

    def _is_host(self, host: str) -> bool:
        if self.host.startswith("*."):
            return host.endswith(self.host[1:]) and len(host) >= len(self.host)
        return host == self.host


ALWAYS = Allowed()
OWN_MACHINE = tuple(Allowed(network=ip_network(each)) for each in SPECIAL["loopback"])


class Destinations:
    """Decides where webhooks may go.

    Args:
        allowed: the places besides public addresses.
        own_machine: returns True while they may go to this machine too.
    """

    def __init__(
        self, allowed: Iterable[Allowed], own_machine: Callable[[], bool] = lambda: False
    ) -> None:
        self._allowed = (ALWAYS, *allowed)
        self._own_machine = own_machine
        self._resolver = ThreadPoolExecutor(NAMES_AT_A_TIME, "dte-names")

    def check(self, url: str) -> None:
        """Check a URL as far as that is possible without resolving its name.

        Raises:
            InvalidRequest: nothing can be posted to the URL, or nothing may.
        """
        place = place_of(url)
        try:
            self._check(place)
        except NotAllowed as error:
            raise InvalidRequest(f"notify: {error}") from None

    async def addresses(self, url: str) -> list[SocketAddress]:
        """Resolve the name in a URL, and return the addresses to which may be posted.

        Raises:
            NotAllowed: nothing may be posted there.
            OSError: the name has no address.
        """
        try:
            place = place_of(url)
        except InvalidRequest as error:
            raise NotAllowed(str(error)) from None
        fitting = self._check(place)
        if self._own_machine():
            fitting += OWN_MACHINE
        found = await self._resolve(place)
        resolved = [(family, address, _address(address)) for family, _, _, _, address in found]
        usable: list[SocketAddress] = [
            (family, address)
            for family, address, plain in resolved
            if any(each.has(plain) for each in fitting)
        ]
        if not usable:
            raise NotAllowed(_refusal(place.host, resolved[0][2]))
        return usable

    def close(self) -> None:
        """Resolve no more names."""
        self._resolver.shutdown(wait=False, cancel_futures=True)

    async def _resolve(self, place: Place) -> list[Any]:
        """What the system says of a host, as `socket.getaddrinfo` gives it."""
        if place.literal is not None:
            numeric = socket.AI_NUMERICHOST
            host = str(place.literal)
            return socket.getaddrinfo(host, place.port, type=socket.SOCK_STREAM, flags=numeric)
        find = partial(socket.getaddrinfo, place.host, place.port, type=socket.SOCK_STREAM)
        return await asyncio.get_running_loop().run_in_executor(self._resolver, find)

    def _check(self, place: Place) -> tuple[Allowed, ...]:
        """Return the entries that fit a place.

        Raises:
            NotAllowed: none fits, or none has the address that the place names.
        """
        fitting = tuple(each for each in self._allowed if each.fits(place))
        named = _named_by(place)
        if self._own_machine() and any(map(_is_loopback, named)):
            return fitting
        if not fitting:
            other = f"80, 443 and those from {PORT_MIN}"
            raise NotAllowed(
                f"port {place.port} is that of another service; webhooks go to {other}"
            )
        if named and not any(each.has(address) for each in fitting for address in named):
            raise NotAllowed(_refusal(place.host, named[0]))
        return fitting


def destinations(settings: Settings, has_tokens: Callable[[], bool]) -> Destinations:
    """The destinations that the settings of a master allow.

    Args:
        has_tokens: returns True while clients need tokens.
    """
    allowed = allowed_by(settings.webhook_to)
    # All clients are on this machine then, and reach its addresses anyway.
    if is_local(settings.host):
        return Destinations(allowed, lambda: not has_tokens())
    return Destinations(allowed)


@lru_cache(maxsize=URLS_NOTED_MAX)
def place_of(url: str) -> Place:
    """Read the URL of a webhook.

    Raises:
        InvalidRequest: it is not ``http://host…`` or ``https://host…``, is too long, or has a
            password.
    """
    if len(url) > URL_CHARS_MAX:
        raise InvalidRequest(f"notify is too long: {len(url)} characters > {URL_CHARS_MAX}")
    wrong = InvalidRequest("notify: http://host/… or https://host/… is expected")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise wrong
    try:
        parts = urlsplit(url)
    except ValueError:
        raise wrong from None
    if "@" in parts.netloc:
        raise InvalidRequest("notify: a URL without a user and a password is expected")
    match = _place.fullmatch(parts.netloc)
    if parts.scheme not in PORTS or match is None:
        raise wrong
    try:
        host, literal = _host_of(*match.groups()[:2])
    except ValueError:
        raise wrong from None
    port = int(match[3]) if match[3] else PORTS[parts.scheme]
    if not 1 <= port <= 65_535:
        raise wrong
    return Place(parts.scheme, host, port, literal)


def allowed_by(text: str) -> list[Allowed]:
    """Read the list of places, which are separated by commas or spaces.

    Raises:
        ValueError: an entry is malformed. The text names it.
    """
    return [_entry(each) for each in text.replace(",", " ").split()]


def _entry(text: str) -> Allowed:
    wrong = ValueError(
        f"{text!r} is not a place for webhooks; write {PUBLIC}, https://host, host:port, "
        "*.example.com, or 10.0.0.0/8"
    )
    if text == PUBLIC:
        return Allowed()
    scheme, mark, rest = text.rpartition("://")
    if mark and scheme not in PORTS:
        raise wrong
    try:
        if "/" in rest or (rest.count(":") > 1 and not rest.startswith("[")):
            return Allowed(scheme, network=ip_network(rest))
        match = _place.fullmatch(rest)
        if match is None:
            raise wrong
        port = int(match[3]) if match[3] else None
        if port is not None and not 1 <= port <= 65_535:
            raise wrong
        if (match[2] or "").startswith("*."):
            return Allowed(scheme, f"*.{_host_of(None, match[2][2:])[0]}", port)
        host, literal = _host_of(*match.groups()[:2])
    except ValueError:
        raise wrong from None
    if literal is None:
        return Allowed(scheme, host, port)
    return Allowed(scheme, port=port, network=ip_network(literal))


def _host_of(between_brackets: str | None, other: str | None) -> tuple[str, Address | None]:
    """Return the name of a host, and its address if it is one.

    Raises:
        ValueError: it is neither.
    """
    if between_brackets is not None:
        address = IPv6Address(between_brackets)
        return str(address), address
    if other is None or not _host.fullmatch(other):
        raise ValueError("not a host")
    host = other.lower().removesuffix(".")
    try:
        # The system takes more for an address than four numbers: 127.1, 0x7f.1, 2130706433.
        return host, IPv4Address(socket.inet_aton(host))
    except OSError:
        return host, None


def kind_of(address: Address) -> str | None:
    """The kind of an address that is not public, as in "loopback"; None for a public one."""
    carried = bare(address)
    for one in (address, carried):
        for kind, network in _special:
            if one in network:
                return kind
    is_public = carried.version == 4 or carried in _unicast
    return None if is_public else "reserved"


def bare(address: Address) -> Address:
    """The address of IPv4 for which one of IPv6 stands; otherwise the address itself."""
    if isinstance(address, IPv6Address):
        for network, bits_after in _carriers:
            if address in network:
                return IPv4Address(int(address) >> bits_after & 0xFFFFFFFF)
    return address


def _address(found: tuple[Any, ...]) -> Address:
    """The address in what a socket connects to, without the name of an interface."""
    return ip_address(str(found[0]).partition("%")[0])


def _is_loopback(address: Address) -> bool:
    return kind_of(address) == "loopback"


def _named_by(place: Place) -> tuple[Address, ...]:
    """The addresses that are known without resolving a name."""
    if place.literal is not None:
        return (place.literal,)
    if place.host == LOCALHOST or place.host.endswith(f".{LOCALHOST}"):
        return (IPv4Address("127.0.0.1"), IPv6Address("::1"))
    return ()


def _refusal(host: str, address: Address) -> str:
    found = host if host == str(address) else f"{host} leads to {address}, which"
    return f"{found} is not public ({kind_of(address)}); the master may allow it by --webhook-to"
