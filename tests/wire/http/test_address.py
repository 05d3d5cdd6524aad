"""The parts of a master's URL."""

from __future__ import annotations

import pytest

from dte.wire.http.address import Address, parse


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:5000", Address(False, "localhost", 5000)),
        ("http://localhost:5000/", Address(False, "localhost", 5000)),
        ("http://master", Address(False, "master", 80)),
        ("http://[::1]:5000", Address(False, "::1", 5000)),
        ("https://master.example", Address(True, "master.example", 443)),
        ("https://127.0.0.1:5443/", Address(True, "127.0.0.1", 5443)),
        ("http://proxy/team/dte", Address(False, "proxy", 80, "/team/dte")),
        ("https://proxy:8443/dte/", Address(True, "proxy", 8443, "/dte")),
        ("https://[::1]/a-b_c.d~e/%20@1", Address(True, "::1", 443, "/a-b_c.d~e/%20@1")),
    ],
)
def test_a_url_is_split_into_its_parts(url: str, expected: Address) -> None:
    assert parse(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        *("", "localhost:5000", "http://", "ftp://localhost", "https://", "HTTP//x"),
        *("http://localhost:", "http://localhost:x", "http://localhost:65536", "http://h:-1"),
        *("http://h?query", "http://h/a?query", "http://h/#part", "http://h/a b", "http://h/ä"),
        *("http://h//a", "http://h/a//b", "http://h/../a", "http://h/a/.", "http://h/a\r\nX: y"),
        *("http://h/a\n", "http://local host", "http://:5000", "http://localhost:²", "http://h\\a"),
    ],
)
def test_a_url_that_is_none_is_refused_with_what_is_expected(url: str) -> None:
    with pytest.raises(ValueError, match="http://HOST:PORT is expected, or https://HOST/PATH"):
        parse(url)


@pytest.mark.parametrize(
    "url",
    [
        "http://me:tunafish@localhost:5000",
        "https://tunafish@master/dte",
        "http://me:tuna/tunafish@localhost",
        "http://me:tunafish@",
    ],
)
def test_a_password_in_a_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ValueError, match="http://HOST:PORT is expected") as raised:
        parse(url)
    assert "tunafish" not in str(raised.value)
    assert "tuna" not in str(raised.value)


def test_who_has_a_password_is_pointed_to_tokens() -> None:
    with pytest.raises(ValueError, match="DTE_TOKEN"):
        parse("http://me:tunafish@localhost:5000")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        *((host, True) for host in ("localhost", "LOCALHOST", "localhost.", "127.0.0.1")),
        *((host, True) for host in ("127.9.9.9", "::1")),
        *((host, False) for host in ("master", "10.0.0.1", "0.0.0.0", "localhost.example", "::")),
    ],
)
def test_what_stays_on_this_machine_is_known(host: str, expected: bool) -> None:
    assert Address(False, host, 80).is_loopback is expected


def test_the_host_field_has_brackets_around_an_ipv6_address() -> None:
    assert parse("http://[::1]:5000").host_field == "[::1]:5000"
    assert parse("https://master").host_field == "master:443"
