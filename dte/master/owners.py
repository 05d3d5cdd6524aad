"""Owners: whose share of a bound a request uses.

A request belongs to the address it comes from, or to the machine's own user if it comes from the
machine itself. Of an IPv6 address the first half counts: one host has all addresses of its network
at its disposal.
"""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv4Address, ip_address

from dte.core.shares import OWN_USER

NETWORK_BITS = 64


@lru_cache(maxsize=10_000)
def owner_of(address: str) -> str:
    """The owner of what comes from an address."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address  # It is no address; only the system knows what it names.
    if not isinstance(found, IPv4Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    if found.is_loopback:
        return OWN_USER
    if isinstance(found, IPv4Address):
        return str(found)
    network = int(found) >> NETWORK_BITS << NETWORK_BITS
    return f"{ip_address(network)}/{NETWORK_BITS}"
