from __future__ import annotations

from ipaddress import ip_network

import pytest

from dte.master.networks import Networks, address_in

NETWORKS = Networks((ip_network("10.0.0.0/8"), ip_network("fd00::/8"), ip_network("192.0.2.7")))


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("10.1.2.3", True),
        ("11.1.2.3", False),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("fd12::1", True),
        ("fd12::1%eth0", True),
        ("::ffff:10.1.2.3", True),
        ("::1", False),
        ("nonsense", False),
    ],
)
def test_an_address_is_in_a_network(address: str, inside: bool) -> None:
    assert NETWORKS.have(address) is inside


@pytest.mark.parametrize(
    ("network", "meets"),
    [
        ("10.1.2.3", True),
        ("10.0.0.0/7", True),
        ("12.0.0.0/8", False),
        ("192.0.2.0/24", True),
        ("fd12::/64", True),
        ("fe80::/64", False),
        ("nonsense", False),
        ("", False),
    ],
)
def test_a_network_meets_one_that_has_an_address_in_common(network: str, meets: bool) -> None:
    assert NETWORKS.meet(network) is meets


def test_no_address_is_in_no_network() -> None:
    assert not Networks(())
    assert not Networks(()).have("127.0.0.1")


@pytest.mark.parametrize("text", ["", "x", "1.2.3", "[", "[]", ":", "1.2.3.4.5", "::g", "\x00"])
def test_nonsense_is_no_address(text: str) -> None:
    assert address_in(text) is None
