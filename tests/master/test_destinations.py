"""Webhooks go to public addresses: no spelling, name or change of a name leads elsewhere."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from dte.core.errors import InvalidRequest
from dte.master.destinations import Destinations, NotAllowed, allowed_by, destinations
from dte.master.receivers import NEW_AT_A_TIME
from dte.master.settings import Settings

INWARD = (
    *("127.0.0.1", "127.1", "127.0.1", "2130706433", "0x7f.1", "0x7f000001", "0177.0.0.1"),
    *("127.0.0.1.", "127.255.255.254", "localhost", "LOCALHOST", "localhost.", "a.localhost"),
    *("0", "0.0.0.0", "0x0", "[::]", "[::1]", "[0:0:0:0:0:0:0:1]"),
    *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "10.1", "167772161"),
    *("169.254.169.254", "0xa9fea9fe", "2852039166", "[fe80::1]", "[fd00::1]", "[fc00::1]"),
    *("[fec0::1]", "224.0.0.1", "[ff02::1]", "255.255.255.255", "240.0.0.1", "192.0.2.1"),
    *("198.18.0.1", "203.0.113.7", "[2001:db8::1]", "[2001::1]", "[100::1]", "[5f00::1]"),
    # Addresses of IPv6 that stand for one of IPv4.
    *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]", "[64:ff9b::127.0.0.1]"),
    *("[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2002:a00:1::1]"),
    *("[::ffff:10.0.0.1]", "[::ffff:169.254.169.254]", "[::ffff:0:127.0.0.1]"),
)
PUBLIC = (
    *("8.8.8.8", "134744072", "1.1.1.1", "172.32.0.1", "100.128.0.1", "[2606:4700::1111]"),
    *("[::ffff:8.8.8.8]", "[64:ff9b::808:808]", "[2002:808:808::1]", "example.com", "hook"),
)
MALFORMED = (
    *("", "host", "/path", "ftp://host/", "file:///etc/passwd", "http://", "http:///path"),
    *("http://:80/", "http://host:/", "http://host:0/", "http://host:99999/", "http://host:x/"),
    *("http://[::1/", "http://ho st/", "http://host/\r\nX: y", "http://host/\x00", "http://höst/"),
    *("http://a..b/", "http://.a/", "http://[fe80::1%25lo]/", "http://[::1]x/", "http://a\\b/"),
    *("http://%31%32%37.0.0.1/", "//host/", "http://[1.2.3.4]/", "http://host:+80/", "http://*/"),
    "http://h/" + "x" * 1_992,
)


class Names:
    """Takes the place of the system's resolver, and counts how often it is asked.

    Attributes:
        known: the addresses of each name, for one question after the other; the last ones stay.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.known: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []
        self._real = socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._find)

    def _find(self, host: str, port: int, **options: Any) -> Any:
        if host not in self.known:
            return self._real(host, port, **options)
        self.asked.append(host)
        left = self.known[host]
        addresses = left.pop(0) if len(left) > 1 else left[0]
        if not addresses:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (
                socket.AF_INET6 if ":" in each else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (each, port, 0, 0) if ":" in each else (each, port),
            )
            for each in addresses
        ]


def found(addresses: list[tuple[int, Any]]) -> list[tuple[str, int]]:
    return [address[:2] for _, address in addresses]


@pytest.mark.parametrize("host", INWARD)
async def test_no_spelling_of_an_address_leads_inward(host: str) -> None:
    everywhere = Destinations([])
    for url in (f"http://{host}:8080/path?x=1#y", f"HTTPS://{host}"):
        with pytest.raises(InvalidRequest, match="not public"):
            everywhere.check(url)
        with pytest.raises(NotAllowed, match="not public"):
            await everywhere.addresses(url)


@pytest.mark.parametrize("host", PUBLIC)
def test_public_addresses_and_names_are_allowed(host: str) -> None:
    for port in ("", ":80", ":443", ":1024", ":65535"):
        Destinations([]).check(f"http://{host}{port}/path")
        Destinations([]).check(f"https://{host}{port}")


@pytest.mark.parametrize("port", [1, 22, 25, 81, 587, 1023])
def test_ports_of_other_services_are_refused(port: int) -> None:
    with pytest.raises(InvalidRequest, match=f"port {port}.*80, 443"):
        Destinations([]).check(f"http://example.com:{port}/")


