"""Requests that pages of other sites make are told from all others."""

from __future__ import annotations

import pytest

from dte.wire.http.browsers import HostNames, refusal_of

NAMES = HostNames("dte.example.com", ["Queue.Example.org", "other.example."])
AT_HOME = {"Host": "localhost:5000"}


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.0.0.1:5000", "10.1.2.3:80", "[::1]", "[::1]:5000", "[fe80::1%25eth0]"),
        *("localhost", "LOCALHOST:5000", "master:5000", "dte", "my_master:1", "localhost."),
        *("dte.example.com", "DTE.example.com:5000", "queue.example.org.", "other.example:443"),
        "",
    ],
)
def test_addresses_short_names_and_own_names_are_served(host: str) -> None:
    assert refusal_of({"Host": host}, NAMES) is None


@pytest.mark.parametrize(
    "host",
    [
        *(
            "evil.example",
            "evil.example:5000",
            "dte.example.com.evil.example",
            "1.2.3",
            "1.2.3.4.5",
        ),
        *("localhost,evil.example", "localhost evil.example", "x@localhost", "localhost/evil"),
        *("[::1", "::1", "[::1]x", "localhost:5000:1", "[evil.example]", "256.1.1.1"),
    ],
)
def test_other_names_are_not_served(host: str) -> None:
    refusal = refusal_of({"Host": host}, NAMES)
    assert refusal is not None
    assert (refusal.status, refusal.code) == (421, "misdirected")
    assert "--host-names" in refusal.text


def test_a_request_without_host_is_served() -> None:
    assert refusal_of({}, NAMES) is None


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://localhost:5000", "localhost:5000"),
        ("http://LOCALHOST:5000", "localhost:5000"),
        ("http://127.0.0.1", "127.0.0.1"),
        ("http://127.0.0.1", "127.0.0.1:80"),
        ("https://dte.example.com", "dte.example.com"),
        ("https://dte.example.com", "dte.example.com:443"),
        ("http://[::1]:5000", "[::1]:5000"),
    ],
)
def test_a_page_of_this_server_is_served(origin: str, host: str) -> None:
    assert refusal_of({"Host": host, "Origin": origin}, NAMES) is None


@pytest.mark.parametrize(
    "origin",
    [
        *("http://evil.example", "http://localhost", "http://localhost:5001", "null", "", "x"),
        *("https://localhost:5001", "http://127.0.0.1:5000", "chrome-extension://abc", "file://"),
        *(
            "http://localhost:99999999",
            "http://localhost:5000.evil.example",
            "ftp://localhost:5000",
        ),
    ],
)
def test_a_page_of_another_origin_is_refused(origin: str) -> None:
    refusal = refusal_of({**AT_HOME, "Origin": origin}, NAMES)
    assert refusal is not None
    assert (refusal.status, refusal.code) == (403, "foreign")


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_request_of_another_site_is_refused(site: str) -> None:
    refusal = refusal_of({**AT_HOME, "Sec-Fetch-Site": site}, NAMES)
    assert refusal is not None
    assert refusal.status == 403


@pytest.mark.parametrize("site", ["same-origin", "none"])
def test_a_request_that_the_user_made_is_served(site: str) -> None:
    assert refusal_of({**AT_HOME, "Sec-Fetch-Site": site}, NAMES) is None


def test_a_proxy_says_which_host_the_browser_asked() -> None:
    headers = {"Host": "10.0.0.1:5000", "Origin": "https://dte.example.com"}
    assert refusal_of(headers, NAMES) is not None
    assert refusal_of(headers, NAMES, forwarded_host="dte.example.com") is None
    assert refusal_of(headers, NAMES, forwarded_host="evil.example") is not None
