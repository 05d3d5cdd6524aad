"""Addresses, and the networks that they are in."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from dte.master.settings import Network


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

    def __init__(self, networks: Sequence[Network]) -> None:
        self._networks = frozenset(networks)

    def __bool__(self) -> bool:
        return bool(self._networks)

    def have(self, text: str) -> bool:
        """True if an address is in one of the networks."""
        return _have(self._networks, text)

    def meet(self, network: str) -> bool:
        """True if one of the networks has an address in common with another network."""
        return _meet(self._networks, network)


@lru_cache(maxsize=10_000)
def _meet(networks: frozenset[Network], text: str) -> bool:
    try:
        other = ip_network(text)
    except ValueError:
        return False
    return any(each.overlaps(other) for each in networks)


@lru_cache(maxsize=10_000)
def _have(networks: frozenset[Network], text: str) -> bool:
    address = address_in(text)
    return address is not None and any(address in each for each in networks)