@pytest.mark.parametrize("url", MALFORMED)
async def test_what_is_no_url_of_a_receiver_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="notify"):
        Destinations([]).check(url)
    with pytest.raises(NotAllowed, match="notify"):
        await Destinations([]).addresses(url)


@pytest.mark.parametrize("user", ["user:word", "user", ":word", "", "8.8.8.8:80\\"])
def test_a_url_has_neither_user_nor_password(user: str) -> None:
    for host in ("example.com", "127.0.0.1"):
        with pytest.raises(InvalidRequest, match="without a user"):
            Destinations([]).check(f"https://{user}@{host}/")


# Names


async def test_a_name_is_resolved_once_and_only_when_something_is_posted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = Names(monkeypatch)
    names.known["hook.example"] = [["8.8.8.8", "2606:4700::1"], ["127.0.0.1"]]
    allowed = Destinations([])
    allowed.check("http://hook.example:8080/")
    assert names.asked == []
    addresses = await allowed.addresses("http://hook.example:8080/")
    assert found(addresses) == [("8.8.8.8", 8080), ("2606:4700::1", 8080)]
    assert names.asked == ["hook.example"]
    with pytest.raises(NotAllowed, match=r"hook.example leads to 127.0.0.1"):
        await allowed.addresses("http://hook.example:8080/")


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "::1",
        "::ffff:127.0.0.1",
        "fe80::1%lo",
        "0.0.0.0",
    ],
)
async def test_a_name_that_leads_inward_is_not_followed(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(monkeypatch)
    names.known["hook.example"] = [[address], ["8.8.8.8", address]]
    with pytest.raises(NotAllowed, match="not public"):
        await Destinations([]).addresses("https://hook.example/")
    addresses = await Destinations([]).addresses("https://hook.example/")
    assert found(addresses) == [("8.8.8.8", 443)], "only the one that is public"


async def test_a_name_that_has_no_address_is_no_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have one later."""
    Names(monkeypatch).known["hook.example"] = [[]]
    with pytest.raises(OSError, match="not known"):
        await Destinations([]).addresses("https://hook.example/")


async def test_names_that_take_long_to_resolve_hold_up_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some name servers never reply, and no thread that waits for them can be stopped."""
    over, asked, real = threading.Event(), threading.Semaphore(0), socket.getaddrinfo

    def find(host: str, port: int, **options: Any) -> Any:
        if host.startswith("slow"):
            asked.release()
            assert over.wait(60)
        return real("127.0.0.1" if host == "quick.example" else host, port, **options)

    monkeypatch.setattr(socket, "getaddrinfo", find)
    places, loop = Destinations(allowed_by("*.example")), asyncio.get_running_loop()
    posted = NEW_AT_A_TIME
    slow = [loop.create_task(places.addresses(f"http://slow{n}.example/")) for n in range(posted)]
    try:
        for _ in range(posted):
            assert await asyncio.to_thread(asked.acquire, timeout=30)
        assert found(await asyncio.wait_for(places.addresses("http://8.8.8.8/"), 30))
        assert found(await asyncio.wait_for(places.addresses("http://quick.example/"), 30))
    finally:
        over.set()
        await asyncio.gather(*slow, return_exceptions=True)
        places.close()


# More than the default


@pytest.mark.parametrize(
    ("entry", "inside", "outside"),
    [
        ("10.0.0.0/8", ["http://10.1.2.3:8080", "http://167772161"], ["http://11.0.0.0.1.nip:22"]),
        (
            "127.0.0.1:9000",
            ["http://127.0.0.1:9000", "http://127.1:9000"],
            ["http://127.0.0.1:9001"],
        ),
        ("127.1:9000", ["http://127.0.0.1:9000"], ["http://127.0.0.2:9000"]),
        ("https://10.0.0.5", ["https://10.0.0.5/x"], ["http://10.0.0.5/x", "https://10.0.0.6"]),
        ("https://10.0.0.5:81", ["https://10.0.0.5:81/x"], ["https://10.0.0.5/x"]),
        ("fd00::/8", ["http://[fd00::1]:8080"], ["http://[fc00::1]:8080", "http://[fd00::1]:22"]),
        ("[::1]:9000", ["http://[::1]:9000"], ["http://[::1]:9001", "http://127.0.0.1:9000"]),
        ("::1", ["http://[::1]:9000"], ["http://127.0.0.1:9000"]),
        ("mail.example:25", ["http://mail.example:25"], ["http://mail.example:26"]),
        ("localhost:9000", ["http://localhost:9000"], ["http://localhost:9001"]),
        ("public", ["http://8.8.8.8"], ["http://127.0.0.1"]),
    ],
)
def test_places_can_be_allowed(entry: str, inside: list[str], outside: list[str]) -> None:
    allowed = Destinations(allowed_by(entry))
    for url in (*inside, "https://example.com/", "http://8.8.8.8:8080/"):
        allowed.check(url)
    for url in outside:
        with pytest.raises(InvalidRequest):
            allowed.check(url)


async def test_a_name_that_is_allowed_may_lead_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    names = Names(monkeypatch)
    for name in ("hook.inner.example", "inner.example", "evilinner.example", "other.example"):
        names.known[name] = [["10.0.0.1"]]
    allowed = Destinations(allowed_by("*.inner.example, https://other.example"))
    for url in ("http://hook.inner.example:8080/", "http://HOOK.inner.EXAMPLE.:8080/"):
        assert found(await allowed.addresses(url)) == [("10.0.0.1", 8080)]
    assert found(await allowed.addresses("https://other.example/")) == [("10.0.0.1", 443)]
    for url in ("http://inner.example/", "http://evilinner.example/", "http://other.example/"):
        with pytest.raises(NotAllowed):
            await allowed.addresses(url)


async def test_a_name_may_lead_to_a_network_that_is_allowed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = Names(monkeypatch)
    names.known["hook.example"] = [["10.0.0.1", "192.168.0.1", "::ffff:10.0.0.2"]]
    allowed = Destinations(allowed_by("10.0.0.0/8"))
    addresses = await allowed.addresses("http://hook.example/")
    assert found(addresses) == [("10.0.0.1", 80), ("::ffff:10.0.0.2", 80)]


@pytest.mark.parametrize(
    "entry",
    ["ftp://host", "10.0.0.0/33", "10.0.0.1/8", "host:0", "host:x", "*", "*.*.com", "a..b", "[::1"],
)
def test_a_place_that_cannot_be_meant_is_named(entry: str) -> None:
    with pytest.raises(ValueError, match="is not a place for webhooks; write"):
        allowed_by(f"public {entry}")


# The machine of all clients


@pytest.mark.parametrize(
    ("host", "has_tokens", "is_own"),
    [
        ("127.0.0.1", False, True),
        ("127.0.0.2", False, True),
        ("::1", False, True),
        ("localhost", False, True),
        ("127.0.0.1", True, False),
        ("localhost", True, False),
        ("*", False, False),
        ("", False, False),
        ("0.0.0.0", False, False),
        ("::", False, False),
        ("10.0.0.1", False, False),
    ],
)
async def test_without_tokens_a_master_of_this_machine_posts_to_it(
    host: str, has_tokens: bool, is_own: bool
) -> None:
    settings = Settings(host=host)
    allowed = destinations(settings, lambda: has_tokens)
    for url in ("http://127.0.0.1:81/", "http://localhost:8000/", "http://[::1]:8000/"):
        if is_own:
            allowed.check(url)
            assert await allowed.addresses(url)
        else:
            with pytest.raises(InvalidRequest):
                allowed.check(url)
            with pytest.raises(NotAllowed):
                await allowed.addresses(url)
    for url in ("http://10.0.0.1/", "http://169.254.169.254/", "http://0.0.0.0:8000/"):
        with pytest.raises(InvalidRequest, match="not public"):
            allowed.check(url)


def test_it_does_so_no_longer_once_there_are_tokens() -> None:
    there: list[bool] = []
    allowed = destinations(Settings(host="127.0.0.1"), lambda: bool(there))
    allowed.check("http://127.0.0.1:8000/")
    there.append(True)
    with pytest.raises(InvalidRequest, match="not public"):
        allowed.check("http://127.0.0.1:8000/")
